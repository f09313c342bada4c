"""The map of RAM over time is the plan's own: every live byte once, every layer, the peak within the arena."""

from __future__ import annotations

import pytest

from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.memory import memory_map
from edgeflow.board import Core
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.passes import simplify
from edgeflow.resource import Held, MemoryMap, Moment
from edgeflow.semantics.builder import GraphBuilder
from tests.crossing import FORMS
from tests.graphs import UNIT, random_graph


def test_a_chain_of_whole_tensors_holds_each_pair() -> None:
    builder = GraphBuilder("chain")
    at = builder.input("x", TensorType((4,), 0, 1), UNIT)
    for width in (40, 10):
        size = builder.type(at).size
        weight = frozen_array([[0] * width] * size)
        at = builder.add(Dense(weight, frozen_array([1] * width)), (at,), UNIT, f"dense{width}")
    builder.output("y", at)
    found = memory_map(emit_model(builder.finish()))
    first = Moment("dense40", 44, 1, (Held("dense40", 40), Held("x", 4)))
    second = Moment("dense10", 50, 1, (Held("dense40", 40), Held("dense10", 10)))
    assert found == MemoryMap(50, 50, (first, second))
    assert found.peak == second


@pytest.mark.parametrize("core", [Core.CORTEX_M0PLUS, Core.CORTEX_M4F])
@pytest.mark.parametrize("seed", range(20))
def test_every_layer_has_its_moment_within_the_arena(seed: int, core: Core) -> None:
    made = emit_model(random_graph(seed), core=core)
    found = memory_map(made)
    assert sorted(one.layer for one in found.moments) == sorted(one.layer for one in made.kernels)
    assert sum(one.calls for one in found.moments) == len(made.plan.tasks())
    for one in found.moments:
        assert 0 < one.used <= found.size == made.plan.size
        assert one.used <= sum(held.size for held in one.held)
        assert [held.size for held in one.held] == sorted((held.size for held in one.held), reverse=True)
    assert found.lower_bound <= found.peak.used


def test_the_memory_that_a_kernel_works_in_is_there() -> None:
    made = emit_model(simplify(next(form for form in FORMS if form.op == "Conv").graph()), core=Core.CORTEX_M4F)
    (kernel, moment), *_ = zip(made.kernels, memory_map(made).moments, strict=True)
    assert kernel.scratch
    assert Held("working memory", 4 * kernel.scratch) in moment.held
