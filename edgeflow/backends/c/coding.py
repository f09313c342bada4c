"""Values of few bits, several to a byte: how rows are packed, and the C functions that pack and unpack them."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.render import render

WIDTHS = (1, 2, 4)
"""Bits of a packed value."""


@dataclass(frozen=True)
class Coding:
    """Rows of `row` values from `lo` up as words of codes `value - lo`, each of `bits` bits, 1, 2 or 4.

    A word holds 32 / bits values: byte j of it has, from its lowest bits up, the codes of values j, j + 4, j + 8 and
    so on, so that one mask brings out four values as four bytes. Each row starts with a word of its own.
    """

    bits: int
    lo: int
    row: int

    @property
    def values(self) -> int:
        """Values of a word."""
        return 32 // self.bits

    @property
    def full(self) -> int:
        """Words of a row that hold as many values as they can."""
        return self.row // self.values

    @property
    def rest(self) -> int:
        """Values of the last word where it holds fewer."""
        return self.row % self.values

    @property
    def words(self) -> int:
        """Words of a row."""
        return self.full + (self.rest > 0)

    @property
    def mask(self) -> int:
        """The codes of four values, one in each byte."""
        return self.every((1 << self.bits) - 1)

    def every(self, byte: int) -> int:
        """A word of four equal bytes."""
        return 0x01010101 * byte

    @property
    def in_place(self) -> bool:
        """Whether a walk up the rows may unpack them where they lie, packed, at the end of the bytes' place.

        A word's values end where the next word starts or before it, unless the last word has fewer than four values.
        """
        return self.row % 4 == 0 or self.full == 0 < self.row


def coding_of(lo: int, hi: int, row: int) -> Coding | None:
    """The narrowest coding of rows of values in [lo, hi]; None where they need more than 4 bits."""
    return next((Coding(bits, lo, row) for bits in WIDTHS if hi - lo < 1 << bits), None)


@dataclass(frozen=True)
class Coder:
    """A C function that packs or unpacks rows of a coding; rows that differ in their full words alone share it.

    It takes where it reads, where it writes and how many full words there are. `aligned`: the bytes are an array of
    words that ends with a whole one; else they may lie anywhere, and none behind the row is touched.
    """

    packs: bool
    bits: int
    lo: int
    rest: int
    aligned: bool

    @property
    def stem(self) -> str:
        """What its name starts with."""
        return "pack" if self.packs else "unpack"

    def text(self, name: str) -> str:
        """The function in C."""
        return render("c/coding.c.j2", name=name, s=self, coding=Coding(self.bits, self.lo, self.rest))

    @property
    def size(self) -> int:
        """About the bytes of its code, in Thumb instructions."""
        fields = 32 // self.bits // 4
        each = (8 if self.lo else 4) + (4 if self.aligned else 12)
        return 24 + each * (fields + -(-self.rest // 4))

    def work(self, words: int) -> float:
        """About the instructions of one call."""
        fields = 32 // self.bits // 4
        each = 2.5 + (1.0 if self.lo else 0.0) + (0.0 if self.aligned else 1.0)
        return 12.0 + words * (4.0 + each * fields)


def coder(coding: Coding, *, packs: bool, aligned: bool) -> Coder:
    """The function for rows of a coding."""
    return Coder(packs, coding.bits, coding.lo, coding.rest, aligned)
