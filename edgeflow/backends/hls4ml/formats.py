"""The fixed-point type that does what a clamp of the graph does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Rounding

_WIDEST = 52

# As the bundled ap_types/ap_decl.h names them: TRN truncates to minus infinity, RND rounds to plus infinity,
# RND_CONV converges (half to even), RND_INF rounds to infinity (half away from zero).
ROUNDINGS = {
    Rounding.FLOOR: "TRN",
    Rounding.HALF_UP: "RND",
    Rounding.HALF_EVEN: "RND_CONV",
    Rounding.HALF_AWAY: "RND_INF",
}


@dataclass(frozen=True)
class Format:
    """An integer type of `bits` bits, its sign bit included, that saturates at its ends (`symmetric`: at -max)."""

    signed: bool
    bits: int
    symmetric: bool = False

    @property
    def saturation(self) -> str:
        """hls4ml's name for what it does with values beyond its ends."""
        return "SAT_SYM" if self.symmetric else "SAT"

    @property
    def hi(self) -> int:
        """Its largest integer."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def lo(self) -> int:
        """Its smallest integer."""
        if not self.signed:
            return 0
        return -self.hi if self.symmetric else -self.hi - 1


def holding(lo: int, hi: int) -> Format:
    """The narrowest format that holds [lo, hi]."""
    return next(one for one in _formats() if one.lo <= lo and hi <= one.hi)


def clamping(before_lo: IntArray, before_hi: IntArray, lo: IntArray, hi: IntArray) -> Format | None:
    """The narrowest format whose saturation is the clamp to [lo, hi] for every value in [before_lo, before_hi].

    The arrays broadcast against one another (one clamp a channel, say). On an interval a clamp is given by
    what it makes of both ends, so the ends decide. None when no format does it: its ends are powers of two.
    """
    bottom, top = np.clip(before_lo, lo, hi), np.clip(before_hi, lo, hi)
    for one in _formats():
        if (np.clip(before_lo, one.lo, one.hi) == bottom).all() and (np.clip(before_hi, one.lo, one.hi) == top).all():
            return one
    return None


def _formats() -> list[Format]:
    """All formats, the narrowest first, plain saturation before symmetric."""
    return [
        Format(signed, bits, symmetric)
        for bits in range(1, _WIDEST + 1)
        for signed, symmetric in ((False, False), (True, False), (True, True))
        if bits > signed
    ]
