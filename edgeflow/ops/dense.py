"""Dense: a matrix product over the last axis."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import SumBounds, as_row, exact_matmul, per_channel, sum_bounds


@dataclass(frozen=True, eq=False)
class Dense:
    """y[..., m] = bias[m] + sum over k of x[..., k] * weight[k, m]. `weight` is (inputs, outputs)."""

    weight: IntArray
    bias: IntArray

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(..., inputs) -> (..., outputs)."""
        (source,) = inputs
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[1:]:
            raise InvalidGraph(f"weight of shape {self.weight.shape} with bias of shape {self.bias.shape}")
        if not source or source[-1] != self.weight.shape[0]:
            raise InvalidGraph(f"a weight of shape {self.weight.shape} cannot read a tensor of shape {source}")
        return (*source[:-1], self.weight.shape[1])

    def sums(self, source: Bounds) -> SumBounds:
        """Bounds of the finished and the partial sums, one entry an output."""
        lo, hi = per_channel(source, self.weight.shape[0])
        return sum_bounds(self.weight, self.bias, lo, hi)

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """Interval arithmetic on the real weights, per output."""
        sums = self.sums(inputs[0])
        rank = len(shapes[0])
        return Bounds(as_row(sums.lo, rank), as_row(sums.hi, rank))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, ..., inputs) -> (batch, ..., outputs)."""
        (x,) = inputs
        return exact_matmul(x, self.weight, self.sums(bounds[0]).magnitude) + self.bias
