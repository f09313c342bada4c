from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.maxpool import MaxPool


def test_by_hand() -> None:
    x = np.array([[1, 5, 2], [7, 0, -3], [4, 4, 9]]).reshape(1, 3, 3, 1)
    op = MaxPool((2, 2), (1, 1), ((0, 0), (0, 0)))
    assert op.evaluate((x,), ())[0, :, :, 0].tolist() == [[7, 5], [7, 9]]


def test_padding_never_wins() -> None:
    x = np.full((1, 2, 1), -100)
    assert MaxPool((3,), (1,), ((1, 1),)).evaluate((x,), ())[0, :, 0].tolist() == [-100, -100]


def test_bounds_are_the_inputs_per_channel() -> None:
    source = Bounds(np.array([[[-3, 0]]]), np.array([[[5, 1]]]))
    bounds = MaxPool((2, 2), (2, 2), ((0, 0), (0, 0))).bounds((source,), ((4, 4, 2),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[[-3, 0]]], [[[5, 1]]])


@settings(deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.booleans(),
    spatial=st.tuples(st.integers(3, 6), st.integers(3, 6)),
)
def test_bounds_hold(
    sound: Callable[..., None],
    seed: int,
    window: tuple[int, int],
    strides: tuple[int, int],
    pads: bool,
    spatial: tuple[int, int],
) -> None:
    both = tuple((length // 2, (length - 1) // 2) if pads else (0, 0) for length in window)
    sound(MaxPool(window, strides, both), ((*spatial, 3),), seed)


def test_a_window_in_the_padding_is_refused() -> None:
    with pytest.raises(InvalidGraph) as caught:
        MaxPool((1,), (1,), ((1, 0),)).shape(((2, 1),))
    assert str(caught.value) == "a pooling window lies wholly in the padding"
