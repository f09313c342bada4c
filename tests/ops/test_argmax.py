from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.argmax import ArgMax


def test_by_hand() -> None:
    x = np.array([[[1, 5, 2], [7, 0, -3], [-4, -9, -1]]])
    assert ArgMax().evaluate((x,), ())[0].tolist() == [[1], [0], [2]]


def test_the_first_wins_among_equals() -> None:
    assert ArgMax().evaluate((np.array([[3, 7, 7], [4, 4, 4]]),), ()).tolist() == [[1], [0]]


def test_shape_and_bounds() -> None:
    source = Bounds(np.array([[-1]]), np.array([[5]]))
    assert ArgMax().shape(((4, 7),)) == (4, 1)
    bounds = ArgMax().bounds((source,), ((4, 7),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[0]], [[6]])


@given(seed=st.integers(0, 1 << 30), shape=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_bounds_hold(sound: Callable[..., None], seed: int, shape: list[int]) -> None:
    sound(ArgMax(), (tuple(shape),), seed)


def test_a_tensor_without_axes_is_refused() -> None:
    with pytest.raises(InvalidGraph) as caught:
        ArgMax().shape(((),))
    assert str(caught.value) == "a tensor without axes has no largest channel"
