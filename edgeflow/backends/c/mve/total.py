"""The sum of all positions on MVE: channels in the lanes, a row of positions a call.

    static void NAME(const X *x, Y *y, int32_t channels);

y[c] += the values of channel c at all of the row's positions. The lanes are as wide as an element of y.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from edgeflow.backends.c.ctypes import CType
from edgeflow.backends.c.flow import Window
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, Shared
from edgeflow.backends.c.lower import Buffer, Step, sums_everything
from edgeflow.backends.c.mve.finish import Lines, assembly_block, code_bytes, vector
from edgeflow.backends.c.windows import Geometry, geometry_of
from edgeflow.ir.graph import Node
from edgeflow.ops.sumpool import SumPool

_WRITTEN_OUT = 8
"""Positions of a row without a loop."""
_LOADS: Mapping[int, str] = {2: "vldrh.u16", 4: "vldrw.u32"}
_STORES: Mapping[int, str] = {2: "vstrh.16", 4: "vstrw.32"}
"""By the bytes of an element of y."""


@dataclass(frozen=True)
class Row:
    """One function, for rows of `positions`."""

    positions: int
    x: CType
    y: CType


@dataclass(frozen=True, kw_only=True)
class TotalKernel(Kernel):
    """A sum over all rows and columns; `function` adds a row."""

    function: str
    geometry: Geometry


def make_total(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a SumPool over everything, from bytes to wider sums, where the core has MVE; else None."""
    narrow = inputs[0].ctype.size == 1 and y.ctype.size in _LOADS
    if not context.core.has_mve or not narrow or not sums_everything(context.shapes, node):
        return None
    geometry = geometry_of(cast(SumPool, node.op), context.shapes[node.inputs[0]], node.type.shape)
    row = Row(geometry.in_w, inputs[0].ctype, y.ctype)
    function_name = context.named("add_row", row)
    text = source(function_name, row)
    return TotalKernel(
        name=name,
        layer=node.layer,
        what=f"sum of all positions, {geometry.in_h}x{geometry.in_w}x{geometry.in_c}",
        template="MveTotal",
        inputs=inputs,
        y=y,
        by_rows=RowForm((Window(1, 1, 0),), accumulates=True),
        uses_string=True,
        shared=(Shared(function_name, text, code_bytes(text)),),
        function=function_name,
        geometry=geometry,
    )


def source(name: str, row: Row) -> str:
    """The C text of the function: assembly where the core has MVE, else its twin."""
    parameters = (f"const {row.x.name} *x", f"{row.y.name} *y", "int32_t channels")
    return vector(name, parameters, _assembly(row), _twin(row))


def _assembly(row: Row) -> Lines:
    bits = 8 * row.y.size
    sign = "u" if row.x.name.startswith("u") else "s"
    each = [f"vldrb.{sign}{bits} q1, [r3]", "add r3, r3, r2", f"vadd.i{bits} q0, q0, q1"]
    if row.positions <= _WRITTEN_OUT:
        sums = each * row.positions
    else:
        sums = [f"movw r12, #{row.positions}", "2:", *each, "subs r12, r12, #1", "bne 2b"]
    lines = [
        "push {r4, lr}",
        f"dlstp.{bits} lr, r2",
        "1:",
        "mov r3, r0",
        f"{_LOADS[row.y.size]} q0, [r1]",
        *sums,
        f"adds r0, r0, #{16 // row.y.size}",
        f"{_STORES[row.y.size]} q0, [r1], #16",
        "letp lr, 1b",
        "pop {r4, pc}",
    ]
    return assembly_block("the loop's predicate covers the last channels, loads and stores too", lines)


def _twin(row: Row) -> Lines:
    return f"""\
    for (int32_t m = 0; m < channels; m++) {{
        int32_t sum = (int32_t)y[m];
        for (int32_t position = 0; position < {row.positions}; position++) {{
            sum += x[position * channels + m];
        }}
        y[m] = ({row.y.name})sum;
    }}""".splitlines()
