"""The forms of Armv7E-M instructions that requantize all channels of a layer exactly, kind by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.backends.c.dsp.forms import Form, General, MulHigh, PowerOfTwo, Saturation
from edgeflow.backends.c.dsp.staircase import Staircase, common_shift, line_of, mul_high
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.passes.requants import along_last_axis, reach, rounding_stages, scale_of

SHIFTS = tuple(range(31, -1, -1))
"""Of USAT and SSAT, the most exact first: a larger shift has a larger factor."""
_SATURATIONS = tuple(Saturation(bits, signed) for bits in range(8, 0, -1) for signed in (False, True))
_PARAMETERS = ("pre", "multiplier", "offset", "lo", "hi", "bias")
_TWO_STAGES = ((Rounding.HALF_UP,), (Rounding.HALF_UP, Rounding.HALF_AWAY))


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel's staircase, and the power of two with which its sums come.

    `remainder`: what a MulHigh's addend must leave when it is divided by a number, and the number.
    """

    stairs: Staircase
    scale: int = 1
    remainder: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class LayerForms:
    """A form a channel, in their order; None where a channel has none of this kind, or code that all share has none."""

    forms: tuple[Form | None, ...]

    @property
    def failed(self) -> tuple[int, ...]:
        """The places of the channels without a form."""
        return tuple(place for place, form in enumerate(self.forms) if form is None)


def with_bias(requant: Requant, bias: IntArray) -> Requant:
    """The Requant for sums without the bias of the Conv or Dense that makes them; `bias` is (channels,)."""
    return replace(requant, bias=frozen_array(requant.bias + scale_of(requant) * bias))


def channels_of(
    requant: Requant, lo: IntArray, hi: IntArray, scales: Sequence[int] | None = None
) -> tuple[Channel, ...] | None:
    """The channels of a layer whose sums lie in [lo, hi], two arrays (channels,); scales of 1 unless given.

    None where a parameter differs between positions. Layers that share code may be joined into one.
    """
    factors = (1,) * len(lo) if scales is None else scales
    rows = zip(lo.tolist(), hi.tolist(), factors, strict=True)
    found = [own for place, (low, high, scale) in enumerate(rows) for own in _alone(requant, place, (low, high), scale)]
    return tuple(found) if len(found) == len(lo) else None


def scaled(channels: Sequence[Channel], scale: int) -> tuple[Channel, ...]:
    """The same channels with sums that come times `scale`."""
    return tuple(replace(one, scale=scale) for one in channels)


def saturation_of(channels: Sequence[Channel]) -> Saturation | None:
    """A saturation to 8 bits or fewer that clamps as all channels do, for every sum; None where there is none."""
    ends: list[tuple[int, int, int, int]] = []
    for channel in channels:
        stairs = channel.stairs
        source = Bounds(np.array([stairs.lo]), np.array([stairs.hi]))
        free = reach(stairs.requant, source)
        ends.append((int(free.lo[0]), int(free.hi[0]), stairs.bottom, stairs.top))
    low, high, bottom, top = np.array(ends, dtype=np.int64).reshape(-1, 4).T
    for one in _SATURATIONS:
        if (one.apply(low) == bottom).all() and (one.apply(high) == top).all():
            return one
    return None


def find_layer(channels: Sequence[Channel], kind: type[Form], shifts: Sequence[int] = SHIFTS) -> LayerForms:
    """Forms of one kind: PowerOfTwo, MulHigh, with the first of the shifts that serves all channels, or General.

    Nothing is found where no saturation fits all channels.
    """
    one = saturation_of(channels)
    return LayerForms((None,) * len(channels)) if one is None else _FINDERS[kind](channels, one, shifts)


def _alone(requant: Requant, channel: int, ends: tuple[int, int], scale: int) -> tuple[Channel, ...]:
    """One channel of a Requant; nothing where a parameter differs between positions."""
    one = _one_channel(requant, channel)
    return () if one is None else (Channel(Staircase.of(one, ends), scale),)


