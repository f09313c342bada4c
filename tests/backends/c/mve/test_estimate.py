"""What `estimate` says of a Cortex-M55 holds within its band of what QEMU counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.estimate import FLASH_BAND, RAM_BAND, WORK_BAND
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph
from edgeflow.passes import simplify
from tests.backends.c.mve.test_layers import CASES, graph_of
from tests.backends.c.test_estimate import GRAPHS, TESTS, counted
from tests.conftest import NeedTool

C = CBackend()


def board() -> McuBoard:
    found = load_board("nucleo-f446re")
    assert isinstance(found, McuBoard)
    return replace(found, core=Core.CORTEX_M55)


def assert_within_bands(graph: Graph, folder: Path) -> None:
    found = counted(graph, board(), folder)
    guess = {one.name: one.value for one in C.estimate(graph, board(), COptions(stack=0)) if not one.layer}
    assert guess["instructions"] == pytest.approx(found["instructions"], rel=WORK_BAND)
    assert guess["flash"] == pytest.approx(found["flash"], rel=FLASH_BAND)
    assert guess["RAM"] == pytest.approx(found["static RAM"] + found["stack"], rel=RAM_BAND)


QUICK = {"QKeras CNN", "quantized mobile"}
NAMES = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in GRAPHS]


@pytest.mark.parametrize("name", NAMES)
def test_networks_hold_within_their_bands(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    assert_within_bands(simplify(GRAPHS[name]()), tmp_path)


def test_keyword_spotting_holds_within_its_bands(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    assert_within_bands(load_model(TESTS / "data" / "models" / "kws_ref_model.tflite"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_layers_hold_within_their_bands(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    assert_within_bands(graph_of(CASES[name], 1), tmp_path)
