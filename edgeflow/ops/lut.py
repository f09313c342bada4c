"""Lut: any function of a narrow integer, as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape

MOST_ENTRIES = 1 << 16


@dataclass(frozen=True, eq=False)
class Lut:
    """y = table[x - first]. The table covers every value that x can take.

    `function` says what the table holds ("logistic", "tanh"), or is empty: a writer may use a target's own op.
    """

    table: IntArray
    first: int
    function: str = ""

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape stays."""
        (source,) = inputs
        if self.table.ndim != 1 or not 1 <= self.table.size <= MOST_ENTRIES:
            raise InvalidGraph(f"a table of shape {self.table.shape}, not of 1 to {MOST_ENTRIES} entries")
        if self.function and not (self.function.isascii() and self.function.isidentifier()):
            raise InvalidGraph(f"{self.function!a} is no function's name")
        return source

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """The least and largest entry that the input's bounds can reach, for each of its bounds."""
        lo, hi = np.broadcast_arrays(inputs[0].lo, inputs[0].hi)
        last = self.first + self.table.size - 1
        if int(lo.min()) < self.first or int(hi.max()) > last:
            raise InvalidGraph(
                f"the table covers [{self.first}, {last}], its input reaches [{int(lo.min())}, {int(hi.max())}]"
            )
        ends = np.stack([lo.reshape(-1), hi.reshape(-1)], axis=1) - self.first
        different, where = np.unique(ends, axis=0, return_inverse=True)
        least = np.array([self.table[a : b + 1].min() for a, b in different], dtype=np.int64)
        most = np.array([self.table[a : b + 1].max() for a, b in different], dtype=np.int64)
        where = where.reshape(-1)
        return Bounds(least[where].reshape(lo.shape), most[where].reshape(lo.shape))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Element-wise."""
        return self.table[inputs[0] - self.first]
