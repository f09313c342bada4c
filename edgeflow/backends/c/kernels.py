"""What each op's template needs: geometry, types, tables and the fused Requant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import Table, literal, table, working_type
from edgeflow.backends.c.epilogue import Epilogue, varies_along, write_epilogue
from edgeflow.backends.c.lower import Buffer, Lowered, Step
from edgeflow.ir.graph import Bounds, Node
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant
from edgeflow.ops.sumpool import SumPool


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One layer function of the generated source. `what` is its comment, `template` the loop nest."""

    name: str
    layer: str
    what: str
    template: str
    inputs: tuple[Buffer, ...]
    y: Buffer
    acc: str = "int32_t"
    epilogue: Epilogue | None = None
    own_tables: tuple[Table, ...] = ()

    @property
    def x(self) -> Buffer:
        """The first operand."""
        return self.inputs[0]

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every constant array that the function reads."""
        return (*self.own_tables, *(self.epilogue.tables if self.epilogue else ()))


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


@dataclass(frozen=True)
class Axis:
    """A loop of the elementwise template."""

    name: str
    length: int


@dataclass(frozen=True, kw_only=True)
class ElementKernel(Kernel):
    """Add and a Requant on its own. Without `axes` one flat loop suffices."""

    elements: int
    value: str
    axes: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Context:
    """What a kernel builder may look at."""

    lowered: Lowered
    bounds: Mapping[str, Bounds]
    shapes: Mapping[str, Shape]


def make_kernel(step: Step, name: str, context: Context) -> Kernel:
    """The kernel of a step, under a C identifier."""
    inputs = tuple(context.lowered.buffer(one) for one in step.reads)
    y = context.lowered.buffers[step.result]
    if step.node is None:
        return Kernel(name=name, layer=step.layer, what="copy", template="copy", inputs=inputs, y=y)
    maker = KERNELS[type(step.node.op)]
    return maker(step, step.node, name, context, inputs, y)


def _reach(node: Node, context: Context) -> tuple[int, int]:
    """The interval of every intermediate sum of a node, in any order."""
    sources = tuple(context.bounds[one] for one in node.inputs)
    own = context.bounds[node.name]
    lo, hi = int(own.lo.min()), int(own.hi.max())
    match node.op:
        case Conv() as conv:
            sums = conv.sums(sources[0], context.shapes[node.inputs[0]][-1])
        case Dense() as dense:
            sums = dense.sums(sources[0])
        case SumPool():
            return min(lo, 0), max(hi, 0)
        case Add():
            reach = sum(max(abs(int(one.lo.min())), abs(int(one.hi.max()))) for one in sources)
            return -reach, reach
        case _:
            first = sources[0]
            return min(lo, int(first.lo.min())), max(hi, int(first.hi.max()))
    return int(sums.partial_lo.min()), int(sums.partial_hi.max())


def _acc(node: Node, context: Context) -> str:
    return working_type(*_reach(node, context)).name


def _epilogue(step: Step, name: str, context: Context, axes: tuple[str | None, ...]) -> Epilogue | None:
    if step.requant is None or step.node is None:
        return None
    op = cast(Requant, step.requant.op)
    return write_epilogue(op, name, context.bounds[step.node.name], axes, step.requant.type.shape)


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
        what=what + _requantized(step),
        template="Conv",
        inputs=inputs,
        y=y,
        acc=_acc(node, context),
        epilogue=_epilogue(step, name, context, axes),
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
        what=what + _requantized(step),
        template="pool",
        inputs=inputs,
        y=y,
        acc=_acc(node, context),
        epilogue=_epilogue(step, name, context, axes),
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
    in_c, out_c = op.weight.shape
    weight = table(f"{name}_weight", op.weight.T)
    bias, bias_tables = _bias(name, op.bias, "m")
    axes = (*(None,) * (len(node.type.shape) - 1), "m")
    return DenseKernel(
        name=name,
        layer=node.layer,
        what=f"dense {in_c} -> {out_c}{_requantized(step)}",
        template="Dense",
        inputs=inputs,
        y=y,
        acc=_acc(node, context),
        epilogue=_epilogue(step, name, context, axes),
        own_tables=(weight, *bias_tables),
        rows=node.type.size // out_c,
        in_c=in_c,
        out_c=out_c,
        weight=weight,
        bias=bias,
    )


def _add(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    op = cast(Add, node.op)
    acc = _acc(node, context)
    terms = [f"{'+' if sign > 0 else '-'} ({acc})x{number or ''}[i]" for number, sign in enumerate(op.signs)]
    value = " ".join(terms).removeprefix("+ ")
    return _elementwise(step, node, name, context, inputs, y, "add" + _requantized(step), value, step.requant)


def _requant(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    return _elementwise(step, node, name, context, inputs, y, "requantize", "x[i]", node)


def _elementwise(
    step: Step,
    node: Node,
    name: str,
    context: Context,
    inputs: tuple[Buffer, ...],
    y: Buffer,
    what: str,
    value: str,
    requant: Node | None,
) -> Kernel:
    shape = node.type.shape
    names = tuple(f"a{axis}" for axis in range(len(shape)))
    epilogue = None
    axes: tuple[Axis, ...] = ()
    if requant is not None:
        op = cast(Requant, requant.op)
        source = context.bounds[node.name if requant is not node else node.inputs[0]]
        epilogue = write_epilogue(op, name, source, names, shape)
        if varies_along(op, len(shape)):
            axes = tuple(Axis(one, length) for one, length in zip(names, shape, strict=True))
    return ElementKernel(
        name=name,
        layer=node.layer,
        what=what,
        template="elementwise",
        inputs=inputs,
        y=y,
        acc=_acc(node, context),
        epilogue=epilogue,
        elements=node.type.size,
        value=value,
        axes=axes,
    )


def _requantized(step: Step) -> str:
    return ", requantize" if step.requant else ""


_Maker = Callable[[Step, Node, str, Context, tuple[Buffer, ...], Buffer], Kernel]

KERNELS: dict[type, _Maker] = {
    Conv: _conv,
    Dense: _dense,
    Add: _add,
    MaxPool: _pool,
    SumPool: _pool,
    Requant: _requant,
}
