"""Kernels that only move elements: Concat, Transpose, Pad, Slice and Upsample as loops around contiguous runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgeflow.backends.c.ctypes import literal
from edgeflow.backends.c.flow import Window
from edgeflow.backends.c.kernel import Axis, Context, Kernel, RowForm
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.ir.graph import Node, Op
from edgeflow.ir.types import Shape
from edgeflow.ops.concat import Concat
from edgeflow.ops.pad import Pad
from edgeflow.ops.slicing import Slice
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample

_SHORT = 4
"""Elements: a shorter run is copied by a loop, which beats the call of memcpy."""

SMALL = 256
"""Bytes: a smaller result is made at once, as its rows would save less RAM than the loop over them takes of flash."""


class Stride(NamedTuple):
    """A loop: its length, and how many elements one step moves ahead in the result and in the input."""

    length: int
    to: int
    at: int


@dataclass(frozen=True)
class Route:
    """Which elements of an input go where: loops from the outermost in, and both starts."""

    strides: tuple[Stride, ...]
    to: int = 0
    at: int = 0


@dataclass(frozen=True)
class Move:
    """A loop nest around a run of elements that lie side by side in the input `x` and in the result.

    `to` and `at` are C expressions of the run's first elements. `size`: bytes of a run for memcpy, 0 for a loop.
    """

    x: str
    axes: tuple[Axis, ...]
    to: str
    at: str
    run: int
    size: int


@dataclass(frozen=True, kw_only=True)
class MoveKernel(Kernel):
    """`moves`, after the whole result was filled with `fill` (by memset where `fill_byte` is set).

    By rows, all of this goes for one of `rows` rows; `outside`: it may have no row of the input, and is the fill then.
    """

    moves: tuple[Move, ...]
    fill: str | None
    fill_byte: int | None
    rows: int = 1
    outside: bool = False

    @property
    def row_elements(self) -> int:
        """Elements of the result that are made at once."""
        return self.y.elements // self.rows

    @property
    def row_bytes(self) -> int:
        """Bytes of the result that are made at once."""
        return self.y.size // self.rows


def make_move(step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> Kernel:
    """The kernel of an op that moves elements."""
    shapes = tuple(context.shapes[one] for one in node.inputs)
    in_rows = _in_rows(node, shapes) if y.size >= SMALL else None
    what, routes = _ROUTES[type(node.op)](
        in_rows.op if in_rows else node.op,
        tuple((1, *one[1:]) for one in shapes) if in_rows else shapes,
        (1, *node.type.shape[1:]) if in_rows else node.type.shape,
    )
    operand = "row" if in_rows else "x"
    moves = tuple(
        _move(route, f"{operand}{number or ''}", one, y)
        for number, (route, one) in enumerate(zip(routes, inputs, strict=True))
    )
    value = _fill(node.op) if y.elements > sum(one.elements for one in inputs) else None
    byte = None if value is None or (value not in (0, -1) and y.ctype.size > 1) else value & 0xFF
    return MoveKernel(
        name=name,
        layer=node.layer,
        what=f"{what}, {' and '.join(_show(shape) for shape in shapes)} -> {_show(node.type.shape)}",
        template="move",
        inputs=inputs,
        y=y,
        by_rows=RowForm((in_rows.window,) * len(inputs)) if in_rows else None,
        uses_string=byte is not None or any(move.size for move in moves),
        moves=moves,
        fill=None if value is None else literal(value),
        fill_byte=byte,
        rows=node.type.shape[0] if in_rows else 1,
        outside=in_rows is not None and in_rows.outside,
    )


@dataclass(frozen=True)
class _InRows:
    """What an op does within a row of its result, the row of each operand that this row needs, whether one lacks."""

    op: Op
    window: Window
    outside: bool = False


def _in_rows(node: Node, shapes: Sequence[Shape]) -> _InRows | None:
    """None where a row needs other than one row of each operand, or where there is one row only."""
    shape, same = node.type.shape, Window(1)
    if len(shape) == 1 or shape[0] == 1 or any(len(one) != len(shape) for one in shapes):
        return None
    match node.op:
        case Concat(axis=axis) if axis > 0:
            return _InRows(node.op, same)
        case Transpose(order=order) if order[0] == 0:
            return _InRows(node.op, same)
        case Upsample(factors=factors) if factors[0] == 1:
            return _InRows(node.op, same)
        case Pad(pads=pads) as pad:
            return _InRows(replace(pad, pads=((0, 0), *pads[1:])), Window(1, before=pads[0][0]), any(pads[0]))
        case Slice(begin=begin, strides=strides) as part:
            size = (1, *part.size[1:])
            op = replace(part, begin=(0, *begin[1:]), size=size, strides=(1, *strides[1:]))
            return _InRows(op, Window(1, strides[0], -begin[0]))
        case _:
            return None


def _show(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _fill(op: Op) -> int | None:
    """What the elements hold that no input gives."""
    match op:
        case Pad():
            return op.value
        case Upsample(zeros=True):
            return 0
        case _:
            return None


def _move(route: Route, x: str, source: Buffer, y: Buffer) -> Move:
    """The route in as few loops as it needs, the innermost as a run where it is contiguous on both sides."""
    kept: list[Stride] = []
    for one in route.strides:
        if one.length == 1:
            continue
        if kept and kept[-1][1:] == (one.length * one.to, one.length * one.at):
            kept[-1] = Stride(kept[-1].length * one.length, one.to, one.at)
        else:
            kept.append(one)
    run = kept.pop().length if kept and kept[-1][1:] == (1, 1) else 1
    axes = tuple(Axis(f"a{number}", one.length) for number, one in enumerate(kept))
    copies = run >= _SHORT and source.ctype.size == y.ctype.size
    return Move(
        x=x,
        axes=axes,
        to=_index(axes, [one.to for one in kept], route.to),
        at=_index(axes, [one.at for one in kept], route.at),
        run=run,
        size=run * y.ctype.size if copies else 0,
    )


def _index(axes: Sequence[Axis], strides: Sequence[int], start: int) -> str:
    """A linear index as a C expression."""
    terms = [
        axis.name if stride == 1 else f"{axis.name} * {stride}"
        for axis, stride in zip(axes, strides, strict=True)
        if stride
    ]
    terms += [str(start)] if start or not terms else []
    return " + ".join(terms)


def _steps(shape: Shape) -> tuple[int, ...]:
    """How many elements one step along each axis moves ahead, row-major."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _concat(op: Op, sources: tuple[Shape, ...], result: Shape) -> tuple[str, list[Route]]:
    assert isinstance(op, Concat)
    outer, whole = math.prod(result[: op.axis]), math.prod(result[op.axis :])
    routes: list[Route] = []
    start = 0
    for source in sources:
        part = math.prod(source[op.axis :])
        routes.append(Route((Stride(outer, whole, part), Stride(part, 1, 1)), to=start))
        start += part
    return f"join along axis {op.axis}", routes


