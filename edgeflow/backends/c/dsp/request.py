"""What the makers of DSP layers ask of a step before they make a kernel."""

from __future__ import annotations

from edgeflow.backends.c.dsp.requantize import SHIFTS
from edgeflow.backends.c.dsp.tile import Tile
from edgeflow.backends.c.kernel import Context
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.ir.graph import Node
from edgeflow.ops.conv import Conv
from edgeflow.ops.requant import Requant


def requant_of(step: Step, inputs: tuple[Buffer, ...], y: Buffer, context: Context) -> Requant | None:
    """The one Requant behind a layer of bytes, on a core that has the instructions; else None."""
    fused = [one.op for one in step.fused]
    bytes_only = inputs[0].ctype.size == y.ctype.size == 1
    if not context.core.has_dsp or not bytes_only or len(fused) != 1 or not isinstance(fused[0], Requant):
        return None
    return fused[0]


def ends_of(node: Node, context: Context) -> tuple[int, int]:
    """The interval of the input's values, padding included."""
    bounds = context.bounds[node.inputs[0]]
    ends = [int(bounds.lo.min()), int(bounds.hi.max())]
    if isinstance(node.op, Conv) and any(map(any, node.op.pads)):
        ends.append(node.op.pad_value)
    return min(ends), max(ends)


def shifts_of(context: Context) -> tuple[int, ...]:
    """The shifts that requantizations may end with, the common one first."""
    return SHIFTS if context.shift is None else (context.shift, *(one for one in SHIFTS if one != context.shift))


def tile_bytes(tile: Tile) -> int:
    """About the bytes of code of a tile function: its written-out words, and 12 instructions a result."""
    loads = 1.4 if tile.needs_bank else 0.75
    loads += 2 if tile.packing else 0
    each = tile.together * (2 * tile.positions + 1) + loads
    return round(4 * each * tile.chunk) + 48 * tile.positions * tile.together