def _one_channel(requant: Requant, channel: int) -> Requant | None:
    """The Requant with the parameters of one channel; None where one differs between positions."""
    arrays = {name: getattr(requant, name) for name in _PARAMETERS}
    picked = {name: _entry(array, channel) for name, array in arrays.items()}
    shifts = [_entry(stage.shift, channel) for stage in requant.stages]
    known = [one for one in (*picked.values(), *shifts) if one is not None]
    if len(known) < len(picked) + len(shifts):
        return None
    stages = tuple(
        Stage(shift, stage.rounding) for shift, stage in zip(known[len(picked) :], requant.stages, strict=True)
    )
    return Requant(stages=stages, **dict(zip(_PARAMETERS, known, strict=False)))


def _entry(array: IntArray, channel: int) -> IntArray | None:
    row = along_last_axis(array, max(array.shape[-1] if array.ndim else 1, channel + 1))
    return None if row is None else frozen_array(row[channel : channel + 1])


def _mul_high(channels: Sequence[Channel], one: Saturation, shifts: Sequence[int]) -> LayerForms:
    return LayerForms(common_shift([mul_high(own.stairs, own.scale, one, own.remainder) for own in channels], shifts))


def _general(channels: Sequence[Channel], one: Saturation, shifts: Sequence[int]) -> LayerForms:
    return LayerForms(tuple(_two_stages(own, one) for own in channels))


def _two_stages(channel: Channel, one: Saturation) -> General | None:
    """The form where the Requant is TFLite-Micro's: multiplier, 31 bits half up, some bits half away from zero."""
    stairs, requant = channel.stairs, channel.stairs.requant
    stages = rounding_stages(requant)
    roundings = tuple(stage.rounding for stage in stages)
    multiplier, bias = int(scale_of(requant).flat[0]), int(requant.bias.flat[0])
    if roundings not in _TWO_STAGES or int(stages[0].shift.flat[0]) != 31 or not stairs.rising:
        return None
    if not 0 < multiplier < 1 << 31 or bias % multiplier:
        return None
    shift = int(stages[1].shift.flat[0]) if len(stages) > 1 else 0
    offset = (int(requant.offset.flat[0]) << shift) + (1 << shift >> 1)
    carry = multiplier >= 1 << 30
    factor = 2 * multiplier - (carry << 32)
    form = General(channel.scale, bias // multiplier * channel.scale, factor, carry, offset, shift, one)
    return form if shift < 32 and stairs.equal(form) else None


def _power_of_two(channels: Sequence[Channel], one: Saturation, shifts: Sequence[int]) -> LayerForms:
    """All channels round in one way, for one code: a tie that some never meet may go to either side."""
    tried = [LayerForms(tuple(_shifted(own, one, half_even) for own in channels)) for half_even in (False, True)]
    return min(tried, key=lambda layer: len(layer.failed))


def _shifted(channel: Channel, one: Saturation, half_even: bool) -> PowerOfTwo | None:
    """The form where the Requant's factor is a power of two and it rounds once."""
    stairs = channel.stairs
    slope, stages = int(scale_of(stairs.requant).flat[0]), rounding_stages(stairs.requant)
    if slope < 1 or slope & (slope - 1) or len(stages) > 1 or not stairs.rising:
        return None
    form = _shift_form(channel, one, slope.bit_length() - 1, half_even)
    return form if form is not None and stairs.equal(form) else None


def _shift_form(channel: Channel, one: Saturation, up: int, half_even: bool) -> PowerOfTwo | None:
    """(sum * 2**up + start) / 2**down, rounded down: the start loses the bits that are below a step of the sum."""
    _, start, down = line_of(channel.stairs.requant)
    shift = down - up + channel.scale.bit_length() - 1
    if not half_even <= shift <= 31:
        return None
    addend = (start >> up) * channel.scale if down >= up else (start >> down) << shift
    return PowerOfTwo(channel.scale, addend, shift, half_even, one)


_FINDERS: Mapping[type[Form], Callable[[Sequence[Channel], Saturation, Sequence[int]], LayerForms]] = {
    PowerOfTwo: _power_of_two,
    MulHigh: _mul_high,
    General: _general,
}
"""How the forms of each kind are found."""
