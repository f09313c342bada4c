"""The sum of all positions on the DSP instructions: four channels at a time, two in the halves of each register.

    static void NAME(const X *x, Y *y, uint32_t quads);

y[c] += the values of channel c at all of the row's positions, for 4 * quads channels; neither needs to be aligned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.ctypes import CType
from edgeflow.backends.c.dsp.depthwise_listing import QUAD, Listing
from edgeflow.backends.c.flow import Window
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, Shared
from edgeflow.backends.c.lower import Buffer, Step, sums_everything
from edgeflow.backends.c.windows import Geometry, geometry_of
from edgeflow.ir.graph import Node
from edgeflow.ops.sumpool import SumPool

_MOST_POSITIONS = 256
"""Bytes whose sum 16 bits hold, signed or not."""
_MOST_STEP = 255
"""The largest step of a load that moves its pointer."""
_WRITTEN_OUT = 8
"""Positions of a row without a loop."""
_ALONE = 5
"""Instructions of a value in C."""
_CALL = 24
"""Instructions of a call and of the pointers around it."""


@dataclass(frozen=True)
class Row:
    """One function, for rows of `positions` of `channels`."""

    positions: int
    channels: int
    x: CType
    y: CType

    @property
    def signed(self) -> bool:
        """Whether values have a sign."""
        return self.x.name == "int8_t"

    @property
    def work(self) -> int:
        """Instructions of a call, and of the channels that are left to C."""
        loops = 1 if self.positions <= _WRITTEN_OUT else 1 + 2 * self.positions
        rest = _ALONE * self.positions * (self.channels % QUAD)
        quad = 5 + loops + self.positions * len(_position(self)) + len(_stores(self))
        return _CALL + rest + self.channels // QUAD * quad


@dataclass(frozen=True, kw_only=True)
class WordTotalKernel(Kernel):
    """A sum over all rows and columns; `function` adds a row but for its last channels, which are no whole word."""

    function: str
    geometry: Geometry
    work: int


def make_word_total(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> WordTotalKernel | None:
    """The kernel of a SumPool over everything, from bytes to wider sums, where the core has DSP instructions."""
    narrow = inputs[0].ctype.size == 1 and y.ctype.size in _STORES
    if not context.core.has_dsp or not narrow or not sums_everything(context.shapes, node):
        return None
    geometry = geometry_of(cast(SumPool, node.op), context.shapes[node.inputs[0]], node.type.shape)
    if geometry.in_c < QUAD or geometry.in_w > _MOST_POSITIONS:
        return None
    row = Row(geometry.in_w, geometry.in_c, inputs[0].ctype, y.ctype)
    function_name = context.named("add_row", row)
    return WordTotalKernel(
        name=name,
        layer=node.layer,
        what=f"sum of all positions, {geometry.in_h}x{geometry.in_w}x{geometry.in_c}",
        template="DspTotal",
        inputs=inputs,
        y=y,
        by_rows=RowForm((Window(1, 1, 0),), accumulates=True),
        uses_string=True,
        shared=(_shared(function_name, row),),
        function=function_name,
        geometry=geometry,
        work=row.work,
    )


def _shared(name: str, row: Row) -> Shared:
    listing = Listing()
    listing.op("push {r4-r8, lr}", "1:", "mov r3, #0", "mov r4, #0", "mov r12, r0")
    if row.positions <= _WRITTEN_OUT:
        listing.op(*_position(row) * row.positions)
    else:
        listing.op(f"movw r5, #{row.positions}", "2:", *_position(row), "subs r5, r5, #1", "bne 2b")
    listing.op(*_stores(row), f"add r0, r0, #{QUAD}", "subs r2, r2, #1", "bne 1b", "pop {r4-r8, pc}")
    parameters = (f"const {row.x.name} *x", f"{row.y.name} *y", "uint32_t quads")
    text = function("defined(__ARM_FEATURE_DSP)", name, parameters, [listing.body()], _twin(row))
    return Shared(name, text, listing.code_bytes)


def _position(row: Row) -> list[str]:
    """The even bytes of a word to the halves of r3, the odd ones to those of r4."""
    extend = "sxtab16" if row.signed else "uxtab16"
    far = row.channels > _MOST_STEP
    load = ["ldr r6, [r12]", f"add r12, r12, #{row.channels}"] if far else [f"ldr r6, [r12], #{row.channels}"]
    if far and row.channels >= 1 << 12:
        load = ["ldr r6, [r12]", f"movw r7, #{row.channels}", "add r12, r12, r7"]
    return [*load, f"{extend} r3, r3, r6", f"{extend} r4, r4, r6, ror #8"]


def _stores(row: Row) -> list[str]:
    return _STORES[row.y.size](row)


def _halves(row: Row) -> list[str]:
    return [
        "ldr r6, [r1]",
        "ldr r7, [r1, #4]",
        "pkhbt r8, r3, r4, lsl #16",
        "pkhtb r4, r4, r3, asr #16",
        "uadd16 r6, r6, r8",
        "uadd16 r7, r7, r4",
        "str r6, [r1], #4",
        "str r7, [r1], #4",
    ]


def _whole(row: Row) -> list[str]:
    extend, shift = ("sxtah", "asr") if row.signed else ("uxtah", "lsr")
    return [
        *(f"ldr r{6 + k}, [r1, #{8 * k}]" for k in range(2)),
        f"{extend} r6, r6, r3",
        f"add r7, r7, r3, {shift} #16",
        "str r7, [r1, #8]",
        "str r6, [r1], #4",
        *(f"ldr r{6 + k}, [r1, #{8 * k}]" for k in range(2)),
        f"{extend} r6, r6, r4",
        f"add r7, r7, r4, {shift} #16",
        "str r7, [r1, #8]",
        "str r6, [r1], #12",
    ]


_STORES = {2: _halves, 4: _whole}
"""By the bytes of an element of y."""


def _twin(row: Row) -> list[str]:
    return [
        f"    for (uint32_t m = 0; m < {QUAD} * quads; m++) {{",
        "        int32_t sum = (int32_t)y[m];",
        f"        for (uint32_t position = 0; position < {row.positions}; position++) {{",
        f"            sum += x[position * {row.channels} + m];",
        "        }",
        f"        y[m] = ({row.y.name})sum;",
        "    }",
    ]
