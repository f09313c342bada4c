"""Ops that only move elements, by rows: what streams through them, exact on the host and on cores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.moves import SMALL
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType
from edgeflow.ops.concat import Concat
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.slicing import Slice
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

_POOL = MaxPool((2, 1), (1, 1), ((1, 0), (0, 0)))

Move = Callable[[GraphBuilder, str], str]


def _one(op: Pad | Slice | Transpose | Upsample) -> Move:
    return lambda builder, x: builder.add(op, (x,), UNIT, "moved")


def _join(axis: int, parts: int) -> Move:
    def add(builder: GraphBuilder, x: str) -> str:
        pooled = builder.add(MaxPool((1, 3), (1, 1), ((0, 0), (1, 1))), (x,), UNIT, "pooled")
        return builder.add(Concat(axis), (x, pooled, x)[:parts], UNIT, "moved")

    return add


MOVES: dict[str, tuple[Move, int]] = {
    "join channels": (_join(2, 2), 12),
    "join three": (_join(2, 3), 12),
    "join columns": (_join(1, 2), 12),
    "pad all": (_one(Pad(((2, 1), (1, 0), (0, 3)), -5)), 15),
    "pad below": (_one(Pad(((0, 3), (0, 0), (0, 0)), 100)), 15),
    "pad above": (_one(Pad(((3, 0), (0, 0), (0, 0)), -1)), 15),
    "pad columns": (_one(Pad(((0, 0), (2, 2), (0, 0)), 7)), 12),
    "slice": (_one(Slice((3, 1, 0), (8, 5, 8), (1, 1, 1))), 8),
    "every second": (_one(Slice((1, 0, 1), (6, 7, 7), (2, 1, 1))), 6),
    "turn columns": (_one(Transpose((0, 2, 1))), 12),
    "stretch columns": (_one(Upsample((1, 2), False)), 12),
    "zeros between": (_one(Upsample((1, 3), True)), 12),
}
"""What moves, and the rows of its result."""


def _streamed(move: Move) -> Graph:
    """A pool over two rows, the op, such a pool again: rows go through all three."""
    builder = GraphBuilder("moved")
    x = builder.input("x", TensorType((12, 7, 8), -128, 127), UNIT)
    at = move(builder, builder.add(_POOL, (x,), UNIT, "above"))
    builder.output("y", builder.add(_POOL, (at,), UNIT, "below"))
    return builder.finish()


@pytest.mark.parametrize(("move", "rows"), MOVES.values(), ids=MOVES)
def test_rows_go_through_what_moves_them(move: Move, rows: int, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = _streamed(move)
    flow = emit_model(graph).plan.schedule.flow
    (step,) = [one for one in flow.steps if one.result == "moved"]
    assert flow.tensors["moved"].rows == rows
    assert all(read.window is not None and read.window.size == 1 for read in step.reads)
    inputs = extreme_inputs(graph, 3, samples=6)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_rows_that_move_are_not_all_kept() -> None:
    plan = emit_model(_streamed(_join(2, 3))).plan
    joined = sum(one.size for one in plan.alive(plan.peak()) if one.owner == "moved")
    assert joined < 12 * 7 * 24 // 2
    assert plan.size <= 1.1 * plan.lower_bound


def test_what_turns_rows_or_is_small_moves_at_once() -> None:
    def windows(shape: tuple[int, ...], op: Pad | Transpose) -> list[object]:
        builder = GraphBuilder("whole")
        x = builder.input("x", TensorType(shape, -128, 127), UNIT)
        builder.output("y", builder.add(op, (x,), UNIT, "moved"))
        return [read.window for step in emit_model(builder.finish()).plan.schedule.flow.steps for read in step.reads]

    assert windows((12, 6, 8), Transpose((1, 0, 2))) == [None]
    assert windows((SMALL // 16 - 2, 16), Pad(((1, 0), (0, 0)), 3)) == [None]
    assert windows((SMALL // 16 - 1, 16), Pad(((1, 0), (0, 0)), 3)) != [None]


def test_rows_move_on_a_core(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    for number, name in enumerate(("join three", "pad all", "every second")):
        graph = _streamed(MOVES[name][0])
        inputs = extreme_inputs(graph, 4, samples=3)
        assert_exact(graph, inputs, run_c(graph, inputs, tmp_path / str(number), "qemu"))
