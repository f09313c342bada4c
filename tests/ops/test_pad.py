from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.pad import Pad
from edgeflow.ops.window import Pads


def test_by_hand() -> None:
    x = np.array([[[1, 2], [3, 4]]])
    assert Pad(((1, 0), (0, 2)), 9).evaluate((x,), ())[0].tolist() == [[9, 9, 9, 9], [1, 2, 9, 9], [3, 4, 9, 9]]


def test_shape() -> None:
    assert Pad(((1, 0), (0, 2), (0, 0)), 0).shape(((4, 5, 6),)) == (5, 7, 6)
    assert Pad((), 3).shape(((),)) == ()


SOURCE = Bounds(np.array([[-3, 1]]), np.array([[5, 2]]))


@pytest.mark.parametrize(
    ("pads", "value", "lo", "hi"),
    [
        (((0, 0), (0, 0)), 9, [[-3, 1]], [[5, 2]]),
        (((0, 1), (0, 0)), 3, [[-3, 1]], [[5, 3]]),
        (((1, 0), (0, 0)), -9, [[-9, -9]], [[5, 2]]),
        (((0, 0), (1, 1)), 9, [[9, -3, 1, 9]], [[9, 5, 2, 9]]),
        (((1, 0), (0, 1)), 0, [[-3, 0, 0]], [[5, 2, 0]]),
    ],
)
def test_bounds_are_tight_per_channel(pads: Pads, value: int, lo: list[list[int]], hi: list[list[int]]) -> None:
    bounds = Pad(pads, value).bounds((SOURCE,), ((4, 2),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == (lo, hi)


def test_bounds_of_positions_are_joined_along_padded_axes_alone() -> None:
    source = Bounds(np.array([[[1]], [[4]]]), np.array([[[2]], [[7]]]))
    along = Pad(((0, 1), (0, 0), (0, 0)), 5).bounds((source,), ((2, 3, 1),))
    across = Pad(((0, 0), (0, 1), (0, 0)), 5).bounds((source,), ((2, 3, 1),))
    assert (along.lo.tolist(), along.hi.tolist()) == ([[[1]]], [[[7]]])
    assert (across.lo.tolist(), across.hi.tolist()) == ([[[1]], [[4]]], [[[5]], [[7]]])


@given(
    seed=st.integers(0, 1 << 30),
    pads=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=3),
    value=st.integers(-70, 70),
)
def test_bounds_hold(sound: Callable[..., None], seed: int, pads: list[tuple[int, int]], value: int) -> None:
    sound(Pad(tuple(pads), value), ((3, 2, 4)[-len(pads) :],), seed)


@pytest.mark.parametrize(
    ("pads", "value", "text"),
    [
        (((1, 1),), 0, "padding for 1 axes on a tensor with 2"),
        (((1, -1), (0, 0)), 0, "padding must not be negative"),
        (((1, 1), (0, 0)), 1 << 62, "the padding value could leave 62 bits"),
        (((1, 1), (0, 0)), -(1 << 70), "the padding value could leave 62 bits"),
    ],
)
def test_refusals(pads: Pads, value: int, text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        Pad(pads, value).shape(((2, 3),))
    assert str(caught.value) == text
