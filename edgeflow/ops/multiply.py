"""Multiply: the product of two tensors; an axis of length 1 stands for the whole axis of the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import INT64_SAFE


@dataclass(frozen=True)
class Multiply:
    """y = a * b. Both have one rank; where one has an axis of length 1, it broadcasts (a gate a channel, say)."""

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Two shapes that broadcast against each other."""
        if len(inputs) != 2:
            raise InvalidGraph(f"{len(inputs)} inputs, not two")
        left, right = inputs
        if len(left) != len(right) or any(1 not in (a, b) and a != b for a, b in zip(left, right, strict=True)):
            raise InvalidGraph(f"shapes {left} and {right} do not broadcast")
        return tuple(max(a, b) for a, b in zip(left, right, strict=True))

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The least and the largest product of the ends."""
        left, right = inputs
        reach = [max(abs(int(one.lo.min())), abs(int(one.hi.max()))) for one in inputs]
        if reach[0] * reach[1] >= INT64_SAFE:
            raise InvalidGraph("the product could leave 62 bits")
        ends = [a * b for a in (left.lo, left.hi) for b in (right.lo, right.hi)]
        return Bounds(reduce(np.minimum, ends), reduce(np.maximum, ends))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Element-wise."""
        return inputs[0] * inputs[1]
