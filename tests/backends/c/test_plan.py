"""The memory plan: what is alive together never overlaps, and nothing is wasted on a chain."""

from __future__ import annotations

import itertools

import pytest

from edgeflow.backends.c.lower import lower
from edgeflow.backends.c.plan import plan_memory
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT, random_graph


@pytest.mark.parametrize("seed", range(60))
def test_tensors_alive_together_never_overlap(seed: int) -> None:
    lowered = lower(random_graph(seed))
    plan = plan_memory(lowered)
    for one, other in itertools.combinations(plan.placed, 2):
        together = one.first <= other.last and other.first <= one.last
        overlap = one.offset < other.offset + other.size and other.offset < one.offset + one.size
        assert not (together and overlap), (one, other)
    for one in plan.placed:
        assert one.offset % lowered.buffers[one.tensor].ctype.size == 0
        assert one.offset + one.size <= plan.size
    assert plan.lower_bound <= plan.size


def test_a_chain_reaches_the_lower_bound() -> None:
    builder = GraphBuilder("chain")
    at = builder.input("x", TensorType((4,), 0, 1), UNIT)
    for width in (40, 10, 60, 20, 5):
        size = builder.type(at).size
        at = builder.add(Dense(frozen_array([[0] * width] * size), frozen_array([1] * width)), (at,), UNIT, "dense")
    builder.output("y", at)
    plan = plan_memory(lower(builder.finish()))
    assert [one.size for one in plan.placed] == [40, 10, 60, 20]
    assert plan.size == plan.lower_bound == 80
