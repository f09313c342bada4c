"""Two Requants become one exactly where that is exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeflow.ir.graph import Output
from edgeflow.ir.types import TensorType
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.passes.fold_requant import FoldRequant
from edgeflow.semantics.interpret import interpret
from tests.passes.graphs import chain, requant

WIDE = TensorType((2,), -(1 << 30), (1 << 30) - 1)
NARROW = TensorType((2,), -300, 300)
EVEN, UP, AWAY, FLOOR = Rounding.HALF_EVEN, Rounding.HALF_UP, Rounding.HALF_AWAY, Rounding.FLOOR

FOLDS = {
    "an exact left shift before a rounding": (requant(pre=3), requant(5, EVEN)),
    "a factor and a bias before a rounding": (
        requant(multiplier=5, bias=7, offset=-2),
        requant(6, AWAY, multiplier=-3),
    ),
    "a clamp before a rounding": (requant(lo=0, hi=999), requant(4, EVEN, lo=-9, hi=20)),
    "a clamp before a negative factor": (requant(lo=-50, hi=999), requant(4, EVEN, multiplier=-1)),
    "a clamp behind a rounding": (requant(4, EVEN, lo=-99, hi=99), requant(lo=0, hi=15)),
    "an offset behind a rounding": (requant(4, AWAY, offset=2), requant(offset=5, bias=1)),
    "two floors": (requant(3), requant(2)),
    "two floors with an offset between": (requant(3, offset=5), requant(2, bias=-1)),
    "a floor before half up": (requant(3), requant(2, UP, lo=0, hi=100)),
    "a shift a channel": (requant([1, 3]), requant([2, 1], UP)),
}


@pytest.mark.parametrize("pair", FOLDS.values(), ids=FOLDS)
def test_algebra_folds_values_of_any_width(pair: tuple[Requant, Requant]) -> None:
    graph = chain(WIDE, *pair)
    found = FoldRequant().apply(graph)
    assert len(found.nodes) == 1
    values = np.random.default_rng(0).integers(WIDE.lo, WIDE.hi, (5000, 2))
    values[:3000] = np.arange(-1500, 1500)[:, None]
    values[3000] = WIDE.lo
    before, after = (interpret(one, {"x": values})[0]["y"] for one in (graph, found))
    np.testing.assert_array_equal(before, after)


def test_two_roundings_fold_only_where_every_value_was_compared() -> None:
    twice = requant(2, EVEN), requant(2, EVEN, multiplier=4)
    assert len(FoldRequant().apply(chain(NARROW, *twice)).nodes) == 1, "the second rounding drops nothing"
    assert len(FoldRequant().apply(chain(WIDE, *twice)).nodes) == 2, "too many values to compare"
    twice = requant(2, EVEN), requant(2, EVEN)
    assert len(FoldRequant().apply(chain(NARROW, *twice)).nodes) == 2, "rounding twice is another function"


def test_a_first_requant_that_others_read_stays() -> None:
    graph = chain(NARROW, requant(pre=3), requant(5, EVEN))
    seen = replace(graph, outputs=(*graph.outputs, Output("tap", graph.nodes[0].name)))
    assert FoldRequant().apply(seen) is seen


def test_a_factor_that_would_leave_62_bits_stays() -> None:
    graph = chain(NARROW, requant(pre=40, hi=1 << 58, lo=-(1 << 58)), requant(pre=11))
    assert len(FoldRequant().apply(graph).nodes) == 1
    clamped = chain(NARROW, requant(pre=50, hi=1, lo=-1), requant(pre=50))
    assert FoldRequant().apply(clamped) is clamped
