"""Conv, Dense and the pools as kernels, and the table of what makes each op's kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import Table, literal, table
from edgeflow.backends.c.elements import make_element
from edgeflow.backends.c.epilogue import POINTWISE
from edgeflow.backends.c.kernel import Context, Kernel, Maker, accumulator, epilogue_of, finished
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.moves import MOVES, make_move
from edgeflow.backends.c.rows import make_argmax, make_softmax
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.add import Add
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.sumpool import SumPool


@dataclass(frozen=True, kw_only=True)
class WindowKernel(Kernel):
    """Conv, MaxPool and SumPool, seen as two-dimensional (a missing axis has length 1)."""

    kind: str
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
    padded: bool
    start: str = "0"
    groups: int = 1
    each: int = 1
    pad_value: str = "0"
    weight: Table | None = None
    bias: str = "0"

    @property
    def xs(self) -> str:
        """The input pointer of a group."""
        return "xg" if self.groups > 1 else "x"

    @property
    def row(self) -> str:
        """The input row that a tap reads."""
        return _position("oy", self.stride_h, "ky", self.dilation_h, self.pad_top)

    @property
    def column(self) -> str:
        """The input column that a tap reads."""
        return _position("ox", self.stride_w, "kx", self.dilation_w, self.pad_left)


def _position(out: str, stride: int, tap: str, dilation: int, pad: int) -> str:
    base = out if stride == 1 else f"{out} * {stride}"
    step = tap if dilation == 1 else f"{tap} * {dilation}"
    return f"{base} + {step}" + (f" - {pad}" if pad else "")


@dataclass(frozen=True, kw_only=True)
class DenseKernel(Kernel):
    """A matrix product over the last axis of `rows` vectors."""

    rows: int
    in_c: int
    out_c: int
    weight: Table
    bias: str


def make_kernel(step: Step, name: str, context: Context) -> Kernel:
    """The kernel of a step, under a C identifier."""
    inputs = tuple(context.lowered.buffer(one) for one in step.reads)
    y = context.lowered.buffers[step.result]
    if step.node is None:
        return Kernel(name=name, layer=step.layer, what="copy", template="copy", inputs=inputs, y=y, uses_string=True)
    maker = KERNELS[type(step.node.op)]
    return maker(step, step.node, name, context, inputs, y)


def _bias(name: str, bias: IntArray, index: str) -> tuple[str, tuple[Table, ...]]:
    if (bias == bias.flat[0]).all():
        return literal(int(bias.flat[0])), ()
    entry = table(f"{name}_bias", bias)
    return f"{entry.name}[{index}]", (entry,)


def _flat2(shape: Shape) -> tuple[int, int, int]:
    """(height, width, channels) of a tensor with one or two spatial axes."""
    return (1, *shape) if len(shape) == 2 else cast(tuple[int, int, int], shape)


def _pair(values: Shape, fill: int) -> tuple[int, int]:
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


def _conv(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    op = cast(Conv, node.op)
    acc = accumulator(node, context)
    source = context.shapes[node.inputs[0]]
    (in_h, in_w, in_c), (out_h, out_w, out_c) = _flat2(source), _flat2(node.type.shape)
    k_h, k_w = _pair(op.window, 1)
    axes = ("oy", "ox", "m") if len(source) == 3 else ("ox", "m")
    weight = table(f"{name}_weight", np.moveaxis(op.weight, -1, 0))
    bias, bias_tables = _bias(name, op.bias, "m")
    stride_h, stride_w = _pair(op.strides, 1)
    dilation_h, dilation_w = _pair(op.dilation, 1)
    pad_top, pad_left = _pair(tuple(before for before, _ in op.pads), 0)
    kind = "depthwise" if op.groups == in_c and op.groups > 1 else "conv"
    grouped = f", {op.groups} groups" if kind == "conv" and op.groups > 1 else ""
    what = f"{kind} {k_h}x{k_w}, {in_h}x{in_w}x{in_c} -> {out_h}x{out_w}x{out_c}, stride {stride_h}x{stride_w}{grouped}"
    return WindowKernel(
        name=name,
        layer=node.layer,
        what=", ".join([what, *finished(step.fused)]),
        template="Conv",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=epilogue_of(step.fused, name, context, acc, axes),
        own_tables=(weight, *bias_tables),
        kind="Conv",
        in_h=in_h,
        in_w=in_w,
        in_c=in_c,
        out_h=out_h,
        out_w=out_w,
        out_c=out_c,
        k_h=k_h,
        k_w=k_w,
        stride_h=stride_h,
        stride_w=stride_w,
        dilation_h=dilation_h,
        dilation_w=dilation_w,
        pad_top=pad_top,
        pad_left=pad_left,
        padded=any(before or after for before, after in op.pads),
        groups=op.groups,
        each=op.weight.shape[-2],
        pad_value=literal(op.pad_value),
        weight=weight,
        bias=bias,
    )


def _pool(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    op = cast(MaxPool | SumPool, node.op)
    acc = accumulator(node, context)
    source = context.shapes[node.inputs[0]]
    (in_h, in_w, in_c), (out_h, out_w, out_c) = _flat2(source), _flat2(node.type.shape)
    k_h, k_w = _pair(op.window, 1)
    stride_h, stride_w = _pair(op.strides, 1)
    pad_top, pad_left = _pair(tuple(before for before, _ in op.pads), 0)
    axes = ("oy", "ox", "m") if len(source) == 3 else ("ox", "m")
    kind = type(op).__name__
    lowest = int(context.bounds[node.inputs[0]].lo.min())
    what = f"{'max' if kind == 'MaxPool' else 'sum'} pool {k_h}x{k_w}, {in_h}x{in_w}x{in_c} -> {out_h}x{out_w}x{out_c}"
    return WindowKernel(
        name=name,
        layer=node.layer,
        what=", ".join([what, *finished(step.fused)]),
        template="pool",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=epilogue_of(step.fused, name, context, acc, axes),
        kind=kind,
        in_h=in_h,
        in_w=in_w,
        in_c=in_c,
        out_h=out_h,
        out_w=out_w,
        out_c=out_c,
        k_h=k_h,
        k_w=k_w,
        stride_h=stride_h,
        stride_w=stride_w,
        dilation_h=1,
        dilation_w=1,
        pad_top=pad_top,
        pad_left=pad_left,
        padded=any(before or after for before, after in op.pads),
        start=literal(lowest) if kind == "MaxPool" else "0",
    )


def _dense(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    op = cast(Dense, node.op)
    acc = accumulator(node, context)
    in_c, out_c = op.weight.shape
    weight = table(f"{name}_weight", op.weight.T)
    bias, bias_tables = _bias(name, op.bias, "m")
    axes = (*(None,) * (len(node.type.shape) - 1), "m")
    return DenseKernel(
        name=name,
        layer=node.layer,
        what=", ".join([f"dense {in_c} -> {out_c}", *finished(step.fused)]),
        template="Dense",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=epilogue_of(step.fused, name, context, acc, axes),
        own_tables=(weight, *bias_tables),
        rows=node.type.size // out_c,
        in_c=in_c,
        out_c=out_c,
        weight=weight,
        bias=bias,
    )


KERNELS: Mapping[type, Maker] = {
    Conv: _conv,
    Dense: _dense,
    Add: make_element,
    Multiply: make_element,
    MaxPool: _pool,
    SumPool: _pool,
    ArgMax: make_argmax,
    Softmax: make_softmax,
    **dict.fromkeys(POINTWISE, make_element),
    **dict.fromkeys(MOVES, make_move),
}
