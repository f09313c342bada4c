"""`edgeflow run` from a recipe to run.json: real training, real firmware, on data of the user's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeflow import cli, pipeline
from edgeflow.errors import EdgeflowError
from tests.conftest import NeedTool

RECIPE = """
name = "blobs"
seed = 3
output = "out"

[data]
source = "blobs.npz"

[teacher]
model = "models.py:teacher"
epochs = 3

[student]
model = "models.py:student"
epochs = 4

[prune]
sparsity = 0.25

[quantize]
input = { bits = 6, integer = 1 }
weights = { bits = 4, integer = 0 }
biases = { bits = 6, integer = 0 }
activations = { bits = 5, integer = 1 }

[[targets]]
board = "stm32f103c8"

[[targets]]
board = "rpi-pico"
options = { stack = 1024 }
"""

MODELS = """
import keras
from keras import layers

def teacher(input_shape, classes):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(24, activation="relu"), layers.Dense(classes)])

def student(input_shape, classes):
    return keras.Sequential([
        keras.Input(input_shape, name="point"),
        layers.Dense(WIDTH, activation="relu", name="hidden"),
        layers.Dense(classes, name="scores"),
    ])
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 240)
    points = (np.eye(3)[labels] @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(240, 8))).astype(np.float32)
    np.savez(
        tmp_path / "blobs.npz", x_train=points[:180], y_train=labels[:180], x_test=points[180:], y_test=labels[180:]
    )
    (tmp_path / "models.py").write_text(MODELS.replace("WIDTH", "10"))
    (tmp_path / "edgeflow.toml").write_text(RECIPE)
    return tmp_path / "edgeflow.toml"


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["edgeflow", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    code = left.value.code
    return code if isinstance(code, int) else 0


@pytest.mark.xdist_group("training")
def test_run_writes_verified_firmware_for_every_target_and_resumes(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], need_tool: NeedTool
) -> None:
    for tool in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_tool(tool)
    out = recipe.parent / "out"
    assert run(monkeypatch, "run", recipe) == 0
    shown = capsys.readouterr().out
    assert f"next: edgeflow verify {out / 'stm32f103c8-c'} --vectors {out / 'vectors.npz'}" in shown
    record = json.loads((out / "run.json").read_text())
    assert record["schema"] == 1
    assert [one["name"] for one in record["steps"]] == ["teacher", "student", "integer graph"]
    assert set(record["digests"]) == {"config", "graph", "student", "teacher", "vectors"}
    assert record["steps"][1]["accuracy"] == record["steps"][2]["accuracy"]
    assert {(one["board"], one["runner"]) for one in record["targets"]} == {
        (board, runner) for board in ("stm32f103c8", "rpi-pico") for runner in ("host", "host-sanitized", "qemu")
    }
    assert all(one["samples"] == 60 and one["mismatches"] == 0 and one["fits"] for one in record["targets"])
    assert "no flash wait states" in (out / "report.html").read_text()

    before = {name: (out / name).read_bytes() for name in ("student.keras", "run.json", "vectors.npz")}
    assert run(monkeypatch, "run", recipe) == 0
    assert capsys.readouterr().out.count("(from the last run)") == 2
    assert {name: (out / name).read_bytes() for name in before} == before


@pytest.mark.xdist_group("training")
def test_a_student_too_large_for_its_board_is_told_before_any_training(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], need_tool: NeedTool
) -> None:
    for tool in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_tool(tool)
    (recipe.parent / "models.py").write_text(MODELS.replace("WIDTH", "9000"))
    assert run(monkeypatch, "run", recipe) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: the student does not fit stm32f103c8: flash is ")
    assert captured.err.endswith(
        "% of what there is, most of it in layer 'hidden'\n"
        "  fix: take longan-nano, or make the model smaller; edgeflow check shows more\n"
    )
    assert not (recipe.parent / "out" / "teacher.keras").exists()
    assert run(monkeypatch, "check", recipe) == 1
    assert "DOES NOT FIT   flash is" in capsys.readouterr().out


def test_a_foreign_output_folder_is_not_touched(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = recipe.parent / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    assert run(monkeypatch, "run", recipe) == 2
    assert capsys.readouterr().err == (
        f"error: {out}: the output folder exists and edgeflow did not make it\n"
        '  fix: set another "output" in the recipe, or move the folder away\n'
    )
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_a_missing_compiler_is_told_before_any_training(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEFLOW_ARM_GCC", "/nowhere/arm-gcc")
    assert run(monkeypatch, "run", recipe) == 2
    assert capsys.readouterr().err == (
        "error: EDGEFLOW_ARM_GCC=/nowhere/arm-gcc is not a program\n  fix: correct or unset EDGEFLOW_ARM_GCC\n"
    )


@pytest.mark.xdist_group("training")
def test_a_users_own_files_in_a_firmware_folder_are_not_lost(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], need_tool: NeedTool
) -> None:
    for tool in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_tool(tool)
    assert run(monkeypatch, "run", recipe) == 0
    folder = recipe.parent / "out" / "rpi-pico-c"
    (folder / "mine.c").write_text("int mine;\n")
    (folder / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    capsys.readouterr()
    assert run(monkeypatch, "run", recipe) == 2
    assert capsys.readouterr().err == (
        f"error: {folder}: you changed or added src/main.c, mine.c, and building anew would lose that\n"
        "  fix: copy the folder elsewhere, or add --force to replace it\n"
    )
    assert (folder / "mine.c").read_text() == "int mine;\n"
    assert run(monkeypatch, "run", recipe, "--force") == 0
    assert not (folder / "mine.c").exists()


def test_a_recipes_board_path_starts_at_the_recipe_and_errors_name_its_line(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    text = recipe.read_text()
    (recipe.parent / "mine.toml").write_text((root / "boards" / "rpi-pico.toml").read_text())
    for board, message in {
        "rpi-pic": 'unknown board "rpi-pic"; did you mean "rpi-pico"?',
        "./none.toml": f"{recipe.parent / 'none.toml'}: no such file",
    }.items():
        recipe.write_text(text.replace('board = "rpi-pico"', f'board = "{board}"'))
        assert run(monkeypatch, "run", recipe) == 2
        error = capsys.readouterr().err
        assert message in error
    recipe.write_text(text.replace('board = "rpi-pico"', 'board = "./mine.toml"').replace("stack = 1024", "stack = 3"))
    assert run(monkeypatch, "run", recipe) == 2
    line = recipe.read_text().splitlines().index("options = { stack = 3 }") + 1
    assert capsys.readouterr().err == (
        f"error: {recipe}:{line}: backend c: stack is 3; it must be a multiple of 8 from 0 to 16777216 bytes\n"
    )


def test_predict_refuses_an_architecture_with_the_way_out(data: Path, tmp_path: Path) -> None:
    model = data.parent / "frontends" / "qkeras" / "data" / "hls4ml" / "qkeras_mnist_dense.json"
    with pytest.raises(EdgeflowError) as caught:
        pipeline.predict_folder(model, tmp_path / "data.npz", tmp_path / "vectors")
    assert str(caught.value) == (
        f"{model}: an architecture without weights: Keras and QKeras run whole models only\n"
        "  fix: load it in Python with its weights and save it with model.save('model.keras'); "
        f"then edgeflow predict model.keras --data {tmp_path / 'data.npz'} -o {tmp_path / 'vectors'}"
    )
