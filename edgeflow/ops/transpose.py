"""Transpose: the axes in another order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape


@dataclass(frozen=True)
class Transpose:
    """Axis i of y is axis order[i] of x; `order` is a permutation of a sample's axes."""

    order: Shape

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The axes' lengths, permuted."""
        (source,) = inputs
        if sorted(self.order) != list(range(len(source))):
            raise InvalidGraph(f"{self.order} is not an order of {len(source)} axes")
        return tuple(source[axis] for axis in self.order)

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The bounds move with their axes."""
        return Bounds(inputs[0].lo.transpose(self.order), inputs[0].hi.transpose(self.order))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Behind the batch axis."""
        return np.ascontiguousarray(inputs[0].transpose(0, *(1 + axis for axis in self.order)))
