from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.concat import Concat

A, B = np.array([[[1, 2], [3, 4]]]), np.array([[[5, 6]]])


def test_by_hand() -> None:
    assert Concat(0).evaluate((A, B), ())[0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert Concat(1).evaluate((A, A), ())[0].tolist() == [[1, 2, 1, 2], [3, 4, 3, 4]]


def test_shapes() -> None:
    assert Concat(0).shape(((2, 2), (1, 2), (4, 2))) == (7, 2)
    assert Concat(2).shape(((2, 3, 1),)) == (2, 3, 1)


def test_each_part_keeps_its_own_bounds() -> None:
    one, two = Bounds(np.array([[-3]]), np.array([[2]])), Bounds(np.array([[0, 1, 2]]), np.array([[7, 8, 9]]))
    bounds = Concat(1).bounds((one, two), ((4, 2), (4, 3)))
    assert bounds.lo.tolist() == [[-3, -3, 0, 1, 2]]
    assert bounds.hi.tolist() == [[2, 2, 7, 8, 9]]


def test_bounds_along_another_axis_widen_to_both() -> None:
    one, two = Bounds(np.array([[-3]]), np.array([[2]])), Bounds(np.array([[0, 1]]), np.array([[7, 8]]))
    bounds = Concat(0).bounds((one, two), ((1, 2), (2, 2)))
    assert bounds.lo.tolist() == [[-3, -3], [0, 1], [0, 1]]
    assert bounds.hi.tolist() == [[2, 2], [7, 8], [7, 8]]


@given(
    seed=st.integers(0, 1 << 30),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    axis=st.integers(0, 2),
)
def test_bounds_hold(sound: Callable[..., None], seed: int, shape: list[int], lengths: list[int], axis: int) -> None:
    axis = min(axis, len(shape) - 1)
    sound(Concat(axis), tuple((*shape[:axis], length, *shape[axis + 1 :]) for length in lengths), seed)


@pytest.mark.parametrize(
    ("axis", "shapes", "text"),
    [
        (0, (), "no inputs"),
        (0, ((), ()), "axis 0 of tensors with 0 axes"),
        (-1, ((2,),), "axis -1 of tensors with 1 axes"),
        (2, ((2, 3), (2, 3)), "axis 2 of tensors with 2 axes"),
        (0, ((2, 3), (2, 4)), "shapes differ beside axis 0: (2, 3), (2, 4)"),
        (1, ((2, 3), (2,)), "shapes differ beside axis 1: (2, 3), (2,)"),
    ],
)
def test_refusals(axis: int, shapes: tuple[tuple[int, ...], ...], text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        Concat(axis).shape(shapes)
    assert str(caught.value) == text
