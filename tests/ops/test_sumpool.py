from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.window import window_counts


def test_by_hand() -> None:
    x = np.array([[1, 5, 2], [7, 0, -3], [4, 4, 9]]).reshape(1, 3, 3, 1)
    assert SumPool((2, 2), (1, 1), ((0, 0), (0, 0))).evaluate((x,), ())[0, :, :, 0].tolist() == [[13, 4], [15, 10]]


def test_padding_counts_as_zero() -> None:
    x = np.array([[[3], [4]]])
    assert SumPool((3,), (1,), ((1, 1),)).evaluate((x,), ())[0, :, 0].tolist() == [7, 7]


def test_counts_of_real_elements() -> None:
    assert window_counts((3, 3), (2, 2), (2, 2), ((0, 1), (0, 1))).tolist() == [[4, 2], [2, 1]]


def test_bounds_use_the_counts() -> None:
    op = SumPool((2, 2), (2, 2), ((0, 1), (0, 1)))
    bounds = op.bounds((Bounds(np.array([[[2, -3]]]), np.array([[[5, -1]]])),), ((3, 3, 2),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[[2, -12]]], [[[20, -1]]])


@settings(deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_bounds_hold(
    sound: Callable[..., None],
    seed: int,
    window: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int],
) -> None:
    sound(SumPool(window, strides, (pads, pads)), ((4, 5, 2),), seed)


def test_overflow_is_refused() -> None:
    wide = Bounds(np.array([[0]]), np.array([[1 << 61]]))
    with pytest.raises(InvalidGraph, match="the sum could leave 62 bits"):
        SumPool((2,), (1,), ((0, 0),)).bounds((wide,), ((2, 1),))
