"""Kernels that look at a whole row of channels: ArgMax and Softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import Table, table, working_type
from edgeflow.backends.c.kernel import Context, Kernel
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray
from edgeflow.ops.softmax import EXPONENTIAL_TABLE, RECIPROCAL_TABLE, SUM_FRACTION, Softmax

MOST_EXPONENTIALS = 512
"""Entries of the largest table of exponentials; beyond it they are computed."""


@dataclass(frozen=True, kw_only=True)
class RowKernel(Kernel):
    """ArgMax: the last axis of each of `rows` vectors."""

    rows: int
    in_c: int


@dataclass(frozen=True, kw_only=True)
class SoftmaxKernel(RowKernel):
    """Softmax of 8 or 16 bits.

    `table` holds the exponentials of the first `live` differences; None: `exponential` computes them.
    `lowest` and `highest` are the ends of the result, `drop` the bits that an exponential has more than it.
    """

    table: Table | None
    live: int
    multiplier: int
    shift: int
    drop: int
    lowest: int
    highest: int

    @property
    def counts(self) -> str:
        """The C condition that an element's result is not 0: a shift of 32 bits or more leaves nothing."""
        most = 32 - self.drop
        return f"d < {self.live}" + (f" && over < {most}" if self.in_c >= 1 << most else "")


def make_argmax(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> RowKernel:
    """The kernel of ArgMax."""
    channels = context.shapes[node.inputs[0]][-1]
    return RowKernel(
        name=name,
        layer=node.layer,
        what=f"the largest of {channels} channels",
        template="ArgMax",
        inputs=inputs,
        y=y,
        rows=node.type.size,
        in_c=channels,
    )


@dataclass(frozen=True, kw_only=True)
class InterpolatedSoftmaxKernel(RowKernel):
    """Softmax of 15 bits, with its tables of the exponential and the reciprocal."""

    exponential: Table
    reciprocal: Table
    multiplier: int
    left: int
    right: int


def make_softmax(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> SoftmaxKernel | InterpolatedSoftmaxKernel:
    """The kernel of Softmax."""
    return _SOFTMAXES[cast(Softmax, node.op).bits](node, name, context, inputs, y)


def _make_interpolated(
    node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> InterpolatedSoftmaxKernel:
    op = cast(Softmax, node.op)
    source, channels = context.bounds[node.inputs[0]], node.type.shape[-1]
    lo, hi = int(source.lo.min()), int(source.hi.max())
    exponential = table(f"{name}_exponential", EXPONENTIAL_TABLE)
    reciprocal = table(f"{name}_reciprocal", RECIPROCAL_TABLE)
    return InterpolatedSoftmaxKernel(
        name=name,
        layer=node.layer,
        what=f"softmax of {channels} channels",
        template="SoftmaxInterpolated",
        inputs=inputs,
        y=y,
        acc=working_type(min(lo, lo - hi), max(hi, hi - lo)).name,
        own_tables=(exponential, reciprocal),
        rows=node.type.size // channels,
        in_c=channels,
        exponential=exponential,
        reciprocal=reciprocal,
        multiplier=op.multiplier,
        left=max(op.shift, 0),
        right=max(-op.shift, 0),
    )


def _make_computed(node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> SoftmaxKernel:
    op = cast(Softmax, node.op)
    source, channels = context.bounds[node.inputs[0]], node.type.shape[-1]
    lo, hi = int(source.lo.min()), int(source.hi.max())
    live, exponentials = _live_exponentials(op, hi - lo)
    values = None if exponentials is None else table(f"{name}_exponential", exponentials)
    half = 1 << (op.bits - 1)
    return SoftmaxKernel(
        name=name,
        layer=node.layer,
        what=f"softmax of {channels} channels",
        template="Softmax",
        inputs=inputs,
        y=y,
        acc=working_type(min(lo, lo - hi), max(hi, hi - lo)).name,
        own_tables=() if values is None else (values,),
        rows=node.type.size // channels,
        in_c=channels,
        table=values,
        live=live,
        multiplier=op.multiplier,
        shift=op.shift,
        drop=31 - op.bits,
        lowest=-half,
        highest=half - 1,
    )


def _live_exponentials(op: Softmax, reach: int) -> tuple[int, IntArray | None]:
    """How many differences count, and their exponentials where a table of them is small.

    An exponential below 2**11 adds nothing to the sum and rounds to nothing in the result.
    """
    most = min(reach, -op.diff_min) + 1
    exponentials = op.exponentials(-np.arange(min(most, MOST_EXPONENTIALS + 1), dtype=np.int64))
    live = max(int(np.count_nonzero(exponentials >= 1 << (30 - SUM_FRACTION))), 1)
    return (most, None) if live > MOST_EXPONENTIALS else (live, exponentials[:live])


_SOFTMAXES: Mapping[
    int, Callable[[Node, str, Context, tuple[Buffer, ...], Buffer], SoftmaxKernel | InterpolatedSoftmaxKernel]
] = {8: _make_computed, 15: _make_interpolated, 16: _make_computed}
"""By the number of bits."""
