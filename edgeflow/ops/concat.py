"""Concat: tensors one behind the other along an axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape


@dataclass(frozen=True)
class Concat:
    """y = the inputs joined along `axis` (0 is the first axis of a sample). All share one unit."""

    axis: int

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Equal shapes except along the axis."""
        if not inputs:
            raise InvalidGraph("no inputs")
        first = inputs[0]
        if not 0 <= self.axis < len(first):
            raise InvalidGraph(f"axis {self.axis} of tensors with {len(first)} axes")
        if len({(len(one), _without(one, self.axis)) for one in inputs}) != 1:
            raise InvalidGraph(f"shapes differ beside axis {self.axis}: {', '.join(map(str, inputs))}")
        return (*first[: self.axis], sum(one[self.axis] for one in inputs), *first[self.axis + 1 :])

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """Each part keeps its own bounds along the joined axis."""
        ends: list[IntArray] = []
        for side in ("lo", "hi"):
            parts = [getattr(one, side) for one in inputs]
            rest = np.broadcast_shapes(*(_without(part.shape, self.axis) for part in parts))
            full = [
                np.broadcast_to(part, (*rest[: self.axis], shape[self.axis], *rest[self.axis :]))
                for part, shape in zip(parts, shapes, strict=True)
            ]
            ends.append(np.concatenate(full, axis=self.axis))
        return Bounds(ends[0], ends[1])

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Behind the batch axis."""
        return np.concatenate(inputs, axis=1 + self.axis)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])
