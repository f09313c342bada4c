"""Convolutions and fully connected layers in plain C as matrix products: a position's values times several outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import Table, literal, table
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, accumulator, finished
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.narrow import finish_of
from edgeflow.backends.c.windows import Geometry, geometry_of
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense

_TOGETHER = 4
"""Outputs that share each value that is read: their sums, and what is multiplied, fit the registers of every core."""
_STRAIGHT = 12
"""Up to so many values a position are written out without a loop."""
_UNROLLED = 4
_SCRATCH = 4
"""Bytes to which scratch is aligned: wider values are not gathered."""


@dataclass(frozen=True)
class Block:
    """Outputs that are computed together, `count` at a time, from output `first` on; their weights start at `at`."""

    first: int
    last: int
    count: int
    at: int


@dataclass(frozen=True, kw_only=True)
class ProductKernel(Kernel):
    """A matrix product of positions of `values` values each with `outputs` outputs.

    `geometry` None: a fully connected layer of `rows` vectors. `gathered`: a window's values are brought together
    first; else they lie side by side in one row of the input.
    """

    values: int
    outputs: int
    rows: int
    weight: Table
    start: str
    blocks: tuple[Block, ...]
    geometry: Geometry | None = None
    gathered: bool = False
    pad_value: str = "0"

    def start_of(self, first: str, offset: int, place: int) -> str:
        """In C: what the sum of an output starts from: `place` behind the output `first`, or (if "") `offset`."""
        at = str(offset + place) if not first else first if not place else f"{first} + {place}"
        return self.start.replace("[m]", f"[{at}]")

    @property
    def step(self) -> int:
        """Values that a turn of the inner loop takes; 0 without a loop. Products with zeros alone that are written out
        are a result that is known, at which cppcheck wonders why it is clamped.
        """
        if not self.weight.values.any():
            return 1
        return 0 if self.values <= _STRAIGHT else _UNROLLED

    @property
    def left(self) -> int:
        """Values behind the inner loop."""
        return self.values % self.step if self.step else self.values


def make_conv(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Conv in which every output reads every channel; None in groups, or for wide values in windows."""
    op = cast(Conv, node.op)
    if op.groups > 1:
        return None
    geometry = geometry_of(op, context.shapes[node.inputs[0]], node.type.shape)
    weights = np.moveaxis(op.weight, -1, 0).reshape(geometry.out_c, -1)
    beside = geometry.k_w > 1 and geometry.dilation_w > 1
    gathered = geometry.padded or geometry.k_h > 1 or beside
    if gathered and inputs[0].ctype.size > _SCRATCH:
        return None
    return _product(
        step, node, name, context, inputs, y, weights, op.bias, f"conv {geometry.words}", geometry, gathered
    )


def make_dense(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    """The kernel of Dense."""
    op = cast(Dense, node.op)
    in_c, out_c = op.weight.shape
    return _product(step, node, name, context, inputs, y, op.weight.T, op.bias, f"dense {in_c} -> {out_c}", None, False)


def _product(
    step: Step,
    node: Node,
    name: str,
    context: Context,
    inputs: tuple[Buffer, ...],
    y: Buffer,
    weights: IntArray,
    bias: IntArray,
    what: str,
    geometry: Geometry | None,
    gathered: bool,
) -> ProductKernel:
    acc = accumulator(node, context)
    outputs, values = weights.shape
    blocks = _blocks(outputs, values)
    weight = table(f"{name}_weight", _interleaved(weights, blocks))
    finish = finish_of(step, node, name, context, acc, y, weights, bias)
    return ProductKernel(
        name=name,
        layer=node.layer,
        what=", ".join([what, *finished(step.fused)]),
        template="Product",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=finish.epilogue,
        own_tables=(weight, *finish.tables),
        by_rows=RowForm((geometry.rows,)) if geometry else None,
        scratch=-(-values * inputs[0].ctype.size // 4) if gathered else 0,
        values=values,
        outputs=outputs,
        rows=1 if geometry else node.type.size // outputs,
        weight=weight,
        start=finish.start,
        blocks=blocks,
        geometry=geometry,
        gathered=gathered,
        pad_value=literal(node.op.pad_value) if isinstance(node.op, Conv) else "0",
    )


def _blocks(outputs: int, values: int) -> tuple[Block, ...]:
    """All outputs: as many as possible in full blocks, then what is left."""
    full = outputs - outputs % _TOGETHER
    found = [Block(0, full, _TOGETHER, 0)] if full else []
    if full < outputs:
        found.append(Block(full, outputs, outputs - full, full * values))
    return tuple(found)


def _interleaved(weights: IntArray, blocks: tuple[Block, ...]) -> IntArray:
    """The weights in the order in which they are read: of each block, value by value, one of each output."""
    parts = [
        weights[first : first + block.count].T.reshape(-1)
        for block in blocks
        for first in range(block.first, block.last, block.count)
    ]
    return np.concatenate(parts)
