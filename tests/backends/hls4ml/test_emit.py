"""The project as a product: the same bytes everywhere, nothing of this machine in it, no name of a model runs wild."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import Bundle, fill
from edgeflow.backends.hls4ml import convert
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.backends.hls4ml.project import project_name, sample_inputs
from edgeflow.backends.protocol import Artefact
from edgeflow.errors import MissingTool, ToolFailed
from edgeflow.frontends.qkeras import load_qkeras
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Rounding
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.toolchain import gxx
from edgeflow.toolchain.process import Finished
from tests.backends.hls4ml.helpers import BOARD, HLS, assert_exact, shift
from tests.conftest import NeedTool

DEFAULT = Hls4mlOptions()
HOSTILE = 'w2"; system("x") //*/\n\\ \N{ROCKET} %s $(x) [exec x] {{ 7 }} result_t input_t double'
TWO_PROCESSES = """
import sys
from pathlib import Path
from edgeflow.backends.hls4ml.backend import Hls4mlBackend
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.board import load_board
from edgeflow.frontends.qkeras import load_qkeras
graph = load_qkeras(Path(sys.argv[1]))
print(Hls4mlBackend().emit(graph, load_board("pynq-z2"), Hls4mlOptions()).digest)
"""


def small(name: str = "small", layer: str = "dense") -> Graph:
    builder = GraphBuilder(name)
    x = builder.input(f"{layer} in", TensorType((3,), 0, 15), Dyadic(4))
    weight, bias = frozen_array([[1, -2], [3, 4], [-5, 6]]), frozen_array([7, 8])
    at = builder.add(Dense(weight, bias), (x,), Dyadic(6), layer)
    builder.output(f"{layer} out", builder.add(shift(2, Rounding.HALF_EVEN, 0, 15), (at,), Dyadic(4), layer))
    return builder.finish()


@pytest.fixture(scope="module")
def digits() -> Bundle:
    student = Path(__file__).resolve().parents[2] / "data" / "digits" / "student.keras"
    return HLS.emit(load_qkeras(student), BOARD, DEFAULT)


def test_another_process_writes_the_same_bytes(digits: Bundle, data: Path) -> None:
    command = [sys.executable, "-c", TWO_PROCESSES, str(data / "digits" / "student.keras")]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digits.digest


def test_the_project_is_whole(digits: Bundle) -> None:
    names = set(digits.files)
    assert {
        "README.md",
        "build_opt.tcl",
        "build_prj.tcl",
        "project.tcl",
        "digits_hls_samples.h",
        "digits_hls_test.cpp",
        "firmware/digits_hls.cpp",
        "firmware/digits_hls.h",
        "firmware/defines.h",
        "firmware/parameters.h",
        "firmware/ap_types/ap_fixed.h",
        "firmware/weights/w3.h",
        "firmware/weights/w3.txt",
        "tb_data/inputs.dat",
        "tb_data/outputs.dat",
        "verify/csim.cpp",
    } <= names
    assert not {name for name in names if "bridge" in name or name.endswith((".yml", ".sh"))}


def test_nothing_of_this_machine_or_day_is_in_it(digits: Bundle) -> None:
    ours = {name: text for name, text in digits.files.items() if "ap_types" not in name and "nnet_utils" not in name}
    for name, content in ours.items():
        text = content.decode("ascii")
        assert not re.search(r"/(home|root|tmp|work|usr)\b", text), name
        assert not re.search(r"\b20[2-9]\d-\d\d-\d\d|\d\d:\d\d:\d\d", text), name
        assert "edgeflow-" not in text, name


def test_part_and_clock_are_the_boards(digits: Bundle) -> None:
    project = digits.files["project.tcl"].decode()
    assert 'set part "xc7z020clg400-1"\n' in project
    assert "set clock_period 10.0\n" in project
    assert 'set backend "vitis"\n' in project
    readme = digits.files["README.md"].decode()
    assert "(xc7z020clg400-1, 100 MHz)" in readme
    assert "| image | `ufixed<5,1,TRN,SAT,0>` | 2^-4 |" in readme


def test_types_are_the_students_widths(digits: Bundle) -> None:
    types = digits.files["firmware/defines.h"].decode()
    assert re.search(r"typedef nnet::array<ap_ufixed<6,2,AP_RND_CONV,AP_SAT,0>, 32\*1> conv_conv1_\w*t;", types)
    assert re.search(r"typedef ap_fixed<8,1> conv_conv1_\w*weight_t;", types)


def test_the_test_bench_has_the_interpreters_answers() -> None:
    graph = small()
    files = HLS.emit(graph, BOARD, DEFAULT).files
    given = np.asarray([line.split() for line in files["tb_data/inputs.dat"].decode().splitlines()], dtype=np.int64)
    wanted = np.asarray([line.split() for line in files["tb_data/outputs.dat"].decode().splitlines()], dtype=np.int64)
    assert given.shape == (16, 3)
    assert (given[0] == 0).all()
    assert (given[1] == 15).all()
    np.testing.assert_array_equal(interpret(graph, {"dense in": given})[0]["dense out"], wanted)
    np.testing.assert_array_equal(sample_inputs(graph, 16)["dense in"], given)


def test_the_prefix_names_the_project() -> None:
    options = Hls4mlOptions(prefix="My Net")
    assert project_name(small(), options) == "my_net_hls"
    assert "firmware/my_net_hls.cpp" in HLS.emit(small(), BOARD, options).files


def test_hostile_names_stay_words(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("g++")
    graph = small(HOSTILE, HOSTILE)
    assert_exact(graph, tmp_path, DEFAULT)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix in (".cpp", ".h", ".tcl", ".md") and "ap_types" not in path.parts:
            text = path.read_text()
            code = re.sub(r"//[^\n]*", "", text) if path.suffix != ".md" else ""
            assert "system(" not in code
            assert "exec x" not in code


def test_a_missing_hls4ml_is_named_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object, **rest: object) -> Finished:
        return Finished(("python",), 3, b"", b"missing: No module named 'hls4ml'\n")

    monkeypatch.setattr(convert, "run", absent)
    with pytest.raises(MissingTool) as caught:
        HLS.emit(small(), BOARD, DEFAULT)
    assert str(caught.value) == ("hls4ml is not usable: No module named 'hls4ml'\n  fix: pip install 'edgeflow[hls]'")


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (3, b"Exception: no such layer\n", "hls4ml could not convert the model: Exception: no such layer"),
        (-9, b"", "hls4ml could not convert the model: ended with code -9"),
    ],
)
def test_an_hls4ml_that_fails_says_so(code: int, words: bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **rest: object) -> Finished:
        return Finished(("python",), code, b"", words)

    monkeypatch.setattr(convert, "run", fails)
    with pytest.raises(ToolFailed) as caught:
        HLS.emit(small(), BOARD, DEFAULT)
    assert str(caught.value) == message


def test_emit_leaves_no_hls4ml_and_no_keras_in_this_process(data: Path) -> None:
    script = TWO_PROCESSES + "assert not {'hls4ml', 'keras', 'tensorflow'} & set(sys.modules)\n"
    command = [sys.executable, "-c", script, str(data / "digits" / "student.keras")]
    subprocess.run(command, check=True, capture_output=True)


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGEFLOW_CXX", raising=False)
    graph = small()
    with pytest.raises(MissingTool) as caught:
        HLS.build(Artefact(tmp_path, "hls4ml", graph, BOARD, DEFAULT, "", graph), "csim", tmp_path)
    assert str(caught.value) == (
        "g++ is not installed\n  fix: apt install g++ (or your system's C++ compiler), or set EDGEFLOW_CXX to its path"
    )


def test_a_broken_project_gives_the_compilers_first_error(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("g++")
    graph = small()
    fill(tmp_path, HLS.emit(graph, BOARD, DEFAULT))
    (tmp_path / "firmware" / "small_hls.cpp").write_text("int main( {\n")
    with pytest.raises(ToolFailed, match=r"^csim: g\+\+ refused the generated code: .*small_hls.cpp:1.*error"):
        HLS.build(Artefact(tmp_path, "hls4ml", graph, BOARD, DEFAULT, "", graph), "csim", tmp_path)


def test_the_compiler_tells_its_version(need_tool: NeedTool) -> None:
    need_tool("g++")
    assert re.match(r"\S*g\+\+\S* .*\d+\.\d+", gxx.version())
