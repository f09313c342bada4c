"""Requantization on 32-bit multiplications alone: a first guess, then one comparison, proven equal to the Requant.

A requantization is a staircase. With a = sum + addend, a short factor m and a shift s,

    guess = (a * m) >> s

is the level or one less, wherever it matters. Whether it is one less tells the sign of

    rest = guess * step + base - (a << fine),

whose exact value is small, so that it is right although each term wraps around 32 bits: `step` is the width of a level
in units of 2**-fine of the sum, with up to 29 bits. A guess below 0 or not below `top` needs no such comparison.

Not every staircase lies along a line. Where ties go away from zero, the steps to negative results are a little off;
where ties go to even, the steps to odd ones. For guesses that a `Split` names, the rest has a `delta` more.

Where all outputs have one scale, they share all constants but the addends: 4 bytes an output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.dsp.requantize import channels_of, with_bias
from edgeflow.backends.c.dsp.staircase import Staircase, line_of
from edgeflow.backends.c.dsp.tile_weights import reach
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant, Rounding

_WORD = 1 << 31
_STEP_BITS = 29
_MOST_FACTOR = (1 << 16) - 1
_LEAST_FACTOR = 64
_NEAR = 8
_STEPS = np.unique([*range(-_NEAR, _NEAR + 1), *(side << power for power in range(4, 11) for side in (1, -1))])
"""Steps tried, from the ideal one."""
_NEVER = 1 << 30
"""A rest that is not below 0, whatever the level."""
_FREE = 1 << 60
_SAME = 2.0**-12
"""Levels whose widths differ by more, measured by the width, are not tried with one step."""


@dataclass(frozen=True)
class Below:
    """The guesses below a level."""

    level: int

    def holds(self, guesses: IntArray) -> npt.NDArray[np.bool_]:
        """Which guesses it names."""
        return guesses < self.level

    def otherwise(self, label: str) -> list[str]:
        """Instructions that branch for other guesses in r1; r0 is free."""
        return [f"cmp r1, #{self.level}", f"bhs {label}"]

    @property
    def c(self) -> str:
        """The condition in C."""
        return f"guess < {self.level}u"


@dataclass(frozen=True)
class Even:
    """The even guesses."""

    def holds(self, guesses: IntArray) -> npt.NDArray[np.bool_]:
        """Which guesses it names."""
        return guesses % 2 == 0

    def otherwise(self, label: str) -> list[str]:
        """Instructions that branch for other guesses in r1; r0 is free."""
        return ["lsrs r0, r1, #1", f"bcs {label}"]

    @property
    def c(self) -> str:
        """The condition in C."""
        return "guess % 2u == 0"


Split: TypeAlias = Below | Even


@dataclass(frozen=True)
class Levels:
    """Results of a layer: 0 ... top, to each of which `offset` is added (modulo 256) when it is stored.

    `alike`: the outputs differ in their addends alone.
    """

    top: int
    offset: int
    split: Split | None = None
    alike: bool = False

    @property
    def common(self) -> int:
        """Constants that all outputs share: they lie ahead of the others."""
        return self._behind if self.alike else 0

    @property
    def words(self) -> int:
        """Constants of an output, the addend among them."""
        return 1 if self.alike else 1 + self._behind

    @property
    def _behind(self) -> int:
        return 3 if self.split is None else 4


@dataclass(frozen=True)
class Refined:
    """One channel's constants. `sign` is -1 where the sum falls, so that its weights must be stored negated; 0 where
    the result does not depend on it."""

    sign: int
    addend: int
    factor: int
    shift: int
    step: int
    base: int
    fine: int
    delta: int = 0

    def words(self, levels: Levels) -> tuple[int, ...]:
        """The constants behind the addend (mod 2**32): step; base; factor, fine and shift; with a split delta."""
        packed = self.factor << 16 | self.fine << 8 | self.shift
        return (self.step, self.base, packed, *(() if levels.split is None else (self.delta,)))

    def evaluate(self, sums: IntArray, levels: Levels) -> IntArray | None:
        """Levels of sums that have their sign. None where a term that must fit 32 bits does not."""
        top = levels.top
        a = sums + self.addend
        product = a * self.factor
        guess = product >> self.shift
        rest = guess * self.step + self.base - (a << self.fine)
        if levels.split is not None:
            rest = rest + np.where(levels.split.holds(guess), self.delta, 0)
        inside = (guess >= 0) & (guess < top)
        checked = [a, product, rest[inside]]
        if any(one.size and (one.min() < -_WORD or one.max() >= _WORD) for one in checked):
            return None
        return np.where(inside, guess + (rest < 0), np.where(guess < 0, 0, top))


def refine(
    requant: Requant, weights: IntArray, bias: IntArray, bounds: tuple[int, int]
) -> tuple[Levels, tuple[Refined, ...]] | None:
    """Constants of each output for weights (outputs, values), bias (outputs,) and x in the closed interval `bounds`.

    The addends hold the bias. None where any output has no form.
    """
    least, most = reach(weights, *bounds)
    channels = channels_of(with_bias(requant, bias), least, most)
    if channels is None:
        return None
    stairs = [one.stairs for one in channels]
    lo, hi = min(one.bottom for one in stairs), max(one.top for one in stairs)
    if hi - lo > 255 or lo < -128 or hi > 255 or hi == lo:
        return None
    for split in _splits(requant, lo, hi):
        levels = Levels(hi - lo, lo % 256, split)
        forms = _search(stairs, lo, levels)
        if forms is not None:
            return replace(levels, alike=True), forms
        forms = _forms(stairs, lo, levels)
        if forms is not None:
            return levels, forms
    return None


def _splits(requant: Requant, lo: int, hi: int) -> Iterator[Split | None]:
    """Without one first."""
    yield None
    roundings = {stage.rounding for stage in requant.stages}
    zero = int(requant.offset.flat[0])
    if Rounding.HALF_AWAY in roundings and lo < zero < hi:
        yield Below(zero - lo)
    if Rounding.HALF_EVEN in roundings:
        yield Even()


def _forms(stairs: Sequence[Staircase], lo: int, levels: Levels) -> tuple[Refined, ...] | None:
    found: list[Refined] = []
    for one in stairs:
        form = _search([one], lo, levels)
        if form is None:
            return None
        found += form
    return tuple(found)


@dataclass(frozen=True)
class _Guess:
    """What outputs share before their thresholds are looked at; `width` is a level's, in units of the sum."""

    factor: int
    shift: int
    fine: int
    width: float


