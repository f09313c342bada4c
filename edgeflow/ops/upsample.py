"""Upsample: more spatial positions, by repeating each or by zeros between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape


@dataclass(frozen=True)
class Upsample:
    """x (*spatial, channels) stretched by `factors`, one a spatial axis.

    Nearest: y[o] = x[o // f], n becomes n * f. With `zeros`: y[i * f] = x[i] and 0 between, n becomes
    (n - 1) * f + 1; a Conv behind it is then a transposed convolution.
    """

    factors: Shape
    zeros: bool

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Each spatial axis times its factor."""
        (source,) = inputs
        if len(self.factors) != len(source) - 1 or min(self.factors, default=1) < 1:
            raise InvalidGraph(f"factors {self.factors} for a tensor of shape {source}")
        if self.zeros:
            return (*((n - 1) * f + 1 for n, f in zip(source[:-1], self.factors, strict=True)), source[-1])
        return (*(n * f for n, f in zip(source[:-1], self.factors, strict=True)), source[-1])

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The input's bounds over all positions, per channel; zeros between widen them to 0."""
        axes = tuple(range(len(self.factors)))
        lo, hi = inputs[0].lo.min(axis=axes, keepdims=True), inputs[0].hi.max(axis=axes, keepdims=True)
        if self.zeros and self.shape(shapes) != shapes[0]:
            lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
        return Bounds(lo, hi)

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, *spatial, channels) -> (batch, *out, channels)."""
        (x,) = inputs
        if not self.zeros:
            for axis, factor in enumerate(self.factors):
                x = x.repeat(factor, axis=1 + axis)
            return x
        result = np.zeros((x.shape[0], *self.shape((x.shape[1:],))), dtype=x.dtype)
        result[(slice(None), *(slice(None, None, factor) for factor in self.factors))] = x
        return result
