"""AVERAGE_POOL_2D and MAX_POOL_2D: what keeps its input's scale and zero point.

An average is of bytes: their sum over the count of real elements, half away from zero
(reference/integer_ops/pooling.h). Bytes are values plus a shift, so ties may round otherwise than the values' own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.backends.tflm.arithmetic import along_channels, averaging, only_value, scale_of
from edgeflow.backends.tflm.edit import Edit
from edgeflow.backends.tflm.model import Activation, Kernel, PoolOptions
from edgeflow.backends.tflm.storage import Storage, fused_clamps, zero_of
from edgeflow.backends.tflm.windows import Window, is_same, pair, place_window
from edgeflow.backends.tflm.writer import Refused, Writer
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray, Label, Shape, frozen_array
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.window import window_counts

_MOST_VALUES = 1 << 22


@dataclass(frozen=True)
class Pooled:
    """What an average pool reads: shape, interval, label, and how values become bytes."""

    shape: Shape
    lo: int
    hi: int
    label: Label
    storage: Storage


def adapt_average(edit: Edit, node: Node, after: Node) -> bool:
    """Keeps a SumPool and the Requant behind it where AVERAGE_POOL_2D computes them; False where it does not.

    Where each position divides by another count and no kernel else could do it, the kernel's rounding of ties counts.
    """
    source = edit.names[node.inputs[0]]
    kind, storage = edit.builder.type(source), edit.stored(source)
    if storage is None or not isinstance(node.op, SumPool) or not isinstance(after.op, Requant):
        return False
    pooled = Pooled(kind.shape, kind.lo, kind.hi, edit.builder.label(source), storage)
    activation = average_activation(node.op, after.op, after.label, pooled)
    op = after.op
    if activation is None:
        rank = len(node.type.shape)
        if along_channels(op.multiplier, rank, node.type.shape[-1]) is not None:
            return False
        op = _averages(node.op, op, pooled)
        if (
            average_activation(node.op, op, after.label, pooled) is None
            or _farthest(node.op, after.op, pooled, (pooled.lo, pooled.hi)) > 1
        ):
            return False
    edit.copy(node)
    edit.keep(after, op, storage)
    return True


def _averages(pool: SumPool, wanted: Requant, pooled: Pooled) -> Requant:
    """What the kernel computes, as a Requant with one factor a position."""
    counts, storage = _counts(pool, pooled.shape), pooled.storage
    of_bytes = averaging(counts, -storage.width.lo, storage.width.lo, storage.width.hi)
    bias = frozen_array(storage.shift * counts * of_bytes.multiplier)
    return replace(of_bytes, offset=frozen_array([-storage.shift]), lo=wanted.lo, hi=wanted.hi, bias=bias)


def _counts(pool: SumPool, shape: Shape) -> IntArray:
    """Real elements in each position's window, with a last axis of length 1."""
    counts = window_counts(shape[:-1], pool.window, pool.strides, pool.pads)[..., None]
    return counts.reshape(-1)[:1] if (counts == counts.flat[0]).all() else counts


def average_activation(pool: SumPool, requant: Requant, label: Label, pooled: Pooled) -> Activation | None:
    """The fused activation with which AVERAGE_POOL_2D gives a Requant's results for all sums; None if none does."""
    same = scale_of(label) == scale_of(pooled.label) is not None and zero_of(label) == zero_of(pooled.label)
    padded = any(map(any, pool.pads))
    if not same or (padded and not _pads_same(pool, pooled.shape)):
        return None
    scale = scale_of(label)
    fused = {} if scale is None else fused_clamps(pooled.storage, scale)
    if not _averages_exactly(pool, requant, pooled):
        return next((one for one, ends in fused.items() if _farthest(pool, requant, pooled, ends) == 0), None)
    reach = np.array([pooled.lo, pooled.hi])
    wanted = np.clip(reach, only_value(requant.lo), only_value(requant.hi))
    return next((one for one, ends in fused.items() if (np.clip(reach, *ends) == wanted).all()), None)


