"""Slice: a regular part of a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape


@dataclass(frozen=True)
class Slice:
    """y[i] = x[begin + i * stride] for 0 <= i < size, on every axis of a sample."""

    begin: Shape
    size: Shape
    strides: Shape

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`size`, when every element that it names exists."""
        (source,) = inputs
        if not len(source) == len(self.begin) == len(self.size) == len(self.strides):
            raise InvalidGraph(f"a slice of {len(self.begin)} axes from a tensor with {len(source)}")
        if min(self.begin, default=0) < 0 or min(self.size, default=1) < 1 or min(self.strides, default=1) < 1:
            raise InvalidGraph("a slice needs begin >= 0, size >= 1 and strides >= 1")
        for length, first, count, stride in zip(source, self.begin, self.size, self.strides, strict=True):
            if first + (count - 1) * stride >= length:
                raise InvalidGraph(f"a slice of {self.size} from {self.begin} leaves the shape {source}")
        return self.size

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The bounds of what is picked."""
        return Bounds(self._picked(inputs[0].lo), self._picked(inputs[0].hi))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Behind the batch axis."""
        return np.ascontiguousarray(inputs[0][(slice(None), *self._picks())])

    def _picked(self, ends: IntArray) -> IntArray:
        """The slice of bounds; an axis of length 1 stands for the whole axis."""
        picks = zip(ends.shape, self._picks(), strict=True)
        return ends[tuple(slice(None) if length == 1 else pick for length, pick in picks)]

    def _picks(self) -> tuple[slice, ...]:
        return tuple(
            slice(first, first + (count - 1) * stride + 1, stride)
            for first, count, stride in zip(self.begin, self.size, self.strides, strict=True)
        )