def _search(stairs: Sequence[Staircase], lo: int, levels: Levels) -> tuple[Refined, ...] | None:
    """Forms that differ in their addends (and signs) alone."""
    lines = [line_of(one.requant) for one in stairs if len(one.levels)]
    if not lines:
        return tuple(Refined(0, one.bottom - lo, 1, 0, 0, _NEVER, 0) for one in stairs)
    widths = [2.0**bits / slope for slope, _, bits in lines]
    if max(widths) - min(widths) > _SAME * min(widths):
        return None
    addends = [_addend(one, lo, widths[0]) for one in stairs]
    ends = [abs(end + addend) for one, addend in zip(stairs, addends, strict=True) for end in (one.lo, one.hi)]
    guess = _guess(widths[0], max(*ends, 1))
    return None if guess is None else _fitted(stairs, lo, levels, addends, guess)


def _addend(stairs: Staircase, lo: int, width: float) -> int:
    """What makes the sum 0 the middle of level `lo`; with one level, of that level whatever the sum, which is 0."""
    if not len(stairs.levels):
        return round((stairs.bottom - lo) * width)
    slope, start, bits = line_of(stairs.requant)
    return round((start - (lo << bits) - (1 << bits >> 1)) / slope)


def _guess(width: float, largest: int) -> _Guess | None:
    """The most exact factor whose product with sums up to `largest` fits a word."""
    for shift in range(31, -1, -1):
        factor = round(2.0**shift / width)
        if factor <= _MOST_FACTOR and factor * largest < _WORD:
            break
    else:
        return None
    if factor < _LEAST_FACTOR and (1 << shift) != factor * width:
        return None
    return _Guess(factor, shift, min(max(_STEP_BITS - int(np.ceil(np.log2(width))), 0), _STEP_BITS), width)


