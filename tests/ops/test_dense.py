from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import FLOAT64_EXACT, exact_kind, exact_matmul, sum_bounds

OP = Dense(frozen_array([[1, -2], [3, 4], [0, 5]]), frozen_array([100, -1]))


def test_by_hand() -> None:
    x = np.array([[1, 2, 3], [-1, 0, 2]])
    bounds = (Bounds(np.array([-9]), np.array([9])),)
    assert OP.evaluate((x,), bounds).tolist() == [[107, 20], [99, 11]]


def test_over_the_last_axis_of_any_rank() -> None:
    x = np.arange(12).reshape(1, 2, 2, 3)
    bounds = (Bounds(np.array([[[0]]]), np.array([[[11]]])),)
    assert OP.evaluate((x,), bounds)[0, 1, 1].tolist() == [9 + 30 + 100, -18 + 40 + 55 - 1]


def test_bounds_are_tight_on_the_real_weights() -> None:
    bounds = OP.bounds((Bounds(np.array([0, -1, 2]), np.array([1, 2, 3])),), ((3,),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([97, -2 - 4 + 10 - 1], [107, 8 + 15 - 1])


def test_partial_sums_hold_in_any_order() -> None:
    weight, bias = np.array([[7], [-7], [1]]), np.array([-3])
    sums = sum_bounds(weight, bias, np.array([1, 1, -2]), np.array([1, 1, 2]))
    assert (sums.lo.tolist(), sums.hi.tolist()) == ([-5], [-1])
    assert (sums.partial_lo.tolist(), sums.partial_hi.tolist()) == ([-12], [9])
    assert sums.magnitude == 12


@given(
    seed=st.integers(0, 1 << 30),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 4),
    leading=st.lists(st.integers(1, 3), max_size=2),
)
def test_bounds_hold(sound: Callable[..., None], seed: int, inputs: int, outputs: int, leading: list[int]) -> None:
    rng = np.random.default_rng(seed)
    op = Dense(frozen_array(rng.integers(-9, 9, (inputs, outputs))), frozen_array(rng.integers(-99, 99, outputs)))
    sound(op, ((*leading, inputs),), seed)


@given(seed=st.integers(0, 1 << 30), bits=st.integers(1, 29))
def test_the_float_path_equals_the_integer_path(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    left = rng.integers(-(1 << bits), 1 << bits, (3, 6))
    right = rng.integers(-(1 << 20), 1 << 20, (6, 4))
    magnitude = int((np.abs(left) @ np.abs(right)).max())
    expected = [[sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in right.T] for row in left]
    assert exact_matmul(left, right, magnitude).tolist() == expected
    assert exact_matmul(left, right, FLOAT64_EXACT).tolist() == expected


def test_just_below_and_above_24_bits() -> None:
    left, right = np.array([[1 << 12, 1]]), np.array([[(1 << 12) - 1], [(1 << 12) - 1]])
    exact = (1 << 24) - 1
    assert exact_kind(exact) is np.float32
    assert exact_matmul(left, right, exact).tolist() == [[exact]]
    left[0, 1] = 3
    exact += 2 * ((1 << 12) - 1)
    assert exact_kind(exact) is np.float64
    assert exact_matmul(left, right, exact).tolist() == [[exact]]


def test_just_below_and_above_53_bits() -> None:
    left, right = np.array([[1 << 26, 1]]), np.array([[(1 << 27) - 1], [(1 << 26) - 1]])
    exact = (1 << 53) - (1 << 26) + (1 << 26) - 1
    assert exact_matmul(left, right, exact).tolist() == [[exact]]
    left[0, 1] = 3
    exact += 2 * ((1 << 26) - 1)
    assert exact_matmul(left, right, exact).tolist() == [[exact]]


@pytest.mark.parametrize(
    ("weight", "bias", "source", "text"),
    [
        ((3, 2), (3,), (3,), "weight of shape (3, 2) with bias of shape (3,)"),
        ((3,), (), (3,), "weight of shape (3,) with bias of shape ()"),
        ((3, 2), (2,), (4,), "a weight of shape (3, 2) cannot read a tensor of shape (4,)"),
        ((3, 2), (2,), (), "a weight of shape (3, 2) cannot read a tensor of shape ()"),
    ],
)
def test_refusals(weight: tuple[int, ...], bias: tuple[int, ...], source: tuple[int, ...], text: str) -> None:
    op = Dense(frozen_array(np.ones(weight, dtype=int)), frozen_array(np.ones(bias, dtype=int)))
    with pytest.raises(InvalidGraph) as caught:
        op.shape((source,))
    assert str(caught.value) == text


def test_overflow_is_refused() -> None:
    op = Dense(frozen_array([[1 << 40]]), frozen_array([0]))
    with pytest.raises(InvalidGraph, match="the accumulator could leave 62 bits"):
        op.bounds((Bounds(np.array([0]), np.array([1 << 30])),), ((1,),))
