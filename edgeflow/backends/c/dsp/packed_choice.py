"""Which weights are packed: those whose tables shrink by more than functions of their own add."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.c.dsp.packing import Packing, packing_of
from edgeflow.backends.c.dsp.tile import split
from edgeflow.backends.c.dsp.tile_weights import order
from edgeflow.backends.c.lower import Step
from edgeflow.backends.c.optimize import Optimize
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense

WIDEST = {Optimize.SIZE: 6, Optimize.BALANCED: 4, Optimize.SPEED: 0}
"""Bits of the widest weights that are packed: up to 4 take about a sixth more instructions, 5 and 6 about a quarter."""
_CODE_WORD, _CODE, _CODE_UNPACK = 76, 600, 24
"""About the bytes of a layer's tile functions: for each word that is written out, besides, and for each to unpack."""
_WORD = 4


@dataclass(frozen=True)
class _Layer:
    """The weights (outputs, values) of a product, and how its words are split: `chunks` chunks of `chunk`."""

    weights: IntArray
    chunk: int
    chunks: int

    def bytes(self, packing: Packing | None) -> int:
        """Of its weights."""
        words = packing.packed(self.chunk) if packing else self.chunk
        return _WORD * -(-len(self.weights) // 2) * self.chunks * words


def packings(steps: Sequence[Step], optimize: Optimize) -> frozenset[Packing]:
    """The packings with which a model's products take the least flash, out of those that its aim allows."""
    layers = [_Layer(one, *split(len(order(one.shape[1])))) for step in steps if (one := _weights(step)) is not None]
    found = {packing_of(one.weights, holes=_holes(one.weights, one.chunk, one.chunks)) for one in layers}
    allowed = [one for one in found if one and one.bits <= WIDEST[optimize]]
    ordered = sorted(allowed, key=lambda one: (one.bits, one.low))
    choices = itertools.chain.from_iterable(itertools.combinations(ordered, count) for count in range(len(ordered) + 1))
    return frozenset(min(choices, key=lambda chosen: _flash(layers, chosen)))


def tile_packing(weights: IntArray, chunk: int, chunks: int, chosen: Iterable[Packing]) -> Packing | None:
    """The narrowest chosen packing for a tile with weights (outputs, values); None where none holds them."""
    holes = _holes(weights, chunk, chunks)
    fit = [one for one in chosen if one.holds(weights, holes=holes)]
    return min(fit, key=lambda one: (one.packed(chunk), one.low), default=None)


def _holes(weights: IntArray, chunk: int, chunks: int) -> bool:
    return weights.shape[1] < 2 * chunk * chunks


def _flash(layers: Iterable[_Layer], chosen: tuple[Packing, ...]) -> int:
    """About the bytes of all weights and functions."""
    functions: set[tuple[Packing | None, int]] = set()
    total = 0
    for layer in layers:
        packing = tile_packing(layer.weights, layer.chunk, layer.chunks, chosen)
        total += layer.bytes(packing)
        functions.add((packing, layer.chunk))
    return total + sum(_CODE + chunk * (_CODE_WORD + (_CODE_UNPACK if packing else 0)) for packing, chunk in functions)


def _weights(step: Step) -> IntArray | None:
    """The weights (outputs, values) of a layer that a tile may compute."""
    op = step.node.op if step.node else None
    match op:
        case Conv(groups=1):
            return np.moveaxis(op.weight, -1, 0).reshape(op.weight.shape[-1], -1)
        case Dense():
            return op.weight.T
        case _:
            return None
