"""gemmlowp's functions against real arithmetic, and at the values that stand for themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow.ir.types import IntArray
from edgeflow.ops.fixedpoint import INT32_HI, exp_on_negative, high_product, logistic, raised, tanh

Real = npt.NDArray[np.float64]


def test_products_and_shifts_by_hand() -> None:
    x = np.array([1 << 30, -(1 << 30), 3])
    assert high_product(x, 1 << 30).tolist() == [1 << 29, -(1 << 29), 2], "3 / 2 is rounded up"
    assert raised(x, 2).tolist() == [INT32_HI, -INT32_HI - 1, 12]


@pytest.mark.parametrize(
    ("ours", "exact", "integer_bits", "least"),
    [
        (exp_on_negative, np.exp, 4, -(15 << 27)),
        (exp_on_negative, np.exp, 5, -(31 << 26)),
        (logistic, lambda x: 1 / (1 + np.exp(-x)), 4, -(15 << 27)),
        (tanh, np.tanh, 4, -(15 << 27)),
    ],
)
def test_curves_are_the_real_ones_to_a_millionth(
    ours: Callable[[IntArray, int], IntArray], exact: Callable[[Real], Real], integer_bits: int, least: int
) -> None:
    x = np.linspace(least, 0 if ours is exp_on_negative else -least, 20001).astype(np.int64)
    found = ours(x, integer_bits) / 2.0**31
    assert np.abs(found - exact(x / 2.0 ** (31 - integer_bits))).max() < 1e-6


def test_zero_gives_the_whole_and_the_half() -> None:
    zero = np.array([0])
    assert (exp_on_negative(zero, 5)[0], logistic(zero, 4)[0], tanh(zero, 4)[0]) == (INT32_HI, 1 << 30, 0)


def test_tanh_is_odd_and_logistic_turns_round_a_half() -> None:
    x = np.arange(1, 1 << 31, 9_999_991)
    assert (tanh(-x, 4) == -tanh(x, 4)).all()
    assert (logistic(-x, 4) == INT32_HI - logistic(x, 4)).all()
