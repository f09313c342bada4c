"""Requants that bring sums to a grid: TFLite-Micro's two stages, or one shift where scales are powers of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeflow.backends.tflm.arithmetic import (
    SUM_LEFT_SHIFT,
    averaging,
    clamped,
    kernel_requant,
    quantize_multiplier,
    sum_input,
)
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import LARGEST_SHIFT, Requant, Rounding, Stage
from edgeflow.train.calibrate.grids import Grid

_SMALLEST, _LARGEST_PRODUCT = 2.0**-31, 2.0**30
_MULTIPLIER_BITS = 16
_INT32 = 1 << 31


def rescale(
    factors: npt.NDArray[np.float64],
    target: Grid,
    reach: int,
    ends: tuple[int, int] | None = None,
    bias: IntArray | int = 0,
) -> Requant:
    """clamp(round((x + bias) * factors) + zero, ends) for |x + bias| up to `reach`; factors broadcast.

    `ends` are the grid's own unless given. A factor so large that any sum saturates is brought down to what 62 bits
    hold; one so small that none counts is brought up to TFLite-Micro's smallest.
    """
    factors = np.clip(np.atleast_1d(factors), _SMALLEST, max(_LARGEST_PRODUCT / max(reach, 1), _SMALLEST))
    lo, hi = (target.lo, target.hi) if ends is None else ends
    return _shifts(factors, target, lo, hi, bias) if target.dyadic else _kernel(factors, target.zero, lo, hi, bias)


def _kernel(factors: npt.NDArray[np.float64], zero: int, lo: int, hi: int, bias: IntArray | int) -> Requant:
    """As TFLite-Micro's kernels multiply."""
    op = kernel_requant([quantize_multiplier(float(one)) for one in factors.flat], zero, lo, hi)
    first, second = op.stages
    if op.multiplier.size > 1 and factors.ndim > 1:
        pre, multiplier, shift = (_shaped(one, factors) for one in (op.pre, op.multiplier, second.shift))
        op = replace(op, pre=pre, multiplier=multiplier, stages=(first, Stage(shift, second.rounding)))
    return op if not np.any(bias) else replace(op, bias=frozen_array(np.asarray(bias) * (op.multiplier << op.pre)))


def _shifts(factors: npt.NDArray[np.float64], target: Grid, lo: int, hi: int, bias: IntArray | int) -> Requant:
    """One multiplication by an integer (1 for a power of two) and one shift that rounds half up."""
    parts = [_as_shift(float(one)) for one in factors.flat]
    pre, multiplier, shift = (_shaped(np.array(column), factors) for column in zip(*parts, strict=True))
    return Requant(
        pre=pre,
        multiplier=multiplier,
        stages=(Stage(shift, Rounding.HALF_UP),),
        offset=frozen_array([target.zero]),
        lo=frozen_array([lo]),
        hi=frozen_array([hi]),
        bias=frozen_array(np.atleast_1d(np.asarray(bias) * (multiplier << pre))),
    )


def _as_shift(factor: float) -> tuple[int, int, int]:
    """(left shift, multiplier, right shift) of a factor; 16 bits of it, if it is no power of two."""
    fraction, exponent = math.frexp(factor)
    multiplier, power = (1, exponent - 1) if fraction == 0.5 else (round(fraction * 2**_MULTIPLIER_BITS), exponent - 16)
    return max(power, 0), multiplier, min(max(-power, 0), LARGEST_SHIFT)


def _shaped(values: IntArray, like: npt.NDArray[np.float64]) -> IntArray:
    """In the factors' shape; one entry where all agree."""
    array = np.broadcast_to(values.reshape(-1), (like.size,)).reshape(like.shape)
    return frozen_array(array.reshape(-1)[:1] if (array == array.flat[0]).all() else array)


def averages(counts: IntArray, target: Grid, ends: tuple[int, int] | None = None) -> Requant:
    """sums / counts, rounded half away from zero, in the unit of what was summed: TFLite-Micro's AVERAGE_POOL_2D."""
    lo, hi = (target.lo, target.hi) if ends is None else ends
    most = int(counts.max())
    if target.dyadic and (counts == most).all() and most & (most - 1) == 0:
        return _shifts(np.array([1.0 / most]), target, lo, hi, 0)
    return averaging(counts, max(-target.lo, target.hi), lo, hi)


def sum_inputs(grids: Sequence[Grid], target: Grid) -> tuple[tuple[Requant | None, ...], float]:
    """What brings the inputs of a sum to one unit (None: nothing), and that unit's factor to the target's grid.

    Affine grids: as TFLite-Micro's ADD prepares (shift left by 20, then by scale / (2 max scale)); powers of two:
    a left shift to the finer unit, exact.
    """
    if target.dyadic:
        finest = min(one.scale for one in grids)
        return tuple(_shifted_up(one, round(math.log2(one.scale / finest))) for one in grids), finest / target.scale
    twice = 2 * max(one.scale for one in grids)
    parts = [sum_input(quantize_multiplier(max(one.scale / twice, _SMALLEST)), one.zero) for one in grids]
    return tuple(parts), twice / ((1 << SUM_LEFT_SHIFT) * target.scale)


def _shifted_up(grid: Grid, by: int) -> Requant | None:
    return None if by == 0 else replace(clamped(grid.lo << by, grid.hi << by), pre=frozen_array([by]))
