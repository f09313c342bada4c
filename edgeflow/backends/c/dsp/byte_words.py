"""How a tile product of packed weights loads x: words that are spread already, or bytes that it spreads as it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from edgeflow.backends.c.dsp.packing import Lines
from edgeflow.backends.c.dsp.tile_weights import order

LoadWords: TypeAlias = Callable[[Sequence[str]], Lines]
"""(registers) -> the instructions that load as many words of x, to which r0 points and moves on."""

_MULTIPLE, _LEAST = 8, 8
"""Words that every packing's period divides; the fewest that are worth a pass of the loop."""


def load_words(registers: Sequence[str]) -> Lines:
    """Words of x as they lie in memory."""
    if len(registers) == 1:
        return [f"ldr {registers[0]}, [r0], #4"]
    return [f"ldmia r0!, {{{', '.join(registers)}}}"]


def load_bytes(signed: bool) -> LoadWords:
    """The words (0, 2) and (1, 3) of each four bytes, wherever these lie. Their number must be even."""
    spread = "sxtb16" if signed else "uxtb16"

    def load(registers: Sequence[str]) -> Lines:
        pairs = list(zip(registers[::2], registers[1::2], strict=True))
        lines = [f"ldr {second}, [r0], #4" for _, second in pairs]
        for first, second in pairs:
            lines += [f"{spread} {first}, {second}", f"{spread} {second}, {second}, ror #8"]
        return lines

    return load


def twin_word(signed: bool, k: str = "k") -> str:
    """The C expression of word k of x out of the bytes."""
    kind = "(uint32_t)(int8_t)" if signed else "(uint32_t)"
    at = f"x[4 * ({k} / 2) + {k} % 2"
    return f"(({kind}{at}] & 0xffffu) | {kind}{at} + 2] << 16)"


def split_bytes(values: int, most: int) -> tuple[int, int]:
    """(chunk, chunks) for a vector that is read where it lies: even chunks, which make it up exactly where they can."""
    words = len(order(values)) // 2
    exact = [one for one in range(most - most % 2, _LEAST - 1, -2) if words % one == 0 and values % 4 == 0]
    if exact:
        chunk = max(exact, key=lambda one: (one % _MULTIPLE == 0, one))
        return chunk, words // chunk
    chunks = -(-words // most)
    chunk = -(-words // chunks)
    return chunk + chunk % 2, chunks
