"""What passes know about a Requant: what it does before its clamp, where the clamp binds, and its simplest form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, frozen_array, interval_bits
from edgeflow.ops.requant import Requant, Rounding, Stage

_LOWEST, _HIGHEST = frozen_array([np.iinfo(np.int64).min]), frozen_array([np.iinfo(np.int64).max])
ZERO, ONE = frozen_array([0]), frozen_array([1])
NO_STAGE = Stage(ZERO, Rounding.FLOOR)


def scale_of(requant: Requant) -> IntArray:
    """What x is multiplied by."""
    return requant.multiplier << requant.pre


def rounding_stages(requant: Requant) -> tuple[Stage, ...]:
    """The stages that shift at all."""
    return tuple(stage for stage in requant.stages if stage.shift.any())


def reach(requant: Requant, source: Bounds) -> Bounds:
    """Bounds of the result before the clamp."""
    products = requant.products(source)
    whole = replace(requant, lo=_LOWEST, hi=_HIGHEST)
    return Bounds(whole.finish(products.lo), whole.finish(products.hi))


def clamp_equals(ends: Bounds, lo: IntArray, hi: IntArray, result: Bounds) -> bool:
    """Whether clamping values within `ends` to [lo, hi] gives values within `result`, which some clamp gives.

    On an interval a clamp is known by what it makes of the two ends.
    """
    bottom, top = np.clip(ends.lo, lo, hi), np.clip(ends.hi, lo, hi)
    return bool((bottom == result.lo).all() and (top == result.hi).all())


def binding(requant: Requant, source: Bounds) -> bool:
    """Whether the clamp changes any value within the bounds."""
    ends = reach(requant, source)
    return not clamp_equals(ends, requant.lo, requant.hi, ends)


def natural_range(result: Bounds) -> tuple[int, int]:
    """The smallest range of an integer type, [0, 2^n - 1] or [-2^(n-1), 2^(n-1) - 1], that holds the bounds."""
    lo, hi = int(result.lo.min()), int(result.hi.max())
    bits = interval_bits(lo, hi)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if lo < 0 else (0, (1 << bits) - 1)


def compact(array: IntArray) -> IntArray:
    """The smallest array that broadcasts to the same values."""
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if (array == first).all():
            array = first
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return frozen_array(array)


def along_last_axis(array: IntArray, channels: int) -> IntArray | None:
    """A parameter as one entry a channel; None where it differs between positions."""
    small = compact(array)
    return np.broadcast_to(small, (channels,)) if small.ndim <= 1 else None
