"""What a tile product of packed weights does besides: the sums of x that codes lack, and codes out of packed words.

With weights step * code + low both sums of a position start at their addends plus low * sum(x): t, which counts the
second output's codes too, 257 times that. A function computes these starts once, behind the words that it has pushed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeflow.backends.c.dsp.byte_words import LoadWords, load_words
from edgeflow.backends.c.dsp.packing import Lines, Packing

FRAME = 56
"""Bytes that a tile pushes, below the corrections."""
_FEW = 4
"""Loads of x that are written out in the loop over a position's words."""
_ONES, _COUNT, _FIRST = "r5", "r12", 6
"""Registers of the loop over x: two ones, its count, and the first of the sums."""

Multiply = Callable[[tuple[str, ...], tuple[str, ...]], Lines]
"""(a word of x of every position, a word of codes of every pair) -> the multiplications."""


def room(packing: Packing | None, positions: int) -> int:
    """Bytes of the corrections."""
    return 8 * positions if packing and packing.low else 0


def corrections(
    packing: Packing, positions: int, words: int, order: Sequence[int], load: LoadWords = load_words
) -> Lines:
    """Computes -low * sum(x) of every position, and 257 times that, and stores them in an order: 2 * position, or one
    more for the second. Afterwards r0 and r1 are x and w again.
    """
    if not packing.low:
        return []
    each = math.gcd(4 // positions, words)
    loads = math.gcd(words // each, _FEW)
    registers = [f"r{1 + number}" for number in range(each * positions)]
    sums = [f"r{_FIRST + position}" for position in range(positions)]
    body = load(registers)
    for number, register in enumerate(registers):
        body.append(f"smlad {sums[number % positions]}, {register}, {_ONES}, {sums[number % positions]}")
    shift = (-packing.low).bit_length() - 1
    lines = [f"mov {_ONES}, #0x00010001", f"mov {_COUNT}, #{words // (each * loads)}", *(f"mov {s}, #0" for s in sums)]
    lines += ["3:", *(one for _ in range(loads) for one in body), f"subs {_COUNT}, {_COUNT}, #1", "bne 3b"]
    for place, which in enumerate(order):
        position, second = divmod(which, 2)
        turn = f"lsl r1, {sums[position]}, #{shift}"
        whole = [] if second else ["add r1, r1, r1, lsl #8"]
        lines += [turn, *whole, f"str r1, [sp, #{FRAME + 4 * place}]"]
    return [*lines, "ldrd r0, r1, [sp]"]


def order(rows: Sequence[tuple[str, ...]], spare: tuple[str, str]) -> tuple[tuple[str, int], ...]:
    """(register, which correction) in the order of both: those of the first position go to the `spare` registers, the
    others where the first pair's sums will be. `rows`: the sums of all positions, t of every pair, then B.
    """
    both, second = rows[0], rows[len(rows) // 2]
    found = [(spare[0], 0), (spare[1], 1)]
    for position in range(1, len(both)):
        found += [(both[position], 2 * position), (second[position], 2 * position + 1)]
    return tuple(sorted(found, key=lambda one: 14 if one[0] == "lr" else int(one[0][1:])))


def begin(rows: Sequence[tuple[str, ...]], spare: tuple[str, str]) -> Lines:
    """All sums, from the addends in the first position's registers."""
    held = order(rows, spare)
    where = {which: register for register, which in held}
    pairs = len(rows) // 2
    lines = [f"add {spare[0]}, sp, #{FRAME}", f"ldm {spare[0]}, {{{', '.join(one for one, _ in held)}}}"]
    for number in (*range(1, pairs), *range(pairs + 1, 2 * pairs), 0, pairs):
        for position in reversed(range(len(rows[number]))):
            correction = where[2 * position + number // pairs]
            lines.append(f"sub {rows[number][position]}, {rows[number][0]}, {correction}")
    return lines


def banked(packing: Packing, chunk: int, x: tuple[str, ...], code: str, multiply: Multiply) -> Lines:
    """The words of a chunk whose packed words are in floating-point registers, from s0 on."""

    def words(bank: Callable[[int], str], codes: int) -> Lines:
        lines: Lines = []
        for number in range(codes):
            unpacked = packing.unpack(
                number, lambda word, register: ([f"vmov {register}, {bank(word)}"], register), code, x[-1]
            )
            lines += [*unpacked, *load_words(x), *multiply(x, (code,))]
        return lines

    whole, rest = divmod(chunk, packing.period)
    lines: Lines = []
    if packing.words == 1 and whole > 1:
        bank = ", ".join(f"s{number}" for number in range(whole))
        lines += [f".irp packed, {bank}", *words(lambda _: "\\\\packed", packing.period), ".endr"]
    else:
        for at in range(whole):
            lines += words(lambda word, at=at: f"s{at * packing.words + word}", packing.period)
    return [*lines, *words(lambda word: f"s{whole * packing.words + word}", rest)]


@dataclass(frozen=True)
class Loaded:
    """The registers of a loop whose packed words are read from memory, one word of every pair after the other.

    x: words of all positions, as many as fit. codes: one for each pair. spare: for what unpacking needs, and for the
    packed words of a period where they have room.
    load: how words of x come.
    """

    packing: Packing
    positions: int
    x: tuple[str, ...]
    codes: tuple[str, ...]
    spare: tuple[str, ...]
    load: LoadWords = load_words

    @property
    def x_words(self) -> int:
        """Words of x that are loaded at a time: a power of two, one where they lend a register to the unpacking."""
        return 1 << (len(self.x) // self.positions if self.spare else 1).bit_length() - 1

    def chunk(self, words: int, multiply: Multiply) -> Lines:
        """All words of a chunk; equal stretches are written once."""
        stretch = max(self.packing.period, self.x_words)
        whole, rest = divmod(words, stretch)
        repeated = [f".rept {whole}", *self._stretch(stretch, multiply), ".endr"] if whole else []
        return [*repeated, *self._stretch(rest, multiply)]

    @property
    def held(self) -> bool:
        """Whether the packed words of a period stay in registers."""
        several = any(len(own) > 1 for own in self.packing.pieces)
        return self.packing.words * len(self.codes) + several <= len(self.spare)

    def _stretch(self, words: int, multiply: Multiply) -> Lines:
        lines: Lines = []
        pairs, period = len(self.codes), self.packing.period
        for word in range(words):
            at = word % self.x_words
            load = self.x[: self.positions * min(self.x_words, words - word)] if at == 0 else ()
            first = word // period * self.packing.words
            used = self.packing.packed(min(period, words - word))
            if self.held and word % period == 0:
                lines.append(_load("r1", self.spare[: pairs * used]))
            for pair, code in enumerate(self.codes):

                def fetch(packed: int, register: str, pair: int = pair, first: int = first) -> tuple[Lines, str]:
                    if self.held:
                        return [], self.spare[pairs * packed + pair]
                    return [f"ldr {register}, [r1, #{4 * (pairs * (first + packed) + pair)}]"], register

                lines += self.packing.unpack(word % period, fetch, code, (self.x[-1], *self.spare)[-1])
            lines += self.load(load) if load else []
            lines += multiply(self.x[self.positions * at : self.positions * (at + 1)], self.codes)
        moved = 4 * pairs * self.packing.packed(words)
        return [*lines, f"add r1, r1, #{moved}"] if words and not self.held else lines


def twin_corrections(packing: Packing, words: str, word: str) -> Lines:
    """C that takes the corrections of position p from t and b. `word`: the expression of word k of its x."""
    if not packing.low:
        return []
    return [
        "uint32_t correction = 0;",
        f"for (uint32_t k = 0; k < {words}; k++) {{",
        f"    const uint32_t u = {word};",
        f"    correction += {-packing.low}u * (uint32_t)((int16_t)u + (int16_t)(u >> 16));",
        "}",
        "t -= 257u * correction;",
        "b -= correction;",
    ]


def twin_place(packing: Packing, chunk: int) -> str:
    """The C expression of a pair's packed word with which the period of word k of x begins."""
    return f"{packing.packed(chunk)} * (k / {chunk}) + {packing.words} * (k % {chunk} / {packing.period})"


def twin_codes(packing: Packing, chunk: int) -> Lines:
    """C that declares v, the codes for word k of x, out of the packed words from `packed` on."""
    lines = ["uint32_t v;", f"switch (k % {chunk} % {packing.period}) {{"]
    for code in range(packing.period):
        label = "default:" if code == packing.period - 1 else f"case {code}:"
        lines += [label, f"    v = {packing.c(code, lambda word: f'packed[{word} * PAIRS]')};"]
        lines += ["    break;"]
    return [*lines, "}"]


def _load(base: str, registers: Sequence[str]) -> str:
    if len(registers) == 1:
        return f"ldr {registers[0]}, [{base}], #4"
    return f"ldmia {base}!, {{{', '.join(registers)}}}"
