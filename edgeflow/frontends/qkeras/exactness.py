"""Whether Keras' float32 gives an activation behind a real map the very codes of real arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from edgeflow.frontends.qkeras.quantizers import Curve, Steps
from edgeflow.frontends.qkeras.stairs import Reached, Staircase
from edgeflow.ir.types import IntArray

_EXACT_BITS = 24
_MOST_VALUES = 1 << 22
_CHUNK = 1 << 20

Factors = tuple[IntArray, IntArray, IntArray]
"""(multiplier, bias, frac), one entry a channel: a real map's value is (multiplier * n + bias) * 2**-frac."""

Clip = tuple[Fraction | None, Fraction | None]
"""A ReLU's lower and upper end between the map and the activation."""


def float32_agrees(exact: Factors, clip: Clip, found: Staircase, at: Reached, activation: Steps | Curve) -> bool:
    """Proof, or False: False also where the proof would take too long.

    float32 must hold the map's value for every n of a channel. Uniform steps then ask for one 24-bit grid that
    holds that value and the code, and for the right code at the clip's upper end; of a curve every n is tried.
    """
    if isinstance(activation, Steps):
        return _one_grid(exact, at, activation) and _right_at(clip[1], found, at, activation)
    columns = np.stack([*exact, at.lo, at.hi, at.sign])
    rows = np.unique(columns, axis=1, return_index=True)[1]
    if int((at.hi - at.lo + 1)[rows].sum()) > _MOST_VALUES:
        return False
    return all(_same_codes(exact, clip, found, at, activation, row) for row in rows.tolist())


def _one_grid(exact: Factors, at: Reached, steps: Steps) -> bool:
    """Whether x + (q - x) takes place in multiples of one unit, below 2**24 of it."""
    multiplier, bias, frac = exact
    if steps.finest is not None and int(frac.max()) > steps.finest:
        return False
    if not steps.straight_through:
        return True
    reach = np.abs(multiplier) * np.maximum(np.abs(at.lo), np.abs(at.hi)) + np.abs(bias)
    largest = np.maximum(np.ldexp(reach.astype(np.float64), -frac), np.ldexp(max(-steps.lo, steps.hi), -steps.unit))
    return bool((largest <= np.ldexp(1.0, _EXACT_BITS - np.maximum(frac, steps.unit))).all())


def _right_at(most: Fraction | None, found: Staircase, at: Reached, steps: Steps) -> bool:
    """The clip's upper end may lie between two units, where float32 holds another number."""
    if most is None:
        return True
    end = np.array([float(most)], dtype=np.float32)
    return bool(steps.float32(end)[0] == found.codes[at.last] and steps.held(end).all())


def _same_codes(exact: Factors, clip: Clip, found: Staircase, at: Reached, curve: Curve, row: int) -> bool:
    """Tries every n of a channel."""
    multiplier, bias, frac = (int(one[row]) for one in exact)
    least, most = (np.float32(end if one is None else float(one)) for one, end in zip(clip, _OPEN, strict=True))
    for start in range(int(at.lo[row]), int(at.hi[row]) + 1, _CHUNK):
        steps = np.arange(start, min(start + _CHUNK, int(at.hi[row]) + 1), dtype=np.int64)
        x = np.ldexp((multiplier * int(at.sign[row]) * steps + bias).astype(np.float32), -frac)
        x = np.minimum(np.maximum(x, least), most)
        codes = found.codes[np.searchsorted(at.points[row], steps, side="right")]
        if not (np.array_equal(curve.float32(x), codes) and curve.held(x).all()):
            return False
    return True


_OPEN = (-np.inf, np.inf)
