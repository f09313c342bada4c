"""TFLite's tables of int16: 513 values of a function with straight lines between them, as its int16 softmax uses them.

Source: LUTPopulateInt16 and LUTLookup of tensorflow/lite/kernels/internal/common.h. A function's argument is given by
its distance from the table's start, 0 to 65535, 128 a step; its value is in units of 2**-15.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgeflow.ir.types import IntArray, frozen_array

LAST_POSITION = (1 << 16) - 1
_STEPS, _STEP_BITS = 512, 7
_UNITS = np.float32(1 << 15)
_INT16_HI = (1 << 15) - 1

Reals = npt.NDArray[np.float32]


def interpolation_table(function: Callable[[Reals], Reals], first: float, length: float) -> IntArray:
    """`function`, of values from 0 to 1, at 513 places from `first` to `first + length`, in float32 as TFLite does it.

    Every value but the last is moved by half of what its line is off in the middle.
    """
    step = np.float32(length) / np.float32(_STEPS)
    places = np.float32(first) + np.arange(_STEPS + 1, dtype=np.float32) * step
    values = function(places) * _UNITS
    samples = _rounded(values)
    middles = _rounded((values[1:] + samples[:-1]) / np.float32(2))
    off = middles - _rounded(function(places[:-1] + step / np.float32(2)) * _UNITS)
    samples[:-1] -= _rounded(off / np.float32(2))
    return frozen_array(np.minimum(samples.astype(np.int64), _INT16_HI))


def interpolated(table: IntArray, positions: IntArray) -> IntArray:
    """The function at positions from 0 to LAST_POSITION."""
    step = positions >> _STEP_BITS
    low, high = table[step], table[step + 1]
    return low + (((high - low) * (positions & ((1 << _STEP_BITS) - 1)) + (1 << (_STEP_BITS - 1))) >> _STEP_BITS)


def _rounded(x: Reals) -> Reals:
    """TfLiteRound: to the nearest, half away from zero."""
    return np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x)
