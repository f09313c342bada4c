"""The weights of a tile product as it reads them: two outputs nested in every 16-bit lane, two lanes a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.dsp.tile_epilogue import SCALES
from edgeflow.ir.types import IntArray

NOTHING = -1
"""In an order: a lane that belongs to no value; its weight is 0, so what x holds there does not matter."""
_LANE = 1 << 15
_WORD = 1 << 31


@dataclass(frozen=True)
class Constants:
    """What an output adds to scale * sum, bias included, and the words that its epilogue reads (mod 2**32)."""

    addend: int
    words: tuple[int, ...] = ()


ConstantsOf: TypeAlias = Callable[[int, int], Constants]
"""(output, scale) -> its constants when its sum is scaled by 256 or by 1."""


def order(values: int) -> IntArray:
    """The values that the 16-bit lanes hold, low half first, where 4 bytes at a time are spread by two UXTB16.

    The bytes 0 1 2 3 give the words (0, 2) and (1, 3). The length is `values` rounded up to a multiple of 4, with
    NOTHING for what is missing.
    """
    quads = np.arange(-(-values // 4) * 4).reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1)
    return np.where(quads < values, quads, NOTHING)


def groups(outputs: int, together: int = 1) -> tuple[tuple[int, ...], ...]:
    """The outputs of each pass of the loop: 2 * together of them.

    Where they do not come out even, the last group reaches back over outputs that the one before has too: it
    writes them again, the same bytes, and nothing behind the end. Fewer outputs than a group has are an error
    but for a single one, (0,).
    """
    size = 2 * together
    if outputs == 1:
        return ((0,),)
    if outputs < size:
        raise ValueError(f"{outputs} outputs are fewer than a group of {size}")
    starts = [*range(0, outputs - size + 1, size)]
    if outputs % size:
        starts.append(outputs - size)
    return tuple(tuple(range(start, start + size)) for start in starts)


def reach(weights: IntArray, lo: int, hi: int) -> tuple[IntArray, IntArray]:
    """The least and the largest sum of each output, (outputs,), for weights (outputs, values) and x in [lo, hi]."""
    ends = weights[:, :, None] * np.array([lo, hi])
    return ends.min(axis=2).sum(axis=1), ends.max(axis=2).sum(axis=1)


def fits(weights: IntArray, lo: int, hi: int, constants: ConstantsOf, together: int = 1) -> bool:
    """Whether the nested sums are exact for weights (outputs, values) and every x in [lo, hi].

    Weights must have 8 bits and x 16; a lane must hold 256 * a + b, which fails for a = -128 with b < 0; and
    scale * sum + addend must stay within 32 bits for both outputs of each pair. Whatever lies between wraps around
    and comes back.
    """
    if weights.min(initial=0) < -128 or weights.max(initial=0) > 127 or lo < -_LANE or hi >= _LANE:
        return False
    least, most = reach(weights, lo, hi)
    for group in groups(len(weights), together):
        for place, output in enumerate(group):
            scale = SCALES[place % 2]
            addend = constants(output, scale).addend
            if not _inside(scale * int(least[output]) + addend, scale * int(most[output]) + addend):
                return False
        nested = [256 * weights[a] + weights[b] for a, b in zip(group[::2], group[1::2], strict=False)]
        if any((lane < -_LANE).any() for lane in nested):
            return False
    return True


def _inside(least: int, most: int) -> bool:
    return least >= -_WORD and most < _WORD


PackWords: TypeAlias = Callable[[IntArray], IntArray]
"""(pairs, nested words, 4 weights from the lowest byte up) -> (pairs, packed words)."""


def nest(lanes: IntArray) -> IntArray:
    """The words of bytes that hold weights of 8 bits: (pairs, words, 4) -> (pairs, words)."""
    nested = (256 * lanes[..., 1::2] + lanes[..., ::2]) & 0xFFFF
    return nested[..., 0] | nested[..., 1] << 16


def pack(
    weights: IntArray,
    lanes: Sequence[int] | IntArray,
    constants: ConstantsOf,
    together: int = 1,
    words: PackWords = nest,
) -> npt.NDArray[np.uint32]:
    """The words that the function reads for weights (outputs, values) that fit.

    `lanes` names the value of each lane, as `order` does, NOTHING where there is none; its length is twice the words
    of a position. For each of the `groups`: the first outputs' starting words, the second outputs', for every word of x
    one word of each pair (or what `words` makes of them), and the constants of each output.
    """
    chosen = np.asarray(lanes)
    lanewise = np.where(chosen == NOTHING, 0, weights[:, chosen])
    return np.concatenate([_group(lanewise, group, constants, words) for group in groups(len(weights), together)])


def _group(
    lanewise: IntArray, group: tuple[int, ...], constants: ConstantsOf, words: PackWords
) -> npt.NDArray[np.uint32]:
    own = [constants(output, SCALES[place % 2]) for place, output in enumerate(group)]
    first = lanewise[list(group[::2])]
    second = lanewise[list(group[1::2])] if len(group) > 1 else np.zeros_like(first)
    pairs = words(np.stack([second, first], axis=2).reshape(len(first), -1, 4))
    seconds = [one.addend for one in own[1::2]] or [0]
    firsts = [one.addend + other for one, other in zip(own[::2], seconds, strict=True)]
    tail = [word for one in own for word in one.words]
    stream = [*firsts, *seconds, *pairs.T.reshape(-1).tolist(), *tail]
    return np.array([word % (1 << 32) for word in stream], dtype=np.uint32)
