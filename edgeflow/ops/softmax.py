"""Softmax: TFLite-Micro's integer softmax, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.fixedpoint import divided, exp_on_negative, high_product, raised, reciprocal_of_half
from edgeflow.ops.linear import INT64_SAFE

MOST_CHANNELS = 4095
"""The sum of the exponentials has 12 integer bits, the sign among them."""
DIFF_FRACTION, SUM_FRACTION = 26, 19
"""Fractional bits of a difference and of the sum of the exponentials; an exponential has 31."""
_LARGEST_DIFF = 31 << DIFF_FRACTION


@dataclass(frozen=True)
class Softmax:
    """y[c] = 2**bits * exp(x[c]) / (sum over k of exp(x[k])) - 2**(bits - 1), c the last axis, clamped to `bits` bits.

    One unit of x means multiplier * 2**(shift - 57). An element more than -`diff_min` below the largest one counts
    as 0. The exponential and the reciprocal are gemmlowp's fixed-point ones (fixedpoint.h), and the steps those of
    tensorflow/lite/kernels/internal/reference/softmax.h for int8 inputs and int8 (`bits` 8) or int16 outputs (16).
    (With 8 bits TFLite-Micro stops where the sum is 512 or more; here what rounds to 0 is 0 as everywhere.)
    """

    multiplier: int
    shift: int
    diff_min: int
    bits: int

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape stays."""
        (source,) = inputs
        if not source:
            raise InvalidGraph("a tensor without axes has no channels")
        if source[-1] > MOST_CHANNELS:
            raise InvalidGraph(f"a softmax of {source[-1]} channels, more than {MOST_CHANNELS}")
        if self.bits not in (8, 16):
            raise InvalidGraph(f"a softmax of {self.bits} bits, not 8 or 16")
        if not 1 << 30 <= self.multiplier < 1 << 31 or not 0 <= self.shift <= 31:
            raise InvalidGraph("a softmax needs 2^30 <= multiplier < 2^31 and 0 <= shift <= 31")
        if self.diff_min > 0 or -self.diff_min << self.shift > _LARGEST_DIFF:
            raise InvalidGraph(f"a least difference of {self.diff_min} is not 0 to -31 after its shift")
        return source

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """Every value of `bits` bits."""
        if int(inputs[0].hi.max()) - int(inputs[0].lo.min()) >= INT64_SAFE:
            raise InvalidGraph("a difference could leave 62 bits")
        one, half = (1,) * len(shapes[0]), 1 << (self.bits - 1)
        return Bounds(np.full(one, -half, dtype=np.int64), np.full(one, half - 1, dtype=np.int64))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, *axes, channels) -> the same shape."""
        (x,) = inputs
        exponentials = self.exponentials(x - x.max(axis=-1, keepdims=True))
        sums = divided(exponentials, 31 - SUM_FRACTION).sum(axis=-1, keepdims=True)
        scale, over = reciprocal(sums)
        result = divided(high_product(scale, exponentials), over + 31 - self.bits)
        half = 1 << (self.bits - 1)
        return np.clip(result - half, -half, half - 1)

    def exponentials(self, differences: IntArray) -> IntArray:
        """exp of differences to the largest element (all <= 0) in units of 2**-31; 0 below `diff_min`."""
        scaled = high_product(np.maximum(differences, self.diff_min) << self.shift, self.multiplier)
        return np.where(differences < self.diff_min, 0, exp_on_negative(scaled, 31 - DIFF_FRACTION))


def reciprocal(sums: IntArray) -> tuple[IntArray, IntArray]:
    """1 / sums as (r, over) with 1 / sum = r * 2**(-31 - over): TFLite's GetReciprocal, sums in units of 2**-19.

    Newton's division by gemmlowp's one_over_one_plus_x_for_x_in_0_1.
    """
    length = np.frexp(sums.astype(np.float64))[1].astype(np.int64)
    return raised(reciprocal_of_half(sums << (31 - length)), 1), length - 1 - SUM_FRACTION
