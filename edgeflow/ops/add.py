"""Add: the sum of two or more tensors of one shape, each with its sign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import INT64_SAFE


@dataclass(frozen=True)
class Add:
    """y = sum over i of signs[i] * x_i; every sign is +1 or -1. All inputs share one shape and one unit."""

    signs: tuple[int, ...]

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Equal shapes in, the same shape out."""
        if len(inputs) < 2 or len(inputs) != len(self.signs) or set(self.signs) - {1, -1}:
            raise InvalidGraph(f"{len(inputs)} inputs with signs {self.signs}")
        if len(set(inputs)) != 1:
            raise InvalidGraph(f"shapes differ: {', '.join(map(str, inputs))}")
        return inputs[0]

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """Interval sum, element by element."""
        reach = sum(max(abs(int(one.lo.min())), abs(int(one.hi.max()))) for one in inputs)
        if reach >= INT64_SAFE:
            raise InvalidGraph("the sum could leave 62 bits")
        lo: IntArray = np.zeros((1,) * len(shapes[0]), dtype=np.int64)
        hi: IntArray = lo
        for sign, one in zip(self.signs, inputs, strict=True):
            lo = lo + (one.lo if sign > 0 else -one.hi)
            hi = hi + (one.hi if sign > 0 else -one.lo)
        return Bounds(lo, hi)

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Element-wise."""
        result = self.signs[0] * inputs[0]
        for sign, one in zip(self.signs[1:], inputs[1:], strict=True):
            result = result + sign * one
        return result
