"""A Requant spelled as arithmetic: its lines compute it, its examples are right, and "no ties" is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.report.inspect.arithmetic import Arithmetic, spell
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.tiefree import ties
from edgeflow.semantics.verify import verify

NONE = "none: no input can reach a value half way between two results"
ROUNDED = (Rounding.HALF_UP, Rounding.HALF_EVEN, Rounding.HALF_AWAY)


def one(value: int) -> IntArray:
    return frozen_array([value])


def requant(shift: int, rounding: Rounding = Rounding.HALF_EVEN, **other: int) -> Requant:
    values = {"pre": 0, "multiplier": 1, "offset": 0, "lo": -99, "hi": 99, "bias": 0} | other
    return Requant(stages=(Stage(one(shift), rounding),), **{name: one(value) for name, value in values.items()})


def model(weight: list[list[int]], bias: list[int], op: Requant, lo: int = -8, hi: int = 7) -> Graph:
    builder = GraphBuilder("m")
    x = builder.input("x", TensorType((len(weight),), lo, hi), Dyadic(3))
    dense = builder.add(Dense(frozen_array(weight), frozen_array(bias)), (x,), Dyadic(5), "dense")
    builder.output("y", builder.add(op, (dense,), Dyadic(1), "dense", "act"))
    return builder.finish()


def spelled(graph: Graph) -> Arithmetic:
    node = graph.nodes[-1]
    assert isinstance(node.op, Requant)
    return spell(node, node.op, graph, verify(graph), ties(graph))


def clamp(x: int, lo: int, hi: int) -> int:
    return max(lo, min(hi, x))


@pytest.mark.parametrize(
    ("op", "lines"),
    [
        (requant(7, lo=0, hi=63), ["q = (x + 63 + ((x >> 7) & 1)) >> 7", "y = clamp(q, 0, 63)"]),
        (requant(1), ["q = (x + ((x >> 1) & 1)) >> 1", "y = clamp(q, -99, 99)"]),
        (requant(3, Rounding.HALF_UP), ["q = (x + 4) >> 3", "y = clamp(q, -99, 99)"]),
        (requant(3, Rounding.HALF_AWAY), ["q = (x + 4 - (x < 0)) >> 3", "y = clamp(q, -99, 99)"]),
        (requant(1, Rounding.FLOOR, offset=-5), ["q = x >> 1", "y = clamp(q - 5, -99, 99)"]),
        (requant(0, pre=2, offset=3), ["p = x << 2", "y = clamp(p + 3, -99, 99)"]),
        (
            requant(4, Rounding.HALF_UP, pre=1, multiplier=-3, bias=-7),
            ["p = (x << 1) * -3 - 7", "q = (p + 8) >> 4", "y = clamp(q, -99, 99)"],
        ),
    ],
)
def test_the_lines(op: Requant, lines: list[str]) -> None:
    found = spelled(model([[3], [5]], [1], op))
    assert [f"{name} = {formula}" for name, formula, _ in found.lines] == lines


def test_two_stages_and_parameters_that_differ_by_channel() -> None:
    stages = (Stage(one(31), Rounding.HALF_UP), Stage(frozen_array([2, 4]), Rounding.HALF_AWAY))
    op = Requant(one(0), frozen_array([1 << 30, 5]), stages, one(0), one(-128), one(127))
    found = spelled(model([[1, 2]], [0, 0], op))
    assert found.lines == (
        ("p", "x * m", "; m = 5 to 1073741824 by channel"),
        ("q", "(p + 1073741824) >> 31", "to nearest, a tie up"),
        ("r", "(q + 2^(s-1) - (q < 0)) >> s", "to nearest, a tie away from zero; s = 2 to 4 by channel"),
        ("y", "clamp(r, -128, 127)", ""),
    )
    assert found.ties == "possible in 2 channels of 2", "two roundings are not worked out"


@st.composite
def requants(draw: st.DrawFn) -> Requant:
    number = st.integers
    lo = draw(number(-40, 10))
    return requant(
        draw(number(0, 6)),
        draw(st.sampled_from(list(Rounding))),
        pre=draw(number(0, 2)),
        multiplier=draw(number(-9, 9)),
        offset=draw(number(-9, 9)),
        lo=lo,
        hi=lo + draw(number(0, 60)),
        bias=draw(number(-40, 40)),
    )


@settings(deadline=None, max_examples=60)
@given(op=requants(), weight=st.integers(-12, 12), bias=st.integers(-40, 40))
def test_the_lines_compute_the_requant_and_no_ties_means_that_roundings_agree(
    op: Requant, weight: int, bias: int
) -> None:
    graph = model([[weight]], [bias], op)
    found = spelled(graph)
    x = np.arange(-8, 8)[:, None] * weight + bias
    expected = op.evaluate((x,), ())[:, 0].tolist()
    for value, y in zip(x[:, 0].tolist(), expected, strict=True):
        names: dict[str, Any] = {"x": value, "clamp": clamp}
        for name, formula, _ in found.lines:
            names[name] = eval(formula, {}, names)
        assert names["y"] == y
    if op.stages[0].rounding is Rounding.FLOOR:
        assert found.ties == "none: nothing is rounded to nearest"
        return
    answers = {tuple(_with(op, rounding).evaluate((x,), ())[:, 0].tolist()) for rounding in (*ROUNDED, None)}
    if found.ties.startswith("none"):
        assert len(answers) == 1
    else:
        tie = next(one for one in found.examples if one.what == "a tie")
        shift = int(op.stages[0].shift[0])
        assert tie.product % (1 << shift) == 1 << (shift - 1)


def _with(op: Requant, rounding: Rounding | None) -> Requant:
    """The same Requant with another rounding; None: ties go down."""
    if rounding is not None:
        return Requant(op.pre, op.multiplier, (Stage(op.stages[0].shift, rounding),), op.offset, op.lo, op.hi, op.bias)
    shift = op.stages[0].shift
    less = frozen_array(op.bias - (shift > 0))
    return Requant(op.pre, op.multiplier, (Stage(shift, Rounding.HALF_UP),), op.offset, op.lo, op.hi, less)


@pytest.mark.parametrize(
    ("weight", "bias", "op", "ties"),
    [
        ([[2, 2]], [1, 1], requant(4), NONE),
        ([[2, 2]], [1, 0], requant(4), "possible in 1 channel of 2"),
        ([[2, 2]], [1, 0], requant(1), "possible in 1 channel of 2"),
        ([[1, 1]], [0, 0], requant(4), "possible in 2 channels of 2"),
        ([[1]], [0], requant(4), "possible"),
        ([[1, 1]], [0, 0], requant(4, lo=0, hi=0), NONE),
        ([[1, 1]], [0, 0], requant(5), NONE),
        ([[1, 1]], [0, 0], requant(0), "none: nothing is rounded to nearest"),
    ],
)  # fmt: skip
def test_where_ties_can_occur(weight: list[list[int]], bias: list[int], op: Requant, ties: str) -> None:
    assert spelled(model(weight, bias, op)).ties == ties


def test_an_example_goes_from_the_ends_of_the_sum_to_the_result() -> None:
    found = spelled(model([[10, 1], [10, 1]], [5, 0], requant(4, lo=0, hi=5)))
    lowest, highest, tie = found.examples
    assert (lowest.what, lowest.place, lowest.x, lowest.shifted, lowest.y) == ("lowest", (0,), -155, (-10,), 0)
    assert (highest.place, highest.x, highest.x_real, highest.shifted, highest.y, highest.y_real) == (
        (0,), 145, 145 / 32, (9,), 5, 2.5,
    )  # fmt: skip
    assert (tie.place, tie.x, tie.product, tie.y) == ((1,), 8, 8, 0), "channel 0 is odd at every input"
