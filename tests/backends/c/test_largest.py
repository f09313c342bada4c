"""MaxPools of bytes on SIMD instructions: their twins under the sanitizers, their assembly under QEMU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.estimate import WORK_BAND
from edgeflow.backends.c.largest import LargestKernel
from edgeflow.backends.c.simulate import simulate
from edgeflow.backends.c.windows import WindowKernel
from edgeflow.board import Core, load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType
from edgeflow.ops.maxpool import MaxPool
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from tests.backends.c.mve import test_layers as mve
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Case:
    """A MaxPool over `shape`, with one or two spatial axes."""

    shape: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: Pads = ((0, 0), (0, 0))
    lo: int = -128


CASES = {
    "2x2": Case((6, 6, 16), (2, 2), (2, 2)),
    "2x2, unsigned, odd channels": Case((5, 7, 7), (2, 2), (2, 2), lo=0),
    "3x3 same": Case((5, 6, 4), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "3x3 same, stride 2": Case((7, 8, 19), (3, 3), (2, 2), ((0, 1), (0, 1)), 0),
    "long channels": Case((2, 5, 37), (2, 3), (1, 2), ((0, 0), (2, 1))),
    "many channels": Case((2, 2, 70), (2, 2), (1, 1), lo=0),
    "columns that are passed over": Case((4, 9, 5), (1, 2), (1, 4)),
    "rows above alone": Case((5, 3, 5), (4, 1), (2, 1), ((3, 1), (0, 0))),
    "six rows": Case((7, 2, 4), (6, 2), (1, 1)),
    "one axis": Case((11, 6), (3,), (2,), ((1, 1),), 0),
    "one window": Case((3, 3, 9), (3, 3), (1, 1)),
    "far columns": Case((1, 4, 800), (1, 4), (1, 4)),
}
PLAIN = {
    "seven rows": Case((7, 2, 4), (7, 2), (1, 1)),
    "columns too far": Case((1, 7, 800), (1, 7), (1, 1)),
    "16 bits": Case((4, 4, 4), (2, 2), (2, 2), lo=-1000),
}
SIMD = [Core.CORTEX_M4F, Core.CORTEX_M55]


def graph_of(cases: dict[str, Case]) -> Graph:
    """A graph with an input and an output for each case."""
    builder = GraphBuilder("pools")
    found: list[str] = []
    for number, case in enumerate(cases.values()):
        at = builder.input(f"x{number}", TensorType(case.shape, case.lo, case.lo + 255), UNIT)
        op = MaxPool(case.window, case.strides, case.pads)
        found.append(builder.add(op, (at,), UNIT, f"pool{number}"))
    for number, at in enumerate(found):
        builder.output(f"y{number}", at)
    return builder.finish()


@pytest.mark.parametrize("core", SIMD)
def test_bytes_are_pooled_by_words_or_vectors(core: Core) -> None:
    made = emit_model(graph_of(CASES), core=core)
    assert {type(one) for one in made.kernels} == {LargestKernel}
    assert simulate(made.plan.schedule, made.plan.placement.offsets) == ()


@pytest.mark.parametrize("core", SIMD)
@pytest.mark.parametrize("name", PLAIN)
def test_what_has_no_registers_is_plain(name: str, core: Core) -> None:
    made = emit_model(graph_of({name: PLAIN[name]}), core=core)
    assert [type(one) for one in made.kernels] == [WindowKernel]


def test_few_channels_are_plain_but_in_vectors() -> None:
    graph = graph_of({"three channels": Case((4, 4, 3), (2, 2), (2, 2))})
    kinds = [[type(one) for one in emit_model(graph, core=core).kernels] for core in SIMD]
    assert kinds == [[WindowKernel], [LargestKernel]]


def test_pools_are_exact_and_clean_under_the_sanitizers(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = graph_of(CASES)
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_pools_are_exact_on_words(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = graph_of(CASES)
    inputs = extreme_inputs(graph, 3)
    run = run_c(graph, inputs, tmp_path, "qemu")
    assert_exact(graph, inputs, run)
    estimate = CBackend().estimate(graph, load_board("nucleo-f446re"), COptions(stack=0))
    guess = next(one.value for one in estimate if one.name == "instructions" and not one.layer)
    counted = next(one.value for one in run.resources if one.name == "instructions")
    assert guess == pytest.approx(counted, rel=WORK_BAND)


def test_pools_are_exact_on_vectors(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = graph_of({**CASES, "three channels": Case((4, 4, 3), (2, 2), (2, 2))})
    inputs = extreme_inputs(graph, 3)
    run = mve.run_c(graph, inputs, tmp_path, "qemu")
    expected, _ = interpret(graph, inputs)
    for name, values in expected.items():
        np.testing.assert_array_equal(run.outputs[name], values)
