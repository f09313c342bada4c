"""A quantizer behind a real scale and shift, as integers: the exact step points, then one Requant or Threshold.

Every channel c maps an integer n to `code = quantizer(clip(scale[c] * n + shift[c], least, most))` in real
arithmetic. The code is a staircase in n; `Staircase.reached` finds each of its steps exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.quantizers import Break, Curve, Steps
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.threshold import Threshold

MOST_LEVELS = 1 << 16
_PRODUCT_BITS = 60
_MULTIPLIER_BITS = 31
_FLOAT64_DOUBT = 2.0**-48
_FAR = 1 << 61


@dataclass(frozen=True)
class Staircase:
    """Where the code of a real x changes: `codes[k]` holds from `breaks[k - 1]` up to `breaks[k]`."""

    breaks: tuple[Break, ...]
    codes: IntArray
    places: np.ndarray[tuple[int], np.dtype[np.float64]]

    def passes(self, x: Fraction, index: int) -> bool:
        """Whether a real x lies beyond a break."""
        one = self.breaks[index]
        return x > one.at or (one.closed and x == one.at)

    def reached(self, scale: Fraction, shift: Fraction, lo: int, hi: int) -> IntArray:
        """For each break the smallest n in [lo, hi] with scale * n + shift beyond it; hi + 1 when there is none.

        `scale` must not be negative. Exact: floats decide only what lies far from every integer.
        """
        count = len(self.breaks)
        if scale == 0:
            return np.array([lo if self.passes(shift, index) else hi + 1 for index in range(count)], dtype=np.int64)
        a, b = float(scale), float(shift)
        with np.errstate(over="ignore"):
            guess = (self.places - b) / a
            doubt = (np.abs(self.places) + abs(b)) / a * _FLOAT64_DOUBT + np.abs(guess) * _FLOAT64_DOUBT
        sure = np.isfinite(guess) & (np.abs(guess - np.rint(guess)) > doubt)
        clipped = np.clip(np.where(sure, guess, 0.0), lo - 1.0, hi + 1.0)
        result = np.ceil(clipped).astype(np.int64)
        for index in np.flatnonzero(~sure):
            one = self.breaks[index]
            exact = (one.at - shift) / scale
            result[index] = min(max(ceil(exact) if one.closed else floor(exact) + 1, lo - 1), hi + 1)
        return np.clip(result, lo, hi + 1)


@lru_cache(maxsize=256)
def _steps_breaks(frac: int, lo: int, hi: int, offset: int) -> tuple[Break, ...]:
    unit = Fraction(2) ** -frac
    half = Fraction(1, 2)
    return tuple(Break((code - offset - half) * unit, (code - offset) % 2 == 0) for code in range(lo + 1, hi + 1))


def staircase(activation: Steps | Curve, where: str) -> Staircase:
    """An activation's steps. Raises Unsupported beyond 2**16 levels."""
    if isinstance(activation, Curve):
        breaks, codes = activation.breaks, activation.codes
    else:
        if activation.hi - activation.lo >= MOST_LEVELS:
            raise Unsupported(
                f"its quantizer has {activation.hi - activation.lo + 1} levels behind a real scale, above 2^16",
                where=where,
                fix="quantize to 16 bits or fewer here",
            )
        breaks = _steps_breaks(activation.frac, activation.lo, activation.hi, activation.offset)
        codes = frozen_array(np.arange(activation.lo, activation.hi + 1))
    return Staircase(breaks, codes, np.array([float(one.at) for one in breaks], dtype=np.float64))


@dataclass(frozen=True)
class Reached:
    """A tensor's channels on one staircase.

    `points` (channels, breaks): the smallest m at which a break is passed, m = n where `sign` is +1 and
    m = -n where it is -1; within [lo, hi + 1] of m, hi + 1 where no m passes it.
    """

    points: IntArray
    sign: IntArray
    lo: IntArray
    hi: IntArray
    first: int
    last: int
    """Breaks [first, last) decide; those before are passed by every real (clip), those after by none."""


def reach(
    stairs: Staircase,
    scale: Sequence[Fraction],
    shift: Sequence[Fraction],
    interval: tuple[IntArray, IntArray],
    clip: tuple[Fraction | None, Fraction | None],
) -> Reached:
    """All channels' step points; `interval` holds n's bounds, one entry a channel."""
    least, most = clip
    count = len(stairs.breaks)
    first = 0 if least is None else next((k for k in range(count) if not stairs.passes(least, k)), count)
    last = count if most is None else next((k for k in range(count) if not stairs.passes(most, k)), count)
    sign = np.array([-1 if one < 0 else 1 for one in scale], dtype=np.int64)
    lo = np.where(sign > 0, interval[0], -interval[1])
    hi = np.where(sign > 0, interval[1], -interval[0])
    rows: list[IntArray] = []
    for channel, (a, b) in enumerate(zip(scale, shift, strict=True)):
        row = stairs.reached(abs(a), b, int(lo[channel]), int(hi[channel]))
        row[:first] = lo[channel]
        row[max(last, first) :] = hi[channel] + 1
        rows.append(row)
    return Reached(np.stack(rows), sign, lo, hi, first, max(last, first))


