from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.transpose import Transpose


def test_by_hand() -> None:
    x = np.arange(6).reshape(1, 2, 3)
    assert Transpose((1, 0)).evaluate((x,), ())[0].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_axis_i_of_the_result_is_axis_order_i() -> None:
    assert Transpose((2, 0, 1)).shape(((4, 5, 6),)) == (6, 4, 5)


def test_a_tensor_without_axes() -> None:
    bounds = Transpose(()).bounds((Bounds(np.array(-1), np.array(4)),), ((),))
    assert (Transpose(()).shape(((),)), int(bounds.lo), int(bounds.hi)) == ((), -1, 4)


def test_the_bounds_move_with_their_axes() -> None:
    source = Bounds(np.array([[-3, 0]]), np.array([[5, 1]]))
    bounds = Transpose((1, 0)).bounds((source,), ((4, 2),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[-3], [0]], [[5], [1]])


@given(seed=st.integers(0, 1 << 30), order=st.sampled_from(list(itertools.permutations(range(3)))))
def test_bounds_hold(sound: Callable[..., None], seed: int, order: tuple[int, ...]) -> None:
    sound(Transpose(order), ((2, 3, 4),), seed)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ((0,), "(0,) is not an order of 2 axes"),
        ((0, 0), "(0, 0) is not an order of 2 axes"),
        ((-1, 0), "(-1, 0) is not an order of 2 axes"),
        ((0, 1, 2), "(0, 1, 2) is not an order of 2 axes"),
    ],
)
def test_refusals(order: tuple[int, ...], text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        Transpose(order).shape(((2, 3),))
    assert str(caught.value) == text
