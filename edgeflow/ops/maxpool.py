"""MaxPool: the largest element of each window; padding never wins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import as_row, per_channel
from edgeflow.ops.window import Pads, pad_spatial, window_counts, window_shape, windows


@dataclass(frozen=True)
class MaxPool:
    """y[o, c] = max over t in window of x[o * stride + t, c]; positions in the padding do not count."""

    window: Shape
    strides: Shape
    pads: Pads

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(*spatial, channels) -> (*out, channels)."""
        (source,) = inputs
        out = window_shape(source[:-1], self.window, self.strides, self.pads, (1,) * len(self.window))
        if window_counts(source[:-1], self.window, self.strides, self.pads).min() < 1:
            raise InvalidGraph("a pooling window lies wholly in the padding")
        return (*out, source[-1])

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The input's bounds, per channel."""
        lo, hi = per_channel(inputs[0], shapes[0][-1])
        return Bounds(as_row(lo, len(shapes[0])), as_row(hi, len(shapes[0])))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, *spatial, channels) -> (batch, *out, channels)."""
        (x,) = inputs
        lowest = int(np.iinfo(np.int64).min)
        view = windows(pad_spatial(x, self.pads, lowest), self.window, self.strides, (1,) * len(self.window))
        return view.max(axis=tuple(range(2 + len(self.window), view.ndim)))
