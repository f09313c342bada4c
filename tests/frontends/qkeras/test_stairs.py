from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.quantizers import Break, Curve, Steps
from edgeflow.frontends.qkeras.stairs import as_requant, as_threshold, reach, staircase
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, frozen_array

Reals = list[Fraction]


def half_even(x: Fraction) -> int:
    low = floor(x)
    rest = x - low
    return low + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1))


def code(steps: Steps, x: Fraction) -> int:
    return min(max(half_even(x * Fraction(2) ** steps.frac) + steps.offset, steps.lo), steps.hi)


def clipped(x: Fraction, least: Fraction | None, most: Fraction | None) -> Fraction:
    x = x if least is None else max(x, least)
    return x if most is None else min(x, most)


def both(
    steps: Steps | Curve, scale: Reals, shift: Reals, lo: int, hi: int, least: Fraction | None, most: Fraction | None
) -> tuple[IntArray | None, IntArray]:
    """What the Requant (if there is one) and the Threshold say for every n in [lo, hi], (n, channels)."""
    ends = np.full(len(scale), lo), np.full(len(scale), hi)
    stairs = staircase(steps, "here")
    at = reach(stairs, scale, shift, ends, (least, most))
    n = np.repeat(np.arange(lo, hi + 1)[:, None], len(scale), axis=1)
    bounds = (Bounds(np.array([lo]), np.array([hi])),)
    requant, threshold = as_requant(stairs, at, scale), as_threshold(stairs, at)
    assert threshold.shape((n.shape[1:],)) == n.shape[1:]
    counted = threshold.evaluate((n,), bounds)
    if (np.diff(stairs.codes) != 1).any():
        counted = stairs.codes[counted]
    return (None if requant is None else requant.evaluate((n,), bounds)), counted


def reals(most: int) -> st.SearchStrategy[Fraction]:
    dyadic = st.builds(lambda n, by: Fraction(n, 1 << by), st.integers(-most * 64, most * 64), st.integers(0, 12))
    return st.one_of(dyadic, st.floats(-most, most, width=32).map(Fraction), st.fractions(-most, most))


@given(
    scale=st.lists(reals(2), min_size=1, max_size=3),
    shift=reals(40),
    bits=st.integers(1, 5),
    frac=st.integers(-2, 3),
    offset=st.sampled_from((0, 0, 3)),
    least=st.sampled_from((None, Fraction(0))),
    most=st.sampled_from((None, None, Fraction(6), Fraction(7, 3))),
)
def test_every_code_of_every_integer(
    scale: Reals,
    shift: Fraction,
    bits: int,
    frac: int,
    offset: int,
    least: Fraction | None,
    most: Fraction | None,
) -> None:
    steps = Steps(frac, -(1 << bits) + 1, (1 << bits) - 1, frac, straight_through=False, offset=offset)
    shifts = [shift + index for index in range(len(scale))]
    requant, threshold = both(steps, scale, shifts, -40, 57, least, most)
    wanted = [
        [code(steps, clipped(a * n + b, least, most)) for a, b in zip(scale, shifts, strict=True)]
        for n in range(-40, 58)
    ]
    np.testing.assert_array_equal(threshold, wanted)
    if requant is not None:
        np.testing.assert_array_equal(requant, wanted)


def test_a_batch_normalization_becomes_one_requant() -> None:
    rng = np.random.default_rng(3)
    scale = [Fraction(float(one)) for one in rng.normal(0.003, 0.002, 16).astype(np.float32)]
    shift = [Fraction(float(one)) for one in rng.normal(0, 1, 16).astype(np.float32)]
    steps = Steps(5, -128, 127, 5, straight_through=False)
    requant, threshold = both(steps, scale, shift, -3000, 3000, None, None)
    assert requant is not None
    np.testing.assert_array_equal(requant, threshold)
    assert threshold[0, 0] == code(steps, scale[0] * -3000 + shift[0])


def test_ties_go_to_the_even_code() -> None:
    steps = Steps(0, -8, 7, 0, straight_through=False)
    requant, threshold = both(steps, [Fraction(1, 2), Fraction(-1, 2)], [Fraction(0)] * 2, -6, 6, None, None)
    expected = [-3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3]
    assert threshold.T.tolist() == [expected, expected[::-1]]
    assert requant is None  # steps of 1 and 3 units in turn: no multiplier does that


def test_a_curve_with_uneven_codes() -> None:
    curve = Curve(
        "two",
        (Break(Fraction(-1, 3), closed=True), Break(Fraction(1, 3), closed=False)),
        frozen_array([5, -1, 2]),
        0,
        straight_through=False,
        float32=lambda x: x.astype(np.int64),
    )
    requant, threshold = both(curve, [Fraction(1, 3), Fraction(-1)], [Fraction(0)] * 2, -2, 2, None, None)
    assert requant is None
    assert threshold.T.tolist() == [[5, -1, -1, -1, 2], [2, 2, -1, 5, 5]]


def test_a_scale_of_zero_is_constant() -> None:
    steps = Steps(0, -8, 7, 0, straight_through=False)
    requant, threshold = both(steps, [Fraction(0)], [Fraction(5, 2)], -3, 3, None, None)
    assert requant is not None
    assert set(requant.reshape(-1).tolist()) == set(threshold.reshape(-1).tolist()) == {2}


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        staircase(Steps(0, -(1 << 16), (1 << 16) - 1, 0, straight_through=False), "layer 'a' (QActivation)")
    assert str(caught.value) == (
        "layer 'a' (QActivation): its quantizer has 131072 levels behind a real scale, above 2^16\n"
        "  fix: quantize to 16 bits or fewer here"
    )