def _fitted(
    stairs: Sequence[Staircase], lo: int, levels: Levels, addends: Sequence[int], guess: _Guess
) -> tuple[Refined, ...] | None:
    """Steps around the ideal one; every threshold of every output bounds the base from both sides."""
    fine = guess.fine
    steps = (round(guess.width * (1 << fine)) + _STEPS).astype(np.int64)
    guesses = np.concatenate([one.levels for one in stairs]) - lo - 1
    own = np.concatenate([one.thresholds + addend for one, addend in zip(stairs, addends, strict=True)])
    # Of the thresholds of a guess, the least and the largest are all that matters.
    order = np.lexsort((own, guesses))
    guesses, own = guesses[order], own[order]
    new = guesses[1:] != guesses[:-1]
    kept = np.append(True, new) | np.append(new, True)
    guesses, own = guesses[kept], own[kept]
    at = (own << fine) - guesses * steps[:, None]
    split = np.zeros(len(guesses), dtype=np.bool_) if levels.split is None else levels.split.holds(guesses)
    bases = [_bases(at[:, part], fine) for part in (~split, split)]
    possible = np.logical_and(*(most >= least for least, most in bases))
    room = np.minimum(*(most - least for least, most in bases))
    if not possible.any():
        return None
    place = int(np.where(possible, room, -1).argmax())
    base, other = ((int(least[place]) + int(most[place])) >> 1 for least, most in bases)
    delta = other - base
    if split.all() or not split.any():
        base, delta = (other, 0) if split.all() else (base, 0)
    forms = tuple(
        Refined(_sign(one), addend, guess.factor, guess.shift, int(steps[place]), base, fine, delta)
        for one, addend in zip(stairs, addends, strict=True)
    )
    return forms if all(_equal(one, form, lo, levels) for one, form in zip(stairs, forms, strict=True)) else None


def _sign(stairs: Staircase) -> int:
    if not len(stairs.levels):
        return 0
    return 1 if stairs.rising else -1


def _bases(at: IntArray, fine: int) -> tuple[IntArray, IntArray]:
    """The least and the largest base of each step, for thresholds (steps, levels) less the guesses' part."""
    return (at - (1 << fine)).max(axis=1, initial=-_FREE), (at - 1).min(axis=1, initial=_FREE)


def _equal(stairs: Staircase, form: Refined, lo: int, levels: Levels) -> bool:
    """Whether the form gives the Requant for every sum.

    Between two sums at which the guess changes it is monotone, and so is the Requant: equal at both ends and at both
    sides of every threshold, they are equal everywhere. What must fit 32 bits is monotone there as well.
    """
    guesses = np.arange(levels.top + 1, dtype=np.int64)
    first = -((-guesses << form.shift) // form.factor) - form.addend
    inside = first[(first > stairs.lo) & (first <= stairs.hi)]
    if form.sign == 0:
        values = form.evaluate(np.zeros(1, dtype=np.int64), levels)
        return values is not None and int(values[0]) == stairs.bottom - lo
    own = stairs.probes[0] if stairs.rising else -stairs.probes[0]
    sums = np.unique(np.concatenate([own, inside, inside - 1]))
    values = form.evaluate(sums, levels)
    return values is not None and bool((values == stairs.requant.evaluate((sums,), ()) - lo).all())


def signed_weights(weights: IntArray, forms: Sequence[Refined]) -> IntArray:
    """Weights (outputs, values) as they must be stored for these forms."""
    return weights * np.array([form.sign for form in forms], dtype=np.int64)[:, None]
