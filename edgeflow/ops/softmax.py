"""Softmax: TFLite-Micro's integer softmax, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.fixedpoint import divided, exp_on_negative, high_product, raised, reciprocal_of_half
from edgeflow.ops.interpolation import LAST_POSITION, Reals, interpolated, interpolation_table
from edgeflow.ops.linear import INT64_SAFE

MOST_CHANNELS = 4095
"""The sum of the exponentials has 12 integer bits, the sign among them."""
DIFF_FRACTION, SUM_FRACTION = 26, 19
"""Fractional bits of a difference and of the sum of the exponentials; an exponential has 31."""
_LARGEST_DIFF = 31 << DIFF_FRACTION
LONGEST_EXPONENTIAL = 10
"""The table of the exponential goes from exp(-10) to exp(0); what is further down counts as exp(-10)."""


@dataclass(frozen=True)
class Softmax:
    """y[c] = 2**bits * exp(x[c]) / (sum over k of exp(x[k])) + lo, c the last axis, clamped to the form's ends.

    `bits` names one of TFLite's forms (tensorflow/lite/kernels/internal/reference/softmax.h):

    - 8 and 16, for int8 inputs: lo = -2**(bits - 1); one unit of x means multiplier * 2**(shift - 57). An element more
      than -`diff_min` below the largest one counts as 0. The exponential and the reciprocal are gemmlowp's fixed-point
      ones (fixedpoint.h). (With 8 bits TFLite-Micro stops where the sum is 512 or more; here what rounds to 0 is 0 as
      everywhere.)
    - 15, for int16 inputs: lo = 0; one unit of x means multiplier * 2**(shift - 31) * 10 / 65535. The exponential and
      the reciprocal are straight lines between table entries (interpolation.py). `diff_min` is 0: nothing counts as 0.
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
        if self.bits not in SOFTMAX_FORMS:
            raise InvalidGraph(f"a softmax of {self.bits} bits, not 8, 15 or 16")
        SOFTMAX_FORMS[self.bits].check(self)
        return source

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """Every value of the form."""
        form = SOFTMAX_FORMS[self.bits]
        form.check_reach(self, int(inputs[0].hi.max()) - int(inputs[0].lo.min()))
        one = (1,) * len(shapes[0])
        return Bounds(np.full(one, form.lo, dtype=np.int64), np.full(one, form.hi, dtype=np.int64))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, *axes, channels) -> the same shape."""
        (x,) = inputs
        form = SOFTMAX_FORMS[self.bits]
        result = form.parts(self, x - x.max(axis=-1, keepdims=True))
        return np.clip(result + form.lo, form.lo, form.hi)

    def exponentials(self, differences: IntArray) -> IntArray:
        """exp of differences to the largest element (all <= 0) with 8 or 16 bits, in units of 2**-31.

        0 below `diff_min`.
        """
        scaled = high_product(np.maximum(differences, self.diff_min) << self.shift, self.multiplier)
        return np.where(differences < self.diff_min, 0, exp_on_negative(scaled, 31 - DIFF_FRACTION))


@dataclass(frozen=True)
class SoftmaxForm:
    """What the number of bits decides: the result's ends, what is legal, and the arithmetic.

    `check` looks at an op's parameters and `check_reach` at the largest difference of two elements; both raise
    InvalidGraph. `parts` makes the shares of 1, in units of 2**-bits, of the differences to the largest element.
    """

    lo: int
    hi: int
    check: Callable[[Softmax], None]
    check_reach: Callable[[Softmax, int], None]
    parts: Callable[[Softmax, IntArray], IntArray]


def reciprocal(sums: IntArray) -> tuple[IntArray, IntArray]:
    """1 / sums as (r, over) with 1 / sum = r * 2**(-31 - over): TFLite's GetReciprocal, sums in units of 2**-19.

    Newton's division by gemmlowp's one_over_one_plus_x_for_x_in_0_1.
    """
    length = _bit_length(sums)
    return raised(reciprocal_of_half(sums << (31 - length)), 1), length - 1 - SUM_FRACTION


def _bit_length(x: IntArray) -> IntArray:
    return np.frexp(x.astype(np.float64))[1].astype(np.int64)


def _check_computed(op: Softmax) -> None:
    if not 1 << 30 <= op.multiplier < 1 << 31 or not 0 <= op.shift <= 31:
        raise InvalidGraph("a softmax needs 2^30 <= multiplier < 2^31 and 0 <= shift <= 31")
    if op.diff_min > 0 or -op.diff_min << op.shift > _LARGEST_DIFF:
        raise InvalidGraph(f"a least difference of {op.diff_min} is not 0 to -31 after its shift")


def _check_computed_reach(op: Softmax, reach: int) -> None:
    if reach >= INT64_SAFE:
        raise InvalidGraph("a difference could leave 62 bits")


def _computed(op: Softmax, differences: IntArray) -> IntArray:
    """Softmax for int8 inputs."""
    exponentials = op.exponentials(differences)
    sums = divided(exponentials, 31 - SUM_FRACTION).sum(axis=-1, keepdims=True)
    scale, over = reciprocal(sums)
    return divided(high_product(scale, exponentials), over + 31 - op.bits)


def _check_interpolated(op: Softmax) -> None:
    if not 1 << 30 <= op.multiplier < 1 << 31 or not -31 <= op.shift <= 31:
        raise InvalidGraph("a softmax needs 2^30 <= multiplier < 2^31 and -31 <= shift <= 31")
    if op.diff_min:
        raise InvalidGraph(f"a softmax of 15 bits has a least difference of 0, not {op.diff_min}")


def _check_interpolated_reach(op: Softmax, reach: int) -> None:
    if reach << max(op.shift, 0) >= 1 << 31:
        raise InvalidGraph("a difference could leave 32 bits after its shift")


def _exponential(x: Reals) -> Reals:
    """Rounded once: what float32's own exponential gives in the last bit depends on the machine."""
    return np.exp(x.astype(np.float64)).astype(np.float32)


def _one_over_one_plus(x: Reals) -> Reals:
    return np.float32(1) / (np.float32(1) + x)


EXPONENTIAL_TABLE = interpolation_table(_exponential, -LONGEST_EXPONENTIAL, LONGEST_EXPONENTIAL)
RECIPROCAL_TABLE = interpolation_table(_one_over_one_plus, 0, 1)


def _interpolated(op: Softmax, differences: IntArray) -> IntArray:
    """SoftmaxInt16."""
    scaled = divided(high_product(differences << max(op.shift, 0), op.multiplier), max(-op.shift, 0))
    exponentials = interpolated(EXPONENTIAL_TABLE, np.maximum(scaled + LAST_POSITION, 0))
    sums = exponentials.sum(axis=-1, keepdims=True)
    length = _bit_length(sums)
    mantissas = ((sums << (31 - length)) + (1 << 13)) >> 14
    scale = interpolated(RECIPROCAL_TABLE, np.minimum(mantissas - (1 << 16), LAST_POSITION))
    return (exponentials * scale + (1 << (length - 2))) >> (length - 1)


SOFTMAX_FORMS: Mapping[int, SoftmaxForm] = {
    8: SoftmaxForm(-(1 << 7), (1 << 7) - 1, _check_computed, _check_computed_reach, _computed),
    15: SoftmaxForm(0, (1 << 15) - 1, _check_interpolated, _check_interpolated_reach, _interpolated),
    16: SoftmaxForm(-(1 << 15), (1 << 15) - 1, _check_computed, _check_computed_reach, _computed),
}
"""The forms by `bits`."""
