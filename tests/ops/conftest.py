"""What every op's tests share: bounds that a box of integers has, and whether an op stays within its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings

from edgeflow.ir.graph import Bounds, Op
from edgeflow.ir.types import IntArray

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Sound = Callable[[Op, tuple[tuple[int, ...], ...], int], None]


def channel_bounds(rng: np.random.Generator, shape: tuple[int, ...], most: int = 50) -> Bounds:
    """Random bounds, one entry a channel, or one for the whole tensor."""
    channels = shape[-1] if rng.random() < 0.7 else 1
    ends = np.sort(rng.integers(-most, most + 1, (2, *(1,) * (len(shape) - 1), channels)), axis=0)
    return Bounds(ends[0], ends[1])


def draw(rng: np.random.Generator, bounds: Bounds, shape: tuple[int, ...], samples: int = 20) -> IntArray:
    """Samples within bounds; the first two sit on the ends."""
    lo, hi = np.broadcast_to(bounds.lo, shape), np.broadcast_to(bounds.hi, shape)
    x = rng.integers(lo, hi + 1, (samples, *shape))
    x[0], x[1] = lo, hi
    x[2:6] = np.where(rng.random((4, *shape)) < 0.5, lo, hi)
    return x


@pytest.fixture(scope="session")
def sound() -> Sound:
    """Asserts on random inputs: the shape rule and the bounds hold, and each sample is its own."""

    def check(op: Op, shapes: tuple[tuple[int, ...], ...], seed: int) -> None:
        rng = np.random.default_rng(seed)
        given = tuple(channel_bounds(rng, shape) for shape in shapes)
        inputs = tuple(draw(rng, one, shape) for one, shape in zip(given, shapes, strict=True))
        result = op.evaluate(inputs, given)
        assert result.dtype == np.int64
        assert result.shape == (20, *op.shape(shapes))
        bounds = op.bounds(given, shapes)
        assert bounds.lo.ndim == bounds.hi.ndim == result.ndim - 1
        assert (np.broadcast_to(bounds.lo, result.shape[1:]) <= result).all()
        assert (result <= np.broadcast_to(bounds.hi, result.shape[1:])).all()
        alone = op.evaluate(tuple(one[7:8] for one in inputs), given)
        np.testing.assert_array_equal(alone, result[7:8])

    return check