def _averages_exactly(pool: SumPool, requant: Requant, pooled: Pooled) -> bool:
    """Whether a Requant divides the sum of bytes by their count, half away from zero, before it clamps: a proof.

    Its factor m / 2^k exceeds 1 / count by e / (count 2^k), e = m count - 2^k >= 0, which moves no sum across a tie,
    1 / (2 count) away at least, while 2 |sum| e < 2^k; and on a tie it goes where the kernel goes.
    """
    counts, shift, width = _counts(pool, pooled.shape), pooled.storage.shift, pooled.storage.width
    stages = [one for one in requant.stages if one.shift.any()]
    if len(stages) != 1 or stages[0].rounding is not Rounding.HALF_AWAY or only_value(requant.lo) is None:
        return False
    factor, unit = requant.multiplier << requant.pre, np.int64(1) << stages[0].shift
    excess = factor.astype(object) * counts - unit
    near = (excess >= 0) & (excess * counts * (-2 * width.lo) < unit)
    same = (requant.bias == shift * counts * factor) & (requant.offset == -shift)
    return bool(near.all() and same.all()) and only_value(requant.hi) is not None


def _pads_same(pool: SumPool, shape: Shape) -> bool:
    spatial = pair(shape[:-1], 1)
    return is_same(spatial, Window(pair(pool.window, 1), pair(pool.strides, 1), (1, 1), pair(pool.pads, (0, 0))))


def _farthest(pool: SumPool, requant: Requant, pooled: Pooled, ends: tuple[int, int]) -> int:
    """How far a Requant's results lie at most from the averages of bytes, clamped to `ends`."""
    counts, shift = _counts(pool, pooled.shape), pooled.storage.shift
    most = int(counts.max())
    values = np.arange(most * pooled.lo, most * pooled.hi + 1, dtype=np.int64)
    positions = max(counts.size, *(one.size for one in requant.arrays()))
    if int(counts.min()) < 1 or values.size * positions > _MOST_VALUES:
        return pooled.storage.width.hi
    sums = np.clip(values.reshape(-1, *(1,) * len(pooled.shape)), counts * pooled.lo, counts * pooled.hi)
    total = sums + shift * counts
    averages = np.sign(total) * ((np.abs(total) + counts // 2) // counts) - shift
    return int(np.abs(np.clip(averages, *ends) - requant.evaluate((sums,), ())).max())


def lower_average(writer: Writer, node: Node, after: Node) -> bool:
    """Adds the operator for an average; False where AVERAGE_POOL_2D computes another."""
    place, storage = writer.source(node)
    source = writer.graph.tensor(node.inputs[0])
    pool, requant = node.op, after.op
    if not isinstance(pool, SumPool) or not isinstance(requant, Requant):
        return False
    pooled = Pooled(source.type.shape, source.type.lo, source.type.hi, source.label, storage)
    activation = average_activation(pool, requant, after.label, pooled)
    if activation is None:
        return False
    window, strides = pair(pool.window, 1), pair(pool.strides, 1)
    options = PoolOptions(any(map(any, pool.pads)), strides, window, activation)
    elements = node.type.size * math.prod(window)
    result = writer.result(after, storage)
    writer.operator(Kernel.AVERAGE_POOL_2D, (place,), result, options, after.layer, elements)
    return True


def lower_max_pool(writer: Writer, node: Node) -> None:
    """Adds the operator for a MaxPool, and perhaps one that pads in front of it."""
    pool = node.op
    assert isinstance(pool, MaxPool)
    place, storage = writer.source(node)
    window = Window(pair(pool.window, 1), pair(pool.strides, 1), (1, 1), pair(pool.pads, (0, 0)))
    place, same = place_window(writer, node, place, window, storage.width.lo, same=True)
    options = PoolOptions(same, window.strides, window.size, Activation.NONE)
    result = writer.result(node, storage)
    if writer.quantization(place) != writer.quantization(result):
        raise Refused("change the unit in a pool: TFLite keeps its input's")
    elements = node.type.size * window.size[0] * window.size[1]
    writer.operator(Kernel.MAX_POOL_2D, (place,), result, options, node.layer, elements)
