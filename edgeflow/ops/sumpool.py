"""SumPool: the sum of each window; an average pool is a SumPool and a Requant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import INT64_SAFE, as_row, per_channel
from edgeflow.ops.window import Pads, pad_spatial, window_counts, window_shape, windows


@dataclass(frozen=True)
class SumPool:
    """y[o, c] = sum over t in window of x[o * stride + t, c]; padding counts as 0."""

    window: Shape
    strides: Shape
    pads: Pads

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(*spatial, channels) -> (*out, channels)."""
        (source,) = inputs
        out = window_shape(source[:-1], self.window, self.strides, self.pads, (1,) * len(self.window))
        return (*out, source[-1])

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The input's bounds times the number of real elements in a window, per channel."""
        lo, hi = per_channel(inputs[0], shapes[0][-1])
        counts = window_counts(shapes[0][:-1], self.window, self.strides, self.pads)
        least, most = int(counts.min()), int(counts.max())
        if max(abs(int(lo.min())), abs(int(hi.max()))) * max(most, 1) >= INT64_SAFE:
            raise InvalidGraph("the sum could leave 62 bits")
        rank = len(shapes[0])
        return Bounds(as_row(np.minimum(lo * least, lo * most), rank), as_row(np.maximum(hi * least, hi * most), rank))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, *spatial, channels) -> (batch, *out, channels)."""
        (x,) = inputs
        view = windows(pad_spatial(x, self.pads, 0), self.window, self.strides, (1,) * len(self.window))
        return view.sum(axis=tuple(range(2 + len(self.window), view.ndim)))
