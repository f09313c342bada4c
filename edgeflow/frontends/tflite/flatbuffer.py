"""Reads a flatbuffer without trusting it: every place is checked against the file before it is used.

Source of the layout: flatbuffers.dev/internals. Offsets to tables, vectors and strings point forward, so nothing can
contain itself; several may point to one place, so all that is read counts against one bound.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from enum import IntEnum

from edgeflow.errors import EdgeflowError

FIX = "convert the model again, or copy the file again"
MOST_WORK = 4_000_000
"""Elements of vectors, and some for every table and text, that are read of one file."""
LONGEST_TEXT = 1 << 16
_TABLE_WORK, _TEXT_WORK = 8, 8

INT8, UINT8, BOOL = struct.Struct("<b"), struct.Struct("<B"), struct.Struct("<?")
INT32, UINT32, FLOAT32 = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<f")
INT64, UINT64 = struct.Struct("<q"), struct.Struct("<Q")
_VTABLE = struct.Struct("<HH")
_UINT16 = struct.Struct("<H")


class Flatbuffer:
    """A file's bytes. `where` is the file's name, for errors."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self._left = MOST_WORK

    def root(self, place: str) -> Table:
        """The first table, called `place` in errors."""
        return Table(self, self.follow(0, place), place)

    def damaged(self, what: str) -> EdgeflowError:
        """The error for a file that is not as it says; to be raised."""
        return EdgeflowError(f"damaged TFLite file: {what}", where=self.where, fix=FIX)

    def spend(self, work: int) -> None:
        """Counts work done. Raises EdgeflowError where it is more than any real model needs."""
        self._left -= work
        if self._left < 0:
            raise self.damaged("it refers to the same places over and over")

    def check(self, at: int, size: int, place: str) -> None:
        """Raises EdgeflowError unless the `size` bytes from `at` on lie in the file."""
        if at < 0 or at + size > len(self.data):
            raise self.damaged(f"{place} lies outside the file")

    def follow(self, at: int, place: str) -> int:
        """Where the offset that stands at `at` points to."""
        self.check(at, UINT32.size, place)
        offset = int(UINT32.unpack_from(self.data, at)[0])
        if offset < UINT32.size:
            raise self.damaged(f"{place} lies outside the file")
        return at + offset

    def vector(self, at: int, width: int, place: str) -> tuple[int, int]:
        """The first element's place and the number of elements of the vector that stands at `at`."""
        self.check(at, UINT32.size, place)
        count = int(UINT32.unpack_from(self.data, at)[0])
        self.check(at + UINT32.size, count * width, place)
        return at + UINT32.size, count


class Table:
    """One table: its fields by their slots. A field that the file leaves out has its default."""

    def __init__(self, file: Flatbuffer, at: int, place: str) -> None:
        file.spend(_TABLE_WORK)
        file.check(at, INT32.size, place)
        slots = at - int(INT32.unpack_from(file.data, at)[0])
        file.check(slots, _VTABLE.size, place)
        length, size = (int(one) for one in _VTABLE.unpack_from(file.data, slots))
        if length < _VTABLE.size or length % 2 or size < INT32.size:
            raise file.damaged(f"{place} is no table")
        file.check(slots, length, place)
        file.check(at, size, place)
        self.file, self.place = file, place
        self._at, self._size, self._slots, self._length = at, size, slots, length

    def number(self, slot: IntEnum | int, form: struct.Struct, default: int = 0) -> int:
        """An integer or a bool as `form` stores it."""
        at = self._field(slot, form.size)
        return default if at is None else int(form.unpack_from(self.file.data, at)[0])

    def real(self, slot: IntEnum | int, default: float = 0.0) -> float:
        """A float32. Raises EdgeflowError for one that is not finite."""
        at = self._field(slot, FLOAT32.size)
        value = default if at is None else float(FLOAT32.unpack_from(self.file.data, at)[0])
        if not math.isfinite(value):
            raise self.damaged(f"holds {value}")
        return value

    def name_of(self, slot: IntEnum | int, names: tuple[str, ...], what: str, default: int = 0) -> str:
        """An enumeration's name, stored as its number in a byte. Raises EdgeflowError for an unknown one."""
        number = self.number(slot, INT8, default)
        if not 0 <= number < len(names):
            raise self.damaged(f"has the {what} {number}, which TFLite does not know")
        return names[number]

    def numbers(self, slot: IntEnum | int, form: struct.Struct) -> tuple[int, ...]:
        """A vector of integers; empty when left out."""
        return tuple(int(one) for one in self._elements(slot, form))

    def reals(self, slot: IntEnum | int) -> tuple[float, ...]:
        """A vector of float32 values; empty when left out."""
        return tuple(float(one) for one in self._elements(slot, FLOAT32))

    def text(self, slot: IntEnum | int) -> str:
        """A text; empty when left out. What is no UTF-8 becomes a mark."""
        start, count = self.span(slot, 1)
        if count > LONGEST_TEXT:
            raise self.damaged("has a name of more than 65,536 bytes")
        self.file.spend(1 + count // _TEXT_WORK)
        return self.file.data[start : start + count].decode(errors="replace")

    def table(self, slot: IntEnum | int, place: str) -> Table | None:
        """A table within."""
        at = self._field(slot, UINT32.size)
        return None if at is None else Table(self.file, self.file.follow(at, place), place)

    def tables(self, slot: IntEnum | int, kind: str, most: int) -> Iterator[Table]:
        """A vector of at most so many tables, called "`kind` 0" and so on; none when left out."""
        start, count = self.span(slot, UINT32.size)
        if count > most:
            raise self.damaged(f"has {count:,} {kind}s; edgeflow reads up to {most:,}")
        for index in range(count):
            place = f"{kind} {index}"
            yield Table(self.file, self.file.follow(start + index * UINT32.size, place), place)

    def span(self, slot: IntEnum | int, width: int) -> tuple[int, int]:
        """Where a vector's elements of `width` bytes begin in the file, and how many there are: 0 when left out."""
        at = self._field(slot, UINT32.size)
        if at is None:
            return 0, 0
        return self.file.vector(self.file.follow(at, self.place), width, self.place)

    def damaged(self, what: str) -> EdgeflowError:
        """The error for a table that is not as it should; to be raised."""
        return self.file.damaged(f"{self.place} {what}")

    def _elements(self, slot: IntEnum | int, form: struct.Struct) -> Iterator[int | float]:
        start, count = self.span(slot, form.size)
        self.file.spend(count)
        for at in range(start, start + count * form.size, form.size):
            yield form.unpack_from(self.file.data, at)[0]

    def _field(self, slot: IntEnum | int, size: int) -> int | None:
        """Where a field of so many bytes stands, None when it is left out."""
        at = _VTABLE.size + 2 * int(slot)
        if at + 2 > self._length:
            return None
        offset = int(_UINT16.unpack_from(self.file.data, self._slots + at)[0])
        if offset == 0:
            return None
        if offset < INT32.size or offset + size > self._size:
            raise self.damaged("has a field outside of it")
        return self._at + offset
