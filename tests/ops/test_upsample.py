from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.upsample import Upsample

X = np.array([[[[1], [2]], [[3], [4]]]])


def test_nearest_by_hand() -> None:
    assert Upsample((2, 3), False).evaluate((X,), ())[0, :, :, 0].tolist() == [
        [1, 1, 1, 2, 2, 2],
        [1, 1, 1, 2, 2, 2],
        [3, 3, 3, 4, 4, 4],
        [3, 3, 3, 4, 4, 4],
    ]


def test_zeros_by_hand() -> None:
    assert Upsample((2, 3), True).evaluate((X,), ())[0, :, :, 0].tolist() == [[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4]]


def test_a_conv_behind_zeros_is_a_transposed_convolution() -> None:
    x, kernel = np.array([2, -1, 5]), np.array([3, 4, 7])
    expected = np.zeros(7, dtype=np.int64)
    for place, value in enumerate(x):
        expected[2 * place : 2 * place + 3] += value * kernel
    spread = Upsample((2,), True).evaluate((x.reshape(1, 3, 1),), ())
    weight = frozen_array(kernel[::-1].reshape(3, 1, 1))
    conv = Conv(weight, frozen_array([0]), (1,), ((2, 2),), (1,))
    bounds = (Bounds(np.array([[-9]]), np.array([[9]])),)
    assert conv.evaluate((spread,), bounds)[0, :, 0].tolist() == expected.tolist()


SOURCE = Bounds(np.array([[[2, -5]]]), np.array([[[3, -1]]]))


@pytest.mark.parametrize(
    ("factors", "zeros", "shape", "lo", "hi"),
    [
        ((2, 2), False, (2, 3, 2), [2, -5], [3, -1]),
        ((2, 1), True, (2, 3, 2), [0, -5], [3, 0]),
        ((1, 1), True, (2, 3, 2), [2, -5], [3, -1]),
        ((4, 1), True, (1, 3, 2), [2, -5], [3, -1]),
    ],
)
def test_only_zeros_between_elements_widen_the_bounds(
    factors: tuple[int, int], zeros: bool, shape: tuple[int, int, int], lo: list[int], hi: list[int]
) -> None:
    bounds = Upsample(factors, zeros).bounds((SOURCE,), (shape,))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[lo]], [[hi]])


@given(
    seed=st.integers(0, 1 << 30),
    factors=st.lists(st.integers(1, 3), min_size=0, max_size=3),
    zeros=st.booleans(),
)
def test_bounds_hold(sound: Callable[..., None], seed: int, factors: list[int], zeros: bool) -> None:
    sound(Upsample(tuple(factors), zeros), ((2, 3, 1, 4)[-1 - len(factors) :],), seed)


@pytest.mark.parametrize(
    ("factors", "shape", "text"),
    [
        ((2,), (), "factors (2,) for a tensor of shape ()"),
        ((), (), "factors () for a tensor of shape ()"),
        ((2, 2), (4, 3), "factors (2, 2) for a tensor of shape (4, 3)"),
        ((0,), (4, 3), "factors (0,) for a tensor of shape (4, 3)"),
    ],
)
def test_refusals(factors: tuple[int, ...], shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        Upsample(factors, False).shape((shape,))
    assert str(caught.value) == text
