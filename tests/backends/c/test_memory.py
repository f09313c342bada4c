"""The map of RAM over time is the plan's own: every live byte once, every layer, the peak within the arena."""

from __future__ import annotations

import pytest

from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.memory import memory_map
from edgeflow.board import Core
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.passes import simplify
from edgeflow.resource import Held, MemoryMap, Moment, Placed
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
    placed = (
        Placed("x", found.placed[0].offset, 4, 0, 0),
        Placed("dense40", found.placed[1].offset, 40, 0, 1),
        Placed("dense10", found.placed[2].offset, 10, 1, 1),
    )
    assert found == MemoryMap(50, 50, (first, second), ("dense40", "dense10"), placed)
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


@pytest.mark.parametrize("core", [Core.CORTEX_M0PLUS, Core.CORTEX_M4F])
@pytest.mark.parametrize("seed", range(20))
def test_the_places_of_each_call_are_those_of_its_moment(seed: int, core: Core) -> None:
    made = emit_model(random_graph(seed), core=core)
    found = memory_map(made)
    used = [
        len(
            {
                at
                for one in found.placed
                if one.born <= call <= one.last
                for at in range(one.offset, one.offset + one.size)
            }
        )
        for call in range(len(found.calls))
    ]
    assert max(one.offset + one.size for one in found.placed) <= found.size
    for one in found.moments:
        assert found.calls.count(one.layer) >= one.calls
        assert one.used in {bytes_ for bytes_, layer in zip(used, found.calls, strict=True) if layer == one.layer}
    assert max(used) == found.peak.used
    assert sum((one.last + 1 - one.born) * one.size for one in found.placed) == sum(
        (span.last + 1 - span.born) * span.size for each in made.plan.schedule.objects for span in each.spans
    ), "parts side by side are joined, and nothing else"


def test_the_memory_that_a_kernel_works_in_is_there() -> None:
    made = emit_model(simplify(next(form for form in FORMS if form.op == "Conv").graph()), core=Core.CORTEX_M4F)
    (kernel, moment), *_ = zip(made.kernels, memory_map(made).moments, strict=True)
    assert kernel.scratch
    assert Held("working memory", 4 * kernel.scratch) in moment.held
