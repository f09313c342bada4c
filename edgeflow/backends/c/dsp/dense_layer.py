"""A fully connected layer as the makers of its forms see it, and what they make of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.dsp.tile_weights import NOTHING, order
from edgeflow.backends.c.kernel import Context, Shared
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant


@dataclass(frozen=True)
class DenseLayer:
    """A Dense and the one Requant behind it; `weights` are (outputs, values), `ends` the interval of the input.

    Without a Requant the sums themselves are stored, in `size` bytes each.
    """

    name: str
    context: Context
    signed: bool
    weights: IntArray
    bias: IntArray
    requant: Requant | None
    ends: tuple[int, int]
    size: int = 1

    @property
    def products(self) -> int:
        """Multiplications of a vector."""
        return self.weights.size

    @property
    def table(self) -> str:
        """The name of the weights' table."""
        return f"{self.name}_weight"


@dataclass(frozen=True)
class Made:
    """Statements with the functions and the weights that they need, and words of scratch.

    `spread`: those of them that hold the input's values, which `spreader` spreads there. `work`: the instructions of a
    vector, where the form does not tell them. `packing`: how weights of few bits are stored.
    """

    statements: tuple[str, ...]
    words: npt.NDArray[np.uint32]
    shared: tuple[Shared, ...]
    scratch: int
    spread: int = 0
    spreader: str = ""
    work: int | None = None
    packing: Packing | None = None


def padded(values: int, lanes: int) -> IntArray:
    """The values of the lanes, as `tile_weights.order` has them, with NOTHING for those behind the last."""
    found = np.full(lanes, NOTHING)
    found[: len(order(values))] = order(values)
    return found
