"""Threshold: counts how many thresholds a value has reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import INT64_SAFE, as_row

MOST_LEVELS = 1 << 16


@dataclass(frozen=True, eq=False)
class Threshold:
    """y = first[c] + step[c] * (number of k with x >= thresholds[c, k]), c the last axis.

    `thresholds` is (channels, levels) or (1, levels), each row ascending; `first` and `step` are (channels,)
    or (1,); every step is +1 or -1. The widest input is 62 bits: a threshold that is never reached may lie
    above the input's interval.
    """

    thresholds: IntArray
    first: IntArray
    step: IntArray

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape stays."""
        (source,) = inputs
        if not source:
            raise InvalidGraph("a tensor without axes has no channels")
        if self.thresholds.ndim != 2 or not 1 <= self.thresholds.shape[1] <= MOST_LEVELS:
            raise InvalidGraph(f"thresholds of shape {self.thresholds.shape}, not (channels, 1 to {MOST_LEVELS})")
        for array in (self.thresholds, self.first, self.step):
            if array.shape[:1] not in ((1,), source[-1:]) or (array is not self.thresholds and array.ndim != 1):
                raise InvalidGraph(f"a parameter of shape {array.shape} for {source[-1]} channels")
        if (self.thresholds[:, 1:] < self.thresholds[:, :-1]).any():
            raise InvalidGraph("a row of thresholds does not ascend")
        if set(self.step.tolist()) - {1, -1}:
            raise InvalidGraph("a step is neither +1 nor -1")
        if max(abs(int(self.first.min())), abs(int(self.first.max()))) >= INT64_SAFE:
            raise InvalidGraph("a first value could leave 62 bits")
        return source

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The counts at the input's ends."""
        rank = len(shapes[0])
        wide = (1,) * (rank - 1) + (shapes[0][-1],)
        shape = np.broadcast_shapes(inputs[0].lo.shape, inputs[0].hi.shape, wide)
        ends = [self._value(np.broadcast_to(one, shape)) for one in (inputs[0].lo, inputs[0].hi)]
        return Bounds(np.minimum(*ends), np.maximum(*ends))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Element-wise, each channel with its own row."""
        return self._value(inputs[0])

    def _value(self, x: IntArray) -> IntArray:
        if len(self.thresholds) == 1:
            counts = np.searchsorted(self.thresholds[0], x, side="right")
        else:
            counts = np.empty(x.shape, dtype=np.int64)
            for channel, row in enumerate(self.thresholds):
                counts[..., channel] = np.searchsorted(row, x[..., channel], side="right")
        return as_row(self.first, x.ndim) + as_row(self.step, x.ndim) * counts.astype(np.int64)
