"""Reshape: the same elements in the same order under another shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape


@dataclass(frozen=True)
class Reshape:
    """y = x in row-major order, seen as `target`. Flatten is a Reshape to one axis."""

    target: Shape

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Any shape of the same size."""
        (source,) = inputs
        if math.prod(source) != math.prod(self.target) or min(self.target, default=1) < 1:
            raise InvalidGraph(f"shape {source} cannot become {self.target}")
        return self.target

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The bounds follow their elements."""
        (one,) = inputs
        if one.lo.size == 1 and one.hi.size == 1:
            rank = (1,) * len(self.target)
            return Bounds(one.lo.reshape(rank), one.hi.reshape(rank))
        return Bounds(
            np.broadcast_to(one.lo, shapes[0]).reshape(self.target),
            np.broadcast_to(one.hi, shapes[0]).reshape(self.target),
        )

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, *source) -> (batch, *target)."""
        return inputs[0].reshape(inputs[0].shape[0], *self.target)
