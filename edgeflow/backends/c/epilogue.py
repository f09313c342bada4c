"""What happens to a value while it is in a register: Requant, Lut and Threshold as C statements."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import INT32, INT64, CType, Table, literal, table, working_type
from edgeflow.ir.graph import Bounds, Node, Op
from edgeflow.ir.types import IntArray
from edgeflow.ops.lut import Lut
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.threshold import Threshold

FEW_LEVELS = 8
"""Up to so many thresholds are compared one by one; more are searched by halves."""


class Piece(enum.Enum):
    """What statements do to a value, in the pieces that a cost model counts."""

    LOAD = "read a parameter from a table"
    MULTIPLY = "multiply it"
    HIGH_PRODUCT = "multiply it, keep the upper 32 of 64 bits"
    ADD = "add a bias or an offset"
    SHIFT = "shift it right by a constant"
    SHIFT_LOADED = "shift it right by what a table says"
    HALF_UP = "round the shift half up"
    HALF_EVEN = "round the shift half to even"
    HALF_AWAY = "round the shift half away from zero"
    CLAMP = "compare it with one end"


@dataclass(frozen=True)
class Epilogue:
    """Statements that turn `acc` into `value`, the tables that they read and the rounding helpers that they call.

    `wide`: some of them compute with 64 bits. `pieces`: what they do, each with whether that is done in 64 bits.
    """

    value: str
    wide: bool
    statements: tuple[str, ...]
    tables: tuple[Table, ...]
    helpers: frozenset[tuple[Rounding, CType]]
    pieces: tuple[tuple[Piece, bool], ...]


@dataclass
class _Writer:
    """What the statements share. `axes` names the loop variable of each axis of the tensor.

    A table's name is the kernel's and one word, with the number of the op behind it from the second op on.
    `wide`: the op at hand computes with 64 bits.
    """

    axes: Sequence[str | None]
    kernel: str
    number: str = ""
    wide: bool = False
    tables: list[Table] = field(default_factory=list[Table])
    helpers: set[tuple[Rounding, CType]] = field(default_factory=set[tuple[Rounding, CType]])
    pieces: list[tuple[Piece, bool]] = field(default_factory=list[tuple[Piece, bool]])

    @property
    def rank(self) -> int:
        """Axes of the tensor."""
        return len(self.axes)

    def value(self, array: IntArray, what: str) -> str:
        """A literal when all entries agree, else an indexed table."""
        if not _differs(array):
            return literal(int(array.flat[0]))
        array = _narrowed(array)
        shape = (1,) * (self.rank - array.ndim) + array.shape
        terms: list[str] = []
        stride = 1
        for axis in range(self.rank - 1, -1, -1):
            if shape[axis] > 1:
                terms.append(f"{self.axes[axis]} * {stride}" if stride > 1 else f"{self.axes[axis]}")
                stride *= shape[axis]
        self.did(Piece.LOAD)
        return f"{self.table(array, what)}[{' + '.join(reversed(terms))}]"

    def did(self, *pieces: Piece) -> None:
        """Notes what the statements at hand do."""
        self.pieces += [(piece, self.wide) for piece in pieces]

    def amount(self, shift: IntArray, what: str) -> str:
        """The value of a right shift's amount."""
        self.did(Piece.SHIFT_LOADED if _differs(shift) else Piece.SHIFT)
        return self.value(shift, what)

    def table(self, array: IntArray, what: str) -> str:
        """The name of a new table."""
        self.tables.append(table(f"{self.kernel}_{what}{self.number}", array))
        return self.tables[-1].name


@dataclass(frozen=True)
class _Value:
    """A C variable, its type and its bounds."""

    name: str
    ctype: CType
    bounds: Bounds

    def as_type(self, ctype: CType) -> str:
        """The variable as another type."""
        return f"({ctype.name}){self.name}" if ctype.size < self.ctype.size else self.name


def varies_along(op: Op, rank: int) -> frozenset[int]:
    """The axes along which any parameter of a pointwise op differs."""
    match op:
        case Requant():
            parameters = op.arrays()
        case Threshold():
            own = len(_rows(op)) > 1 or _differs(op.first) or _differs(op.step)
            return frozenset({rank - 1} if own else ())
        case _:
            return frozenset()
    found: set[int] = set()
    for array in filter(_differs, parameters):
        found.update(axis + rank - array.ndim for axis, length in enumerate(array.shape) if length > 1)
    return frozenset(found)


