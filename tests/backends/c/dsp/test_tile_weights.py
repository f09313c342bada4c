"""Nested weights: their order, their groups, and when their sums are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.dsp.tile_weights import NOTHING, Constants, fits, groups, order, pack
from edgeflow.ir.types import IntArray


def none(output: int, scale: int) -> Constants:
    return Constants(0)


def column(*weights: int) -> IntArray:
    return np.array([weights], dtype=np.int64).T


@pytest.mark.parametrize(
    ("values", "lanes"),
    [
        (4, [0, 2, 1, 3]),
        (8, [0, 2, 1, 3, 4, 6, 5, 7]),
        (5, [0, 2, 1, 3, 4, NOTHING, NOTHING, NOTHING]),
        (1, [0, NOTHING, NOTHING, NOTHING]),
    ],
)
def test_the_order_is_that_of_bytes_spread_by_two_uxtb16(values: int, lanes: list[int]) -> None:
    assert order(values).tolist() == lanes


@pytest.mark.parametrize(
    ("outputs", "together", "expected"),
    [
        (4, 1, ((0, 1), (2, 3))),
        (5, 1, ((0, 1), (2, 3), (3, 4))),
        (1, 1, ((0,),)),
        (7, 2, ((0, 1, 2, 3), (3, 4, 5, 6))),
    ],
)
def test_a_last_group_reaches_back(outputs: int, together: int, expected: tuple[tuple[int, ...], ...]) -> None:
    assert groups(outputs, together) == expected


def test_fewer_outputs_than_a_group_are_refused() -> None:
    with pytest.raises(ValueError, match="3 outputs are fewer than a group of 4"):
        groups(3, 2)


def test_words_stand_in_the_order_in_which_they_are_read() -> None:
    weights = np.array([[1, 2], [3, -4]], dtype=np.int64)

    def constants(output: int, scale: int) -> Constants:
        return Constants(1000 * scale, (output + 7, -1))

    words = pack(weights, [0, 1], constants).tolist()
    assert words == [257_000, 1000, (256 * 2 - 4) << 16 | 256 * 1 + 3, 7, 0xFFFFFFFF, 8, 0xFFFFFFFF]


@pytest.mark.parametrize(
    ("weights", "lo", "hi", "addend", "exact"),
    [
        (column(-128, 0), 0, 255, 0, True),
        (column(-128, -1), 0, 255, 0, False),
        (column(-1, -128), 0, 255, 0, True),
        (column(1, 1), 0, 32767, 0, True),
        (column(1, 1), 0, 32768, 0, False),
        (column(128, 1), 0, 1, 0, False),
        (column(127, 127), 0, 255, 2**31 - 1 - 256 * 127 * 255, True),
        (column(127, 127), 0, 255, 2**31 - 256 * 127 * 255, False),
        (column(0, 1), -1, 0, 1 - 2**31, True),
        (column(0, 1), -2, 0, 1 - 2**31, False),
    ],
)
def test_what_fits(weights: IntArray, lo: int, hi: int, addend: int, exact: bool) -> None:
    assert fits(weights, lo, hi, lambda output, scale: Constants(addend)) is exact


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.booleans())
def test_nested_sums_are_exact_where_they_fit(seed: int, values: int, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (2, values), dtype=np.int64)
    x = rng.integers(0, 256, values, dtype=np.int64)
    if extreme:
        weights, x = np.sign(weights) * 127, np.where(weights[0] > 0, 255, 0)
    if not fits(weights, 0, 255, none):
        return
    t = int((256 * weights[0] + weights[1]) @ x) % 2**32
    b = int(weights[1] @ x) % 2**32
    a = (t - b + 2**31) % 2**32 - 2**31
    assert a == 256 * int(weights[0] @ x)
