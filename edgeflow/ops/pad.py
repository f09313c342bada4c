"""Pad: a border of one value around a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import INT64_SAFE
from edgeflow.ops.window import Pads


@dataclass(frozen=True)
class Pad:
    """y = x with `pads[axis] = (before, after)` elements of `value` added on every axis of a sample."""

    pads: Pads
    value: int

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Each axis grows by its two ends."""
        (source,) = inputs
        if len(self.pads) != len(source):
            raise InvalidGraph(f"padding for {len(self.pads)} axes on a tensor with {len(source)}")
        if any(min(pair) < 0 for pair in self.pads):
            raise InvalidGraph("padding must not be negative")
        if abs(self.value) >= INT64_SAFE:
            raise InvalidGraph("the padding value could leave 62 bits")
        return tuple(length + before + after for length, (before, after) in zip(source, self.pads, strict=True))

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The input's bounds, per channel, widened to the value."""
        lo, hi = inputs[0].lo, inputs[0].hi
        axes = tuple(axis for axis, pair in enumerate(self.pads[:-1]) if any(pair))
        if axes:
            lo, hi = lo.min(axis=axes, keepdims=True), hi.max(axis=axes, keepdims=True)
            lo, hi = np.minimum(lo, self.value), np.maximum(hi, self.value)
        if self.pads and any(self.pads[-1]):
            ends = ((0, 0),) * (lo.ndim - 1) + (self.pads[-1],)
            wide = (*lo.shape[:-1], shapes[0][-1])
            lo = np.pad(np.broadcast_to(lo, wide), ends, constant_values=self.value)
            hi = np.pad(np.broadcast_to(hi, wide), ends, constant_values=self.value)
        return Bounds(lo, hi)

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Behind the batch axis."""
        return np.pad(inputs[0], ((0, 0), *self.pads), constant_values=self.value)
