"""Ties are found where they are, and their absence is proven where it can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant, Rounding, round_shift
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret_all
from edgeflow.semantics.tiefree import Tie, tie_summary, ties
from tests.graphs import UNIT, extreme_inputs, random_graph
from tests.passes.graphs import chain, random_redundant_graph, requant

EVEN = Rounding.HALF_EVEN
VECTOR = TensorType((2,), -128, 127)
IMAGE = TensorType((4, 4, 2), -8, 7)
NONE, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))


def dense(weight: list[list[int]], bias: list[int]) -> Dense:
    return Dense(frozen_array(weight), frozen_array(bias))


def conv(pad_value: int, *, bias: int = 1) -> Conv:
    weight = frozen_array(2 * np.random.default_rng(0).integers(-9, 9, (3, 3, 2, 2)))
    return Conv(weight, frozen_array([bias] * 2), (1, 1), SAME, (1, 1), 1, pad_value)


DOUBLE = requant(multiplier=2, bias=1)
FREE: dict[str, tuple[TensorType, tuple[Op, ...]]] = {
    "an odd bias under even weights": (VECTOR, (dense([[2, -4], [6, 0]], [3, -5]), requant(3, EVEN))),
    "a bias in the middle of a unit": (VECTOR, (dense([[8, 16], [8, 0]], [2, 3]), requant(3, EVEN))),
    "a Conv that pads": (IMAGE, (conv(5), requant(4, EVEN))),
    "two layers": (IMAGE, (conv(0), requant(4, EVEN, lo=0, hi=15), conv(0, bias=-7), requant(2, EVEN))),
    "a pool and a view between": (IMAGE, (conv(0), MaxPool((2, 2), (2, 2), NONE), Reshape((8,)), requant(4, EVEN))),
    "an odd factor": (VECTOR, (dense([[2, -4], [6, 0]], [3, -5]), requant(3, EVEN, multiplier=7))),
    "an even sum of odd numbers, and one": (IMAGE, (DOUBLE, SumPool((2, 2), (2, 2), NONE), requant(3, EVEN, bias=1))),
    "an odd count of odd numbers": (IMAGE, (DOUBLE, SumPool((3, 3), (1, 1), NONE), requant(3, EVEN))),
    "zeros between": (IMAGE, (requant(multiplier=2), Upsample((2, 2), zeros=True), requant(3, EVEN, bias=1))),
    "a border": (IMAGE, (DOUBLE, Pad(((1, 1),) * 3, 3), requant(3, EVEN))),
    "too small for half a unit": (TensorType((2,), 0, 3), (requant(3, EVEN),)),
    "ties only where the clamp hides them": (VECTOR, (requant(8, EVEN, lo=0, hi=9),)),
    "nothing dropped": (VECTOR, (requant(0, EVEN),)),
    "a floor": (VECTOR, (requant(3),)),
}
MET: dict[str, tuple[TensorType, tuple[Op, ...], int]] = {
    "no bias": (VECTOR, (requant(3, EVEN),), -124),
    "an odd bias under odd weights": (VECTOR, (dense([[2, 3], [6, 0]], [3, -5]), requant(3, EVEN)), -388),
    "one bit dropped from odd sums": (VECTOR, (dense([[2, 2], [6, 0]], [3, 3]), requant(1, EVEN)), -1021),
    "padding of another parity": (IMAGE, (DOUBLE, conv(0, bias=0), requant(4, EVEN)), -2216),
    "an even factor": (VECTOR, (requant(3, EVEN, multiplier=2, lo=0, hi=1),), 2),
    "a border of even values": (IMAGE, (DOUBLE, Pad(((1, 1),) * 3, 4), requant(3, EVEN)), -12),
    "a negative factor behind a relu": (VECTOR, (requant(3, EVEN, multiplier=-1, lo=0, hi=99),), -124),
}


@pytest.mark.parametrize("case", FREE.values(), ids=FREE)
def test_freedom_from_ties_is_proven(case: tuple[TensorType, tuple[Op, ...]]) -> None:
    kind, ops = case
    assert ties(chain(kind, *ops)) == ()


@pytest.mark.parametrize("case", MET.values(), ids=MET)
def test_a_tie_is_shown_by_its_value(case: tuple[TensorType, tuple[Op, ...], int]) -> None:
    kind, ops, value = case
    found = ties(chain(kind, *ops))
    assert found[0].node == f"layer{len(ops) - 1}"
    assert value in [tie.value for tie in found]


def test_only_the_guilty_channel_is_named() -> None:
    graph = chain(VECTOR, dense([[2, 2], [6, 0]], [3, 4]), requant(3, EVEN))
    assert ties(graph) == (Tie("layer1", "layer1", 1, -252),)
    assert tie_summary(graph) == "0 of 1 roundings are tie-free; ties can occur in: layer1"


def test_branches_join_what_is_known_of_them() -> None:
    builder = GraphBuilder("join")
    x = builder.input("x", VECTOR, UNIT)
    odd = builder.add(DOUBLE, (x,), UNIT, "odd")
    even = builder.add(requant(multiplier=4), (x,), UNIT, "even")
    for name, op, inputs in (
        ("sum", Add((1, -1)), (odd, even)),
        ("pair", Add((1, 1)), (odd, odd)),
        ("product", Multiply(), (odd, odd)),
        ("joined", Concat(0), (odd, even)),
    ):
        at = builder.add(op, inputs, UNIT, name)
        builder.output(name, builder.add(requant(3, EVEN), (at,), UNIT, f"{name} rounded"))
    found = ties(builder.finish())
    assert {tie.layer for tie in found} == {"pair rounded", "joined rounded"}
    assert {tie.channel for tie in found if tie.layer == "joined rounded"} == {2, 3}


def test_two_stages_are_not_worked_out() -> None:
    graph = chain(VECTOR, requant(3, EVEN))
    first = graph.nodes[0].op
    assert isinstance(first, Requant)
    twice = Requant(first.pre, first.multiplier, first.stages * 2, first.offset, first.lo, first.hi)
    assert ties(chain(VECTOR, twice))[0].value == -128


def met(graph: Graph, seed: int) -> set[tuple[str, int]]:
    """Where the values of some inputs really are half-way between results that the clamp tells apart."""
    values = interpret_all(graph, extreme_inputs(graph, seed, 200))
    found: set[tuple[str, int]] = set()
    for node in graph.nodes:
        if not isinstance(node.op, Requant):
            continue
        stages = [stage for stage in node.op.stages if stage.shift.any()]
        if len(stages) != 1 or stages[0].rounding is Rounding.FLOOR:
            continue
        product = values[node.inputs[0]] * (node.op.multiplier << node.op.pre) + node.op.bias
        up, even = (round_shift(product, stages[0].shift, how) for how in (Rounding.HALF_UP, Rounding.HALF_EVEN))
        away = round_shift(product, stages[0].shift, Rounding.HALF_AWAY)
        ends = [np.clip(one + node.op.offset, node.op.lo, node.op.hi) for one in (up, even, away)]
        differ = (ends[0] != ends[1]) | (ends[0] != ends[2])
        found |= {
            (node.name, int(channel)) for channel in np.nonzero(differ.reshape(-1, differ.shape[-1]).any(axis=0))[0]
        }
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_every_tie_that_inputs_meet_was_foreseen(seed: int, redundant: bool) -> None:
    graph = (random_redundant_graph if redundant else random_graph)(seed)
    assert met(graph, seed) <= {(tie.node, tie.channel) for tie in ties(graph)}


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_every_tie_that_many_inputs_meet_was_foreseen(seed: int, redundant: bool) -> None:
    graph = (random_redundant_graph if redundant else random_graph)(seed)
    assert met(graph, seed) <= {(tie.node, tie.channel) for tie in ties(graph)}


@settings(max_examples=200, deadline=None)
@given(
    scale=st.integers(-40, 40),
    bias=st.integers(-200, 200),
    shift=st.integers(1, 6),
    ends=st.tuples(st.integers(-60, 60), st.integers(-60, 60)),
    clamp=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
)
def test_a_small_interval_is_judged_exactly(
    scale: int, bias: int, shift: int, ends: tuple[int, int], clamp: tuple[int, int]
) -> None:
    kind = TensorType((1,), min(ends), max(ends))
    op = requant(shift, EVEN, multiplier=scale, bias=bias, lo=min(clamp), hi=max(clamp))
    values = np.arange(kind.lo, kind.hi + 1)
    low, high = ((values * scale + bias + step) >> shift for step in (0, (1 << shift) - 1))
    tie = (values * scale + bias) % (1 << shift) == 1 << (shift - 1)
    guilty = values[tie & (np.clip(low, op.lo, op.hi) != np.clip(high, op.lo, op.hi))]
    found = [one.value for one in ties(chain(kind, op))]
    assert found == guilty[:1].tolist()
