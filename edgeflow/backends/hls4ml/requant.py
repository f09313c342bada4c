"""A Requant as hls4ml can say it: multiply by constants, then round and saturate into a fixed-point type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.backends.hls4ml.formats import ROUNDINGS, Format, clamping, holding
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape, interval_bits
from edgeflow.ops.requant import Requant, Rounding, Stage, round_shift


@dataclass(frozen=True, eq=False)
class Step:
    """x * multiplier + offset, rounded to the unit 2**-unit and saturated into `format`.

    `multiplier` counts 2**-exponent, `offset` counts the result's unit; all have shape () or (channels,).
    `bits` is the width of the product.
    """

    multiplier: IntArray
    exponent: IntArray
    offset: IntArray
    format: Format
    unit: int
    rounding: str
    bits: int

    @property
    def scales(self) -> bool:
        """Whether there is anything to multiply or add, beyond naming another unit."""
        return bool((self.multiplier != 1).any() or self.exponent.any() or self.offset.any())


def plan_requant(
    op: Requant, source: Bounds, shape: Shape, unit: IntArray, wanted: int | None
) -> tuple[Step, ...] | str:
    """The steps of a Requant on a tensor of `unit`, or why it has none. `wanted` is the unit its result should have.

    A rounding that the clamp's unit alone explains (power-of-two multiplier, one shift) becomes one Step that scales
    nothing: the type of the layer before can do it.
    """
    parameters = {"shift": op.pre, "multiplier": op.multiplier, "offset": op.offset}
    parameters |= {f"shift {number + 1}": stage.shift for number, stage in enumerate(op.stages)}
    found: dict[str, IntArray] = {}
    for what, array in parameters.items():
        channels = _per_channel(array, shape)
        if channels is None:
            return f"cannot give each position its own {what}"
        found[what] = channels
    stages = [stage for stage in op.stages[:-1] if stage.shift.any()] + [op.stages[-1]]
    shifts = [found[f"shift {number + 1}"] for number, stage in enumerate(op.stages) if stage in stages]
    last = stages[-1]
    why = _offset_moves_ties(last, found["offset"])
    if why:
        return why
    bounds = op.products(source)
    lo, hi = bounds.lo, bounds.hi
    odd, power = _split(found["multiplier"], found["shift"])
    steps: list[Step] = []
    for number, (stage, shift) in enumerate(zip(stages, shifts, strict=True)):
        final = number == len(stages) - 1
        bits = interval_bits(int(lo.min()), int(hi.max()))
        lo, hi = round_shift(lo, stage.shift, stage.rounding), round_shift(hi, stage.shift, stage.rounding)
        offset = found["offset"] if final else np.zeros((), dtype=np.int64)
        made = _format(op, lo, hi) if final else holding(int(lo.min()), int(hi.max()))
        if made is None:
            return f"cannot clamp to [{_ends(op.lo)}, {_ends(op.hi)}]: its types end at powers of two"
        multiplier, gain = (odd, power) if number == 0 else (np.ones((), dtype=np.int64), np.zeros((), dtype=np.int64))
        exponent, target = _scaling(multiplier, gain - shift, offset, unit, wanted if final else None)
        steps.append(Step(multiplier, exponent, offset, made, target, ROUNDINGS[stage.rounding], bits))
        unit = np.asarray(target, dtype=np.int64)
    return tuple(steps)


def _scaling(
    multiplier: IntArray, gain: IntArray, offset: IntArray, unit: IntArray, wanted: int | None
) -> tuple[IntArray, int]:
    """The multiplier's exponent and the result's unit of round(x * multiplier * 2**gain) + offset, x of `unit`.

    Without scaling, the result's unit is that of x plus the gain. Where that differs between channels, or is not
    the wanted one, the multiplier carries the difference.
    """
    natural = unit + gain
    if (multiplier == 1).all() and (natural == natural.flat[0]).all() and not offset.any():
        target = int(natural.flat[0])
    else:
        target = int(natural.max()) if wanted is None else wanted
    return np.asarray(target - natural), target


def _format(op: Requant, lo: IntArray, hi: IntArray) -> Format | None:
    return clamping(lo + op.offset, hi + op.offset, op.lo, op.hi)


def _split(multiplier: IntArray, pre: IntArray) -> tuple[IntArray, IntArray]:
    """Multiplier times 2**pre as an odd number times a power of two."""
    lowest = np.where(multiplier == 0, 1, multiplier & -multiplier)
    power = np.round(np.log2(lowest)).astype(np.int64)
    odd, power = np.broadcast_arrays(multiplier >> power, power + pre)
    return odd, power


def _offset_moves_ties(last: Stage, offset: IntArray) -> str | None:
    """An offset is added before the rounding here; that is the same only where ties do not look at the integer."""
    if not offset.any() or not last.shift.any() or last.rounding in (Rounding.FLOOR, Rounding.HALF_UP):
        return None
    if last.rounding is Rounding.HALF_EVEN and not (offset & 1).any():
        return None
    return f"cannot add an offset after rounding {last.rounding.value}"


def _per_channel(array: IntArray, shape: Shape) -> IntArray | None:
    """A parameter as () or (channels,); None if it differs between positions of one channel."""
    if (array == array.flat[0]).all():
        return np.asarray(array.flat[0], dtype=np.int64)
    full = np.broadcast_to(array, shape).reshape(-1, shape[-1])
    return full[0] if (full == full[0]).all() else None


def _ends(values: IntArray) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
