"""TFLite-Micro's fixed-point arithmetic: what a factor in the file becomes, and what its kernels compute with it.

Sources (tensorflow/tflite-micro): `QuantizeMultiplier` in tensorflow/lite/kernels/internal/quantization_util.cc,
`MultiplyByQuantizedMultiplier` in tensorflow/lite/kernels/internal/common.cc, gemmlowp's fixedpoint.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage

INT8_LO, INT8_HI = -128, 127
INT32_HI = (1 << 31) - 1
JUST_BELOW_ONE = 1.0 - 2.0**-24
"""The largest float32 below 1. As a factor its significand is 2^31 - 128: for |x| < 2^23,
SaturatingRoundingDoublingHighMul gives x itself, so that only the second stage rounds. A factor of exactly 1/2
has the significand 2^30, whose high product already rounds x/2: every power of two would round twice."""
SMALLEST_EXPONENT, LARGEST_EXPONENT = -31, 30
SUM_LEFT_SHIFT = 20
"""How far ADD and SUB shift both int8 inputs up before they rescale them (kernels/add_common.cc, sub_common.cc)."""
_LARGEST_FRAC = 100


@dataclass(frozen=True, slots=True)
class Multiplier:
    """The factor significand * 2**(exponent - 31), with 2**30 <= significand < 2**31."""

    significand: int
    exponent: int

    @property
    def real(self) -> float:
        """The factor; exact, a double holds 31 bits."""
        return math.ldexp(self.significand, self.exponent - 31)

    @property
    def usable(self) -> bool:
        """Whether TFLite-Micro does not flush it to zero, and its shifts stay within an int32."""
        return SMALLEST_EXPONENT <= self.exponent <= LARGEST_EXPONENT


def quantize_multiplier(factor: float) -> Multiplier:
    """A positive factor as TFLite-Micro's QuantizeMultiplier splits it (nearest, ties away from zero)."""
    fraction, exponent = math.frexp(factor)
    scaled = fraction * 2.0**31
    significand = math.floor(scaled) + (scaled - math.floor(scaled) >= 0.5)
    if significand == 1 << 31:
        return Multiplier(1 << 30, exponent + 1)
    return Multiplier(significand, exponent)


def scale_of(label: Label) -> float | None:
    """What one unit means as the float32 that the file holds; None for a label per channel or beyond float32."""
    match label:
        case Dyadic(int() as frac):
            return 2.0**-frac if abs(frac) <= _LARGEST_FRAC else None
        case Dyadic():
            return None
        case Affine(scale, _):
            nearest = float(np.float32(scale))
            return nearest if 2.0**-_LARGEST_FRAC <= nearest <= 2.0**_LARGEST_FRAC else None


def effective(source: float, weight: float, result: float) -> Multiplier:
    """The multiplier of a kernel whose file holds these three float32 scales."""
    return quantize_multiplier(source * weight / result)


def weight_scale(factor: float, source: float, result: float) -> float:
    """The float32 scale of the weights that brings a kernel's factor closest to `factor`."""
    return float(np.float32(factor * result / source))


def kernel_requant(multipliers: Sequence[Multiplier], offset: int, lo: int, hi: int) -> Requant:
    """What an int8 kernel does to its sums, as a Requant: MultiplyByQuantizedMultiplier, zero point, clamp.

    A positive exponent shifts left first. SaturatingRoundingDoublingHighMul is floor((x m + 2**30) / 2**31),
    RoundingDivideByPOT rounds half away from zero. One multiplier, or one a channel.
    """
    chosen = multipliers[:1] if len(set(multipliers)) == 1 else multipliers
    exponents = np.array([one.exponent for one in chosen], dtype=np.int64)
    return Requant(
        frozen_array(np.maximum(exponents, 0)),
        frozen_array([one.significand for one in chosen]),
        (
            Stage(frozen_array([31]), Rounding.HALF_UP),
            Stage(frozen_array(np.maximum(-exponents, 0)), Rounding.HALF_AWAY),
        ),
        frozen_array([offset]),
        frozen_array([lo]),
        frozen_array([hi]),
    )


def shifted(by: int) -> Requant:
    """x + by: what an op reads that has no zero point of its own."""
    zero = frozen_array([0])
    return Requant(
        pre=zero,
        multiplier=frozen_array([1]),
        stages=(Stage(zero, Rounding.FLOOR),),
        offset=frozen_array([by]),
        lo=frozen_array([-INT32_HI - 1]),
        hi=frozen_array([INT32_HI]),
    )


