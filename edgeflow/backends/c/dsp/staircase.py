"""A channel's requantization as what it is, a staircase, and the search for cheap forms with the very same steps.

Requantization is monotone, so it is known by its thresholds: for each value, the first sum that reaches it. A cheap
form is a staircase as well, hence equal on all sums between two ends as soon as it is equal on both sides of every
threshold and at the ends. `equal` checks exactly that: nothing that a search guesses is taken without it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.dsp.forms import INT32_HI, INT32_LO, Form, MulAccumulate, MulHigh, Saturation, Wraps
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.passes.requants import rounding_stages, scale_of

_MOST_SHIFT = 20
"""Levels and sums times what a MulAccumulate multiplies them with stay within 63 bits."""
_FAR = 1 << 62
_NEAREST = np.split((np.arange(1 << 17, dtype=np.int64) + 1 >> 1) * np.resize([1, -1], 1 << 17), [1 << 10, 1 << 13])
"""Addends of MulAccumulate: 0, -1, 1, -2 and so on, the first ones apart."""
_SPREAD = 8
"""Addends tried beyond one step of the sum on both sides of the ideal one."""
_MOST_ADDENDS = (48, 256)
"""How many addends of MulHigh are tried first, and then, where none of these does."""
_TRIES = 4
"""Addends whose factors are checked."""
_BRACKET = 4


@dataclass(frozen=True, eq=False)
class Staircase:
    """One channel's Requant between two sums. `levels[i]` is first reached at `thresholds[i]`, both ascending.

    `rising`: the Requant as it is; else it falls, and everything here is in terms of -sum.
    """

    requant: Requant
    lo: int
    hi: int
    rising: bool
    bottom: int
    levels: IntArray
    thresholds: IntArray

    @classmethod
    def of(cls, requant: Requant, reach: tuple[int, int]) -> Staircase:
        """From a Requant of one channel (arrays of one element), for sums in the closed interval `reach`."""
        lo, hi = reach
        rising = int(scale_of(requant).flat[0]) >= 0
        if not rising:
            requant, lo, hi = replace(requant, multiplier=-requant.multiplier), -hi, -lo
        bottom, top = (int(one) for one in requant.evaluate((np.array([lo, hi], dtype=np.int64),), ()))
        levels = np.arange(bottom + 1, top + 1, dtype=np.int64)
        return cls(requant, lo, hi, rising, bottom, levels, _thresholds(requant, lo, hi, levels))

    @property
    def top(self) -> int:
        """The largest value."""
        return self.bottom + len(self.levels)

    @cached_property
    def probes(self) -> tuple[IntArray, IntArray]:
        """The sums (with their own sign) that decide whether a form is equal, and their values."""
        sums = np.unique(np.concatenate([self.thresholds, self.thresholds - 1, [self.lo, self.hi]]))
        values = self.requant.evaluate((sums,), ())
        return (sums if self.rising else -sums), values

    def equal(self, form: Form) -> bool:
        """Whether a monotone form gives the same values for every sum. It does not where it wraps."""
        sums, values = self.probes
        try:
            return bool((form.evaluate(sums) == values).all())
        except Wraps:
            return False

    def limits(self, saturation: Saturation) -> tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
        """(levels, sums) at which a form must have reached the level, then those at which it must not have."""
        levels, sums = self.levels, self.thresholds
        reached, missed = (levels, sums), (levels, sums - 1)
        if self.bottom > saturation.lo:
            reached = np.append(levels, self.bottom), np.append(sums, self.lo)
        if self.top < saturation.hi:
            missed = np.append(levels, self.top + 1), np.append(sums - 1, self.hi)
        return reached, missed


def line_of(requant: Requant) -> tuple[int, int, int]:
    """(slope, start, bits): before roundings and clamp the value is (slope * sum + start) / 2**bits.

    With half a step where a stage rounds to nearest, so that it is nearly the floor of this that is wanted.
    """
    start, bits = int(requant.bias.flat[0]), 0
    for stage in rounding_stages(requant):
        bits += int(stage.shift.flat[0])
        start += 1 << (bits - 1) if stage.rounding is not Rounding.FLOOR else 0
    return int(scale_of(requant).flat[0]), start + (int(requant.offset.flat[0]) << bits), bits


def _thresholds(requant: Requant, lo: int, hi: int, levels: IntArray) -> IntArray:
    """The first sum that reaches each level, by halves, from a bracket around where a straight line reaches it.

    `lo` reaches none of the levels, `hi` all.
    """
    slope, start, bits = line_of(requant)
    guess = np.array([min(max(((level << bits) - start) // (slope or 1), lo), hi) for level in levels.tolist()])
    below, at = np.maximum(guess - _BRACKET, lo), np.minimum(guess + _BRACKET, hi)
    reached = requant.evaluate((np.stack([below, at]).astype(np.int64),), ()) >= levels
    below, at = np.where(reached[0], lo, below).astype(np.int64), np.where(reached[1], at, hi).astype(np.int64)
    for _ in range(int((at - below).max(initial=0)).bit_length()):
        middle = (below + at) >> 1
        reached = requant.evaluate((middle,), ()) >= levels
        at, below = np.where(reached, middle, at), np.where(reached, below, middle)
    return at


Search: TypeAlias = Callable[[int], MulHigh | None]
"""A channel's form with a given shift, if there is one."""


