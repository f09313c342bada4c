"""Sums of all positions on the DSP instructions: twins under the sanitizers, assembly under QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.dsp.total import WordTotalKernel
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.estimate import WORK_BAND
from edgeflow.backends.c.simulate import simulate
from edgeflow.backends.c.windows import TotalKernel
from edgeflow.board import Core, load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

Case = tuple[tuple[int, ...], int]
CASES: dict[str, Case] = {
    "16 bits, five positions": ((25, 5, 64), 0),
    "16 bits, signed": ((5, 5, 19), -128),
    "32 bits, signed": ((20, 15, 7), -128),
    "32 bits, most positions": ((2, 256, 4), 0),
    "32 bits, signed, most positions": ((2, 256, 5), -128),
    "channels far apart": ((3, 9, 300), 0),
    "channels farther apart": ((1, 2, 4100), -128),
    "one axis": ((30, 5), -128),
}
PLAIN: dict[str, Case] = {
    "too many positions": ((2, 257, 4), 0),
    "three channels": ((4, 4, 3), 0),
    "16 bits in": ((4, 4, 4), -1000),
}


def graph_of(cases: dict[str, Case]) -> Graph:
    """A graph with an input and an output for each case."""
    builder = GraphBuilder("totals")
    found: list[str] = []
    for number, (shape, lo) in enumerate(cases.values()):
        at = builder.input(f"x{number}", TensorType(shape, lo, lo + 255), UNIT)
        window = shape[:-1]
        found.append(builder.add(SumPool(window, window, ((0, 0),) * len(window)), (at,), UNIT, f"sum{number}"))
    for number, at in enumerate(found):
        builder.output(f"y{number}", at)
    return builder.finish()


def test_bytes_are_summed_by_words() -> None:
    made = emit_model(graph_of(CASES), core=Core.CORTEX_M4F)
    assert {type(one) for one in made.kernels} == {WordTotalKernel}
    assert simulate(made.plan.schedule, made.plan.placement.offsets) == ()


@pytest.mark.parametrize("name", PLAIN)
def test_what_does_not_fit_is_plain(name: str) -> None:
    made = emit_model(graph_of({name: PLAIN[name]}), core=Core.CORTEX_M4F)
    assert [type(one) for one in made.kernels] == [TotalKernel]


@pytest.mark.parametrize("runner", ["host-sanitized", "qemu"])
def test_sums_are_exact(runner: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = graph_of(CASES)
    inputs = extreme_inputs(graph, 2)
    run = run_c(graph, inputs, tmp_path, runner)
    assert_exact(graph, inputs, run)
    estimate = CBackend().estimate(graph, load_board("nucleo-f446re"), COptions(stack=0))
    guess = next(one.value for one in estimate if one.name == "instructions" and not one.layer)
    counted = [one.value for one in run.resources if one.name == "instructions"]
    assert all(guess == pytest.approx(one, rel=WORK_BAND) for one in counted)
