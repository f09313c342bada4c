"""TFLite's int16 LOGISTIC and TANH: straight lines between 256 values of the logistic function.

Source: tensorflow/lite/kernels/internal/reference/integer_ops/{logistic,tanh}.h, the multipliers as
logistic_common.cc and tanh.cc of tensorflow/lite/micro/kernels prepare them.
"""

from __future__ import annotations

import math

import numpy as np

from edgeflow.ir.types import IntArray, frozen_array

LARGEST_LOG2_ERROR = 1e-3
"""How far the logarithm of a scale lies at most from that of the power of two that a kernel takes it for."""
_POSITIONS = 256
_UNITS_A_STEP = 24
"""Value i of the table is the logistic function at i / 24."""
_ONE_MORE = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46),
    *(49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
)
"""Where `sigmoid_table_uint16` is one above the nearest integer."""


def _logistic_table() -> IntArray:
    """TFLite's sigmoid_table_uint16, in units of 2**-16."""
    exact = 65536.0 / (1.0 + np.exp(-np.arange(_POSITIONS) / _UNITS_A_STEP))
    table = np.rint(exact).astype(np.int64)
    table[list(_ONE_MORE)] += 1
    return frozen_array(table)


_TABLE = _logistic_table()


def interpolated_logistic(scale: float) -> IntArray | None:
    """LOGISTIC of every int16, in units of 2**-15. None where the kernel's int32 would overflow."""
    x = _positions(scale, shifts=(0,))
    if x is None:
        return None
    result = _between(np.abs(x), 9, 0x7FFF << 10)
    return np.where(x >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1) >> 10


def interpolated_tanh(scale: float) -> IntArray | None:
    """TANH of every int16, in units of 2**-15. None where the kernel's int32 would overflow."""
    x = _positions(scale, shifts=(0, 1))
    if x is None:
        return None
    result = _between(np.abs(x), 8, 0xFFFF << 8)
    return np.where(x >= 0, result - (1 << 23) + (1 << 7), -result + (1 << 23) + (1 << 7) - 1) >> 8


def _positions(scale: float, shifts: tuple[int, ...]) -> IntArray | None:
    """Every int16 in units of 1 / (3 * 4096). Powers of two in `shifts` (above 2**-12) need no rounding."""
    x = np.arange(-(1 << 15), 1 << 15, dtype=np.int64)
    power = _near_power(scale)
    if power is not None and power + 12 in shifts:
        return x * (3 << (power + 12))
    multiplier, shift = scale * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    if multiplier >= 1 << 16:
        return None
    return (x * int(multiplier) + (1 << shift >> 1)) >> shift


def _near_power(scale: float) -> int | None:
    """CheckedLog2 (quantization_util.cc), in float32: the power of two within a thousandth of its logarithm."""
    log2 = np.float32(np.log(np.float32(scale))) * (np.float32(1.0) / np.log(np.float32(2.0)))
    nearest = math.floor(abs(log2) + 0.5) * (1 if log2 >= 0 else -1)
    return nearest if abs(float(log2) - nearest) < LARGEST_LOG2_ERROR else None


def _between(x: IntArray, bits: int, most: int) -> IntArray:
    """The table read at x / 2**bits, times 2**bits; `most` from entry 255 on."""
    entry = np.minimum(x >> bits, _POSITIONS - 2)
    low, high = _TABLE[entry], _TABLE[entry + 1]
    return np.where(x >> bits >= _POSITIONS - 1, most, (low << bits) + (x & ((1 << bits) - 1)) * (high - low))
