"""Weights of few bits as plain C reads them: 32 // bits signed fields to a word, the first at the top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.ir.types import IntArray

_WORD = 32


@dataclass(frozen=True)
class Fields:
    """Fields of `bits` bits; runs of `run` weights each begin a word, which may leave its last fields empty."""

    bits: int
    run: int

    @property
    def each(self) -> int:
        """Weights of a word."""
        return _WORD // self.bits

    @property
    def words(self) -> int:
        """Words of a run."""
        return -(-self.run // self.each)

    @property
    def rest(self) -> int:
        """Weights of a run's last word where it is not full, else 0."""
        return self.run % self.each

    @property
    def down(self) -> int:
        """The shift that leaves the first field, with its sign."""
        return _WORD - self.bits

    def statements(self, values: str, ctype: str, acc: str) -> list[str]:
        """C that adds to `acc`, a variable of that type, a run of values times the run of weights from w on."""
        whole = self.run // self.each
        lines: list[str] = []
        if whole:
            lines += [
                f"for (int32_t word = 0; word < {whole}; word++) {{",
                f"    const {ctype} *const u = {values} + {self.each} * word;",
                *self._products("w[word]", self.each, acc),
                "}",
            ]
        if self.rest:
            start = f"{values} + {whole * self.each}" if whole else values
            lines += [
                "{",
                f"    const {ctype} *const u = {start};",
                *self._products(f"w[{whole}]", self.rest, acc),
                "}",
            ]
        return lines

    def _products(self, word: str, count: int, acc: str) -> list[str]:
        lines = [f"    uint32_t codes = {word};"]
        for place in range(count):
            lines += [f"    codes <<= {self.bits};"] if place else []
            lines.append(f"    acc += ({acc})u[{place}] * ((int32_t)codes >> {self.down});")
        return lines

    def pack(self, weights: IntArray) -> IntArray:
        """The words of weights (..., run), run after run."""
        runs = weights.reshape(-1, self.run)
        padded = np.zeros((len(runs), self.words * self.each), np.int64)
        padded[:, : self.run] = runs & ((1 << self.bits) - 1)
        ups = _WORD - self.bits * (1 + np.arange(self.each, dtype=np.int64))
        return (padded.reshape(-1, self.each) << ups).sum(axis=1)


def bits_of(weights: IntArray) -> int:
    """The bits of a signed field that holds all weights, 1 or more."""
    lo, hi = int(weights.min(initial=0)), int(weights.max(initial=0))
    return max((-lo - 1).bit_length() if lo else 0, hi.bit_length()) + 1
