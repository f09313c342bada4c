"""The ways in which Armv7E-M turns a 32-bit sum into a narrow result, each as the integers that it computes.

Every form begins with the word `scale * sum + addend`: the addend is where the accumulator starts, or one ADD, which
multiplies by a power of two on the way (ADD word, addend, sum, LSL #n).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeflow.ir.types import IntArray

INT32_LO, INT32_HI = -(1 << 31), (1 << 31) - 1


class Wraps(OverflowError):
    """A value on the way leaves 32 bits: the form does not compute what its formula says."""


@dataclass(frozen=True, order=True)
class Saturation:
    """What USAT #bits (1 to 8 here) or SSAT #bits clamps to."""

    bits: int
    signed: bool

    @property
    def lo(self) -> int:
        """The least value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """The largest value."""
        return (1 << (self.bits - self.signed)) - 1

    def apply(self, values: IntArray) -> IntArray:
        """The clamp."""
        return np.clip(values, self.lo, self.hi)


class Form(Protocol):
    """One exact way to requantize a channel."""

    @property
    def instructions(self) -> int:
        """Instructions behind the accumulator for one result, the addend's ADD among them, the store not."""
        ...

    def evaluate(self, sums: IntArray) -> IntArray:
        """What the instructions make of the sums. Raises Wraps where a value leaves 32 bits."""
        ...


@dataclass(frozen=True)
class PowerOfTwo:
    """y = saturate(word >> shift); `half_even` takes 1 from a word whose bit `shift` is set.

    With half of 2**shift in the addend, the quotient rounds half up; its lowest bit is bit `shift` of the word. On a
    tie all bits below are 0, so that taking 1 away from an odd quotient makes it even; without a tie, some bit below is
    set and 1 less changes nothing. (ADD; UBFX, SUB for half to even; USAT or SSAT #bits, ASR #shift.)
    """

    scale: int
    addend: int
    shift: int
    half_even: bool
    saturation: Saturation

    @property
    def instructions(self) -> int:
        """1 to 4."""
        return 1 + bool(self.addend) + 2 * self.half_even

    def evaluate(self, sums: IntArray) -> IntArray:
        """Sums of any shape."""
        word = _word(sums, self.scale, self.addend)
        if self.half_even:
            word = _int32(word - ((word >> self.shift) & 1))
        return self.saturation.apply(word >> self.shift)


@dataclass(frozen=True)
class MulHigh:
    """y = saturate((word * factor >> 32) >> shift): ADD; SMMUL; USAT or SSAT #bits, ASR #shift."""

    scale: int
    addend: int
    factor: int
    shift: int
    saturation: Saturation

    @property
    def instructions(self) -> int:
        """Three, or two when there is nothing to add."""
        return 2 + bool(self.addend)

    def evaluate(self, sums: IntArray) -> IntArray:
        """Sums of any shape."""
        high = (_word(sums, self.scale, self.addend) * self.factor) >> 32
        return self.saturation.apply(high >> self.shift)


@dataclass(frozen=True)
class MulAccumulate:
    """y = saturate((more + (word * factor >> 32)) >> shift): ADD; SMMLA; USAT or SSAT #bits, ASR #shift.

    What is added twice, in steps of factor and of 2**32, places the rounding as finely as a word of 256 * sum does.
    """

    scale: int
    addend: int
    factor: int
    more: int
    shift: int
    saturation: Saturation

    @property
    def instructions(self) -> int:
        """Three, or two when there is nothing to add before the product."""
        return 2 + bool(self.addend)

    def evaluate(self, sums: IntArray) -> IntArray:
        """Sums of any shape."""
        high = (_word(sums, self.scale, self.addend) * self.factor) >> 32
        return self.saturation.apply(_int32(high + self.more) >> self.shift)


@dataclass(frozen=True)
class General:
    """TFLite-Micro's two roundings: ADD; SMMLAR or SMMULR; ADD x, x, x, ASR #31; ADD; USAT or SSAT #bits, ASR #shift.

    a = word >> log2(scale), one ASR unless the scale is 1. h = (a * factor + (a << 32 if `carry`) + 2**31) >> 32 is
    gemmlowp's SaturatingRoundingDoublingHighMul for factor = 2 * multiplier, from which 2**32 is taken where that
    leaves 32 bits (`carry`). (h + (h >> 31) + 2**(shift - 1)) >> shift is its RoundingDivideByPOT; `offset` holds that
    half and the zero point times 2**shift. With a shift of 0 there is nothing to round.
    """

    scale: int
    addend: int
    factor: int
    carry: bool
    offset: int
    shift: int
    saturation: Saturation

    @property
    def instructions(self) -> int:
        """2 to 6."""
        return 2 + bool(self.addend) + (self.scale > 1) + bool(self.shift) + bool(self.offset)

    def evaluate(self, sums: IntArray) -> IntArray:
        """Sums of any shape."""
        a = _word(sums, self.scale, self.addend) >> (self.scale.bit_length() - 1)
        high = _int32((a * self.factor + ((a << 32) if self.carry else 0) + (1 << 31)) >> 32)
        if self.shift:
            high = _int32(high + (high >> 31))
        return self.saturation.apply(_int32(high + self.offset) >> self.shift)


def _word(sums: IntArray, scale: int, addend: int) -> IntArray:
    return _int32(_int32(sums * scale) + addend)


def _int32(values: IntArray) -> IntArray:
    if values.size and (int(values.min()) < INT32_LO or int(values.max()) > INT32_HI):
        raise Wraps("a value leaves 32 bits")
    return values
