"""Gathering of small windows over few channels: all of it written out, four positions of a row at a time.

    static void NAME(uint32_t *x, const void *const *rows, uint32_t at);

Position p of the four reads `run` bytes of each row of its window, from rows[i] + at + apart * p on. They become
16-bit pairs: word k of position p is x[4 * k + p], and holds the values that `order` names. What four bytes of a row
leave over is paired across rows, so that no half of a word but at most the last of each kind stays empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.dsp.tile_weights import NOTHING
from edgeflow.ir.types import IntArray

POSITIONS = 4
MOST_VALUES = 48
"""Values of the largest window that is written out: about 13 bytes of code each."""
_FARTHEST = 4095
_EVEN, _ODD = ("r4", "r5", "r6", "r7"), ("r8", "r9", "r10", "r11")
_ROWS = ("r3", "r12")
_LOADS = {4: ("ldr", "ldr"), 2: ("ldrh", "ldrh"), 1: ("ldrb", "ldrsb")}
"""By the number of bytes: the load of unsigned and of signed ones."""


@dataclass(frozen=True)
class Piece:
    """`size` bytes (4, 2 or 1) from byte `first` on of each of `rows`; two rows where that is less than a word."""

    rows: tuple[int, ...]
    first: int
    size: int

    def lanes(self, run: int) -> list[int]:
        """The values of the lanes that it becomes, low half first."""
        values = [[row * run + self.first + i for i in range(self.size)] for row in self.rows]
        if self.size == _WORD:
            (own,) = values
            return [own[0], own[2], own[1], own[3]]
        upper = values[1] if len(values) > 1 else [NOTHING] * self.size
        return [one for pair in zip(values[0], upper, strict=True) for one in pair]


_WORD = 4


@dataclass(frozen=True)
class WindowGather:
    """One function: windows of `rows` rows, `apart` bytes apart. `step`: from a row of the window to its next in `rows`
    of the call. Raises ValueError where a load cannot reach that far.
    """

    rows: int
    run: int
    apart: int
    signed: bool
    step: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1 or self.run < 1 or not self.reaches(self.run, self.apart):
            raise ValueError(f"no gathering has windows of {self.rows} rows of {self.run} bytes, {self.apart} apart")

    @staticmethod
    def reaches(run: int, apart: int) -> bool:
        """Whether loads reach all of a row's bytes of four positions."""
        return 0 <= (POSITIONS - 1) * apart + run <= _FARTHEST

    @property
    def values(self) -> int:
        """Bytes of a position."""
        return self.rows * self.run


def _pieces(gather: WindowGather) -> list[Piece]:
    """What is loaded at a time, in order."""
    whole = gather.run - gather.run % _WORD
    found = [Piece((row,), first, _WORD) for row in range(gather.rows) for first in range(0, whole, _WORD)]
    for size, first in ((2, whole), (1, gather.run - 1)):
        if gather.run & size:
            found += [
                Piece(tuple(range(row, min(row + 2, gather.rows))), first, size) for row in range(0, gather.rows, 2)
            ]
    return found


def order(gather: WindowGather) -> IntArray:
    """The values that the lanes hold, low half of a word first; NOTHING where there is none."""
    return np.array([one for piece in _pieces(gather) for one in piece.lanes(gather.run)])


def source(name: str, gather: WindowGather) -> str:
    """The C text of the function `name`, an identifier: assembly where the core has the instructions, else plain C."""
    parameters = ("uint32_t *x", "const void *const *rows", "uint32_t at")
    statement = ["    __asm__ volatile(", *(f'        "{line}\\n"' for line in _assembly(gather)), "    );"]
    return function("defined(__ARM_FEATURE_DSP)", name, parameters, statement, _twin(gather))


def code_bytes(gather: WindowGather) -> int:
    """About the bytes of code of the function."""
    return 4 * len(_assembly(gather))


def _assembly(gather: WindowGather) -> list[str]:
    lines = ["push {r4-r11, lr}"]
    held: tuple[int, ...] = ()
    for piece in _pieces(gather):
        if held != piece.rows:
            pairs = list(zip(_ROWS, piece.rows, strict=False))
            lines += [f"ldr {register}, [r1, #{4 * gather.step * row}]" for register, row in pairs]
            lines += [f"add {register}, {register}, r2" for register, _ in pairs]
            held = piece.rows
        lines += _words(gather, piece) if piece.size == _WORD else _paired(gather, piece)
    return [*lines, "pop {r4-r11, pc}"]


def _words(gather: WindowGather, piece: Piece) -> list[str]:
    return [*_loads(gather, piece, _ODD, _ROWS[0]), *_split(gather)]


def _paired(gather: WindowGather, piece: Piece) -> list[str]:
    """Two rows' pieces in the halves of a register."""
    target = _ODD if piece.size == 2 else _EVEN
    lines = _loads(gather, piece, target, _ROWS[0])
    if len(piece.rows) > 1:
        other = _EVEN if piece.size == 2 else _ODD
        lines += _loads(gather, piece, other, _ROWS[1])
        lines += [f"pkhbt {one}, {one}, {more}, lsl #16" for one, more in zip(target, other, strict=True)]
    if piece.size == 2:
        return [*lines, *_split(gather)]
    return [*lines, f"stm r0!, {{{', '.join(target)}}}"]


def _loads(gather: WindowGather, piece: Piece, targets: Sequence[str], base: str) -> list[str]:
    load = _LOADS[piece.size][gather.signed]
    return [f"{load} {one}, [{base}, #{piece.first + gather.apart * p}]" for p, one in enumerate(targets)]


def _split(gather: WindowGather) -> list[str]:
    """Even and odd bytes become words of their own."""
    extend = "sxtb16" if gather.signed else "uxtb16"
    return [
        *(f"{extend} {even}, {word}" for even, word in zip(_EVEN, _ODD, strict=True)),
        *(f"{extend} {word}, {word}, ror #8" for word in _ODD),
        f"stm r0!, {{{', '.join((*_EVEN, *_ODD))}}}",
    ]


def _twin(gather: WindowGather) -> list[str]:
    """The same words; lanes without a value are 0."""
    kind, cast = ("int8_t", "(uint32_t)(uint16_t)") if gather.signed else ("uint8_t", "(uint32_t)")
    lanes = order(gather)
    rows = ", ".join(str(one // gather.run * gather.step if one != NOTHING else 0) for one in lanes)
    bytes_ = ", ".join(str(one % gather.run if one != NOTHING else 0) for one in lanes)
    there = ", ".join(str(int(one != NOTHING)) for one in lanes)
    return [
        f"    static const uint8_t row[] = {{{rows}}}, byte[] = {{{bytes_}}}; /* of each 16-bit lane */",
        f"    static const uint8_t there[] = {{{there}}};",
        f"    for (uint32_t k = 0; k < {len(lanes)}u; k += 2) {{",
        f"        for (uint32_t p = 0; p < {POSITIONS}u; p++) {{",
        f"            const uint32_t from = at + {gather.apart}u * p;",
        f"            const {kind} *const low = (const {kind} *)rows[row[k]] + from + byte[k];",
        f"            const {kind} *const high = (const {kind} *)rows[row[k + 1]] + from + byte[k + 1];",
        f"            const uint32_t upper = there[k + 1] != 0 ? {cast}*high << 16 : 0u;",
        f"            x[{POSITIONS // 2}u * k + p] = {cast}*low | upper;",
        "        }",
        "    }",
    ]
