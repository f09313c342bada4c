"""Convolutions and pools as kernels that make rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import Table, literal, table
from edgeflow.backends.c.fields import Fields
from edgeflow.backends.c.flow import Window
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, accumulator, bias_of, epilogue_of, finished
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.narrow import finish_of
from edgeflow.ir.graph import Node
from edgeflow.ir.types import Shape
from edgeflow.ops.conv import Conv
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.sumpool import SumPool


@dataclass(frozen=True)
class Geometry:
    """A window that slides over rows and columns; a tensor with one spatial axis has rows of one column."""

    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    k_h: int
    k_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int

    @property
    def rows(self) -> Window:
        """The rows of the input that a row of the result reads."""
        return Window((self.k_h - 1) * self.dilation_h + 1, self.stride_h, self.pad_top)

    @property
    def above(self) -> bool:
        """Whether a row of some window lies outside of the input."""
        return self.pad_top > 0 or (self.out_h - 1) * self.stride_h + self.rows.size - self.pad_top > self.in_h

    @property
    def beside(self) -> bool:
        """Whether a column of some window lies outside of the input."""
        width = (self.k_w - 1) * self.dilation_w + 1
        return self.pad_left > 0 or (self.out_w - 1) * self.stride_w + width - self.pad_left > self.in_w

    @property
    def padded(self) -> bool:
        """Whether any part of a window lies outside of the input."""
        return self.above or self.beside

    @property
    def row(self) -> str:
        """In C: which of its row pointers a tap reads, kernel row `ky` of result row `r`."""
        return _position("r", self.stride_h, "ky", self.dilation_h, 0)

    def tap_row(self, ky: int) -> str:
        """In C: the same of one kernel row."""
        return _position("r", self.stride_h, str(ky), self.dilation_h, 0)

    @property
    def column(self) -> str:
        """In C: the input column that a tap reads, kernel column `kx` of result column `ox`."""
        return _position("ox", self.stride_w, "kx", self.dilation_w, self.pad_left)

    @property
    def words(self) -> str:
        """Window, sizes and stride, for people."""
        return (
            f"{self.k_h}x{self.k_w}, {self.in_h}x{self.in_w}x{self.in_c} -> {self.out_h}x{self.out_w}x{self.out_c}"
            f", stride {self.stride_h}x{self.stride_w}"
        )


@dataclass(frozen=True, kw_only=True)
class WindowKernel(Kernel):
    """Conv, MaxPool and SumPool in plain C."""

    kind: str
    geometry: Geometry
    start: str = "0"
    groups: int = 1
    each: int = 1
    pad_value: str = "0"
    weight: Table | None = None
    bias: str = "0"
    fields: Fields | None = None


def _position(out: str, stride: int, tap: str, dilation: int, pad: int) -> str:
    base = out if stride == 1 else f"{out} * {stride}"
    step = tap if dilation == 1 else f"{tap} * {dilation}"
    return f"{base} + {step}" + (f" - {pad}" if pad else "")


def _flat2(shape: Shape) -> tuple[int, int, int]:
    """(height, width, channels) of a tensor with one or two spatial axes."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else cast(tuple[int, int, int], shape)


def _pair(values: Shape, fill: int) -> tuple[int, int]:
    return (values[0], fill) if len(values) == 1 else (values[0], values[1])


def geometry_of(op: Conv | MaxPool | SumPool, source: Shape, result: Shape) -> Geometry:
    """How the op's window slides."""
    dilation = op.dilation if isinstance(op, Conv) else (1,) * len(op.window)
    before = tuple(first for first, _ in op.pads)
    pairs = ((op.window, 1), (op.strides, 1), (dilation, 1), (before, 0))
    return Geometry(*_flat2(source), *_flat2(result), *(one for values, fill in pairs for one in _pair(values, fill)))


