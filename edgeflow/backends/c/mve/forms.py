"""The ways in which MVE turns 32-bit sums in vector lanes into bytes, each as the integers that it computes.

All channels of a layer share the instructions; the addend, the factor and the shift stand in lanes, one a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.c.dsp.forms import INT32_HI, INT32_LO, Form, MulHigh, Wraps
from edgeflow.backends.c.dsp.requantize import Channel, channels_of, find_layer, with_bias
from edgeflow.backends.c.dsp.staircase import line_of
from edgeflow.backends.c.dsp.tile_weights import reach
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.passes.requants import rounding_stages, scale_of

LIFT = 8
"""Bits by which a sum is shifted left where its addend needs a fraction."""
_MOST_SHIFT = 31
_MOST_OFFSET = 1 << 14
_TWO_STAGES = ((Rounding.HALF_UP,), (Rounding.HALF_UP, Rounding.HALF_AWAY), (Rounding.HALF_UP, Rounding.HALF_UP))


@dataclass(frozen=True)
class Clamp:
    """To the closed interval [lo, hi], behind the addition of an offset to a value of 16 bits that saturated."""

    offset: int
    lo: int
    hi: int

    def apply(self, values: IntArray) -> IntArray:
        """The offset and the clamp; 16 bits are far beyond both, so that saturating there changes nothing."""
        return np.clip(values + self.offset, self.lo, self.hi)


@dataclass(frozen=True)
class Shifted:
    """y = clamp((sum + addend) >> shift): VADD, VSHL by -shift.

    `half_even` takes 1 from a word whose bit `shift` is set before it is shifted: with half of 2**shift in the addend
    the quotient rounds half to even.
    """

    addend: int
    shift: int
    half_even: bool
    clamp: Clamp

    @property
    def instructions(self) -> int:
        """Of one vector, the narrowing to bytes not counted."""
        return 2 + 3 * self.half_even

    def evaluate(self, sums: IntArray) -> IntArray:
        """Sums of any shape. Raises Wraps where a value leaves 32 bits."""
        word = _int32(sums + self.addend)
        if self.half_even:
            word = _int32(word - ((word >> self.shift) & 1))
        return self.clamp.apply(word >> self.shift)


@dataclass(frozen=True)
class Doubled:
    """TFLite-Micro's two roundings: VADD; VQRDMULH; VRSHL by -shift.

    h = (2 * (sum + addend) * factor + 2**31) >> 32, which is gemmlowp's SaturatingRoundingDoublingHighMul for a factor
    that is not -2**31; then (h + 2**(shift - 1)) >> shift, half up. `away` takes 1 from a negative h before a shift, so
    that a half rounds away from zero (VSHR, VADD; with VAND where some shift is 0).
    """

    addend: int
    factor: int
    shift: int
    away: bool
    clamp: Clamp

    @property
    def instructions(self) -> int:
        """Of one vector, the narrowing to bytes not counted."""
        return 3 + 2 * self.away

    def evaluate(self, sums: IntArray) -> IntArray:
        """Sums of any shape. Raises Wraps where a value leaves 32 bits."""
        high = (2 * _int32(sums + self.addend) * self.factor + (1 << 31)) >> 32
        if self.away and self.shift:
            high = high + (high >> 31)
        return self.clamp.apply((_int32(high) + (1 << self.shift >> 1)) >> self.shift)


@dataclass(frozen=True)
class Lifted:
    """y = clamp((((sum << 8) + addend) * factor >> 32) >> shift): VSHL, VADD, VMULH, VSHL by -shift."""

    addend: int
    factor: int
    shift: int
    clamp: Clamp

    @property
    def instructions(self) -> int:
        """Of one vector, the narrowing to bytes not counted."""
        return 4

    def evaluate(self, sums: IntArray) -> IntArray:
        """Sums of any shape. Raises Wraps where a value leaves 32 bits."""
        word = _int32(_int32(sums << LIFT) + self.addend)
        return self.clamp.apply((word * self.factor >> 32) >> self.shift)


VectorForm = Shifted | Doubled | Lifted


def layer_forms(
    requant: Requant, weights: IntArray, bias: IntArray, ends: tuple[int, int]
) -> tuple[VectorForm, ...] | None:
    """The cheapest kind of form with which every output of a layer is exact, and the same in all but its constants.

    `weights` are (outputs, values) with `bias` (outputs,); x lies in the closed interval `ends`. Each form was compared
    with the Requant at every threshold. None where no kind serves all outputs.
    """
    least, most = reach(weights, *ends)
    whole = with_bias(requant, bias)
    channels = channels_of(whole, least, most)
    clamp = None if channels is None else _clamp(channels)
    if channels is None or clamp is None:
        return None
    for finder in (_shifted, _doubled):
        for special in (False, True):
            found = [finder(one, clamp, special) for one in channels]
            forms = tuple(one for one, own in zip(found, channels, strict=True) if one and _exact(own, one))
            if len(forms) == len(channels) and len({one.clamp for one in forms}) == 1:
                return forms
    return _lifted(whole, least, most)


def _clamp(channels: Sequence[Channel]) -> tuple[int, int] | None:
    """The one clamp of all channels; what a byte holds, where it does not bind."""
    found = {(int(own.lo.flat[0]), int(own.hi.flat[0])) for own in (one.stairs.requant for one in channels)}
    lo, hi = found.pop()
    return (lo, hi) if not found and hi - lo <= 255 and lo >= -128 and hi <= 255 else None


def _exact(channel: Channel, form: VectorForm) -> bool:
    return channel.stairs.rising and 0 <= form.shift <= _MOST_SHIFT and channel.stairs.equal(form)


def _shifted(channel: Channel, ends: tuple[int, int], half_even: bool) -> Shifted | None:
    """Where the factor is a power of two: (sum * 2**up + start) >> down, without the bits below a step of the sum."""
    requant = channel.stairs.requant
    slope, start, down = line_of(requant)
    up = slope.bit_length() - 1
    if slope < 1 or slope & (slope - 1) or len(rounding_stages(requant)) > 1 or abs(start >> up) > INT32_HI:
        return None
    return Shifted(start >> up, down - up, half_even, Clamp(0, *ends))


def _doubled(channel: Channel, ends: tuple[int, int], away: bool) -> Doubled | None:
    """Where the Requant is a multiplier, 31 bits half up, and some bits to nearest."""
    requant = channel.stairs.requant
    stages = rounding_stages(requant)
    multiplier, bias, offset = (int(one.flat[0]) for one in (scale_of(requant), requant.bias, requant.offset))
    if tuple(stage.rounding for stage in stages) not in _TWO_STAGES or int(stages[0].shift.flat[0]) != 31:
        return None
    if not 0 < multiplier <= INT32_HI or bias % multiplier or abs(offset) > _MOST_OFFSET:
        return None
    shift = int(stages[1].shift.flat[0]) if len(stages) > 1 else 0
    return Doubled(bias // multiplier, multiplier, shift, away, Clamp(offset, *ends))


def _lifted(requant: Requant, least: IntArray, most: IntArray) -> tuple[VectorForm, ...] | None:
    """Where a product that is rounded down once, with a finer addend, has the same thresholds."""
    scale = 1 << LIFT
    channels = channels_of(requant, least, most, [scale] * len(least))
    found = find_layer(channels, MulHigh).forms if channels else ()
    forms = tuple(_lift(one) for one in found)
    return tuple(one for one in forms if one is not None) if forms and None not in forms else None


def _lift(form: Form | None) -> Lifted | None:
    match form:
        case MulHigh(_, addend, factor, shift, saturation):
            return Lifted(addend, factor, shift, Clamp(0, saturation.lo, saturation.hi))
        case _:
            return None


def _int32(values: IntArray) -> IntArray:
    if values.size and (int(values.min()) < INT32_LO or int(values.max()) > INT32_HI):
        raise Wraps("a value leaves 32 bits")
    return values
