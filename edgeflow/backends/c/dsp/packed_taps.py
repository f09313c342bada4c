"""The weights of a depthwise channel in few bits: where each lies in the channel's words, and how registers get them.

A kernel wants weights in 16-bit halves, two a register. A field at the top of a half is a weight times 2**(16 - bits),
sign included, as soon as the bits below are gone: a shift and a mask fetch two of them at once where both are new to a
column of taps. A weight that a register has already is taken from there. One field more than the words hold may ride in
the lowest bits of the channel's addend, which are worth next to nothing against sums that are scaled so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from edgeflow.ir.types import IntArray

Lines: TypeAlias = list[str]
Word: TypeAlias = tuple[int | None, int | None]
Tap: TypeAlias = tuple[int, int]
"""(row, column) of the window."""

HALF = 16
"""Bits of a weight that is stored as kernels want it."""
CARRIED = -1
"""The place of a field's word for the addend."""


@dataclass(frozen=True)
class Field:
    """`bits` bits of a word (or the addend, CARRIED), in its half 0 or 1, the `slot`-th from the top of the half."""

    word: int
    half: int
    slot: int
    bits: int

    @property
    def left(self) -> int:
        """How far the field is from the top of the word."""
        return HALF * (1 - self.half) + self.slot * self.bits

    def lift(self, register: str, source: str, half: int) -> Lines:
        """Instructions that bring the field to the top of a half of a register, and clear what is below."""
        up = self.left - HALF * (1 - half)
        turned = [f"{'lsl' if up > 0 else 'lsr'} {register}, {source}, #{abs(up)}"] if up else []
        return [*turned, f"and {register}, {register if up else source}, #{_mask(self.bits)}"]


@dataclass(frozen=True)
class Taps:
    """The layout for weights of `bits` bits, 2 to 8: `width` columns of taps, each of which becomes `words`.

    `carries`: whether an addend may carry a tap.
    """

    bits: int
    width: int
    words: tuple[Word, ...]
    carries: bool = True

    @property
    def scale(self) -> int:
        """What a weight is multiplied by in its half."""
        return 1 << (HALF - self.bits)

    @cached_property
    def fields(self) -> dict[Tap, Field]:
        """Where each tap lies: those that come two at a time first, then single ones in what they leave."""
        pairs = [(column, pair) for column in range(self.width) for pair in self._new() if None not in pair]
        each = HALF // self.bits
        found: dict[Tap, Field] = {}
        for number, (column, taps) in enumerate(pairs):
            word, slot = divmod(number, each)
            for half, tap in enumerate(taps):
                found[tap or 0, column] = Field(word, half, slot, self.bits)
        free = [
            Field(number // each, half, number % each, self.bits) for number in range(len(pairs), 64) for half in (0, 1)
        ]
        singles = [
            (tap, column) for column in range(self.width) for pair in self._new() if None in pair for tap in pair
        ]
        placed = [(row, column) for row, column in singles if row is not None]
        found |= dict(zip(placed, free, strict=False))
        return self._carried(found)

    def _new(self) -> list[Word]:
        """The taps of each word that no word before it has."""
        held: set[int] = set()
        found: list[Word] = []
        for word in self.words:
            low, high = (None if tap in held else tap for tap in word)
            found.append((low, high))
            held |= {tap for tap in word if tap is not None}
        return found

    def _carried(self, fields: dict[Tap, Field]) -> dict[Tap, Field]:
        """Those of a last word that has one field only go into the addend."""
        last = max(field.word for field in fields.values())
        own = [tap for tap, field in fields.items() if field.word == last]
        if not self.carries or last == 0 or len(own) > 1 or self.bits > 4 or HALF % self.bits:
            return fields
        return fields | {own[0]: Field(CARRIED, 0, HALF // self.bits - 1, self.bits)}

    @property
    def stored(self) -> int:
        """Words of a channel."""
        return 1 + max(field.word for field in self.fields.values())

    @property
    def carried(self) -> Tap | None:
        """The tap whose field is in the addend."""
        return next((tap for tap, field in self.fields.items() if field.word == CARRIED), None)

    def unpack(self, stored: Sequence[str], addend: str, registers: Sequence[str]) -> Lines:
        """Instructions that fill the registers of all words, column by column, from those that were stored."""
        lines: Lines = []
        for column in range(self.width):
            held: dict[int, tuple[str, int]] = {}
            for number, (word, new) in enumerate(zip(self.words, self._new(), strict=True)):
                register = registers[column * len(self.words) + number]
                fresh = [half for half, tap in enumerate(new) if tap is not None]
                for half in fresh[:1]:
                    field = self.fields[new[half] or 0, column]
                    source = addend if field.word == CARRIED else stored[field.word]
                    lines += field.lift(register, source, half)
                here = {tap: (register, half) for half, tap in enumerate(new) if tap is not None}
                if len(fresh) < 2 and None not in word:
                    low, high = word
                    lines += _join(register, (held | here)[low or 0], (held | here)[high or 0])
                held |= {tap: (register, half) for half, tap in enumerate(word) if tap is not None and tap not in held}
        return lines

    @property
    def instructions(self) -> int:
        """What the weights of a channel take to unpack."""
        return len(self.unpack([""] * self.stored, "", [""] * (self.width * len(self.words))))

    def pack(self, weight: IntArray) -> IntArray:
        """The stored words (channels, words) of weights (rows, columns, channels), without what is carried."""
        packed = np.zeros((weight.shape[-1], self.stored), np.int64)
        for (row, column), field in self.fields.items():
            if field.word != CARRIED:
                codes = weight[row, column] & ((1 << self.bits) - 1)
                packed[:, field.word] |= codes << (2 * HALF - self.bits - field.left)
        return packed


def bits_of(weight: IntArray) -> int:
    """The bits of a layout for these weights, 2 or more."""
    lo, hi = int(weight.min(initial=0)), int(weight.max(initial=0))
    return max((-lo - 1).bit_length() if lo else 0, hi.bit_length(), 1) + 1


def _mask(bits: int) -> str:
    """The top of both halves."""
    return f"{((0xFF00 >> bits) & 0xFF) * 0x01000100:#010x}"


def _join(register: str, low: tuple[str, int], high: tuple[str, int]) -> Lines:
    """A register whose halves come from halves of registers."""
    (bottom, first), (top, second) = low, high
    if not first:
        return [f"pkhbt {register}, {bottom}, {top}" + ("" if second else ", lsl #16")]
    if second:
        return [f"pkhtb {register}, {top}, {bottom}, asr #16"]
    return [f"lsr {register}, {bottom}, #16", f"orr {register}, {register}, {top}, lsl #16"]
