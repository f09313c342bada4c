"""A fixed-point format saturates exactly where the graph clamps, or there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.backends.hls4ml.formats import Format, clamping, holding

ENDS = st.integers(-300, 300)


def clamp(lo: int, hi: int, before_lo: int, before_hi: int) -> Format | None:
    return clamping(*(np.asarray(one) for one in (before_lo, before_hi, lo, hi)))


@pytest.mark.parametrize(
    ("lo", "hi", "before", "made"),
    [
        (0, 63, (-999, 999), Format(False, 6)),
        (-32, 31, (-999, 999), Format(True, 6)),
        (-31, 31, (-999, 999), Format(True, 6, symmetric=True)),
        (0, 63, (-999, 17), Format(False, 5)),
        (-32, 31, (0, 17), Format(False, 5)),
        (0, 1000, (-999, 999), Format(False, 10)),
        (0, 10, (-999, 999), None),
        (0, 10, (-999, 10), Format(False, 4)),
        (-5, 5, (-9, 9), None),
    ],
)
def test_the_narrowest_format_that_clamps_alike(lo: int, hi: int, before: tuple[int, int], made: Format | None) -> None:
    assert clamp(lo, hi, *before) == made


@given(st.tuples(ENDS, ENDS), st.tuples(ENDS, ENDS))
def test_it_clamps_every_value_alike(ends: tuple[int, int], before: tuple[int, int]) -> None:
    (lo, hi), (before_lo, before_hi) = sorted(ends), sorted(before)
    made = clamp(lo, hi, before_lo, before_hi)
    values = np.arange(before_lo, before_hi + 1)
    if made is not None:
        np.testing.assert_array_equal(np.clip(values, made.lo, made.hi), np.clip(values, lo, hi))
    elif lo <= before_lo and before_hi <= hi:
        pytest.fail("a clamp that nothing reaches always has a format")


@given(st.tuples(ENDS, ENDS))
def test_a_holding_format_holds(ends: tuple[int, int]) -> None:
    lo, hi = sorted(ends)
    made = holding(lo, hi)
    assert made.lo <= lo <= hi <= made.hi
    if made.bits > 1:
        assert not (made.signed and lo >= 0)


def test_one_format_serves_all_channels_or_none_does() -> None:
    before = np.asarray([-99]), np.asarray([99])
    assert clamping(*before, np.asarray([0, 0]), np.asarray([15, 15])) == Format(False, 4)
    assert clamping(*before, np.asarray([0, 0]), np.asarray([15, 31])) is None
