"""Sliding windows over the spatial axes: what Conv and the pools share."""

from __future__ import annotations

import math
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from edgeflow.errors import InvalidGraph
from edgeflow.ir.types import IntArray, Shape

Pads: TypeAlias = tuple[tuple[int, int], ...]
T = TypeVar("T", bound=np.generic)
_MOST_POSITIONS = 1 << 24


def window_shape(spatial: Shape, window: Shape, strides: Shape, pads: Pads, dilation: Shape) -> Shape:
    """Spatial output shape. Raises InvalidGraph when ranks differ or the window exceeds the padded input."""
    ranks = {len(spatial), len(window), len(strides), len(pads), len(dilation)}
    if len(ranks) != 1:
        raise InvalidGraph(f"window of rank {len(window)} on {len(spatial)} spatial axes")
    if min(window, default=1) < 1 or min(strides, default=1) < 1 or min(dilation, default=1) < 1:
        raise InvalidGraph("window, strides and dilation must be at least 1")
    if any(min(pair) < 0 for pair in pads):
        raise InvalidGraph("padding must not be negative")
    result: list[int] = []
    for length, reach, stride, (before, after), step in zip(spatial, window, strides, pads, dilation, strict=True):
        room = length + before + after - (step * (reach - 1) + 1)
        if room < 0:
            raise InvalidGraph(f"a window of {step * (reach - 1) + 1} does not fit in {length + before + after}")
        result.append(room // stride + 1)
    if math.prod(result) > _MOST_POSITIONS:
        raise InvalidGraph(f"{math.prod(result)} window positions, more than 2^24")
    return tuple(result)


def pad_spatial(x: IntArray, pads: Pads, value: int) -> IntArray:
    """Pads the spatial axes of (batch, *spatial, channels) with one value."""
    if not any(before or after for before, after in pads):
        return x
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def windows(x: npt.NDArray[T], window: Shape, strides: Shape, dilation: Shape) -> npt.NDArray[T]:
    """A view (batch, *out, channels, *window) of padded x (batch, *spatial, channels)."""
    reach = tuple(step * (length - 1) + 1 for length, step in zip(window, dilation, strict=True))
    axes = tuple(range(1, 1 + len(window)))
    view = sliding_window_view(x, reach, axis=axes)  # pyright: ignore[reportCallIssue, reportArgumentType]
    picks: list[slice] = [slice(None)]
    picks += [slice(None, None, stride) for stride in strides]
    picks += [slice(None)]
    picks += [slice(None, None, step) for step in dilation]
    return view[tuple(picks)]


def window_counts(spatial: Shape, window: Shape, strides: Shape, pads: Pads) -> IntArray:
    """How many real (not padding) elements each window position covers; shape = spatial output shape."""
    rank = len(window)
    outputs = window_shape(spatial, window, strides, pads, (1,) * rank)
    counts: IntArray = np.ones((1,) * rank, dtype=np.int64)
    for axis, length in enumerate(spatial):
        first = np.arange(outputs[axis], dtype=np.int64) * strides[axis] - pads[axis][0]
        real = np.minimum(first + window[axis], length) - np.maximum(first, 0)
        counts = counts * np.maximum(real, 0).reshape(tuple(-1 if one == axis else 1 for one in range(rank)))
    return counts
