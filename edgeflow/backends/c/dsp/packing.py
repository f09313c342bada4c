"""Weights of 1 to 6 bits in words: as codes in the bytes of words, from which a mask and a shift take them out again.

A nested word holds four weights, one a byte (see `tile_weights`). With a `Packing` a byte holds the code of a weight,
0 or more, and a packed word holds several codes in every byte, so that `word >> shift & mask` are four codes at once,
the same field of each byte. Widths that do not divide 8 leave bits in a byte; the leftovers of several words make
another code. Weights are step * code + low: products of codes lack low * sum(x), which is the same for all outputs, so
a tile computes it once for each of its positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.ir.types import IntArray

Lines: TypeAlias = list[str]
Fetch: TypeAlias = Callable[[int, str], tuple[Lines, str]]
"""(packed word of a period, register) -> the instructions that bring it there, or none and where it is already."""

WIDEST = 6
"""Bits of the widest codes: those of 7 would save an eighth for twice the instructions."""
_BYTE = 8
_EVERY = 0x01010101


@dataclass(frozen=True)
class Piece:
    """`width` bits of every byte of packed word `word`, from bit `at`, are the code's bits from bit `to`."""

    word: int
    at: int
    width: int
    to: int

    @property
    def mask(self) -> int:
        """The bits in the packed word."""
        return ((1 << self.width) - 1 << self.at) * _EVERY

    @property
    def down(self) -> int:
        """How far they move right."""
        return self.at - self.to


@dataclass(frozen=True)
class Packing:
    """Codes of `bits` bits, 1 to 6, for the weights step * code + low; step and -low are powers of two, or low is 0.

    Raises ValueError for others, and where a code times step does not fit 7 bits.
    """

    bits: int
    low: int
    step: int = 1

    def __post_init__(self) -> None:
        powers = self.step > 0 and self.low <= 0 and not self.step & (self.step - 1) and not -self.low & (-self.low - 1)
        if not 1 <= self.bits <= WIDEST or not powers or self.top >= 1 << (_BYTE - 1):
            raise ValueError(f"no weights are packed so: {self}")

    @property
    def top(self) -> int:
        """The largest code times step."""
        return self.step * ((1 << self.bits) - 1)

    @property
    def period(self) -> int:
        """Codes that fill whole words."""
        return _BYTE // math.gcd(self.bits, _BYTE)

    @property
    def words(self) -> int:
        """Words that they fill."""
        return self.bits * self.period // _BYTE

    @property
    def instructions(self) -> float:
        """What a code takes on average to unpack, a fetch for each of its pieces included."""
        fetched = [len(self.unpack(code, lambda _, register: ([""], register), "", "")) for code in range(self.period)]
        return sum(fetched) / self.period

    @cached_property
    def pieces(self) -> tuple[tuple[Piece, ...], ...]:
        """What each code of a period is made of: first the whole ones, word by word, then those of leftovers."""
        up = self.step.bit_length() - 1
        whole = _BYTE // self.bits
        found: list[tuple[Piece, ...]] = [
            (Piece(word, self.bits * i, self.bits, up),) for word in range(self.words) for i in range(whole)
        ]
        left = [(word, bit) for word in range(self.words) for bit in range(self.bits * whole, _BYTE)]
        for start in range(0, len(left), self.bits):
            own = left[start : start + self.bits]
            found.append(tuple(_pieces(own, up)))
        return tuple(found)

    def holds(self, weights: IntArray, *, holes: bool = False) -> bool:
        """Whether all weights have a code; with `holes` also 0, for lanes that belong to no weight."""
        ends = self.low, self.low + self.top
        fit = bool((weights >= ends[0]).all() and (weights <= ends[1]).all())
        return fit and not ((weights - self.low) % self.step).any() and not (holes and self.low % self.step)

    def packed(self, codes: int) -> int:
        """Words that so many codes take, which begin a period."""
        whole, rest = divmod(codes, self.period)
        used = max((piece.word + 1 for own in self.pieces[:rest] for piece in own), default=0)
        return whole * self.words + used

    def unpack(self, code: int, fetch: Fetch, register: str, spare: str) -> Lines:
        """Instructions that leave code `code` of a period, times step, in the bytes of a register."""
        first, *others = self.pieces[code]
        lines, source = fetch(first.word, register)
        if first.down:
            lines = [*lines, f"{_turn(first).replace(' ', f' {register}, {source}, ')}"]
            source = register
        lines = [*lines, f"and {register}, {source}, #{_moved(first):#010x}"]
        for piece in others:
            brought, source = fetch(piece.word, spare)
            lines += [*brought, f"and {spare}, {source}, #{piece.mask:#010x}"]
            lines.append(f"orr {register}, {register}, {spare}, {_turn(piece)}")
        return lines

    def c(self, code: int, word: Callable[[int], str]) -> str:
        """The C expression of the same, from those of a period's packed words."""
        terms: list[str] = []
        for piece in self.pieces[code]:
            turn = f" >> {piece.down}" if piece.down > 0 else f" << {-piece.down}" if piece.down else ""
            terms.append(f"({word(piece.word)}{turn} & {_moved(piece):#010x}u)")
        return " | ".join(terms)

    def pack(self, lanes: IntArray) -> npt.NDArray[np.int64]:
        """Packed words (..., words) of weights (..., nested words, 4), bytes from the lowest up."""
        codes = (lanes - self.low) // self.step
        packed = np.zeros((*lanes.shape[:-2], self.packed(lanes.shape[-2]), 4), np.int64)
        for place in range(lanes.shape[-2]):
            period, code = divmod(place, self.period)
            for piece in self.pieces[code]:
                field = codes[..., place, :] >> (piece.to - self.step.bit_length() + 1) & ((1 << piece.width) - 1)
                packed[..., period * self.words + piece.word, :] |= field << piece.at
        return packed @ (1 << _BYTE * np.arange(4, dtype=np.int64))

    def pack_chunks(self, lanes: IntArray, chunk: int) -> IntArray:
        """The same for nested words that are read in chunks, each of which begins a period."""
        pairs = len(lanes)
        return self.pack(lanes.reshape(pairs, -1, chunk, 4)).reshape(pairs, -1)


