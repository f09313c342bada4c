"""A Requant as C statements on one value, in the narrowest arithmetic that cannot overflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.c.ctypes import INT32, INT64, CType, Table, literal, table, working_type
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant, Rounding, Stage


@dataclass(frozen=True)
class Epilogue:
    """Statements that turn `acc` into `v`, the tables that they read and the rounding helpers that they call."""

    ctype: CType
    statements: tuple[str, ...]
    tables: tuple[Table, ...]
    helpers: frozenset[tuple[Rounding, CType]]


@dataclass
class _Writer:
    name: str
    rank: int
    axes: Sequence[str | None]
    sizes: Sequence[int]
    tables: list[Table]

    def value(self, array: IntArray, what: str) -> str:
        """A literal when all entries agree, else an indexed table."""
        if array.size == 1 or (array == array.flat[0]).all():
            return literal(int(array.flat[0]))
        shape = (1,) * (self.rank - array.ndim) + array.shape
        entry = table(f"{self.name}_{what}", array)
        self.tables.append(entry)
        terms: list[str] = []
        stride = 1
        for axis in range(self.rank - 1, -1, -1):
            if shape[axis] > 1:
                terms.append(f"{self.axes[axis]} * {stride}" if stride > 1 else f"{self.axes[axis]}")
                stride *= shape[axis]
        return f"{entry.name}[{' + '.join(reversed(terms))}]"


def varies_along(requant: Requant, rank: int) -> frozenset[int]:
    """The axes along which any parameter differs."""
    found: set[int] = set()
    arrays = (requant.pre, requant.multiplier, requant.offset, requant.lo, requant.hi)
    for array in (*arrays, *(stage.shift for stage in requant.stages)):
        if array.size > 1 and not (array == array.flat[0]).all():
            found.update(axis + rank - array.ndim for axis, length in enumerate(array.shape) if length > 1)
    return frozenset(found)


def write_epilogue(
    requant: Requant, name: str, source: Bounds, axes: Sequence[str | None], shape: Sequence[int]
) -> Epilogue:
    """C for a Requant of a value within `source`. `axes` names the loop variable of each tensor axis.

    An axis named None has no loop variable: no parameter may vary along it (`varies_along`).
    """
    writer = _Writer(name, len(shape), axes, shape, [])
    ctype = _arithmetic(requant, source)
    statements = [f"{ctype.name} v = acc;"]
    scale = requant.multiplier << requant.pre
    if (scale != 1).any():
        statements.append(f"v *= {writer.value(scale, 'multiplier')};")
    helpers: set[tuple[Rounding, CType]] = set()
    for index, stage in enumerate(requant.stages):
        statements += _shift(stage, index, writer, ctype, helpers)
    if (requant.offset != 0).any():
        statements.append(f"v += {writer.value(requant.offset, 'offset')};")
    statements += _clamp(requant, source, writer)
    return Epilogue(ctype, tuple(statements), tuple(writer.tables), frozenset(helpers))


def _arithmetic(requant: Requant, source: Bounds) -> CType:
    product = requant.products(source)
    lo, hi = int(product.lo.min()), int(product.hi.max())
    kind = working_type(min(lo, int(source.lo.min())), max(hi, int(source.hi.max())))
    for stage in requant.stages:
        half = 1 << max(int(stage.shift.max()) - 1, 0) if int(stage.shift.max()) else 0
        if working_type(lo - half - 1, hi + half + 1) is INT64:
            kind = INT64
    most = int(np.abs(requant.offset).max()) if requant.offset.size else 0
    if working_type(lo - most, hi + most) is INT64 or _wide(requant):
        kind = INT64
    return kind


def _wide(requant: Requant) -> bool:
    """Whether a parameter itself does not fit in 32 bits."""
    scale = requant.multiplier << requant.pre
    arrays = (scale, requant.offset, requant.lo, requant.hi)
    return any(working_type(int(array.min()), int(array.max())) is INT64 for array in arrays)


def _shift(stage: Stage, index: int, writer: _Writer, ctype: CType, helpers: set[tuple[Rounding, CType]]) -> list[str]:
    if (stage.shift == 0).all():
        return []
    amount = writer.value(stage.shift, f"shift{index}")
    if stage.rounding is Rounding.FLOOR:
        return [f"v >>= {amount};"]
    helpers.add((stage.rounding, ctype))
    call = f"{helper_name(stage.rounding, ctype)}(v, {amount})"
    if (stage.shift == 0).any():
        return [f"if ({amount} != 0) {{", f"    v = {call};", "}"]
    return [f"v = {call};"]


def helper_name(rounding: Rounding, ctype: CType) -> str:
    """The C function of a rounding shift."""
    return f"shift_{rounding.value}_{'32' if ctype is INT32 else '64'}"


def _clamp(requant: Requant, source: Bounds, writer: _Writer) -> list[str]:
    """Only the ends that some value within the bounds can pass."""
    product = requant.products(source)
    open_ended = Requant(
        requant.pre,
        requant.multiplier,
        requant.stages,
        requant.offset,
        np.array(np.iinfo(np.int64).min),
        np.array(np.iinfo(np.int64).max),
    )
    lo, hi = open_ended.finish(product.lo), open_ended.finish(product.hi)
    statements: list[str] = []
    if (lo < requant.lo).any():
        least = writer.value(requant.lo, "lo")
        statements += [f"if (v < {least}) {{", f"    v = {least};", "}"]
    if (hi > requant.hi).any():
        most = writer.value(requant.hi, "hi")
        statements += [f"if (v > {most}) {{", f"    v = {most};", "}"]
    return statements
