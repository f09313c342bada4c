"""The words that a sparse tile reads: where sums start, stretches of weights with their places, constants."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.dsp.sparse_tile import BASE_BIT, HALF, LAST, LOOPS_BIT, PASS, SPAN, Kind, SparseTile
from edgeflow.backends.c.dsp.tile_weights import ConstantsOf, groups
from edgeflow.ir.types import IntArray

MOST_VALUES = 1 << 15
"""Values of a vector, beyond which a header may not say where a base lies."""


@dataclass(frozen=True)
class Stream:
    """The words of all groups, each group's first word, and what there is to read."""

    words: npt.NDArray[np.uint32]
    starts: tuple[int, ...]
    passes: int
    stretches: int


def block_stream(tile: SparseTile, weights: IntArray, lanes: IntArray, constants: ConstantsOf) -> Stream:
    """The pairs of outputs of weights (outputs, values), two or more; `lanes` names the values of x's 16-bit lanes.

    A pair's blocks of zeros are left out. The last pair of an odd number reaches back.
    """
    writer = _Writer(tile)
    chosen = weights[:, lanes]
    for a, b in groups(len(weights)):
        nested = (256 * chosen[a] + chosen[b]) & 0xFFFF
        words = nested[::2] | nested[1::2] << 16
        used = np.flatnonzero(words)
        first, second = constants(a, 256), constants(b, 1)
        writer.start(first.addend + second.addend, second.addend)
        writer.stretches(used, words[used])
        writer.add(*first.words, *second.words)
    return writer.finish()


def scattered_stream(tile: SparseTile, weights: IntArray, constants: ConstantsOf) -> Stream:
    """The outputs of weights (outputs, values), without those that are zero."""
    writer = _Writer(tile)
    for output, row in enumerate(weights):
        used = np.flatnonzero(row)
        own = constants(output, 1)
        writer.start(own.addend)
        writer.stretches(used, row[used])
        writer.add(*own.words)
    return writer.finish()


def blocks_used(weights: IntArray, lanes: IntArray) -> int:
    """How many blocks of a pair of outputs and a word of x are not all zero."""
    chosen = np.abs(weights[:, lanes])
    live: IntArray = chosen[:, ::2] + chosen[:, 1::2]
    return sum(int(np.count_nonzero(live[a] + live[b])) for a, b in groups(len(weights)))


class _Writer:
    """Words so far."""

    def __init__(self, tile: SparseTile) -> None:
        self.tile = tile
        self.words: list[int] = []
        self.starts: list[int] = []
        self.passes = self.count = 0

    def add(self, *words: int) -> None:
        """More words, modulo 2**32."""
        self.words += [word % (1 << 32) for word in words]

    def start(self, *sums: int) -> None:
        """A group, with what its sums start at."""
        self.starts.append(len(self.words))
        self.add(*sums)

    def stretches(self, places: IntArray, weights: IntArray) -> None:
        """All stretches of a group; one without weights gets a pass of zeros."""
        ends = _ends(places)
        for first, end in zip([0, *ends], ends, strict=False):
            own, base = places[first:end], int(places[first]) if end else 0
            passes = max(1, -(-len(own) // PASS))
            header = (LAST if end == len(places) else 0) | (HALF if passes % 2 else 0)
            header |= ((passes + 1) // 2 - 1) << LOOPS_BIT | base * self.tile.place_bytes << BASE_BIT
            self.add(header)
            padding = (0, passes * PASS - len(own))
            self._passes(np.pad(own - base, padding), np.pad(weights[first:end], padding))
            self.passes += passes
            self.count += 1

    def _passes(self, places: IntArray, weights: IntArray) -> None:
        fours = zip(places.reshape(-1, PASS).tolist(), weights.reshape(-1, PASS).tolist(), strict=True)
        for four, values in fours:
            if self.tile.kind is Kind.BLOCKS:
                self.add(sum(place << 8 * number for number, place in enumerate(four)), *values)
            else:
                halves = [value & 0xFF | place << 8 for place, value in zip(four, values, strict=True)]
                self.add(halves[0] | halves[1] << 16, halves[2] | halves[3] << 16)

    def finish(self) -> Stream:
        """All of them."""
        return Stream(np.array(self.words, np.uint32), tuple(self.starts), self.passes, self.count)


def _ends(places: IntArray) -> list[int]:
    """Where stretches end: each takes what its span holds, in whole passes as long as others follow."""
    numbers = [int(place) for place in places]
    ends: list[int] = []
    at = 0
    while not ends or at < len(numbers):
        first = at
        at = bisect_left(numbers, numbers[first] + SPAN, first) if numbers else 0
        if at < len(numbers) and at - first >= PASS:
            at -= (at - first) % PASS
        ends.append(at)
    return ends
