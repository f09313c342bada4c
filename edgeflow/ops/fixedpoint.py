"""gemmlowp's fixed-point functions on int32 values, bit for bit: what TFLite-Micro's softmax, logistic and tanh use.

Source: gemmlowp's fixedpoint/fixedpoint.h. A value with k integer bits is in units of 2**(k - 31).
"""

from __future__ import annotations

import numpy as np

from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Rounding, round_shift

INT32_HI = (1 << 31) - 1
_EXP_MINUS_EIGHTH, _THIRD = 1895147668, 715827883
_EXP_OF_MINUS_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""round(2**31 * exp(-2**k)) for k = -2 to 4."""
_48_OVER_17, _MINUS_32_OVER_17 = 1515870810, -1010580540
"""In units of 2**-29."""


def high_product(a: IntArray, b: IntArray | int) -> IntArray:
    """SaturatingRoundingDoublingHighMul of two int32, of which not both are -2**31."""
    return (a * b + (1 << 30)) >> 31


def divided(x: IntArray, shift: IntArray | int) -> IntArray:
    """RoundingDivideByPOT: x / 2**shift, rounded half away from zero."""
    return round_shift(x, np.asarray(shift), Rounding.HALF_AWAY)


def raised(x: IntArray, shift: int) -> IntArray:
    """SaturatingRoundingMultiplyByPOT with a positive exponent: x * 2**shift, clamped to int32."""
    return np.clip(x << shift, -INT32_HI - 1, INT32_HI)


def exp_on_negative(a: IntArray, integer_bits: int) -> IntArray:
    """exp_on_negative_values: exp(a) in units of 2**-31 for a <= 0 with up to 5 integer bits."""
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    rest = (a & (quarter - 1)) - quarter
    result = _exp_of_rest(raised(rest, integer_bits))
    for bit, factor in enumerate(_EXP_OF_MINUS_POWERS[: integer_bits + 2], start=fraction - 2):
        result = np.where((rest - a) & (1 << bit), high_product(result, factor), result)
    return np.where(a == 0, INT32_HI, result)


def _exp_of_rest(a: IntArray) -> IntArray:
    """exp for a in [-1/4, 0): the Taylor series around -1/8, all in units of 2**-31."""
    x = a + (1 << 28)
    square = high_product(x, x)
    fourth = divided(high_product(square, square), 2)
    rest = divided(high_product(fourth + high_product(square, x), _THIRD) + square, 1)
    return _EXP_MINUS_EIGHTH + high_product(x + rest, _EXP_MINUS_EIGHTH)


def reciprocal_of_half(half_denominator: IntArray) -> IntArray:
    """1 / d in units of 2**-29 for d / 2 in units of 2**-31, 1/2 <= d / 2 < 1: Newton's division in three steps."""
    x = _48_OVER_17 + high_product(half_denominator, _MINUS_32_OVER_17)
    for _ in range(3):
        x = x + raised(high_product(x, (1 << 29) - high_product(half_denominator, x)), 2)
    return x


def logistic(a: IntArray, integer_bits: int) -> IntArray:
    """logistic: 1 / (1 + exp(-a)) in units of 2**-31."""
    exponential = exp_on_negative(-np.abs(a), integer_bits)
    positive = raised(reciprocal_of_half(_half_of_one_plus(exponential)), 1)
    return np.where(a == 0, 1 << 30, np.where(a > 0, positive, INT32_HI - positive))


def tanh(a: IntArray, integer_bits: int) -> IntArray:
    """tanh: (1 - exp(-2 a)) / (1 + exp(-2 a)) in units of 2**-31, for up to 4 integer bits."""
    exponential = exp_on_negative(-np.abs(a), integer_bits + 1)
    positive = raised(reciprocal_of_half(_half_of_one_plus(exponential)) - (1 << 29), 2)
    return np.sign(a) * positive


def _half_of_one_plus(x: IntArray) -> IntArray:
    """RoundingHalfSum of x >= 0 and one, which is 2**31 - 1."""
    return (x + INT32_HI + 1) >> 1
