from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.reshape import Reshape


def test_row_major() -> None:
    x = np.arange(12).reshape(1, 2, 3, 2)
    assert Reshape((4, 3)).evaluate((x,), ())[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


def test_bounds_follow_their_elements() -> None:
    source = Bounds(np.array([[0, 10]]), np.array([[1, 20]]))
    bounds = Reshape((4,)).bounds((source,), ((2, 2),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([0, 10, 0, 10], [1, 20, 1, 20])


def test_one_bound_stays_one() -> None:
    bounds = Reshape((4, 1)).bounds((Bounds(np.array([[0]]), np.array([[7]])),), ((2, 2),))
    assert bounds.lo.shape == (1, 1)


@given(
    seed=st.integers(0, 1 << 30),
    shape=st.sampled_from(
        [((12,), (3, 4)), ((3, 4), (12,)), ((2, 3, 2), (6, 2)), ((2, 3, 2), (3, 4)), ((1, 1, 5), (5,))]
    ),
)
def test_bounds_hold(sound: Callable[..., None], seed: int, shape: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    sound(Reshape(shape[1]), (shape[0],), seed)


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ((2, 3), (5,), "shape (2, 3) cannot become (5,)"),
        ((2, 3), (-2, -3), "shape (2, 3) cannot become (-2, -3)"),
        ((2, 3), (6, 1, 0), "shape (2, 3) cannot become (6, 1, 0)"),
    ],
)
def test_refusals(source: tuple[int, ...], target: tuple[int, ...], text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        Reshape(target).shape((source,))
    assert str(caught.value) == text
