"""C integer types and literals for intervals of integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.ir.types import IntArray, interval_bits


@dataclass(frozen=True)
class CType:
    """A stdint type, its width and its NumPy twin (little-endian)."""

    name: str
    size: int
    dtype: str


UNSIGNED = (CType("uint8_t", 1, "<u1"), CType("uint16_t", 2, "<u2"), CType("uint32_t", 4, "<u4"))
_SIGNED = (
    CType("int8_t", 1, "<i1"),
    CType("int16_t", 2, "<i2"),
    CType("int32_t", 4, "<i4"),
    CType("int64_t", 8, "<i8"),
)
INT32, INT64 = _SIGNED[2], _SIGNED[3]
UINT32 = UNSIGNED[2]


def storage_type(lo: int, hi: int) -> CType:
    """The narrowest stdint type that holds [lo, hi]."""
    bits = interval_bits(lo, hi)
    candidates = UNSIGNED if lo >= 0 else ()
    return next(kind for kind in (*candidates, *_SIGNED) if bits + (lo >= 0 and kind in _SIGNED) <= 8 * kind.size)


def working_type(lo: int, hi: int) -> CType:
    """int32_t or int64_t: what arithmetic on values in [lo, hi] runs in."""
    return INT32 if lo >= -(1 << 31) and hi < 1 << 31 else INT64


def literal(value: int) -> str:
    """A C literal of exactly this value, of type int32_t or, beyond it, int64_t."""
    if value == -(1 << 31):
        return "(-2147483647 - 1)"
    if value == -(1 << 63):
        return "(-INT64_C(9223372036854775807) - 1)"
    if -(1 << 31) < value < 1 << 31:
        return str(value)
    return f"INT64_C({value})"


def _word(value: int) -> str:
    return f"0x{value:08x}u"


@dataclass(frozen=True)
class Table:
    """A constant array in the generated source."""

    name: str
    ctype: CType
    values: IntArray

    @property
    def size(self) -> int:
        """Bytes."""
        return self.values.size * self.ctype.size

    def rows(self) -> list[str]:
        """The initializer's lines."""
        write = _word if self.ctype is UINT32 else literal
        flat = [write(int(one)) for one in self.values.reshape(-1)]
        width = 16 if self.ctype.size == 1 else 8 if self.ctype is UINT32 else 12
        return [", ".join(flat[start : start + width]) for start in range(0, len(flat), width)]


@dataclass(frozen=True)
class Record:
    """A constant structure in the generated source: its C type, and the initializer of each field."""

    name: str
    ctype: str
    fields: tuple[str, ...]


def table(name: str, values: IntArray) -> Table:
    """A table in the narrowest type that holds its values and that C converts to a signed int.

    Not uint32_t: C would compare and multiply a signed value with it as unsigned.
    """
    kind = storage_type(int(np.min(values)), int(np.max(values)))
    if kind.name == "uint32_t":
        kind = INT32 if int(np.max(values)) < 1 << 31 else INT64
    return Table(name, kind, values)