def _narrowed(array: IntArray) -> IntArray:
    """A parameter with length 1 along every axis along which it is the same: it broadcasts to the same values."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if (array == first).all():
            array = first
    return array


def _differs(array: IntArray) -> bool:
    return bool((array != array.flat[0]).any())


def _rows(threshold: Threshold) -> IntArray:
    """The rows of thresholds: one where all channels agree."""
    return threshold.thresholds if (threshold.thresholds != threshold.thresholds[0]).any() else threshold.thresholds[:1]


def write_epilogue(
    nodes: Sequence[Node],
    name: str,
    bounds: Mapping[str, Bounds],
    acc: CType,
    axes: Sequence[str | None],
    variables: tuple[str, str] = ("acc", "v"),
) -> Epilogue:
    """C for pointwise nodes, each of which reads the one before it. `name` starts all tables.

    `variables`: the one that the first reads, and what starts the names of their results. `axes` names the loop
    variable of each tensor axis. An axis named None has no loop variable: no parameter may vary along it
    (`varies_along`).
    """
    writer = _Writer(axes, name)
    statements: list[str] = []
    start, stem = variables
    value = _Value(start, acc, bounds[nodes[0].inputs[0]])
    wide = False
    for number, node in enumerate(nodes, start=1):
        writer.number = str(number) if number > 1 else ""
        writer.wide = value.ctype is INT64
        result = f"{stem}{writer.number}"
        ctype, lines = _WRITERS[type(node.op)](node.op, writer, value, result)
        statements += lines
        value = _Value(result, ctype, bounds[node.name])
        wide = wide or ctype is INT64
    pieces = tuple(writer.pieces)
    return Epilogue(value.name, wide, tuple(statements), tuple(writer.tables), frozenset(writer.helpers), pieces)


def _requant(op: Op, writer: _Writer, value: _Value, result: str) -> tuple[CType, list[str]]:
    requant = cast(Requant, op)
    ctype = _arithmetic(requant, value.bounds)
    writer.wide = ctype is INT64
    lines = [f"{ctype.name} {result} = {value.as_type(ctype)};"]
    scale = requant.multiplier << requant.pre
    if (scale != 1).any():
        writer.did(Piece.MULTIPLY)
        lines.append(f"{result} *= {writer.value(scale, 'multiplier')};")
    stages = [(index, stage) for index, stage in enumerate(requant.stages) if stage.shift.any()]
    if requant.bias.any():
        writer.did(Piece.ADD)
        if stages and stages[0][1].rounding is Rounding.HALF_UP:
            index, stage = stages.pop(0)
            amount = writer.amount(stage.shift, f"shift{index}")
            addend = writer.value(_addend(requant.bias, stage), "addend")
            lines.append(f"{result} = ({result} + {addend}) >> {amount};")
        else:
            lines.append(_add(result, writer.value(requant.bias, "addend")))
    for index, stage in stages:
        lines += _shift(stage, index, writer, ctype, result)
    if requant.offset.any():
        writer.did(Piece.ADD)
        lines.append(_add(result, writer.value(requant.offset, "offset")))
    return ctype, lines + _clamp(requant, value.bounds, writer, result)


def _addend(bias: IntArray, stage: Stage) -> IntArray:
    """The bias and half of what the stage's shift divides by: one addition for both."""
    return bias + ((np.int64(1) << stage.shift) >> 1)


def _arithmetic(requant: Requant, source: Bounds) -> CType:
    """The type that holds every value on the way and every parameter."""
    unbiased = replace(requant, bias=np.zeros((), dtype=np.int64)).products(source)
    product = requant.products(source)
    lo, hi = int(product.lo.min()), int(product.hi.max())
    room = max(_halves(requant), int(np.abs(requant.offset).max()))
    ends = [(lo - room, hi + room)]
    ends += [(int(one.lo.min()), int(one.hi.max())) for one in (source, unbiased)]
    scale = requant.multiplier << requant.pre
    addends = (_addend(requant.bias, stage) for stage in requant.stages)
    constants = (scale, requant.bias, *addends, requant.offset, requant.lo, requant.hi)
    ends += [(int(array.min()), int(array.max())) for array in constants]
    return working_type(min(lo for lo, _ in ends), max(hi for _, hi in ends))


def _halves(requant: Requant) -> int:
    """The most that a rounding adds before its shift."""
    return max(1 + (1 << int(stage.shift.max()) >> 1) for stage in requant.stages)


def _add(result: str, value: str) -> str:
    """A negative constant is taken away."""
    return f"{result} -= {value[1:]};" if value.startswith("-") else f"{result} += {value};"


def _shift(stage: Stage, index: int, writer: _Writer, ctype: CType, result: str) -> list[str]:
    amount = writer.amount(stage.shift, f"shift{index}")
    if stage.rounding is Rounding.FLOOR:
        return [f"{result} >>= {amount};"]
    writer.did(Piece[stage.rounding.name])
    writer.helpers.add((stage.rounding, ctype))
    call = f"{result} = {helper_name(stage.rounding, ctype)}({result}, {amount});"
    if (stage.shift == 0).any():
        return [f"if ({amount} != 0) {{", f"    {call}", "}"]
    return [call]


