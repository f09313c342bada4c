"""Activations of 8 and of 16 bits (TFLite's int8 and 16x8 models): what differs in their kernels.

Sums of int8 are 32 bits wide and rounded twice; those of int16 are 64 bits wide, multiplied by 16 bits of the factor
and rounded once, half up. int16 tensors have no zero point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.arithmetic import (
    INT32_HI,
    JUST_BELOW_ONE,
    Multiplier,
    along_channels,
    effective,
    kernel_multipliers,
    kernel_requant,
    reduced,
    wide_requant,
)
from edgeflow.backends.tflm.model import TensorKind
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant, Rounding

_WIDE_MULTIPLIER_BITS, _LARGEST_WIDE_EXPONENT = 15, 7


@dataclass(frozen=True)
class Width:
    """One of the two. `bias` is the type of a kernel's bias; `sum_left_shift` is what ADD and SUB shift inputs by."""

    kind: TensorKind
    bias: TensorKind
    sum_left_shift: int
    most_sum: int

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return self.kind.bits

    @property
    def lo(self) -> int:
        """The smallest stored integer."""
        return -(1 << (self.bits - 1))

    @property
    def hi(self) -> int:
        """The largest stored integer."""
        return (1 << (self.bits - 1)) - 1

    @property
    def span(self) -> int:
        """The largest difference of two stored integers."""
        return self.hi - self.lo

    @property
    def narrow(self) -> bool:
        """Whether it is int8."""
        return self.kind is TensorKind.INT8

    @property
    def power_of_two(self) -> float:
        """The factor that multiplies sums by one exactly, as far as the kernel's first rounding allows."""
        return JUST_BELOW_ONE if self.narrow else 1.0

    def requant(self, multipliers: Sequence[Multiplier], offset: int, lo: int, hi: int) -> Requant:
        """What a kernel does to its sums."""
        return (kernel_requant if self.narrow else wide_requant)(multipliers, offset, lo, hi)

    def multipliers(self, requant: Requant, rank: int, channels: int) -> tuple[Multiplier, ...] | None:
        """The multipliers, one a channel, of a Requant in a kernel's form; None for any other.

        int16 kernels with a bias of 32 bits round as those of int8 do.
        """
        found = None if self.narrow else _wide_multipliers(requant, rank, channels)
        return found or kernel_multipliers(requant, rank, channels)

    def usable(self, multiplier: Multiplier) -> bool:
        """Whether kernels for sums can multiply by it."""
        return multiplier.usable and (self.narrow or multiplier.exponent <= _LARGEST_WIDE_EXPONENT)

    def real(self, multiplier: Multiplier) -> float:
        """The factor that sums are multiplied by."""
        if self.narrow:
            return multiplier.real
        return float(np.ldexp(float(reduced(multiplier)), multiplier.exponent - _WIDE_MULTIPLIER_BITS))

    def weight_scale(self, multiplier: Multiplier, source: float, result: float) -> float | None:
        """The float32 scale of the weights that gives exactly this multiplier; None when there is none."""
        if not self.usable(multiplier):
            return None
        nearest = np.float32(self.real(multiplier) * result / source)
        for candidate in (nearest, np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(np.inf))):
            if candidate > 0 and np.isfinite(candidate):
                found = effective(source, float(candidate), result)
                if found == multiplier or (not self.narrow and _same_reduced(found, multiplier)):
                    return float(candidate)
        return None


def _same_reduced(left: Multiplier, right: Multiplier) -> bool:
    return (reduced(left), left.exponent) == (reduced(right), right.exponent)


def _wide_multipliers(requant: Requant, rank: int, channels: int) -> tuple[Multiplier, ...] | None:
    stage = requant.stages[0]
    if len(requant.stages) != 1 or requant.bias.any() or requant.pre.any() or stage.rounding is not Rounding.HALF_UP:
        return None
    parts: list[IntArray | None] = [along_channels(one, rank, channels) for one in (requant.multiplier, stage.shift)]
    factor, shift = parts
    least = 1 << (_WIDE_MULTIPLIER_BITS - 1)
    if factor is None or shift is None or (factor < least).any() or (factor >= 2 * least).any() or (shift < 8).any():
        return None
    pairs = zip(factor, shift, strict=True)
    return tuple(Multiplier(int(m) << 16, _WIDE_MULTIPLIER_BITS - int(by)) for m, by in pairs)


INT8 = Width(TensorKind.INT8, TensorKind.INT32, 20, INT32_HI - 256)
"""`most_sum` leaves room for a zero point added to the result."""
INT16 = Width(TensorKind.INT16, TensorKind.INT64, 15, 1 << 46)
