"""What Conv and Dense share: exact products of integer matrices, and the bounds of their sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray

Numbers: TypeAlias = npt.NDArray[np.int64 | np.float64 | np.float32]
"""Integers, maybe stored as floats."""
INT64_SAFE = 1 << 62
FLOAT32_EXACT, FLOAT64_EXACT = 1 << 24, 1 << 53


@dataclass(frozen=True)
class SumBounds:
    """Bounds of `bias + sum of x[k] w[k, m]`, one entry an output column m.

    `lo`, `hi` hold the finished sum; `partial_lo`, `partial_hi` hold it at every step in any order of
    the products, the bias first. An accumulator must hold the partial sums.
    """

    lo: IntArray
    hi: IntArray
    partial_lo: IntArray
    partial_hi: IntArray

    @property
    def magnitude(self) -> int:
        """The largest absolute value that any partial sum can take."""
        return max(-int(self.partial_lo.min()), int(self.partial_hi.max()), 0)


def sum_bounds(weight: IntArray, bias: IntArray, lo: IntArray, hi: IntArray) -> SumBounds:
    """Interval arithmetic on the real weights: weight (K, M), bias (M,), input bounds lo and hi (K,).

    Raises InvalidGraph when a partial sum could leave 62 bits.
    """
    reach = np.maximum(np.abs(lo.astype(np.float64)), np.abs(hi.astype(np.float64)))
    largest = reach @ np.abs(weight.astype(np.float64)) + np.abs(bias.astype(np.float64))
    if largest.size and largest.max() >= INT64_SAFE:
        raise InvalidGraph("the accumulator could leave 62 bits")
    up, down = np.maximum(weight, 0), np.minimum(weight, 0)
    products_lo = lo[:, None] * up + hi[:, None] * down
    products_hi = hi[:, None] * up + lo[:, None] * down
    return SumBounds(
        lo=products_lo.sum(axis=0) + bias,
        hi=products_hi.sum(axis=0) + bias,
        partial_lo=np.minimum(products_lo, 0).sum(axis=0) + np.minimum(bias, 0),
        partial_hi=np.maximum(products_hi, 0).sum(axis=0) + np.maximum(bias, 0),
    )


def exact_kind(magnitude: int) -> type[np.float32 | np.float64 | np.int64]:
    """The fastest type for products and sums of integers: floats where every partial sum stays exact in them.

    `magnitude` bounds the absolute value of every partial sum in any order. A larger factor of a product that counts
    is one of 0, so that its rounding does no harm.
    """
    if magnitude < FLOAT32_EXACT:
        return np.float32
    return np.float64 if magnitude < FLOAT64_EXACT else np.int64


def exact_matmul(left: Numbers, right: IntArray, magnitude: int) -> IntArray:
    """`left @ right` on integers, in BLAS where `exact_kind` is a float; `left` may have that type already."""
    kind = exact_kind(magnitude)
    return (left.astype(kind, copy=False) @ right.astype(kind)).astype(np.int64, copy=False)


def as_row(values: IntArray, rank: int) -> IntArray:
    """A vector over channels as an array of the given rank that broadcasts against (..., channels)."""
    return values.reshape((1,) * (rank - 1) + (-1,))


def per_channel(bounds: Bounds, channels: int) -> tuple[IntArray, IntArray]:
    """Bounds reduced over every axis but the last: two vectors of length `channels`."""
    axes = tuple(range(bounds.lo.ndim - 1))
    lo = np.broadcast_to(bounds.lo.min(axis=axes), (channels,))
    hi = np.broadcast_to(bounds.hi.max(axis=axes), (channels,))
    return lo, hi