def helper_name(rounding: Rounding, ctype: CType) -> str:
    """The C function of a rounding shift."""
    return f"shift_{rounding.value}_{'32' if ctype is INT32 else '64'}"


def _clamp(requant: Requant, source: Bounds, writer: _Writer, result: str) -> list[str]:
    """Only the ends that some value within the bounds can pass."""
    product = requant.products(source)
    ends = np.iinfo(np.int64)
    open_ended = replace(requant, lo=np.array(ends.min), hi=np.array(ends.max))
    lo, hi = open_ended.finish(product.lo), open_ended.finish(product.hi)
    lines: list[str] = []
    if (lo < requant.lo).any():
        writer.did(Piece.CLAMP)
        least = writer.value(requant.lo, "lo")
        lines += [f"if ({result} < {least}) {{", f"    {result} = {least};", "}"]
    if (hi > requant.hi).any():
        writer.did(Piece.CLAMP)
        most = writer.value(requant.hi, "hi")
        lines += [f"if ({result} > {most}) {{", f"    {result} = {most};", "}"]
    return lines


def _lut(op: Op, writer: _Writer, value: _Value, result: str) -> tuple[CType, list[str]]:
    """Only the entries that the value can reach."""
    lut = cast(Lut, op)
    lo, hi = int(value.bounds.lo.min()), int(value.bounds.hi.max())
    entries = lut.table[lo - lut.first : hi + 1 - lut.first]
    ctype = working_type(int(entries.min()), int(entries.max()))
    place = value.name if not lo else f"{value.name} {'-' if lo > 0 else '+'} {literal(abs(lo))}"
    writer.did(Piece.LOAD)
    if value.ctype is INT64:
        place = f"(int32_t)({place})"
    return ctype, [f"const {ctype.name} {result} = {writer.table(entries, 'table')}[{place}];"]


def _threshold(op: Op, writer: _Writer, value: _Value, result: str) -> tuple[CType, list[str]]:
    """result = first + step * count. Levels that every value has reached move into `first`; those out of reach go."""
    threshold = cast(Threshold, op)
    lo, hi = int(value.bounds.lo.min()), int(value.bounds.hi.max())
    rows = _rows(threshold)
    some, none = (rows > lo).any(axis=0), (rows > hi).all(axis=0)
    first = threshold.first + threshold.step * np.count_nonzero(~some)
    rows = np.clip(rows[:, some & ~none], lo, hi + 1)
    ends = [first, first + threshold.step * rows.shape[1]]
    ctype = working_type(min(int(one.min()) for one in ends), max(int(one.max()) for one in ends))
    return ctype, [*_count(rows, writer, value, result, ctype), *_finish(first, threshold.step, writer, result)]


def _count(rows: IntArray, writer: _Writer, value: _Value, result: str, ctype: CType) -> list[str]:
    """How many entries of the channel's row the value has reached."""
    levels = rows.shape[1]
    start = f"{ctype.name} {result} = 0;"
    if levels == 0:
        return [start, f"(void){value.name};"]
    if levels == 1:
        return [f"{ctype.name} {result} = {value.name} >= {writer.value(rows[:, 0], 'threshold')};"]
    name = writer.table(rows, "thresholds")
    row = f"{writer.axes[-1]} * {levels} + " if len(rows) > 1 else ""
    if levels <= FEW_LEVELS:
        step = f"    {result} += {value.name} >= {name}[{row}k];"
        return [start, f"for (int32_t k = 0; k < {levels}; k++) {{", step, "}"]
    return [
        start,
        f"for (int32_t left = {levels}; left > 0;) {{",
        "    const int32_t half = left >> 1;",
        f"    if ({value.name} >= {name}[{row}{result} + half]) {{",
        f"        {result} += half + 1;",
        "        left -= half + 1;",
        "    } else {",
        "        left = half;",
        "    }",
        "}",
    ]


def _finish(first: IntArray, step: IntArray, writer: _Writer, result: str) -> list[str]:
    if (step == 1).all():
        return [f"{result} += {writer.value(first, 'first')};"] if first.any() else []
    count = result if (step == -1).all() else f"{writer.value(-step, 'step')} * {result}"
    return [f"{result} = {writer.value(first, 'first')} - {count};"]


_Pointwise = Callable[[Op, _Writer, _Value, str], tuple[CType, list[str]]]

_WRITERS: dict[type, _Pointwise] = {Requant: _requant, Lut: _lut, Threshold: _threshold}
POINTWISE = tuple(_WRITERS)
"""The ops that need one value alone: they join the loop that makes it."""
