"""Grids of integers for real values: how a tensor's range becomes a scale and a zero point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.ir.types import Affine, Dyadic, IntArray, Label

Real: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
_SMALLEST_SPAN = 2.0**-80
_CLIPPINGS = 32
_TIGHTEST = 0.3
_PERCENTILE = 99.99


@dataclass(frozen=True)
class Grid:
    """Integers lo to hi; real = scale * (integer - zero). The scale is a float32 number."""

    scale: float
    zero: int
    lo: int
    hi: int
    dyadic: bool = False

    @property
    def label(self) -> Label:
        """As the graph says it."""
        return Dyadic(-int(math.log2(self.scale))) if self.dyadic else Affine(self.scale, self.zero)

    def integers(self, values: Real) -> IntArray:
        """Rounded to nearest (ties to even) and clamped."""
        scaled = np.rint(np.asarray(values, dtype=np.float64) / self.scale) + self.zero
        return np.clip(scaled, self.lo, self.hi).astype(np.int64)

    def reals(self, integers: IntArray) -> npt.NDArray[np.float64]:
        """What integers mean."""
        return np.asarray((integers - self.zero) * self.scale, dtype=np.float64)

    def error(self, values: Real) -> float:
        """The mean square error that the grid makes on values."""
        return float(np.mean((self.reals(self.integers(values)) - values) ** 2))


@dataclass(frozen=True)
class Range:
    """What a tensor was seen to hold: its ends, and a sample of its values (the ends among them)."""

    lo: float
    hi: float
    values: Real

    def widened(self, lo: float, hi: float) -> Range:
        """The same, reaching at least from lo to hi."""
        return Range(min(self.lo, lo), max(self.hi, hi), self.values)


Maker: TypeAlias = Callable[[float, float, int], Grid]


def affine_grid(lo: float, hi: float, bits: int) -> Grid:
    """TFLite's asymmetric grid: [lo, hi] widened to hold 0, over all integers, 0 exact on the zero point."""
    lo, hi = _with_zero(lo, hi)
    least, most = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    scale = float(np.float32((hi - lo) / (most - least)))
    return Grid(scale, int(np.clip(round(least - lo / scale), least, most)), least, most)


def dyadic_grid(lo: float, hi: float, bits: int) -> Grid:
    """Power-of-two unit, 0 on 0, unsigned where nothing is negative: the smallest unit that reaches both ends."""
    lo, hi = _with_zero(lo, hi)
    least, most = (0, (1 << bits) - 1) if lo >= 0 else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    needed = max(hi / most, lo / least if least else 0.0)
    frac = -math.ceil(math.log2(needed) - 1e-9)
    return Grid(2.0**-frac, 0, least, most, dyadic=True)


def _with_zero(lo: float, hi: float) -> tuple[float, float]:
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    return (lo, hi) if hi - lo >= _SMALLEST_SPAN else (min(lo, 0.0), 1.0)


def fixed_grid(lo: float, hi: float, bits: int) -> Grid:
    """TFLite's grid for a function with values in [0, 1] or [-1, 1]: 2**-bits or 2**(1 - bits), whatever is seen."""
    least, most = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return Grid(2.0**-bits, least, least, most) if lo >= 0 else Grid(2.0 ** (1 - bits), 0, least, most)


def choose_grid(seen: Range, make: Maker, bits: int, method: str) -> Grid:
    """The grid for a tensor: `method` decides how much of its range is kept."""
    return METHODS[method](seen, make, bits)


def _minmax(seen: Range, make: Maker, bits: int) -> Grid:
    return make(seen.lo, seen.hi, bits)


def _percentile(seen: Range, make: Maker, bits: int) -> Grid:
    """Without the outermost 0.01 % at each end."""
    lo, hi = np.percentile(seen.values, [100 - _PERCENTILE, _PERCENTILE])
    return make(max(float(lo), seen.lo), min(float(hi), seen.hi), bits)


def _mse(seen: Range, make: Maker, bits: int) -> Grid:
    """The clipping with the smallest mean square error."""
    grids = dict.fromkeys(make(lo, hi, bits) for lo, hi in _clippings(seen))
    return min(grids, key=lambda one: one.error(seen.values))


def _clippings(seen: Range) -> Iterator[tuple[float, float]]:
    for share in np.linspace(1.0, _TIGHTEST, _CLIPPINGS):
        yield seen.lo * float(share), seen.hi * float(share)
    for share in np.linspace(1.0, _TIGHTEST, _CLIPPINGS)[1:]:
        yield seen.lo * float(share), seen.hi
        yield seen.lo, seen.hi * float(share)


METHODS: Mapping[str, Callable[[Range, Maker, int], Grid]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
}