@dataclass(frozen=True, eq=False)
class _Addends:
    """Addends of MulHigh, each with the interval of q = 2**(32 + shift) / factor for which it may do."""

    addends: IntArray
    least: npt.NDArray[np.float64]
    most: npt.NDArray[np.float64]


def mul_high(stairs: Staircase, scale: int, saturation: Saturation, remainder: tuple[int, int] = (0, 1)) -> Search:
    """The search for a MulHigh. `remainder`: what is left of its addend divided by a number, and the number.

    With q = 2**(32 + shift) / factor, the level v is reached at the sum t when v q <= addend + scale * t. For a given
    addend, every threshold bounds q from both sides; any factor in what is left will do. All addends near the ideal one
    are tried, or some hundreds of them; the largest choice of factors wins.
    """
    sign = 1 if stairs.rising else -1
    left = sign * remainder[0], remainder[1]
    tried = functools.cache(functools.partial(_addends, stairs, scale, saturation, remainder=left))

    def at(shift: int) -> MulHigh | None:
        forms = (_best(stairs, scale, saturation, shift, tried(most)) for most in _MOST_ADDENDS)
        return next((form for form in forms if form is not None), None)

    return at


def _best(stairs: Staircase, scale: int, saturation: Saturation, shift: int, found: _Addends) -> MulHigh | None:
    """The form with the addend that leaves the largest choice of factors."""
    whole = math.ldexp(1.0, 32 + shift)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        first = np.where(found.most > 0, np.ceil(whole / np.maximum(found.most, 2.0**-60)), np.inf)
        last = np.where(found.least > 0, np.ceil(whole / found.least) - 1, np.inf)
    last = np.minimum(last, INT32_HI)
    choices = last - first + 1
    for place in np.argsort(-choices, kind="stable")[:_TRIES]:
        if not choices[place] >= 1:
            return None
        factor, addend = int(first[place] + last[place]) // 2, int(found.addends[place])
        sign = 1 if stairs.rising else -1
        form = MulHigh(scale, sign * addend, sign * factor, shift, saturation)
        if stairs.equal(form):
            return form
    return None


def _addends(stairs: Staircase, scale: int, saturation: Saturation, most: int, remainder: tuple[int, int]) -> _Addends:
    """About `most` addends around the ideal one that leave the remainder, those of them that may do."""
    slope, start, _ = line_of(stairs.requant)
    ideal = scale * start // slope if slope else 0
    addends = ideal + np.arange(-scale - _SPREAD, scale + _SPREAD + 1, -(-scale // most), dtype=np.int64)
    addends += (remainder[0] - addends) % remainder[1]
    addends = addends[(addends + scale * stairs.lo >= INT32_LO) & (addends + scale * stairs.hi <= INT32_HI)]
    low, high = np.full(len(addends), 0.0), np.full(len(addends), np.inf)
    possible = np.ones(len(addends), dtype=np.bool_)
    for side, (levels, sums) in enumerate(stairs.limits(saturation)):
        words = (addends[:, None] + scale * sums).astype(np.float64)
        possible &= ((words >= 0) == (side == 0))[:, levels == 0].all(axis=1)
        ups, downs = levels > 0, levels < 0
        above, below = words[:, ups] / levels[ups], words[:, downs] / levels[downs]
        if side:
            above, below = below, above
        high = np.minimum(high, above.min(axis=1, initial=np.inf))
        low = np.maximum(low, below.max(axis=1, initial=0.0))
    keep = possible & (low <= high)
    return _Addends(addends[keep], low[keep], high[keep])


def mul_accumulate(stairs: Staircase, high: MulHigh) -> MulAccumulate | None:
    """The form for sums as they are with the factor of a MulHigh for sums that come times 2**n, and n less shift.

    With C = addend * factor + more * 2**32, the level v is reached at the sum t when v * 2**(32 + shift) <= t * factor
    + C: every threshold bounds C from both sides. The addend of a few that is nearest to 0 and lets some `more` bring C
    between them is taken.
    """
    shift = high.shift - (high.scale.bit_length() - 1)
    if not 0 <= shift <= _MOST_SHIFT:
        return None
    sign = 1 if stairs.rising else -1
    factor, unit = sign * high.factor, 32 + shift
    (levels, sums), (next_levels, last_sums) = stairs.limits(high.saturation)
    least = int(((levels << unit) - sums * factor).max(initial=-_FAR))
    end = int(((next_levels << unit) - last_sums * factor).min(initial=_FAR))
    for nearest in _NEAREST:
        parts = nearest * factor
        more = -((parts - least) >> 32)
        possible = np.flatnonzero(parts + (more << 32) < end)
        if len(possible):
            place = possible[0]
            addend = sign * int(nearest[place])
            form = MulAccumulate(1, addend, high.factor, int(more[place]), shift, high.saturation)
            return form if stairs.equal(form) else None
    return None


def common_shift(searches: Sequence[Search], shifts: Sequence[int]) -> tuple[MulHigh | None, ...]:
    """The forms with the first shift with which every channel has one; else none."""
    for shift in shifts:
        # The first channel without a form ends the search with a shift.
        forms = tuple(itertools.takewhile(lambda form: form is not None, (search(shift) for search in searches)))
        if len(forms) == len(searches):
            return forms
    return (None,) * len(searches)
