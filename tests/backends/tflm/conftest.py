"""What the TFLite-Micro tests share."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.protocol import Artefact, Run
from edgeflow.backends.tflm.backend import TflmBackend, TflmOptions
from edgeflow.board import load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray

TFLM = TflmBackend()
BOARD = load_board("nucleo-f446re")


@pytest.fixture(autouse=True)
def wheel() -> None:
    """Skips the tests without the `tflite-micro` wheel, or fails them where CI=true."""
    if importlib.util.find_spec("tflite_micro") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("tflite-micro is not installed, and in CI every tool must be", pytrace=False)
        pytest.skip("tflite-micro is not installed")


def emit(source: Graph, folder: Path) -> Artefact:
    """The folder of a graph, which TFLite must be able to say."""
    graph = TFLM.adapt(source, BOARD, TflmOptions())
    assert TFLM.check(graph, BOARD, TflmOptions()) == ()
    fill(folder, TFLM.emit(graph, BOARD, TflmOptions()))
    return Artefact(folder, "tflm", graph, BOARD, TflmOptions(), "", source)


def run_wheel(source: Graph, inputs: dict[str, IntArray], folder: Path) -> tuple[Artefact, Run]:
    """The adapted graph's outputs as the wheel gives them."""
    artefact = emit(source, folder)
    return artefact, TFLM.run(TFLM.build(artefact, "wheel", folder), inputs)