def clamped(lo: int, hi: int) -> Requant:
    """Nothing but a clamp."""
    return replace(shifted(0), lo=frozen_array([lo]), hi=frozen_array([hi]))


def wide_requant(multipliers: Sequence[Multiplier], offset: int, lo: int, hi: int) -> Requant:
    """What an int16 kernel does to its 64-bit sums: 16 bits of the factor, one rounding half up."""
    chosen = multipliers[:1] if len(set(multipliers)) == 1 else multipliers
    return Requant(
        pre=frozen_array([0]),
        multiplier=frozen_array([reduced(one) for one in chosen]),
        stages=(Stage(frozen_array([15 - one.exponent for one in chosen]), Rounding.HALF_UP),),
        offset=frozen_array([offset]),
        lo=frozen_array([lo]),
        hi=frozen_array([hi]),
    )


def reduced(multiplier: Multiplier) -> int:
    """The significand in 16 bits."""
    return min((multiplier.significand + (1 << 15)) >> 16, 0x7FFF)


def sum_input(multiplier: Multiplier, zero: int, left: int = SUM_LEFT_SHIFT) -> Requant:
    """What ADD and SUB do to an input with the zero point `zero` before they add: shift it up by `left`, rescale it."""
    op = kernel_requant([multiplier], 0, -INT32_HI - 1, INT32_HI)
    bias = frozen_array([-(zero << left) * multiplier.significand])
    return replace(op, pre=frozen_array([left]), bias=bias)


def averaging(counts: IntArray, reach: int, lo: int, hi: int) -> Requant:
    """sums / counts, rounded half away from zero: AVERAGE_POOL_2D on integers of at most `reach` in size.

    `counts` broadcasts against the sums. Exact: the multiplier exceeds 2**k / count by less than 1 / count of its own
    unit, and 2**k > 2 count |sum|, so that no sum crosses a tie.
    """
    bits = (2 * int(counts.max()) ** 2 * max(reach, 1)).bit_length()
    multiplier = -(-(1 << bits) // counts)
    op = clamped(lo, hi)
    return replace(
        op,
        multiplier=frozen_array(np.unique(multiplier) if (multiplier == multiplier.flat[0]).all() else multiplier),
        stages=(Stage(frozen_array([bits]), Rounding.HALF_AWAY),),
    )


def kernel_multipliers(requant: Requant, rank: int, channels: int) -> tuple[Multiplier, ...] | None:
    """The multipliers, one a channel, of a Requant that has the kernels' form; None for any other Requant."""
    if len(requant.stages) != 2 or requant.bias.any():
        return None
    first, second = requant.stages
    if first.rounding is not Rounding.HALF_UP or (first.shift != 31).any():
        return None
    if second.rounding is not Rounding.HALF_AWAY:
        return None
    parts = [along_channels(one, rank, channels) for one in (requant.pre, requant.multiplier, second.shift)]
    if any(part is None for part in parts):
        return None
    left, significand, right = (part for part in parts if part is not None)
    if ((left > 0) & (right > 0)).any() or (significand < 1 << 30).any() or (significand > INT32_HI).any():
        return None
    return tuple(Multiplier(int(m), int(up - down)) for m, up, down in zip(significand, left, right, strict=True))


def along_channels(array: IntArray, rank: int, channels: int) -> IntArray | None:
    """A parameter as one entry a channel (the last axis); None when it varies along another axis."""
    shaped = array.reshape((1,) * (rank - array.ndim) + array.shape)
    first = shaped[(0,) * (rank - 1)]
    return np.broadcast_to(first, (channels,)) if (shaped == first).all() else None


def only_value(array: IntArray) -> int | None:
    """A parameter's value where all its entries agree."""
    return int(array.flat[0]) if (array == array.flat[0]).all() else None


def is_clamp(requant: Requant) -> bool:
    """Whether a Requant does nothing but clamp."""
    nothing = (requant.pre, requant.bias, requant.offset, *(stage.shift for stage in requant.stages))
    return bool((requant.multiplier == 1).all()) and not any(one.any() for one in nothing)


def same_but_clamps(left: Requant, right: Requant) -> bool:
    """Whether two Requants, each with one entry for every parameter, do the same before they clamp."""
    if [one.rounding for one in left.stages] != [one.rounding for one in right.stages]:
        return False
    parts = [(one.pre, one.multiplier, one.bias, one.offset, *(s.shift for s in one.stages)) for one in (left, right)]
    pairs = [(only_value(a), only_value(b)) for a, b in zip(*parts, strict=True)]
    return all(a is not None and a == b for a, b in pairs)