def make_conv(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    """The kernel of Conv, depthwise or not."""
    op = cast(Conv, node.op)
    acc = accumulator(node, context)
    geometry = geometry_of(op, context.shapes[node.inputs[0]], node.type.shape)
    weight = table(f"{name}_weight", np.moveaxis(op.weight, -1, 0))
    bias, bias_tables = bias_of(name, op.bias, "m")
    kind = "depthwise" if op.groups == geometry.in_c and op.groups > 1 else "conv"
    grouped = f", {op.groups} groups" if kind == "conv" and op.groups > 1 else ""
    return WindowKernel(
        name=name,
        layer=node.layer,
        what=", ".join([f"{kind} {geometry.words}{grouped}", *finished(step.fused)]),
        template="Conv",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=epilogue_of(step.fused, name, context, acc, _axes(node)),
        own_tables=(weight, *bias_tables),
        by_rows=RowForm((geometry.rows,)),
        kind="Conv",
        geometry=geometry,
        groups=op.groups,
        each=op.weight.shape[-2],
        pad_value=literal(op.pad_value),
        weight=weight,
        bias=bias,
    )


def make_depthwise(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a depthwise Conv whose padding adds nothing, with a window that can be written out; else None."""
    op = cast(Conv, node.op)
    geometry = geometry_of(op, context.shapes[node.inputs[0]], node.type.shape)
    one_each = op.groups == geometry.in_c == geometry.out_c
    nothing = not geometry.padded or op.pad_value == 0
    if not one_each or not nothing or geometry.dilation_w > 1 or geometry.k_h * geometry.k_w > _WRITTEN_OUT:
        return None
    acc = accumulator(node, context)
    weights = np.moveaxis(op.weight, -1, 0).reshape(geometry.out_c, -1)
    weight = table(f"{name}_weight", weights)
    finish = finish_of(step, node, name, context, acc, y, weights, op.bias)
    return WindowKernel(
        name=name,
        layer=node.layer,
        what=", ".join([f"depthwise {geometry.words}", *finished(step.fused)]),
        template="Depthwise",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=finish.epilogue,
        own_tables=(weight, *finish.tables),
        by_rows=RowForm((geometry.rows,)),
        kind="Depthwise",
        geometry=geometry,
        groups=op.groups,
        weight=weight,
        bias=finish.start,
    )


_WRITTEN_OUT = 25
"""Taps of a window that is written out."""


def _axes(node: Node) -> tuple[str | None, ...]:
    """The channel is the only loop variable that the statements behind a window may use."""
    return (*(None,) * (len(node.type.shape) - 1), "m")


def make_pool(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    """The kernel of MaxPool and SumPool."""
    op = cast(MaxPool | SumPool, node.op)
    acc = accumulator(node, context)
    geometry = geometry_of(op, context.shapes[node.inputs[0]], node.type.shape)
    kind = type(op).__name__
    lowest = int(context.bounds[node.inputs[0]].lo.min())
    what = f"{'max' if kind == 'MaxPool' else 'sum'} pool {geometry.words}"
    return WindowKernel(
        name=name,
        layer=node.layer,
        what=", ".join([what, *finished(step.fused)]),
        template="pool",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=epilogue_of(step.fused, name, context, acc, _axes(node)),
        by_rows=RowForm((geometry.rows,)),
        kind=kind,
        geometry=geometry,
        start=literal(lowest) if kind == "MaxPool" else "0",
    )


@dataclass(frozen=True, kw_only=True)
class TotalKernel(WindowKernel):
    """The sum of all positions. `by_words`: four channels at a time, which lie in a word."""

    by_words: bool


def make_total(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    """The kernel of a SumPool over everything: rows are added as they come."""
    geometry = geometry_of(cast(SumPool, node.op), context.shapes[node.inputs[0]], node.type.shape)
    by_words = inputs[0].ctype.name == "uint8_t" and geometry.in_c >= 4 and not context.core.traps_unaligned
    return TotalKernel(
        name=name,
        layer=node.layer,
        what=f"sum of all positions, {geometry.in_h}x{geometry.in_w}x{geometry.in_c}",
        template="total",
        inputs=inputs,
        y=y,
        acc=accumulator(node, context).name,
        by_rows=RowForm((Window(1, 1, 0),), accumulates=True),
        uses_string=by_words,
        kind="Total",
        geometry=geometry,
        by_words=by_words,
    )
