"""ArgMax: the place of the largest channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape


@dataclass(frozen=True)
class ArgMax:
    """y = the index of the largest element along the last axis; the first one wins among equals."""

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(*axes, channels) -> (*axes, 1)."""
        (source,) = inputs
        if not source:
            raise InvalidGraph("a tensor without axes has no largest channel")
        return (*source[:-1], 1)

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """0 to channels - 1."""
        one = (1,) * len(shapes[0])
        return Bounds(np.zeros(one, dtype=np.int64), np.full(one, shapes[0][-1] - 1, dtype=np.int64))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, *axes, channels) -> (batch, *axes, 1)."""
        return inputs[0].argmax(axis=-1, keepdims=True).astype(np.int64)
