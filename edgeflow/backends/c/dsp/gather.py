"""Gathering: the bytes of a few positions become the 16-bit pairs that a tile product reads.

    static void NAME(uint32_t *x, const void *const *from, uint32_t words);
    static void NAME(uint32_t *x, const void *from, uint32_t words, uint32_t apart);

Word k of each of the positions lies at from[p] + step * k, or where they lie in a row at from + apart * p + step * k,
at any address; its bytes 0 1 2 3 become the pairs (0, 2) and (1, 3), words 2k and 2k + 1 of position p:
x[positions * k' + p]. `words` is 1 or more.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from edgeflow.backends.c.assembly import function

LARGEST_STEP = 255
"""The largest step of a load that moves its pointer, in bytes."""
_WORD = 4


@dataclass(frozen=True)
class Gather:
    """One function, for 4, 2 or 1 positions. `signed` bytes are extended with their sign; `row`: positions in a row."""

    positions: int
    signed: bool
    step: int = _WORD
    row: bool = False

    def __post_init__(self) -> None:
        if self.positions not in _REGISTERS or not 0 < self.step <= LARGEST_STEP:
            raise ValueError(f"no gathering has {self.positions} positions, a step of {self.step} bytes")

    @property
    def stem(self) -> str:
        """The start of a function's name."""
        return f"gather_{'row_' if self.row else ''}{self.positions}"


@dataclass(frozen=True)
class _Registers:
    """Of the pointers, of the even bytes, of the words and later their odd bytes; the count, and what is saved."""

    pointers: tuple[str, ...]
    even: tuple[str, ...]
    odd: tuple[str, ...]
    count: str
    saved: str


_REGISTERS = {
    4: _Registers(("r1", "r2", "r3", "r4"), ("r5", "r6", "r7", "r8"), ("r9", "r10", "r11", "r12"), "lr", "r4-r11"),
    2: _Registers(("r1", "r3"), ("r4", "r5"), ("r6", "r7"), "r2", "r4-r7"),
    1: _Registers(("r1",), ("r3",), ("r12",), "r2", ""),
}
"""x is r0. Even and odd bytes are in ascending registers, as they are stored all at once."""
_IN_ROWS = {
    4: _Registers(("r1", "r12", "lr", "r3"), ("r4", "r5", "r6", "r7"), ("r8", "r9", "r10", "r11"), "r2", "r4-r11"),
    2: _Registers(("r1", "r3"), ("r4", "r5"), ("r6", "r7"), "r2", "r4-r7"),
    1: _Registers(("r1",), ("r3",), ("r12",), "r2", ""),
}
"""The last pointer takes the place of the distance."""


def source(name: str, gather: Gather) -> str:
    """The C text of the function `name`, an identifier: assembly where the core has the instructions, else plain C."""
    places = ("const void *from", "uint32_t words", "uint32_t apart")
    parameters = ("uint32_t *x", *(places if gather.row else ("const void *const *from", "uint32_t words")))
    statement = ["    __asm__ volatile(", *(f'        "{line}\\n"' for line in _assembly(gather)), "    );"]
    return function("defined(__ARM_FEATURE_DSP)", name, parameters, statement, [_twin(gather)])


def code_bytes(gather: Gather) -> int:
    """About the bytes of code of the function."""
    return 20 + 14 * gather.positions


def _assembly(gather: Gather) -> list[str]:
    own = (_IN_ROWS if gather.row else _REGISTERS)[gather.positions]
    extend = "sxtb16" if gather.signed else "uxtb16"
    stored = ", ".join((*own.even, *own.odd))
    return [
        *([f"push {{{own.saved}, lr}}"] if own.saved else []),
        *([f"mov {own.count}, r2"] if own.count != "r2" else []),
        *_pointers(gather, own.pointers),
        "1:",
        *(f"ldr {word}, [{pointer}], #{gather.step}" for word, pointer in zip(own.odd, own.pointers, strict=True)),
        *(f"{extend} {even}, {word}" for even, word in zip(own.even, own.odd, strict=True)),
        *(f"{extend} {word}, {word}, ror #8" for word in own.odd),
        f"stm r0!, {{{stored}}}",
        f"subs {own.count}, {own.count}, #1",
        "bne 1b",
        f"pop {{{own.saved}, pc}}" if own.saved else "bx lr",
    ]


def _pointers(gather: Gather, pointers: tuple[str, ...]) -> list[str]:
    if gather.row:
        return [f"add {after}, {before}, r3" for before, after in itertools.pairwise(pointers)]
    return [f"ldm r1, {{{', '.join(pointers)}}}" if len(pointers) > 1 else "ldr r1, [r1]"]


def _twin(gather: Gather) -> str:
    kind, cast = ("int8_t", "(uint32_t)(uint16_t)") if gather.signed else ("uint8_t", "(uint32_t)")
    pairs = [f"{cast}v[{low}] | {cast}v[{low + 2}] << 16" for low in (0, 1)]
    count = gather.positions
    unused, start = "", "from[p]"
    if gather.row:
        unused, start = ("    (void)apart;\n", "from") if count == 1 else ("", "from + apart * p")
    return f"""\
{unused}    for (uint32_t k = 0; k < words; k++) {{
        for (uint32_t p = 0; p < {count}u; p++) {{
            const {kind} *const v = (const {kind} *){start} + {gather.step}u * k;
            x[{2 * count}u * k + p] = {pairs[0]};
            x[{2 * count}u * k + {count}u + p] = {pairs[1]};
        }}
    }}"""
