"""The wheel in its child process: what happens when it is missing, refuses, dies, hangs or answers nonsense."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.protocol import Artefact
from edgeflow.errors import MissingTool, ToolFailed
from edgeflow.toolchain import tflm
from tests.backends.tflm.conftest import TFLM, emit
from tests.backends.tflm.graphs import random_tflm_graph
from tests.graphs import extreme_inputs

FIX = "build the folder again; if it still happens, report it with the model and the version of tflite-micro"


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    return emit(random_tflm_graph(3), tmp_path)


def run(artefact: Artefact) -> object:
    program = TFLM.build(artefact, "wheel", artefact.folder)
    return TFLM.run(program, extreme_inputs(artefact.graph, 1))


def test_a_missing_wheel_says_what_to_install(artefact: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(_: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(MissingTool):
        TFLM.need_tools(artefact.board)
    with pytest.raises(MissingTool) as caught:
        TFLM.build(artefact, "wheel", artefact.folder)
    assert str(caught.value) == 'the tflite-micro wheel is not installed\n  fix: pip install "edgeflow[tflm]"'


CHILDREN = {
    "dies": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of signal 11"),
    "fails": (
        "import sys; print('no such thing', file=sys.stderr); sys.exit(9)",
        "ended with exit code 9\n  no such thing",
    ),
    "refuses": ("import sys; print('op 7 unknown', file=sys.stderr); sys.exit(3)", "refused the model\n  op 7 unknown"),
    "is silent": ("pass", "gave no outputs"),
    "talks": ("print('hello')", "gave no outputs"),
}


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_that_fails_is_named_with_what_to_do(
    child: str, artefact: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, words = CHILDREN[child]
    monkeypatch.setattr(tflm, "_CHILD", code)
    with pytest.raises(ToolFailed) as caught:
        run(artefact)
    assert str(caught.value) == f"model.tflite: the TFLite-Micro wheel {words}\n  fix: {FIX}"


def test_a_child_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflm, "_CHILD", "import time; time.sleep(60)")
    with pytest.raises(ToolFailed) as caught:
        tflm.invoke(tmp_path / "model.tflite", [np.zeros((1, 2), np.int8)], 1, seconds=0.5)
    assert str(caught.value) == (
        "model.tflite: the TFLite-Micro wheel did not finish within 0.5 s and was stopped\n  fix: give it fewer samples"
    )


def test_a_damaged_model_is_refused(artefact: Artefact) -> None:
    path = artefact.folder / "model.tflite"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ToolFailed, match="the TFLite-Micro wheel refused the model"):
        run(artefact)


def test_outputs_of_another_size_are_not_taken_for_the_models(artefact: Artefact, tmp_path: Path) -> None:
    other = emit(random_tflm_graph(5), tmp_path / "other")
    (artefact.folder / "model.tflite").write_bytes((other.folder / "model.tflite").read_bytes())
    with pytest.raises(ToolFailed):
        run(artefact)


def test_an_arena_that_is_too_small_is_followed_by_a_larger_one(artefact: Artefact) -> None:
    places = TFLM.build(artefact, "wheel", artefact.folder).binary
    x = extreme_inputs(artefact.graph, 1)["x"].astype(np.int8)
    shape = (24, *(1,) * (3 - len(x.shape[1:])), *x.shape[1:])
    model = tflm.invoke(places, [x.reshape(shape)], 1, arenas=(256, 1 << 20))
    assert 256 < model.arena < 1 << 20


def test_the_run_reports_the_arena_and_the_models_bytes(artefact: Artefact) -> None:
    program = TFLM.build(artefact, "wheel", artefact.folder)
    arena, board = TFLM.run(program, extreme_inputs(artefact.graph, 1)).resources
    (model,) = TFLM.measure(program)
    assert (arena.name, model.name) == ("arena on this machine", "model")
    assert board.name == "arena on the board"
    assert 500 < board.value < arena.value
    assert model.value == (artefact.folder / "model.tflite").stat().st_size
