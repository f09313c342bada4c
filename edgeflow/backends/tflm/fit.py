"""Any rising or falling Requant as a kernel computes it: the kernel's steps put where the Requant has its own.

On the sums n of a channel the Requant is a staircase: `p[j]` is the smallest n with a result of j or more. The kernel's
staircase on its own sums is known too, as `q[j]`. With weights taken `times` (a sign and a power of two) the kernel
sums up times * n + bias, and both agree everywhere exactly when

    times * (p[j] - 1) + bias < q[j] <= times * p[j] + bias        for every j,

which leaves an interval for the bias. So a batch normalization's shift, which lies between two sums, finds its place:
weights of b bits leave 2^(8 - b) places for it between two sums. Where no place serves every step, the one that serves
most is taken: of a channel's sums, those beside a step that stays misplaced round otherwise, by one, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.arithmetic import (
    INT8_HI,
    INT8_LO,
    Multiplier,
    along_channels,
    effective,
    weight_scale,
)
from edgeflow.backends.tflm.widths import Width
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.linear import SumBounds
from edgeflow.ops.requant import Requant, Stage

_LARGEST_POWER = 6
_MOST_ROWS = 1 << 22
_ANY = 1 << 61
_WIDE_STEP = 2.0**-15
"""Between two factors of 16 bits."""
_NEAR = 4
"""Sums: how far a step of the kernel lies at most from where real arithmetic puts it (its first stage rounds)."""


@dataclass(frozen=True)
class Fit:
    """For each channel what the weights and the bias are multiplied by, and what the bias then gets.

    `times` is 0 where the result does not depend on the sums. `misplaced` counts the steps that lie elsewhere.
    """

    times: IntArray
    bias: IntArray
    multipliers: tuple[Multiplier, ...]
    misplaced: int


@dataclass(frozen=True)
class Scales:
    """The float32 scales of a kernel's input and result, the integer that means 0 in the result, and the width."""

    source: float
    result: float
    zero: int
    width: Width


def fit(requant: Requant, rank: int, sums: SumBounds, weight: IntArray, scales: Scales) -> Fit | None:
    """The kernel that comes closest to `requant` on the sums that `weight` (outputs last) gives within `sums`.

    None where the Requant differs from position to position, its results span more than the width has, or a weight's
    sign cannot change.
    """
    stairs = _Stairs.of(requant, rank, (sums.lo, sums.hi))
    if stairs is None:
        return None
    most = _room(weight, sums, stairs.sign, scales.width)
    steps = int((stairs.value(stairs.hi[None]) - stairs.value(stairs.lo[None])).max())
    if (most < 1).any() or steps > scales.width.span or steps * len(most) > _MOST_ROWS:
        return None
    found = _Search(stairs, scales)
    for power in range(_LARGEST_POWER + 1):
        for neighbour in (0, -1, 1):
            found.attempt(power, neighbour, most)
    return found.result()


