"""Kernels that make one value at a time, in the order of the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeflow.backends.c.ctypes import CType, working_type
from edgeflow.backends.c.epilogue import POINTWISE, Epilogue, varies_along, write_epilogue
from edgeflow.backends.c.flow import Reuse, Window
from edgeflow.backends.c.kernel import Axis, Context, Kernel, RowForm, accumulator, epilogue_of, finished
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.ir.graph import Node, Op
from edgeflow.ir.types import Shape
from edgeflow.ops.add import Add
from edgeflow.ops.multiply import Multiply


@dataclass(frozen=True)
class Operand:
    """A value that statements make of one that is read, which is `read` as a variable of type `ctype`."""

    variable: str
    ctype: str
    read: str
    epilogue: Epilogue


@dataclass(frozen=True, kw_only=True)
class ElementKernel(Kernel):
    """One value at a time, in the order of the result: Add, Multiply, and pointwise ops on their own.

    `operands` are what is done to values before they are added or multiplied.
    """

    value: str
    axes: tuple[Axis, ...]
    operands: tuple[Operand, ...] = ()

    @property
    def epilogues(self) -> tuple[Epilogue, ...]:
        """What is done to values while they are in a register."""
        return (*(one.epilogue for one in self.operands), *super().epilogues)

    @property
    def row_elements(self) -> int:
        """Elements that the loops go over."""
        return math.prod(axis.length for axis in self.axes)


def make_element(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> ElementKernel:
    """The kernel of Add, Multiply, or pointwise ops on their own."""
    acc = accumulator(node, context)
    alone = isinstance(node.op, POINTWISE)
    pointwise = (node, *step.fused) if alone else step.fused
    every = (*step.before, *pointwise)
    shapes = [context.shapes[one] for one in node.inputs]
    rows = _rows(node.type.shape, every, shapes)
    if rows:
        shapes = [(1, *shape[1:]) for shape in shapes]
    shape = shapes[0] if rows else node.type.shape
    axes, names = _loops(shape, every, shapes)
    operand = "row" if rows else "x"
    reads = [f"{operand}{number or ''}[{_place(one, shape, axes)}]" for number, one in enumerate(shapes)]
    before = {one.name: one for one in step.before}
    operands = {
        number: _operand(before[one], f"{name}_x{number or ''}", context, reads[number], names)
        for number, one in enumerate(node.inputs)
        if one in before
    }
    terms = [
        _term(operands[number].epilogue.value if number in operands else reads[number], acc, whole=whole)
        for number, whole in enumerate(alone and one.ctype.size < acc.size for one in inputs)
    ]
    words = [_WORDS[type(node.op)]] if type(node.op) in _WORDS else []
    return ElementKernel(
        name=name,
        layer=node.layer,
        what=", ".join([*words, *finished(pointwise)]),
        template="elementwise",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=epilogue_of(pointwise, name, context, acc, names),
        by_rows=rows,
        value=_value(node.op, terms),
        axes=axes,
        operands=tuple(operands.values()),
    )


def _operand(node: Node, name: str, context: Context, read: str, axes: Sequence[str | None]) -> Operand:
    """What a pointwise node does to the values of an operand. `name` starts the tables' names, and ends like `x`."""
    source = context.bounds[node.inputs[0]]
    kind = working_type(int(source.lo.min()), int(source.hi.max()))
    number = name.rpartition("_x")[2]
    variable = f"in{number}"
    epilogue = write_epilogue((node,), name, context.bounds, kind, axes, (variable, f"part{number}"))
    return Operand(variable, kind.name, read, epilogue)


def _term(value: str, acc: CType, *, whole: bool) -> str:
    """A value in the accumulator's type; `whole` where C converts it to that without loss by itself."""
    return value if whole else f"({acc.name}){value}"


def _rows(shape: Shape, pointwise: Sequence[Node], operands: Sequence[Shape]) -> RowForm | None:
    """By rows where a row of the result needs the same row of every operand, and no parameter knows the row."""
    same = all(one == shape for one in operands)
    varying = frozenset[int]().union(*(varies_along(node.op, len(shape)) for node in pointwise))
    if not same or len(shape) == 1 or shape[0] == 1 or 0 in varying:
        return None
    return RowForm((Window(1),) * len(operands), reuse=Reuse.SAME_ROWS)


_WORDS: dict[type, str] = {Add: "add", Multiply: "multiply"}


def _value(op: Op, terms: Sequence[str]) -> str:
    """The C expression of an element before pointwise ops."""
    match op:
        case Add():
            signed = [f"{'+' if sign > 0 else '-'} {term}" for sign, term in zip(op.signs, terms, strict=True)]
            return " ".join(signed).removeprefix("+ ")
        case _:
            return " * ".join(terms)


def _loops(
    shape: Shape, pointwise: Sequence[Node], operands: Sequence[Shape] = ()
) -> tuple[tuple[Axis, ...], tuple[str | None, ...]]:
    """The fewest loops over a shape, and the loop variable of each axis that has a loop of its own.

    Axes along which a parameter of a pointwise node differs stand alone; others are one loop where they lie side by
    side and every operand either has all of them or broadcasts along all of them. One loop is called i.
    """
    alone = frozenset[int]().union(*(varies_along(node.op, len(shape)) for node in pointwise))
    groups: list[list[int]] = []
    for axis in (axis for axis, length in enumerate(shape) if length > 1):
        last = groups[-1] if groups else [axis]
        joins = bool(groups) and not alone & {axis, *last}
        if joins and all((one[axis] == 1) == (one[last[0]] == 1) for one in operands):
            last.append(axis)
        else:
            groups.append([axis])
    names: list[str | None] = [None] * len(shape)
    axes: list[Axis] = []
    for group in groups or [[]]:
        name = "i" if len(groups) <= 1 else f"a{group[0]}"
        axes.append(Axis(name, math.prod(shape[axis] for axis in group)))
        if len(group) == 1:
            names[group[0]] = name
    return tuple(axes), tuple(names)


def _place(operand: Shape, shape: Shape, axes: tuple[Axis, ...]) -> str:
    """Where an operand that broadcasts against the result has the element of the current loop variables."""
    if operand == shape:
        return "i"
    terms: list[str] = []
    stride, axis = 1, len(shape) - 1
    for loop in reversed(axes):
        covered = count = 1
        while covered < loop.length:
            covered, count, axis = covered * shape[axis], count * operand[axis], axis - 1
        if count > 1:
            terms.append(f"{loop.name} * {stride}" if stride > 1 else loop.name)
        stride *= count
    return " + ".join(reversed(terms)) or "0"
