"""An average pool's division and the quantizer behind it as one Requant, found by search and proven sum by sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.quantizers import Steps
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage, round_shift

_CHUNK = 1 << 20
_PRODUCT_LIMIT = 1 << 61
_FLOAT32_EXACT = 1 << 24


@dataclass(frozen=True)
class _Case:
    """Sums in [lo, hi], each worth 2**-frac, divided by `count`, then quantized by `steps`."""

    count: int
    frac: int
    lo: int
    hi: int
    steps: Steps

    def wanted(self, sums: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """QKeras' codes in float32, and where its straight-through form keeps them whole."""
        mean = np.asarray(np.ldexp(sums.astype(np.float32), -self.frac) / np.float32(self.count), dtype=np.float32)
        return self.steps.float32(mean), self.steps.held(mean)

    def edges(self) -> IntArray:
        """Sums next to a rounding boundary of the quantizer: where a candidate fails if it fails at all."""
        width = 2.0 ** (self.frac - self.steps.frac) * self.count
        first = max(self.steps.lo - 1, int(np.floor(self.lo / width)) - 1)
        last = min(self.steps.hi + 1, int(np.ceil(self.hi / width)) + 1)
        boundaries = np.arange(first, last + 1)[:: max(1, (last - first) >> 16)]
        centres = np.floor((boundaries + 0.5) * width).astype(np.int64)
        near = np.concatenate([centres + offset for offset in (-1, 0, 1, 2)])
        return np.unique(np.clip(np.append(near, [self.lo, self.hi]), self.lo, self.hi))

    def chunks(self) -> Iterator[IntArray]:
        """Every sum of the interval, a part at a time."""
        for start in range(self.lo, self.hi + 1, _CHUNK):
            yield np.arange(start, min(start + _CHUNK, self.hi + 1), dtype=np.int64)


@dataclass(frozen=True)
class _Integers:
    """round(round(sum * multiplier >> first) >> second), one candidate for one case."""

    multiplier: int
    first: int
    second: int


@dataclass(frozen=True)
class _Form:
    """Which roundings a Requant uses; `second` is None for one stage."""

    first: Rounding
    second: Rounding | None

    def codes(self, sums: IntArray, chosen: _Integers, steps: Steps) -> IntArray:
        result = round_shift(sums * chosen.multiplier, np.array(chosen.first), self.first)
        if self.second is not None:
            result = round_shift(result, np.array(chosen.second), self.second)
        return np.clip(result, steps.lo, steps.hi)


_FORMS = (
    _Form(Rounding.HALF_UP, None),
    _Form(Rounding.HALF_EVEN, None),
    _Form(Rounding.HALF_UP, Rounding.HALF_EVEN),
)


def divide(counts: IntArray, frac: IntArray, sums: Bounds, steps: Steps, where: str) -> Requant:
    """A Requant that gives QKeras' quantized average for every sum within `sums`.

    `counts` (broadcasts against the tensor) divide sums worth 2**-`frac` (scalar, or one a channel).
    Tried in order: one stage half up, one stage half even, two stages. Every sum of the interval is checked.
    Raises Unsupported when no integers do it, or when float32 loses the quantized value.
    """
    lo, hi = int(sums.lo.min()), int(sums.hi.max())
    grid = np.stack(np.broadcast_arrays(counts, frac))
    pairs, places = np.unique(grid.reshape(2, -1), axis=1, return_inverse=True)
    cases = [_Case(int(count), int(one), lo, hi, steps) for count, one in pairs.T]
    for case in cases:
        _reject_lossy(case, where)
    for form in _FORMS:
        chosen = _all_or_none(form, cases)
        if chosen is not None:
            shape = grid.shape[1:] or (1,)
            return _requant(form, chosen, places.reshape(shape), steps)
    raise Unsupported(
        f"no integer multiplier equals this average over {sorted({case.count for case in cases})} elements "
        f"for every sum from {lo} to {hi}",
        where=where,
        fix="quantize to fewer bits, or choose a pool of 2, 4, 8 ... elements",
    )


def _all_or_none(form: _Form, cases: list[_Case]) -> list[_Integers] | None:
    chosen: list[_Integers] = []
    for case in cases:
        found = next((one for one in _candidates(form, case) if _proven(form, one, case)), None)
        if found is None:
            return None
        chosen.append(found)
    return chosen


def _candidates(form: _Form, case: _Case) -> Iterator[_Integers]:
    """Candidates that are right next to every boundary, smallest multiplier first."""
    edges = case.edges()
    wanted, _ = case.wanted(edges)
    reach = max(abs(case.lo), abs(case.hi), 1)
    seconds = range(1, 24) if form.second is not None else (0,)
    firsts = (24, 28, 32, 36) if form.second is not None else range(46)
    for second in seconds:
        for first in firsts:
            exponent = first + second + case.steps.frac - case.frac
            if exponent > 60:
                continue
            multiplier = round(2.0**exponent / case.count)
            if multiplier < 1 or multiplier * reach >= _PRODUCT_LIMIT:
                continue
            one = _Integers(multiplier, first, second)
            if np.array_equal(form.codes(edges, one, case.steps), wanted):
                yield one


def _proven(form: _Form, one: _Integers, case: _Case) -> bool:
    return all(np.array_equal(form.codes(part, one, case.steps), case.wanted(part)[0]) for part in case.chunks())


def _reject_lossy(case: _Case, where: str) -> None:
    if max(abs(case.lo), abs(case.hi)) > _FLOAT32_EXACT:
        raise Unsupported(
            "its sums exceed 24 bits, where QKeras' float32 rounds", where=where, fix="use fewer bits before the pool"
        )
    for part in case.chunks():
        if not case.wanted(part)[1].all():
            raise Unsupported(
                "QKeras' float32 cannot hold this quantizer's result exactly: averages lie far outside its range",
                where=where,
                fix="give it more integer bits, or use quantized_relu, which has no such limit",
            )


def _requant(form: _Form, chosen: list[_Integers], places: IntArray, steps: Steps) -> Requant:
    def spread(values: list[int]) -> IntArray:
        array = np.array(values, dtype=np.int64)
        return frozen_array(array[:1] if len(set(values)) == 1 else array[places])

    stages = [Stage(spread([one.first for one in chosen]), form.first)]
    if form.second is not None:
        stages.append(Stage(spread([one.second for one in chosen]), form.second))
    return Requant(
        pre=frozen_array([0]),
        multiplier=spread([one.multiplier for one in chosen]),
        stages=tuple(stages),
        offset=frozen_array([0]),
        lo=frozen_array([steps.lo]),
        hi=frozen_array([steps.hi]),
    )
