from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.slicing import Slice


def test_by_hand() -> None:
    x = np.arange(12).reshape(1, 3, 4)
    assert Slice((1, 0), (2, 2), (1, 3)).evaluate((x,), ())[0].tolist() == [[4, 7], [8, 11]]


def test_the_last_element_may_be_the_last_of_the_input() -> None:
    assert Slice((1,), (3,), (3,)).shape(((8,),)) == (3,)
    assert Slice((), (), ()).shape(((),)) == ()


def test_the_bounds_are_those_of_what_is_picked() -> None:
    source = Bounds(np.array([[-3, 0, 7]]), np.array([[5, 1, 9]]))
    bounds = Slice((2, 0), (1, 2), (1, 2)).bounds((source,), ((4, 3),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[-3, 7]], [[5, 9]])


def test_ends_of_different_shapes() -> None:
    source = Bounds(np.array([0]), np.array([5, 1, 9]))
    bounds = Slice((1,), (2,), (1,)).bounds((source,), ((3,),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([0], [1, 9])


@given(
    seed=st.integers(0, 1 << 30),
    axes=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=3
    ),
)
def test_bounds_hold(sound: Callable[..., None], seed: int, axes: list[tuple[int, int, int, int]]) -> None:
    begin, size, strides, _ = (tuple(column) for column in zip(*axes, strict=True))
    shape = tuple(first + (count - 1) * stride + 1 + more for first, count, stride, more in axes)
    sound(Slice(begin, size, strides), (shape,), seed)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Slice((0,), (1,), (1,)), "a slice of 1 axes from a tensor with 2"),
        (Slice((-1, 0), (1, 1), (1, 1)), "a slice needs begin >= 0, size >= 1 and strides >= 1"),
        (Slice((0, 0), (0, 1), (1, 1)), "a slice needs begin >= 0, size >= 1 and strides >= 1"),
        (Slice((0, 0), (1, 1), (0, 1)), "a slice needs begin >= 0, size >= 1 and strides >= 1"),
        (Slice((0, 1), (2, 2), (1, 2)), "a slice of (2, 2) from (0, 1) leaves the shape (2, 3)"),
    ],
)
def test_refusals(op: Slice, text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        op.shape(((2, 3),))
    assert str(caught.value) == text