def _turn(piece: Piece) -> str:
    """The shift that brings a piece to where the code has it."""
    return f"lsr #{piece.down}" if piece.down > 0 else f"lsl #{-piece.down}"


def _moved(piece: Piece) -> int:
    """The mask of a piece where the code has it."""
    return ((1 << piece.width) - 1 << piece.to) * _EVERY


def _pieces(bits: list[tuple[int, int]], up: int) -> list[Piece]:
    """Bits of words, (word, bit), as pieces of one code."""
    found: list[Piece] = []
    for to, (word, bit) in enumerate(bits):
        if found and found[-1].word == word:
            last = found.pop()
            found.append(Piece(word, last.at, last.width + 1, last.to))
        else:
            found.append(Piece(word, bit, 1, to + up))
    return found


def packing_of(weights: IntArray, *, holes: bool = False) -> Packing | None:
    """The narrowest packing that holds all weights; None where they need more than 6 bits.

    `holes`: 0 must be among them, for lanes that belong to no weight.
    """
    if not holes and weights.size and np.array_equal(np.unique(np.abs(weights)), [1]):
        return Packing(1, -1, 2)
    lo, hi = int(weights.min(initial=0)), int(weights.max(initial=0))
    bits = max((-lo - 1).bit_length() if lo else 0, hi.bit_length()) + 1
    if lo == 0 and hi.bit_length() <= WIDEST:
        return Packing(max(hi.bit_length(), 1), 0)
    return Packing(bits, -(1 << (bits - 1))) if bits <= WIDEST else None