def as_requant(stairs: Staircase, at: Reached, scale: Sequence[Fraction]) -> Requant | None:
    """One Requant, `clamp(((n * multiplier + bias) >> shift) + offset)`, that gives every code; None if there is none.

    For each channel the multiplier comes from the scale; the biases that put every step at its place form an
    interval, found from all step points, so success is the proof. Only equally spaced breaks have a chance.
    """
    if len(stairs.breaks) == 0 or (np.diff(stairs.codes) != 1).any():
        return None
    spacing = stairs.breaks[1].at - stairs.breaks[0].at if len(stairs.breaks) > 1 else Fraction(1)
    if not np.allclose(np.diff(stairs.places), float(spacing), rtol=1e-9, atol=0):
        return None
    solved = _solve(at, [abs(a) / spacing for a in scale])
    if solved is None:
        return None
    multiplier, bias, by = _one_shift(*solved)
    return Requant(
        pre=frozen_array([0]),
        multiplier=_parameter(multiplier * at.sign),
        stages=(Stage(_parameter(by), Rounding.FLOOR),),
        offset=frozen_array([int(stairs.codes[0])]),
        lo=frozen_array([int(stairs.codes[at.first])]),
        hi=frozen_array([int(stairs.codes[at.last])]),
        bias=_parameter(bias),
    )


def as_threshold(stairs: Staircase, at: Reached) -> Threshold:
    """A Threshold whose value is the number of breaks passed, plus the first code where codes rise one by one.

    A falling channel counts the breaks that it has left: n has left one when -n is below its point.
    """
    base = int(stairs.codes[0]) if (np.diff(stairs.codes) == 1).all() else 0
    levels = max(at.points.shape[1], 1)
    points = at.points if at.points.shape[1] else (at.hi + 1)[:, None]
    rising = at.sign > 0
    rows = np.where(rising[:, None], points, -points[:, ::-1] + 1)
    first = np.where(rising, base, base + (levels if at.points.shape[1] else 0))
    if (rows == rows[0]).all():
        rows = rows[:1]
    return Threshold(frozen_array(rows), _parameter(first), _parameter(at.sign))


def _solve(at: Reached, slopes: Sequence[Fraction]) -> tuple[IntArray, IntArray, IntArray] | None:
    """(multiplier, bias, shift) a channel, each with the smallest shift that works; slopes in codes a unit of m.

    With a multiplier and a shift, break k asks `points[k] * multiplier + bias >= k << shift` and the opposite one
    below: two ends of an interval for the bias. None when some channel has no solution.
    """
    points = at.points[:, at.first : at.last]
    numbers = np.arange(at.first + 1, at.last + 1, dtype=np.int64)
    above, below = points <= at.hi[:, None], points > at.lo[:, None]
    reach_bits = int(max(np.abs(at.lo).max(), np.abs(at.hi).max(), 1)).bit_length() + 1
    longest = _PRODUCT_BITS - at.points.shape[1].bit_length()
    room = min(_MULTIPLIER_BITS, _PRODUCT_BITS - reach_bits)
    wide = [floor(slope * (1 << longest)) for slope in slopes]
    multiplier, bias, by = (np.zeros(len(slopes), dtype=np.int64) for _ in range(3))
    open_channels = np.arange(len(slopes))
    for shift in range(longest + 1):
        for more in (0, 1):
            trial = np.array([(wide[one] >> (longest - shift)) + more for one in open_channels], dtype=object)
            if any(int(one).bit_length() > room for one in trial):
                return None
            factor = trial.astype(np.int64)[:, None]
            here = points[open_channels]
            steps = (numbers << shift)[None, :]
            low = np.where(above[open_channels], steps - here * factor, -_FAR).max(axis=1, initial=-_FAR)
            high = np.where(below[open_channels], steps - (here - 1) * factor - 1, _FAR).min(axis=1, initial=_FAR)
            chosen = _between(low, high)
            solved = (low <= high) & (np.abs(chosen) < 1 << _PRODUCT_BITS)
            picked = open_channels[solved]
            multiplier[picked], bias[picked], by[picked] = factor[solved, 0], chosen[solved], shift
            open_channels = open_channels[~solved]
            if not len(open_channels):
                return multiplier, bias, by
    return None


def _between(low: IntArray, high: IntArray) -> IntArray:
    """The middle of each interval; where one end is open the other end, where both are 0."""
    middle = low + (high - low) // 2
    return np.where(low == -_FAR, np.where(high == _FAR, 0, high), np.where(high == _FAR, low, middle))


def _one_shift(multiplier: IntArray, bias: IntArray, by: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Brings all channels to the largest shift where that keeps the multipliers and biases within their bits."""
    more = by.max() - by
    wide = [(int(m) << int(n), abs(int(b)) << int(n)) for m, b, n in zip(multiplier, bias, more, strict=True)]
    if all(m.bit_length() <= _MULTIPLIER_BITS and b.bit_length() <= _PRODUCT_BITS for m, b in wide):
        return multiplier << more, bias << more, by.max(keepdims=True)
    return multiplier, bias, by


def _parameter(values: IntArray) -> IntArray:
    array = np.asarray(values, dtype=np.int64)
    return frozen_array(array[:1] if (array == array[0]).all() else array)
