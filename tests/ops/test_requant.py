from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage, round_shift


def exact(value: Fraction, rounding: Rounding) -> int:
    """The named rounding of a rational number."""
    match rounding:
        case Rounding.FLOOR:
            return math.floor(value)
        case Rounding.HALF_UP:
            return math.floor(value + Fraction(1, 2))
        case Rounding.HALF_EVEN:
            return round(value)
        case Rounding.HALF_AWAY:
            return (1 if value > 0 else -1) * math.floor(abs(value) + Fraction(1, 2))


def make(
    pre: Any = 0, multiplier: Any = 1, shift: Any = 0, rounding: Rounding = Rounding.HALF_EVEN, **more: Any
) -> Requant:
    fields: dict[str, Any] = {"offset": 0, "lo": -(1 << 40), "hi": 1 << 40, **more}
    stages = fields.pop("stages", (Stage(frozen_array(shift), rounding),))
    return Requant(
        frozen_array(pre),
        frozen_array(multiplier),
        stages,
        frozen_array(fields["offset"]),
        frozen_array(fields["lo"]),
        frozen_array(fields["hi"]),
        frozen_array(fields.get("bias", 0)),
    )


def run(op: Requant, values: list[int]) -> list[int]:
    return op.evaluate((np.array(values)[:, None],), ())[:, 0].tolist()


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        (Rounding.FLOOR, [-2, -1, -1, -1, 0, 1, 1, 1]),
        (Rounding.HALF_UP, [-1, -1, 0, 0, 1, 1, 2, 2]),
        (Rounding.HALF_EVEN, [-2, -1, 0, 0, 0, 1, 2, 2]),
        (Rounding.HALF_AWAY, [-2, -1, -1, 0, 1, 1, 2, 2]),
    ],
)
def test_ties_by_hand(rounding: Rounding, expected: list[int]) -> None:
    # -1.5, -1, -0.5, -0.25, 0.5, 1, 1.5, 1.75 in quarters
    assert run(make(shift=2, rounding=rounding), [-6, -4, -2, -1, 2, 4, 6, 7]) == expected


@given(
    x=st.integers(-(1 << 61), 1 << 61),
    shift=st.integers(0, 61),
    rounding=st.sampled_from(Rounding),
)
def test_roundings_are_what_they_say(x: int, shift: int, rounding: Rounding) -> None:
    given_value = int(round_shift(np.array([x]), np.array([shift]), rounding)[0])
    assert given_value == exact(Fraction(x, 1 << shift), rounding)


@given(
    x=st.integers(-(1 << 20), 1 << 20),
    pre=st.integers(0, 8),
    multiplier=st.integers(-(1 << 20), 1 << 20),
    shifts=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    roundings=st.tuples(st.sampled_from(Rounding), st.sampled_from(Rounding)),
    offset=st.integers(-200, 200),
    bias=st.integers(-(1 << 30), 1 << 30),
)
def test_equals_the_formula(
    x: int,
    pre: int,
    multiplier: int,
    shifts: tuple[int, int],
    roundings: tuple[Rounding, Rounding],
    offset: int,
    bias: int,
) -> None:
    stages = tuple(Stage(frozen_array(one), how) for one, how in zip(shifts, roundings, strict=True))
    op = make(pre, multiplier, stages=stages, offset=offset, lo=-128, hi=127, bias=bias)
    value = x * 2**pre * multiplier + bias
    for shift, rounding in zip(shifts, roundings, strict=True):
        value = exact(Fraction(value, 1 << shift), rounding)
    assert run(op, [x]) == [min(max(value + offset, -128), 127)]


def test_the_two_stages_of_tflite_micro() -> None:
    # gemmlowp: x * 1518500250 (about 2^30.5) with 31 and 7 bits off; 5 * 2^7 * sqrt(2) / 2 / 2^7 = 3.54
    stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(7), Rounding.HALF_AWAY))
    assert run(make(multiplier=1518500250, stages=stages, offset=-3), [640, -640, 0]) == [1, -7, -3]


