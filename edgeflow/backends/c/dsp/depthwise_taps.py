"""The geometry of a depthwise kernel, and which multiplications its taps become.

Two input rows, one above the other, share a register: an operand holds a channel's values of the rows 2p and 2p + 1
in its halves. The weights lie in halves the same way, so SMLAD multiplies two taps of one column at once; a tap
whose partner is outside the window takes one half of an operand and one half of a weight word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from edgeflow.backends.c.dsp.packed_taps import Taps

HALVES = "bt"
"""The halves of a register as SMLABT and its kin name them: bottom (the low 16 bits) and top."""


@dataclass(frozen=True)
class Product:
    """One multiplication: operand `pair` with weight word `word` of a column of taps.

    `halves` is empty for both halves at once (SMLAD), else the operand's half and the weight's, "b" or "t".
    """

    pair: int
    word: int
    halves: str = ""

    def instruction(self, target: str, operand: str, weight: str, addend: str) -> str:
        """target = addend + operand * weight."""
        return f"smla{self.halves or 'd'} {target}, {operand}, {weight}, {addend}"


@dataclass(frozen=True)
class Depthwise:
    """What one call computes: `rows` output rows (1 or 2) of `outputs` columns.

    kernel, stride: (rows, columns). columns: the image's. before: pad columns left of it, fewer than the kernel has;
    those right of it follow from `outputs`. pad: their value, 0..255. One filter a channel, no dilation. taps: how
    weights of few bits are stored; None for those of 16.
    """

    rows: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    columns: int
    channels: int
    outputs: int
    before: int
    pad: int = 0
    taps: Taps | None = None

    def __post_init__(self) -> None:
        last = (self.outputs - 1) * self.stride[1] - self.before
        if self.rows not in (1, 2) or not 0 <= self.before < self.kernel[1] or last >= self.columns:
            raise ValueError(f"not the rows of a depthwise convolution: {self}")

    @property
    def inputs(self) -> int:
        """Input rows that a call reads."""
        return (self.rows - 1) * self.stride[0] + self.kernel[0]

    @property
    def pairs(self) -> int:
        """Operands of a column and channel: pairs of input rows, the last perhaps a single row."""
        return -(-self.inputs // 2)

    @property
    def span(self) -> int:
        """Columns that the windows cover, pads included."""
        return (self.outputs - 1) * self.stride[1] + self.kernel[1]

    @property
    def inside(self) -> int:
        """Columns of the image that the windows cover: 0 to inside - 1."""
        return min(self.columns, self.span - self.before)

    @property
    def after(self) -> int:
        """Pad columns right of the image."""
        return self.span - self.before - self.inside

    @cached_property
    def words(self) -> tuple[tuple[int | None, int | None], ...]:
        """The weight words of each column of taps: the taps (rows of the kernel) in their low and high halves.

        They depend on the kernel and the stride alone, so calls for one row and for two share packed weights.
        """
        height, stride = self.kernel[0], self.stride[0]
        pairs = -(-(stride + height) // 2)
        lanes = [(2 * p - row * stride, 2 * p + 1 - row * stride) for row in (0, 1) for p in range(pairs)]
        found: list[tuple[int | None, int | None]] = []
        for low, high in lanes:
            if low >= 0 and high < height and (low, high) not in found:
                found.append((low, high))
        held = {tap for pair in found for tap in pair}
        left = [tap for tap in range(height) if tap not in held]
        found += [(tap, left[i + 1] if i + 1 < len(left) else None) for i, tap in enumerate(left) if i % 2 == 0]
        return tuple(found)

    @property
    def stored(self) -> int:
        """Weight words of a channel in memory."""
        return self.taps.stored if self.taps else self.kernel[1] * len(self.words)

    def place(self, tap: int) -> tuple[int, int]:
        """The weight word (of its column) and the half (0 or 1) where a tap lies first."""
        return next((i, pair.index(tap)) for i, pair in enumerate(self.words) if tap in pair)

    def products(self, row: int) -> tuple[Product, ...]:
        """The multiplications that a column of taps costs output row `row`."""
        height, first = self.kernel[0], row * self.stride[0]
        found: list[Product] = []
        for pair in range(self.pairs):
            taps = (2 * pair - first, 2 * pair + 1 - first)
            inside = [0 <= tap < height for tap in taps]
            if all(inside):
                found.append(Product(pair, self.words.index(taps)))
            elif any(inside):
                half = inside.index(True)
                word, other = self.place(taps[half])
                found.append(Product(pair, word, HALVES[half] + HALVES[other]))
        return tuple(found)