def _transpose(op: Op, sources: tuple[Shape, ...], result: Shape) -> tuple[str, list[Route]]:
    assert isinstance(op, Transpose)
    steps = _steps(sources[0])
    strides = zip(result, _steps(result), (steps[axis] for axis in op.order), strict=True)
    return "transpose", [Route(tuple(Stride(*one) for one in strides))]


def _pad(op: Op, sources: tuple[Shape, ...], result: Shape) -> tuple[str, list[Route]]:
    assert isinstance(op, Pad)
    steps = _steps(result)
    strides = zip(sources[0], steps, _steps(sources[0]), strict=True)
    start = sum(before * step for (before, _), step in zip(op.pads, steps, strict=True))
    return f"pad with {op.value}", [Route(tuple(Stride(*one) for one in strides), to=start)]


def _slice(op: Op, sources: tuple[Shape, ...], result: Shape) -> tuple[str, list[Route]]:
    assert isinstance(op, Slice)
    steps = _steps(sources[0])
    strides = zip(result, _steps(result), (step * by for step, by in zip(steps, op.strides, strict=True)), strict=True)
    start = sum(first * step for first, step in zip(op.begin, steps, strict=True))
    return "slice", [Route(tuple(Stride(*one) for one in strides), at=start)]


def _upsample(op: Op, sources: tuple[Shape, ...], result: Shape) -> tuple[str, list[Route]]:
    assert isinstance(op, Upsample)
    strides: list[Stride] = []
    axes = zip(sources[0], _steps(result), _steps(sources[0]), (*op.factors, 1), strict=True)
    for length, to, at, factor in axes:
        strides.append(Stride(length, to * factor, at))
        if not op.zeros:
            strides.append(Stride(factor, to, 0))
    return "zeros between" if op.zeros else "nearest upsampling", [Route(tuple(strides))]


_ROUTES: dict[type, Callable[[Op, tuple[Shape, ...], Shape], tuple[str, list[Route]]]] = {
    Concat: _concat,
    Transpose: _transpose,
    Pad: _pad,
    Slice: _slice,
    Upsample: _upsample,
}
MOVES = tuple(_ROUTES)
"""The ops that compute nothing."""