def _room(weight: IntArray, sums: SumBounds, sign: IntArray, width: Width) -> IntArray:
    """The largest that each output's weights may be taken times, so that they stay int8 and the sums in their bits."""
    flat = weight.reshape(-1, weight.shape[-1]) * sign
    above, below = np.maximum(flat.max(axis=0), 1), np.maximum(-flat.min(axis=0), 1)
    reach = np.maximum(np.maximum(-sums.partial_lo, sums.partial_hi), 1)
    return np.minimum(np.minimum(INT8_HI // above, -INT8_LO // below), width.most_sum // 2 // reach)


@dataclass(frozen=True)
class _Stairs:
    """A Requant's channels as rising functions of m = sign * n, with m in [lo, hi]."""

    requant: Requant
    sign: IntArray
    lo: IntArray
    hi: IntArray

    @staticmethod
    def of(requant: Requant, rank: int, ends: tuple[IntArray, IntArray]) -> _Stairs | None:
        flat = _by_channel(requant, rank, len(ends[0]))
        if flat is None:
            return None
        sign = np.sign(flat.multiplier)
        turned = ends[0] * sign, ends[1] * sign
        return _Stairs(flat, sign, np.minimum(*turned), np.maximum(*turned))

    def value(self, m: IntArray) -> IntArray:
        """Results for m of shape (rows, channels)."""
        op = self.requant
        return op.finish(self.sign * m * (op.multiplier << op.pre) + op.bias)

    def factors(self) -> Iterator[float]:
        """What one unit of m adds to the result, a channel; 1 where nothing depends on m."""
        op = self.requant
        down = sum(stage.shift for stage in op.stages)
        for factor, up, right in zip(np.abs(op.multiplier), op.pre, np.broadcast_to(down, op.pre.shape), strict=True):
            yield float(np.ldexp(float(factor), int(up) - int(right))) if factor else 1.0


def _by_channel(requant: Requant, rank: int, channels: int) -> Requant | None:
    """Every parameter as one entry a channel; None where one differs from position to position."""
    stages = [along_channels(stage.shift, rank, channels) for stage in requant.stages]
    names = ("pre", "multiplier", "offset", "lo", "hi", "bias")
    arrays = {name: along_channels(getattr(requant, name), rank, channels) for name in names}
    if any(one is None for one in (*stages, *arrays.values())):
        return None
    kept = zip(stages, requant.stages, strict=True)
    shifts = tuple(Stage(frozen_array(shift), stage.rounding) for shift, stage in kept if shift is not None)
    return Requant(stages=shifts, **{name: frozen_array(one) for name, one in arrays.items() if one is not None})


class _Search:
    """The best kernel of every channel so far."""

    def __init__(self, stairs: _Stairs, scales: Scales) -> None:
        self._stairs, self._scales = stairs, scales
        self._first, self._last = (stairs.value(end[None, :])[0] for end in (stairs.lo, stairs.hi))
        rows = np.arange(int((self._last - self._first).max()) + 2, dtype=np.int64)
        self._wanted = self._first + rows[:, None]
        self._points = _smallest(stairs.value, self._wanted, stairs.lo - 1, stairs.hi)
        self._factors = list(stairs.factors())
        count = len(self._factors)
        self._times, self._bias = np.ones(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self._misplaced = np.full(count, _ANY)
        self._chosen: list[Multiplier | None] = [None] * count

    def result(self) -> Fit | None:
        """None where some channel found no factor that a kernel has."""
        chosen = tuple(one for one in self._chosen if one is not None)
        if len(chosen) < len(self._chosen):
            return None
        return Fit(self._times * self._stairs.sign, self._bias, chosen, int(self._misplaced.sum()))

    def attempt(self, power: int, neighbour: int, most: IntArray) -> None:
        """Tries one power of two for the weights and one float32 scale for them, wherever steps are still misplaced."""
        open_channels = np.flatnonzero((self._misplaced > 0) & (most >= 1 << power))
        candidates = [(c, self._multiplier(self._factors[c] / (1 << power), neighbour)) for c in open_channels]
        usable = [(int(c), one) for c, one in candidates if self._scales.width.usable(one)]
        if not usable:
            return
        channels, multipliers = zip(*usable, strict=True)
        where = np.array(channels, dtype=np.int64)
        bias, misplaced = self._place(where, multipliers, 1 << power)
        for index, channel in enumerate(channels):
            if misplaced[index] < self._misplaced[channel]:
                self._misplaced[channel], self._bias[channel] = misplaced[index], bias[index]
                self._times[channel], self._chosen[channel] = 1 << power, multipliers[index]

    def _multiplier(self, factor: float, neighbour: int) -> Multiplier:
        scales = self._scales
        power_of_two = np.frexp(factor)[0] == 0.5
        factor *= scales.width.power_of_two if power_of_two else 1.0
        factor *= 1.0 if scales.width.narrow else 1.0 + neighbour * _WIDE_STEP
        weight = np.float32(weight_scale(factor, scales.source, scales.result))
        weight = np.nextafter(weight, np.float32(neighbour * np.inf)) if neighbour else weight
        return effective(scales.source, float(weight), scales.result)

    def _place(self, where: IntArray, multipliers: tuple[Multiplier, ...], times: int) -> tuple[IntArray, IntArray]:
        """The bias for each of some channels, and how many steps it leaves misplaced."""
        width = self._scales.width
        kernel = width.requant(multipliers, self._scales.zero, -_ANY, _ANY)
        reals = np.array([width.real(one) for one in multipliers])
        wanted, points = self._wanted[:, where], self._points[:, where]
        middle = np.clip((wanted - self._scales.zero - 0.5) / reals, -width.most_sum, width.most_sum)
        room = _NEAR + np.abs(middle) * 2.0**-40
        near = [
            np.clip(end, -width.most_sum, width.most_sum).astype(np.int64) for end in (middle - room, middle + room)
        ]
        steps = _smallest(lambda x: kernel.finish(x * (kernel.multiplier << kernel.pre)), wanted, *near)
        first, last, stairs = self._first[where], self._last[where], self._stairs
        low = np.where((wanted > first) & (wanted <= last), steps - times * points, -_ANY)
        high = np.where(low > -_ANY, low + times - 1, _ANY)
        low[0] = np.where(first > stairs.requant.lo[where], steps[0] - times * stairs.lo[where], -_ANY)
        ends = steps - times * stairs.hi[where] - 1
        above = (wanted == last + 1) & (last < stairs.requant.hi[where])
        high = np.where(above, ends, high)
        return _best(low, high)


def _smallest(value: Callable[[IntArray], IntArray], wanted: IntArray, low: IntArray, high: IntArray) -> IntArray:
    """The smallest x in (low, high] at which a rising function reaches `wanted`; high where it does not."""
    low, high = (np.array(np.broadcast_to(end, wanted.shape)) for end in (low, high))
    while (high - low > 1).any():
        middle = (low + high) >> 1
        above = (value(middle) >= wanted) & (middle > low)
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return high


def _best(low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
    """For each column an integer within as many of the rows' intervals as possible, and how many it leaves out."""
    least, most = low.max(axis=0), high.min(axis=0)
    alone = np.where(most == _ANY, np.where(least == -_ANY, 0, least), most)
    bias: IntArray = np.where((least == -_ANY) | (most == _ANY), alone, (least + most) >> 1)
    misplaced = np.zeros(len(bias), dtype=np.int64)
    for column in np.flatnonzero(least > most):
        ends = np.unique(np.concatenate([low[:, column], high[:, column]]))
        ends = ends[np.abs(ends) < _ANY]
        hits = ((low[:, column, None] <= ends) & (ends <= high[:, column, None])).sum(axis=0)
        best = np.flatnonzero(hits == hits.max())
        bias[column] = ends[best[len(best) // 2]]
        misplaced[column] = len(low) - int(hits.max())
    return bias, misplaced
