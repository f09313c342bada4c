"""What the makers of DSP layers ask of a step before they make a kernel."""

from __future__ import annotations

from edgeflow.backends.c.dsp.requantize import SHIFTS
from edgeflow.backends.c.dsp.tile import Tile
from edgeflow.backends.c.kernel import Context


def shifts_of(context: Context) -> tuple[int, ...]:
    """The shifts that requantizations may end with, the common one first."""
    return SHIFTS if context.shift is None else (context.shift, *(one for one in SHIFTS if one != context.shift))


def tile_bytes(tile: Tile) -> int:
    """About the bytes of code of a tile function: its written-out words, and 12 instructions a result."""
    loads = 1.4 if tile.needs_bank else 0.75
    loads += 2 if tile.packing else 0
    loads += 1.25 if tile.signed is not None else 0
    each = tile.together * (2 * tile.positions + 1) + loads
    return round(4 * each * tile.chunk) + 48 * tile.positions * tile.together
