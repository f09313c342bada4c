"""TFLite-Micro's LOGISTIC and TANH for every int8, as tables.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/{logistic,tanh}.h, CalculateInputRadius in
quantization_util.cc.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.arithmetic import INT8_HI, INT8_LO, INT32_HI, Multiplier, kernel_requant
from edgeflow.backends.tflm.model import Kernel
from edgeflow.ir.types import IntArray
from edgeflow.ops.fixedpoint import divided, logistic, tanh
from edgeflow.ops.requant import LARGEST_SHIFT

_INTEGER_BITS = 4
"""Of the kernels' input."""


@dataclass(frozen=True)
class Curve:
    """A function's operator, its fixed-point form, and its output: units of 2**-bits from `zero` on."""

    kernel: Kernel
    compute: Callable[[IntArray, int], IntArray]
    bits: int
    zero: int


CURVES: Mapping[str, Curve] = {
    "logistic": Curve(Kernel.LOGISTIC, logistic, 8, INT8_LO),
    "tanh": Curve(Kernel.TANH, tanh, 7, 0),
}


def byte_curve(curve: Curve, scale: float, zero_point: int) -> IntArray | None:
    """The output byte for every input byte from -128 on; None where the kernel's shifts overflow.

    Values beyond the input radius become -128 or 127.
    """
    fraction, shift = math.frexp(scale * 2.0 ** (31 - _INTEGER_BITS))
    if not -31 <= shift <= LARGEST_SHIFT:
        return None
    multiplier = Multiplier(math.floor(fraction * 2.0**31 + 0.5), shift)
    radius = math.floor(((1 << _INTEGER_BITS) - 1) * 2.0 ** (31 - _INTEGER_BITS) / 2.0**shift)
    x = np.arange(INT8_LO, INT8_HI + 1, dtype=np.int64) - zero_point
    inside = kernel_requant([multiplier], 0, -INT32_HI - 1, INT32_HI).evaluate((np.clip(x, -radius, radius),), ())
    values = np.clip(divided(curve.compute(inside, _INTEGER_BITS), 31 - curve.bits) + curve.zero, INT8_LO, INT8_HI)
    return np.where(x <= -radius, INT8_LO, np.where(x >= radius, INT8_HI, values))
