"""The README's commands are run as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeflow import cli
from edgeflow.vectors import read_vectors
from tests.conftest import NeedTool


def commands(root: Path) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line]


def save_float_model(path: Path) -> None:
    """Plain Keras, as anybody's model is."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.save(path)


def test_every_command_of_the_readme_succeeds(
    root: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    need_tool: NeedTool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for tool in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_tool(tool)
    made = tmp_path / "examples" / "digits" / "build" / "digits"
    shutil.copytree(data / "digits", made)
    shutil.copy(made / "student.keras", tmp_path / "student.keras")
    held_out = read_vectors(made / "vectors.npz")
    np.savez(tmp_path / "test.npz", x=held_out.inputs["image"], labels=np.zeros(held_out.samples, dtype=np.int64))
    save_float_model(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=held_out.inputs["image"], y=np.zeros(held_out.samples, dtype=np.int64))
    shutil.copytree(data / "models", tmp_path / "tests" / "data" / "models")
    monkeypatch.chdir(tmp_path)
    found = commands(root)
    assert [words[1] for words in found] == [
        *("boards", "inspect", "check", "import", "build", "verify", "report"),
        *("predict", "build", "verify"),
        *("quantize", "build", "verify"),
        *("import", "inspect", "check", "build", "verify"),
    ]
    (shown,) = re.findall(r"```text\n(  RAM over time.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)
    for words in found:
        assert words[0] == "edgeflow"
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code in (0, None), words
        said = capsys.readouterr().out
        assert shown in said or words[1:3] != ["build", "build/graph"]
    again = read_vectors(tmp_path / "vectors" / "vectors.npz")
    np.testing.assert_array_equal(again.outputs["logits"], held_out.outputs["logits"])


def test_the_first_lines_are_the_two_commands(root: Path) -> None:
    lines = (root / "README.md").read_text().splitlines()
    assert lines[0] == "# edgeflow"
    assert [line.split("#")[0].split() for line in lines[2:4]] == [["make", "demo"], ["make", "test"]]
