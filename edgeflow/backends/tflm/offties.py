"""Sums that never lie half-way between two results, where a kernel would round those otherwise than the model.

A kernel rounds half away from zero. A model that rounds half up (or floors) differs only on ties below zero, and
half_up(x / 2^n) = round((2 x + 1) / 2^(n+1)) in any rounding to the nearest, because 2 x + 1 is odd and a tie is even.
So weights and bias are doubled, and the bias gets one more.

How large 2 x + 1 may be. The kernel's first stage turns x into x - ceil(x / 2^24 - 1/2) (`JUST_BELOW_ONE`): x itself up
to 2^23, one less up to 3 * 2^23, and for negative x the same towards zero. One less than an odd x above a tie is at
worst the tie, which rounds away from zero as the odd x did. Beyond, two less could cross it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeflow.backends.tflm.arithmetic import INT8_HI, INT8_LO, along_channels
from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds, Node
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, Shape, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import LARGEST_SHIFT, Requant, Rounding, Stage

ODD_LIMIT = 3 << 23
"""Odd sums below it in size round to the nearest whatever the first stage does."""


def off_ties(node: Node, after: Node, source: Bounds, shape: Shape) -> tuple[Node, Node] | None:
    """An op and the Requant behind it as a pair with the same results, whose sums are odd wherever bits are dropped.

    `source` and `shape` are those of what the op reads. None where the pair need not change (nothing below zero
    counts, or it rounds to even or away from zero) or cannot: weights of more than 7 bits, a factor, large sums.
    """
    op, requant = node.op, after.op
    if not isinstance(op, Conv | Dense) or not isinstance(requant, Requant) or not _negative_counts(requant):
        return None
    shift = _shift(requant, len(node.type.shape), node.type.shape[-1])
    if shift is None or int(shift.max()) >= LARGEST_SHIFT:
        return None
    weight = frozen_array(op.weight * 2)
    if weight.min() < INT8_LO or weight.max() > INT8_HI:
        return None
    floors = any(stage.rounding is Rounding.FLOOR for stage in requant.stages if stage.shift.any())
    half = ((np.int64(1) << shift) >> 1) * floors
    bias = frozen_array(2 * (op.bias - half) + (shift > 0))
    odd = replace(op, weight=weight, bias=bias)
    if not _within(odd, source, shape):
        return None
    stage = Stage(frozen_array(shift + 1), Rounding.HALF_AWAY)
    return (
        replace(node, op=odd, label=finer(node.label, frozen_array([2]))),
        replace(after, op=replace(requant, stages=(stage,))),
    )


def _negative_counts(requant: Requant) -> bool:
    """Whether the clamp lets a result below zero through."""
    return bool((requant.lo - requant.offset < 0).any())


def _shift(requant: Requant, rank: int, channels: int) -> IntArray | None:
    """The shift a channel of a Requant that does nothing but floor or round half up by it, and clamp."""
    stages = [stage for stage in requant.stages if stage.shift.any()]
    if len(stages) != 1 or stages[0].rounding not in (Rounding.FLOOR, Rounding.HALF_UP):
        return None
    if requant.pre.any() or (requant.multiplier != 1).any() or requant.bias.any():
        return None
    return along_channels(stages[0].shift, rank, channels)


def _within(op: Conv | Dense, source: Bounds, shape: Shape) -> bool:
    try:
        bounds = op.bounds((source,), (shape,))
    except InvalidGraph:
        return False
    return max(-int(bounds.lo.min()), int(bounds.hi.max())) < ODD_LIMIT


def finer(label: Label, times: IntArray) -> Label:
    """The unit of sums whose weights are taken `times`, powers of two (or 0), one entry or one a channel."""
    more = np.frexp(np.maximum(times, 1).astype(np.float64))[1].astype(np.int64) - 1
    match label:
        case Dyadic(frac):
            found = tuple((np.atleast_1d(np.asarray(frac, dtype=np.int64)) + more).tolist())
            return Dyadic(found[0] if len(set(found)) == 1 else found)
        case Affine(scale, zero):
            least = 1 << int(more.min())
            return Affine(scale / least, zero * least)
