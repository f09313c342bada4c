"""Zero bits that all weights of an op end with go, and its Requant shifts by fewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np

from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.passes.requants import along_last_axis, compact, rounding_stages, scale_of
from edgeflow.passes.rewrite import Change, Facts, rewritten


@dataclass(frozen=True)
class DropCommonBits:
    """Weights that are all multiples of 2^j, with a Requant behind them, lose j bits; so do the sums.

    sum = 2^j z + b. Floor and half up never see b's j lowest bits:
    floor((2^j z + b) / 2^n) = floor((z + floor(b / 2^j)) / 2^(n-j)). So a bias that is odd in a finer unit than the
    products, which keeps sums off ties, costs nothing once the rounding is half up. The other roundings need those
    bits to be zero. With a factor in the Requant, what is left of b can need a bias there: only where it has one.
    """

    name: ClassVar[str] = "drop_common_bits"

    def apply(self, graph: Graph) -> Graph:
        """Drops the bits wherever the result stays."""
        return rewritten(graph, _drop)


def _drop(facts: Facts, node: Node) -> Mapping[str, Change] | None:
    before = facts.private_maker(node.inputs[0]) if isinstance(node.op, Requant) else None
    if before is None or not isinstance(node.op, Requant) or not isinstance(before.op, Conv | Dense):
        return None
    stages, scale = rounding_stages(node.op), scale_of(node.op)
    channels = node.type.shape[-1]
    parts = [along_last_axis(array, channels) for array in (scale, node.op.bias)]
    if not stages or parts[0] is None or parts[1] is None:
        return None
    first = stages[0]
    half_up = first.rounding is Rounding.HALF_UP
    bits = min(_common_bits(before.op.weight), int(first.shift.min()) - half_up)
    if bits < 1:
        return None
    kept = before.op.bias >> bits
    rest = (before.op.bias - (kept << bits)) * parts[0] + parts[1]
    if first.rounding not in (Rounding.FLOOR, Rounding.HALF_UP) and (rest % (1 << bits)).any():
        return None
    if (rest >> bits).any() and not node.op.bias.any():
        return None
    op = replace(before.op, weight=frozen_array(before.op.weight >> bits), bias=frozen_array(kept))
    after = _shifting_less(node.op, stages, bits, rest >> bits)
    return {
        before.name: replace(before, op=op, label=_coarser(before.label, bits)),
        node.name: replace(node, op=after),
    }


def _common_bits(weight: IntArray) -> int:
    """The zero bits that all weights end with; 0 when all are zero."""
    every = int(np.bitwise_or.reduce(weight.reshape(-1)))
    return (every & -every).bit_length() - 1 if every else 0


def _shifting_less(op: Requant, stages: tuple[Stage, ...], bits: int, bias: IntArray) -> Requant:
    first = Stage(frozen_array(stages[0].shift - bits), stages[0].rounding)
    return replace(op, stages=(first, *stages[1:]), bias=compact(bias))


def _coarser(label: Label, bits: int) -> Label:
    match label:
        case Dyadic(int() as frac):
            return Dyadic(frac - bits)
        case Dyadic(frac):
            return Dyadic(tuple(one - bits for one in cast(tuple[int, ...], frac)))
        case Affine(scale, zero):
            return Affine(scale * 2.0**bits, zero >> bits)
