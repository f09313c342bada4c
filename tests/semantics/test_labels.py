from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.ir.types import Affine, Dyadic, TensorType
from edgeflow.semantics.labels import exact_integers, to_integers, to_reals

BYTE = TensorType((1,), -128, 127)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, 0),
        (0.3125, 2),  # 2.5 rounds to even
        (0.4375, 4),  # 3.5
        (-0.3125, -2),
        (99.0, 127),
        (-99.0, -128),
        (float("inf"), 127),
        (float("-inf"), -128),
        (float("nan"), 0),
        (1e308, 127),
    ],
)
def test_dyadic_rounds_half_to_even_and_clamps(value: float, expected: int) -> None:
    assert to_integers(np.array([[value]]), BYTE, Dyadic(3)).tolist() == [[expected]]


def test_affine() -> None:
    assert to_integers(np.array([[0.26], [-9.0]]), BYTE, Affine(0.1, 5)).tolist() == [[8], [-85]]
    assert to_reals(np.array([[8]]), Affine(0.5, 5)).tolist() == [[1.5]]


@given(st.integers(-(1 << 52), 1 << 52), st.integers(-30, 30))
def test_there_and_back(value: int, frac: int) -> None:
    kind = TensorType((1,), -(1 << 52), 1 << 52)
    reals = to_reals(np.array([[value]]), Dyadic(frac))
    assert to_integers(reals, kind, Dyadic(frac)).tolist() == [[value]]
    integers, wrong = exact_integers(reals, Dyadic(frac))
    assert (integers.tolist(), wrong.tolist()) == ([[value]], [[False]])


def test_a_label_per_channel() -> None:
    reals = to_reals(np.array([[4, 4]]), Dyadic((1, 2)))
    assert reals.tolist() == [[2.0, 1.0]]
    assert to_integers(reals, TensorType((2,), -9, 9), Dyadic((1, 2))).tolist() == [[4, 4]]


def test_what_is_no_multiple_of_a_unit_is_marked() -> None:
    integers, wrong = exact_integers(np.array([0.5, 0.3, np.nan, np.inf, 2.0**60]), Dyadic(1))
    assert wrong.tolist() == [False, True, True, True, True]
    assert integers.tolist() == [1, 0, 0, 0, 0]
