"""What a user types and sees: answers, exit codes, and the words of every refusal."""

from __future__ import annotations

import html
import json
import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgeflow.toolchain import qemu
from edgeflow.vectors import read_vectors, write_vectors
from tests.conftest import Command, NeedTool


@pytest.fixture
def vectors(data: Path) -> Path:
    return data / "digits" / "vectors.npz"


COMMANDS = ("run", "check", "train", "predict", "import", "inspect", "build", "verify", "report", "boards")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(edgeflow: Command, name: str) -> None:
    answer = edgeflow(name, "--help")
    assert answer.code == 0
    assert f"Example: edgeflow {name} " in answer.out
    assert "--json" in answer.out


def test_the_walk_from_a_model_file_to_a_verified_firmware(
    edgeflow: Command, student: Path, vectors: Path, tmp_path: Path, need_tool: NeedTool
) -> None:
    for tool in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_tool(tool)
    graph, firmware = tmp_path / "graph", tmp_path / "fw"
    assert edgeflow("import", student, "-o", graph).code == 0
    assert edgeflow("check", graph, "--board", "rpi-pico").code == 0
    assert edgeflow("build", graph, "--board", "rpi-pico", "-o", firmware).code == 0
    answer = edgeflow("verify", firmware, "--vectors", vectors)
    assert answer.code == 0
    assert "  bit-exact\n" in answer.out
    assert re.search(r"C on QEMU cortex-m0plus +360   0 of 3600 values differ   [\d,]+ instructions each", answer.out)
    record = edgeflow("verify", firmware, "--vectors", vectors, "--runner", "qemu", "--json").json
    assert record["schema"] == 1
    assert record["reference"]["mismatches"] == 0
    (target,) = record["targets"]
    assert {
        key: target[key] for key in ("board", "backend", "runner", "samples", "mismatches", "bit_exact", "fits")
    } == {
        "board": "rpi-pico",
        "backend": "c",
        "runner": "qemu",
        "samples": 360,
        "mismatches": 0,
        "bit_exact": True,
        "fits": True,
    }
    assert {one["name"] for one in target["resources"]} >= {"flash", "static RAM", "stack", "instructions", "latency"}
    assert all(one["source"] for one in target["resources"])
    shown = edgeflow("report", firmware)
    assert shown.code == 0
    page = (firmware / "report.html").read_text()
    assert "bit-exact on every target" in page
    assert "http" not in page.replace("http-equiv", ""), "the page needs no network"


def test_a_limit_of_the_users_own_can_say_no(edgeflow: Command, student: Path) -> None:
    answer = edgeflow("check", student, "--board", "rpi-pico", "--latency", "1 ms")
    assert answer.code == 1
    assert re.search(r"DOES NOT FIT   latency is [\d.]+ ms over", answer.out)


def test_check_without_a_board_asks_for_one(edgeflow: Command, student: Path) -> None:
    answer = edgeflow("check", student)
    assert (answer.code, answer.err) == (
        2,
        "error: no board named\n  fix: add --board NAME; edgeflow boards lists them\n",
    )


def test_a_misspelt_board_names_the_near_one(edgeflow: Command, student: Path) -> None:
    answer = edgeflow("check", student, "--board", "nucleo-f446")
    assert answer.code == 2
    assert answer.err.startswith(
        'error: unknown board "nucleo-f446"; did you mean "nucleo-f446re"?\n  fix: choose one of'
    )


