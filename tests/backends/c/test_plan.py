"""The memory plan of generated models: every row that is read is there, and streaming saves what it can."""

from __future__ import annotations

import pytest

from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.plan import Plan
from edgeflow.backends.c.simulate import simulate
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT, random_graph


def faults(plan: Plan) -> tuple[str, ...]:
    return simulate(plan.schedule, plan.placement.offsets)


@pytest.mark.parametrize("seed", range(60))
def test_every_row_that_is_read_is_there(seed: int) -> None:
    plan = emit_model(random_graph(seed)).plan
    assert faults(plan) == ()
    assert plan.lower_bound <= plan.size


def test_a_chain_of_whole_tensors_reaches_the_lower_bound() -> None:
    builder = GraphBuilder("chain")
    at = builder.input("x", TensorType((4,), 0, 1), UNIT)
    for width in (40, 10, 60, 20, 5):
        size = builder.type(at).size
        at = builder.add(Dense(frozen_array([[0] * width] * size), frozen_array([1] * width)), (at,), UNIT, "dense")
    builder.output("y", at)
    plan = emit_model(builder.finish()).plan
    assert faults(plan) == ()
    assert plan.size == plan.lower_bound == 80


def test_convolutions_keep_the_rows_that_the_next_one_reads() -> None:
    """Three 3x3 convolutions and a sum over everything: three rows of each result, where whole ones have sixteen."""
    builder = GraphBuilder("rows")
    at = builder.input("x", TensorType((16, 8, 4), 0, 1), UNIT)
    for _ in range(3):
        weight = frozen_array([[[[0] * 4] * 4] * 3] * 3)
        op = Conv(weight, frozen_array([1] * 4), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
        at = builder.add(op, (at,), UNIT, "conv")
    at = builder.add(SumPool((16, 8), (16, 8), ((0, 0), (0, 0))), (at,), UNIT, "pool")
    builder.output("y", builder.add(Reshape((4,)), (at,), UNIT, "flatten"))
    plan = emit_model(builder.finish()).plan
    assert faults(plan) == ()
    row, whole = 8 * 4, 16 * 8 * 4
    assert plan.size <= whole + 8 * row