def test_a_relu_is_a_clamp() -> None:
    assert run(make(shift=1, lo=0, hi=3), [-9, 1, 3, 5, 100]) == [0, 0, 2, 2, 3]


def test_a_bias_lies_between_two_steps() -> None:
    op = make(multiplier=[3, 3], shift=2, bias=[1, 2], rounding=Rounding.FLOOR)
    x = np.array([[[1, 1], [2, 2], [-1, -1]]])
    assert op.evaluate((x,), ()).tolist() == [[[1, 1], [1, 2], [-1, -1]]]


def test_without_a_bias_it_is_nothing() -> None:
    zero = frozen_array(0)
    op = Requant(zero, zero, (), zero, zero, zero)
    assert (op.bias.shape, int(op.bias)) == ((), 0)


def test_parameters_per_channel_and_per_position() -> None:
    x = np.full((1, 2, 2), 12)
    op = make(pre=[[0], [1]], shift=[1, 2], rounding=Rounding.FLOOR)
    assert op.evaluate((x,), ()).tolist() == [[[6, 3], [12, 6]]]


def test_bounds_are_tight_also_for_negative_multipliers() -> None:
    op = make(multiplier=[1, -3], shift=1, rounding=Rounding.FLOOR)
    bounds = op.bounds((Bounds(np.array([-5]), np.array([3])),), ((2,),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([-3, -5], [1, 7])


@given(seed=st.integers(0, 1 << 30), per=st.sampled_from(("tensor", "channel", "position")))
def test_bounds_hold(sound: Callable[..., None], seed: int, per: str) -> None:
    rng = np.random.default_rng(seed)
    shape = {"tensor": (1,), "channel": (3,), "position": (4, 1)}[per]
    stages = tuple(
        Stage(frozen_array(rng.integers(0, 6, shape)), list(Rounding)[rng.integers(4)])
        for _ in range(int(rng.integers(1, 3)))
    )
    lo = rng.integers(-60, 10, shape)
    op = make(
        pre=rng.integers(0, 4, shape),
        multiplier=rng.integers(-9, 10, shape),
        stages=stages,
        offset=rng.integers(-9, 10, shape),
        bias=rng.integers(-99, 100, shape),
        lo=lo,
        hi=lo + rng.integers(0, 90, shape),
    )
    sound(op, ((4, 3),), seed)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (make(stages=()), "0 rounding stages, not one or two"),
        (make(shift=62), "a shift lies outside 0 to 61"),
        (make(pre=-1), "a shift lies outside 0 to 61"),
        (make(lo=3, hi=2), "the clamp's lower end lies above its upper end"),
        (make(bias=[1, 2]), "a parameter of shape (2,) does not broadcast against (2, 3)"),
        (make(shift=[1, 2]), "a parameter of shape (2,) does not broadcast against (2, 3)"),
        (make(shift=np.ones((4, 2, 3), dtype=int)), "a parameter of shape (4, 2, 3) does not broadcast against (2, 3)"),
    ],
)
def test_refusals(op: Requant, text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        op.shape(((2, 3),))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "op",
    [
        make(pre=40),
        make(multiplier=1 << 40),
        make(pre=61, multiplier=1 << 61),
        make(multiplier=1 << 39, bias=1 << 61),
        make(multiplier=1 << 39, bias=-(1 << 61)),
    ],
)
def test_products_beyond_62_bits_are_refused(op: Requant) -> None:
    with pytest.raises(InvalidGraph, match="the product before the shift could leave 62 bits"):
        op.bounds((Bounds(np.array([-(1 << 22)]), np.array([0])),), ((1,),))


def test_an_offset_beyond_62_bits_is_refused() -> None:
    with pytest.raises(InvalidGraph, match="the offset could leave 62 bits"):
        make(offset=(1 << 63) - 1, lo=-5, hi=5).shape(((1,),))


def test_a_bias_beyond_62_bits_is_refused() -> None:
    with pytest.raises(InvalidGraph, match="the bias could leave 62 bits"):
        make(bias=-(1 << 62)).shape(((1,),))