def test_a_misspelt_key_names_the_near_one_the_file_and_the_line(edgeflow: Command, root: Path, tmp_path: Path) -> None:
    text = (root / "examples" / "digits" / "edgeflow.toml").read_text()
    (tmp_path / "edgeflow.toml").write_text(text.replace("sparsity =", "sparcity ="))
    line = text[: text.index("sparsity =")].count("\n") + 1
    answer = edgeflow("run", tmp_path / "edgeflow.toml")
    assert answer.code == 2
    assert answer.err == (
        f'error: {tmp_path / "edgeflow.toml"}:{line}: unknown key "sparcity" in [prune]; did you mean "sparsity"?\n'
    )


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("m.keras", b"hello", "damaged or not a Keras model: it does not begin like a .keras file"),
        ("m.h5", b"", "the file is empty"),
        ("m.txt", b"hello", "not a model file; edgeflow reads .keras, .h5 and .tflite"),
    ],
)
def test_a_file_that_is_no_model_is_refused(
    edgeflow: Command, tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    (tmp_path / name).write_bytes(content)
    answer = edgeflow("import", tmp_path / name, "-o", tmp_path / "graph")
    assert answer.code == 2
    assert answer.err == (
        f"error: {tmp_path / name}: {text}\n  fix: give a model saved with model.save('model.keras')\n"
    )
    assert not (tmp_path / "graph").exists()


def test_an_empty_tflite_file_is_not_sent_to_keras(edgeflow: Command, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"")
    assert edgeflow("import", path, "-o", tmp_path / "graph").err == (
        f"error: {path}: the file is empty\n  fix: convert the model again, or copy the file again\n"
    )


def test_a_truncated_model_is_refused_and_the_old_output_stays(
    edgeflow: Command, student: Path, tmp_path: Path
) -> None:
    graph = tmp_path / "graph"
    assert edgeflow("import", student, "-o", graph).code == 0
    before = {path.name: path.read_bytes() for path in graph.iterdir()}
    (tmp_path / "cut.keras").write_bytes(student.read_bytes()[:-2000])
    answer = edgeflow("import", tmp_path / "cut.keras", "-o", graph, "--force")
    assert answer.code == 2
    assert answer.err.startswith(f"error: {tmp_path / 'cut.keras'}: ")
    assert len(answer.err.splitlines()) <= 3
    assert {path.name: path.read_bytes() for path in graph.iterdir()} == before


def test_an_architecture_and_its_weights_are_two_files(edgeflow: Command, data: Path, tmp_path: Path) -> None:
    with tarfile.open(data / "qkeras" / "v09.tar.xz") as archive:
        for name in ("plain.json", "plain_weights.h5"):
            archive.extract(name, tmp_path, filter="data")
    model, given = tmp_path / "plain.json", tmp_path / "other.h5"
    assert edgeflow("import", model, "-o", tmp_path / "graph").code == 0
    (tmp_path / "plain_weights.h5").rename(given)
    answer = edgeflow("check", model, "--board", "rpi-pico")
    assert answer.code == 2
    assert "fix: add --weights FILE" in answer.err
    answer = edgeflow("check", model, "--weights", given, "--board", "rpi-pico")
    assert answer.code == 0
    assert f"edgeflow build {model} --weights {given} --board rpi-pico" in answer.out.replace("\n", "")


def test_a_tensorflow_folder_is_told(edgeflow: Command, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    for words in (("check", tmp_path, "--board", "rpi-pico"), ("import", tmp_path, "-o", tmp_path / "graph")):
        answer = edgeflow(*words)
        assert (answer.code, answer.err) == (
            2,
            f"error: {tmp_path}: a TensorFlow SavedModel folder, not a model file\n"
            "  fix: load it in Python and save it with model.save('model.keras')\n",
        )


def test_an_existing_output_folder_needs_force(edgeflow: Command, student: Path, tmp_path: Path) -> None:
    graph = tmp_path / "graph"
    assert edgeflow("import", student, "-o", graph).code == 0
    answer = edgeflow("import", student, "-o", graph)
    assert (answer.code, answer.err) == (
        2,
        f"error: {graph}: the output folder exists\n  fix: add --force to replace it, or choose another folder\n",
    )
    assert edgeflow("import", student, "-o", graph, "--force").code == 0


def test_vectors_of_the_wrong_shape_are_refused(
    edgeflow: Command, student: Path, vectors: Path, tmp_path: Path
) -> None:
    firmware = tmp_path / "fw"
    edgeflow("build", student, "--board", "rpi-pico", "-o", firmware)
    good = read_vectors(vectors)
    wrong = {"image": good.inputs["image"].reshape(-1, 4, 16, 1)}
    write_vectors(tmp_path / "wrong.npz", wrong, good.outputs)
    answer = edgeflow("verify", firmware, "--vectors", tmp_path / "wrong.npz")
    assert answer.code == 2
    assert answer.err == (
        "error: input 'image' of the vectors has samples of shape (4, 16, 1), the model reads (8, 8, 1)\n"
        "  fix: make them from this model: edgeflow predict MODEL --data F -o D\n"
    )


def test_wrong_outputs_are_not_bit_exact_and_the_exit_code_says_no(
    edgeflow: Command, student: Path, vectors: Path, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    firmware = tmp_path / "fw"
    edgeflow("build", student, "--board", "rpi-pico", "-o", firmware)
    good = read_vectors(vectors)
    outputs = {name: values.copy() for name, values in good.outputs.items()}
    outputs["logits"][12, 3] += np.float32(2.0**-9)
    write_vectors(tmp_path / "wrong.npz", good.inputs, outputs)
    answer = edgeflow("verify", firmware, "--vectors", tmp_path / "wrong.npz", "--runner", "host")
    assert answer.code == 1
    assert re.search(
        r"NOT bit-exact: first at layer 'logits', sample 12, element 3: graph (-?\d+), QKeras predict (-?\d+)\n",
        answer.out,
    )


def test_a_missing_compiler_is_named_with_its_fix(
    edgeflow: Command, student: Path, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    firmware = tmp_path / "fw"
    edgeflow("build", student, "--board", "rpi-pico", "-o", firmware)
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = edgeflow("verify", firmware, "--vectors", vectors, "--runner", "qemu")
    assert (answer.code, answer.err) == (
        2,
        "error: arm-none-eabi-gcc is not installed\n"
        "  fix: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi, or set EDGEFLOW_ARM_GCC to its path\n",
    )


def test_a_folder_that_build_did_not_make_is_told(edgeflow: Command, vectors: Path, tmp_path: Path) -> None:
    answer = edgeflow("verify", tmp_path, "--vectors", vectors)
    assert (answer.code, answer.err) == (
        2,
        f"error: {tmp_path}: no edgeflow.json here, so not a folder that edgeflow build made\n"
        f"  fix: edgeflow build MODEL --board B -o {tmp_path}\n",
    )


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("graph", "an imported graph, not a built project\n  fix: edgeflow build {} --board B -o firmware\n"),
        ("vectors", "a folder of vectors, not a built project\n  fix: give the folder that edgeflow build made\n"),
        ("run", "a run's output, not one built project\n  fix: give the folder of one target inside it\n"),
    ],
)
def test_another_folder_of_edgeflows_is_told(
    edgeflow: Command, vectors: Path, tmp_path: Path, kind: str, told: str
) -> None:
    (tmp_path / "edgeflow.json").write_text(json.dumps({"schema": 1, "kind": kind}))
    answer = edgeflow("verify", tmp_path, "--vectors", vectors)
    assert (answer.code, answer.err) == (2, f"error: {tmp_path}: {told.format(tmp_path)}")


def test_report_without_a_run_is_told(edgeflow: Command, tmp_path: Path) -> None:
    answer = edgeflow("report", tmp_path)
    assert (answer.code, answer.err) == (
        2,
        f"error: {tmp_path}: no run.json here, so nothing to report\n"
        "  fix: edgeflow verify or edgeflow run writes it\n",
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "targets": 3}', "\0"])
def test_a_damaged_run_json_is_told(edgeflow: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    answer = edgeflow("report", tmp_path)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {tmp_path / 'run.json'}: damaged run.json: ")
    assert answer.err.endswith("\n  fix: run it again\n")


def test_an_unknown_backend_option_names_the_near_one(edgeflow: Command, student: Path, tmp_path: Path) -> None:
    answer = edgeflow("build", student, "--board", "rpi-pico", "-o", tmp_path / "fw", "--set", "stak=9")
    assert (answer.code, answer.err) == (
        2,
        'error: backend c has no option "stak"; did you mean "stack"?\n'
        "  fix: options: prefix='', stack=512, validation=False, optimize='balanced', files='one'\n",
    )
    answer = edgeflow("build", student, "--board", "rpi-pico", "-o", tmp_path / "fw", "--set", "stack=big")
    assert answer.err == "error: option \"stack\" needs a value of type int, not 'big'\n"


def test_an_aim_is_an_option_of_backend_c(edgeflow: Command, student: Path, tmp_path: Path) -> None:
    answer = edgeflow("build", student, "--board", "rpi-pico", "-o", tmp_path / "fw", "--optimize", "small")
    assert answer.code == 2
    assert 'optimize is "small"; choose one of: size, balanced, speed' in answer.err
    answer = edgeflow("check", student, "--board", "rpi-pico", "--optimize", "size")
    assert answer.code == 0
    assert "--set optimize=size" in answer.out


def test_errors_are_json_too(edgeflow: Command, tmp_path: Path) -> None:
    answer = edgeflow("report", tmp_path, "--json")
    assert answer.code == 2
    assert answer.json["error"]["what"] == "no run.json here, so nothing to report"
    assert answer.json["error"]["fix"] == "edgeflow verify or edgeflow run writes it"


def test_inspect_shows_what_each_layer_became_and_explains_one(edgeflow: Command, student: Path) -> None:
    answer = edgeflow("inspect", student)
    assert answer.code == 0
    assert re.search(
        r"\n  conv1 +Conv 3x3 \+ Requant +8x8x32 +\[0, 47\] +6 +8 bits +50 % +14 bits +18,432 +320\n", answer.out
    )
    assert answer.out.endswith(f"\n  next: edgeflow inspect {student} --explain conv1\n")
    assert edgeflow("inspect", student, "--json").json["totals"]["macs"] == 172_512
    told = edgeflow("inspect", student, "--explain", "dense")
    assert told.out.startswith("dense  QDense\n")
    assert edgeflow("inspect", student, "--explain", "dense", "--json").json["keras_class"] == "QDense"
    wrong = edgeflow("inspect", student, "--explain", "dens")
    assert wrong.code == 2
    assert wrong.err.startswith('error: no layer and no tensor is named "dens"; did you mean "dense"?\n')


def test_inspect_can_show_the_graph_itself(edgeflow: Command, student: Path) -> None:
    answer = edgeflow("inspect", student, "--text")
    assert answer.code == 0
    assert "input %image: u5[0, 31] 8x8x1 @ 2^-4\n" in answer.out
    assert "= Conv(%image)" in answer.out
    assert edgeflow("inspect", student, "--text", "--json").json["outputs"][0]["tensor"] == "logits"


def test_a_fault_of_our_own_is_told_without_a_traceback(
    edgeflow: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(_: Path) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("edgeflow.report.record.read_record", broken)
    answer = edgeflow("report", tmp_path)
    assert (answer.code, answer.err) == (
        2,
        "error: internal error, a bug in edgeflow: ZeroDivisionError: division by zero\n"
        "  fix: report it with what EDGEFLOW_DEBUG=1 prints for the same command\n",
    )


@pytest.fixture
def built(edgeflow: Command, student: Path, tmp_path: Path) -> Path:
    """A firmware folder for the Raspberry Pi Pico."""
    assert edgeflow("build", student, "--board", "rpi-pico", "-o", tmp_path / "fw").code == 0
    return tmp_path / "fw"


def test_a_stack_larger_than_the_board_does_not_fit(edgeflow: Command, student: Path, tmp_path: Path) -> None:
    answer = edgeflow("build", student, "--board", "rpi-pico", "-o", tmp_path / "fw", "--set", "stack=1000000")
    assert answer.code == 1
    assert "DOES NOT FIT   RAM is 7" in answer.out
    assert not (tmp_path / "fw").exists()
    answer = edgeflow("check", student, "--board", "rpi-pico", "--set", "stack=-8")
    assert answer.err == "error: backend c: stack is -8; it must be a multiple of 8 from 0 to 16777216 bytes\n"


@pytest.mark.parametrize("text", ["0 B", "", "lots"])
def test_a_limit_that_is_none_is_refused(edgeflow: Command, student: Path, text: str) -> None:
    answer = edgeflow("check", student, "--board", "rpi-pico", "--ram", text)
    assert answer.code == 2
    assert answer.err.startswith("error: --ram")
    assert answer.err.endswith('fix: write a number above 0 and a unit: --ram "16 KiB"\n')


def test_an_old_record_does_not_outlive_a_failed_verification(
    edgeflow: Command, built: Path, vectors: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    assert edgeflow("verify", built, "--vectors", vectors, "--runner", "host").code == 0
    assert edgeflow("report", built).code == 0
    source = built / "model" / "digits.c"
    source.write_text(source.read_text() + "\n/* mine */\n")
    answer = edgeflow("report", built)
    assert answer.code == 1
    assert "NOT verified as it stands: changed since: model/digits.c" in answer.out
    source.write_text(source.read_text() + "garbage")
    assert edgeflow("verify", built, "--vectors", vectors, "--runner", "host").code == 2
    assert edgeflow("report", built).err.startswith(f"error: {built}: no run.json here")


def test_a_record_in_which_nothing_was_compared_proves_nothing(edgeflow: Command, tmp_path: Path) -> None:
    record = {"name": "x", "digests": {}, "versions": {}, "steps": [], "reference": None, "targets": [], "schema": 1}
    (tmp_path / "run.json").write_text(json.dumps({**record, "edgeflow": "0"}))
    assert edgeflow("report", tmp_path).code == 1
    assert "NOT bit-exact" in (tmp_path / "report.html").read_text()


def test_a_shown_command_can_be_copied_into_a_shell(edgeflow: Command, student: Path, tmp_path: Path) -> None:
    out = tmp_path / "my firmware's"
    answer = edgeflow("build", student, "--board", "rpi-pico", "-o", out)
    words = shlex.split(answer.out.splitlines()[-1].partition("next: ")[2])
    assert words == ["edgeflow", "verify", str(out), "--vectors", "vectors.npz"]


def test_what_was_written_is_said_before_a_tool_is_missed(
    edgeflow: Command, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TFLM_DIR", raising=False)
    out = tmp_path / "tflm"
    answer = edgeflow("build", student, "--board", "rpi-pico", "--backend", "tflm", "-o", out, "--compile")
    assert (answer.code, answer.out) == (2, f"wrote {out}\n")
    assert answer.err.startswith("error: TFLM_DIR is not set\n")


def test_a_file_is_no_built_folder(edgeflow: Command, student: Path, vectors: Path) -> None:
    answer = edgeflow("verify", student, "--vectors", vectors)
    assert answer.err == (
        f"error: {student}: a file, not a folder that edgeflow build made\n"
        f"  fix: edgeflow build {student} --board B -o firmware, if it is a model; then give that folder\n"
    )


def test_a_built_folder_without_its_graph_is_refused(edgeflow: Command, built: Path, vectors: Path) -> None:
    (built / "graph" / "model.json").unlink()
    assert edgeflow("verify", built, "--vectors", vectors).err == (
        f"error: {built}: its graph/model.json is missing\n  fix: build it again\n"
    )


def test_a_graph_that_the_manifest_does_not_name_is_refused(edgeflow: Command, built: Path, vectors: Path) -> None:
    manifest = json.loads((built / "edgeflow.json").read_text())
    (built / "edgeflow.json").write_text(json.dumps({**manifest, "graph": "deadbeef"}))
    answer = edgeflow("verify", built, "--vectors", vectors)
    assert answer.err == (
        f"error: {built}: the graph in it is not the one that edgeflow.json names\n  fix: build it again\n"
    )
    (built / "edgeflow.json").write_text(json.dumps({**manifest, "files": []}))
    assert "damaged edgeflow.json" in edgeflow("verify", built, "--vectors", vectors).err


def test_a_core_that_qemu_cannot_run_here_is_skipped_and_said(
    edgeflow: Command,
    student: Path,
    vectors: Path,
    root: Path,
    tmp_path: Path,
    need_tool: NeedTool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_tool("gcc")
    monkeypatch.delitem(qemu.MACHINES, "mps2-an505")
    text = (root / "boards" / "stm32f103c8.toml").read_text().replace('"cortex-m3"', '"cortex-m33"')
    (tmp_path / "mine.toml").write_text(text)
    assert edgeflow("build", student, "--board", tmp_path / "mine.toml", "-o", tmp_path / "fw").code == 0
    answer = edgeflow("verify", tmp_path / "fw", "--vectors", vectors)
    assert answer.code == 0
    assert "not run: C on QEMU cortex-m33: edgeflow cannot run code on QEMU's machine mps2-an505 yet" in answer.out
    assert edgeflow("verify", tmp_path / "fw", "--vectors", vectors, "--runner", "qemu").code == 2


def test_the_current_folder_may_be_the_output_while_it_is_empty(
    edgeflow: Command, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert edgeflow("import", student, "-o", ".").code == 0
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["edgeflow.json", "model.json", "weights.npz"]
    answer = edgeflow("import", student, "-o", ".", "--force")
    assert "the output folder is the one that this command runs in" in answer.err


@pytest.mark.parametrize("prefix", ["stdint", "stdio", "firmware", "all"])
def test_a_prefix_that_is_a_header_or_a_build_target_gets_a_name_of_its_own(
    edgeflow: Command, student: Path, tmp_path: Path, prefix: str
) -> None:
    assert edgeflow("build", student, "--board", "rpi-pico", "-o", tmp_path, "--set", f"prefix={prefix}").code == 0
    assert (tmp_path / "model" / f"{prefix}_model.h").is_file()


def test_the_page_says_what_a_targets_own_rounding_moved(
    edgeflow: Command, student: Path, vectors: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tflm"
    assert edgeflow("build", student, "--board", "nucleo-f446re", "--backend", "tflm", "-o", out).code == 0
    answer = edgeflow("verify", out, "--vectors", vectors)
    assert answer.code == 0
    text = r"its own rounding moved \d+ of 3600 outputs, that and its output's unit 0 of 360 decisions"
    moved = re.search(rf"360   0 of 3600 values differ   ({text})", answer.out)
    assert moved is not None
    assert edgeflow("report", out).code == 0
    assert moved[1] in html.unescape((out / "report.html").read_text())
    told = r"accuracy of the integers: \d+\.\d\d % on the vectors' labels; of what was built: \d+\.\d\d %\n"
    assert re.search(told, answer.out)
