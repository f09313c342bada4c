"""Random graphs that TFLite can say, and more than a QKeras student asks of it: every padding, clamp and rounding."""

from __future__ import annotations

import numpy as np

from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import pick, rounding

CLAMPS = ((0, 255), (0, 127), (0, 63), (0, 15), (-128, 127), (-32, 31), (-127, 127), (-1, 1), (-3, 200))


def requant(rng: np.random.Generator, builder: GraphBuilder, at: str) -> Requant:
    """A Requant to 8 bits or fewer: dyadic or not, one factor or one a channel, any rounding, any clamp."""
    kind = builder.type(at)
    channels = kind.shape[-1]
    many = channels if rng.random() < 0.5 else 1
    lo, hi = CLAMPS[int(rng.integers(len(CLAMPS)))]
    drop = max(0, kind.bits - (hi - lo).bit_length() + pick(rng, -2, -1, 0, 1))
    if rng.random() < 0.6:
        multiplier, shift = np.ones(many, dtype=np.int64), rng.integers(max(0, drop - 1), drop + 2, many)
    else:
        multiplier, shift = rng.integers(1 << 14, 1 << 16, many), np.full(many, drop + 15)
    pre = frozen_array([pick(rng, 0, 0, 0, 2)])
    stage = Stage(frozen_array(shift), rounding(rng))
    ends = frozen_array([lo]), frozen_array([hi])
    return Requant(pre, frozen_array(multiplier), (stage,), frozen_array([0]), *ends)


def conv(rng: np.random.Generator, kind: TensorType) -> Conv:
    """A convolution: grouped or not, depthwise, strided, dilated, with TFLite's paddings and others."""
    spatial, channels = kind.shape[:-1], kind.shape[-1]
    groups = pick(rng, 1, 1, channels, *[g for g in range(1, channels + 1) if channels % g == 0])
    window = tuple(pick(rng, *range(1, min(3, length) + 1)) for length in spatial)
    dilation = tuple(
        pick(rng, 1, 1, 2) if length > 2 * size else 1 for length, size in zip(spatial, window, strict=True)
    )
    strides = tuple(pick(rng, 1, 2) for _ in spatial)
    kinds = rng.random()
    pads = tuple((0, 0) for _ in spatial)
    if kinds < 0.4:
        pads = tuple(map(same, spatial, window, strides, dilation))
    elif kinds < 0.6:
        pads = tuple((pick(rng, 0, 1), pick(rng, 0, 1, 2)) for _ in spatial)
    reach = pick(rng, 1, 7, 31, 127)
    weight = rng.integers(-reach - (reach == 127), reach + 1, (*window, channels // groups, groups * pick(rng, 1, 2)))
    bias = rng.integers(-9 * reach, 9 * reach + 1, weight.shape[-1])
    return Conv(frozen_array(weight), frozen_array(bias), strides, pads, dilation, groups)


def same(length: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """TFLite's SAME padding."""
    total = max((-(-length // stride) - 1) * stride + (window - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2


def average(rng: np.random.Generator, pool: SumPool) -> Requant:
    """What divides a pool's sums by their count."""
    zero, count = frozen_array([0]), int(np.prod(pool.window))
    stage = Stage(frozen_array([count.bit_length() - 1]), rounding(rng))
    return Requant(zero, frozen_array([1]), (stage,), zero, frozen_array([-128]), frozen_array([127]))


def random_tflm_graph(seed: int) -> Graph:
    """One graph; the same seed gives the same graph."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(f"net {seed}")
    rank = pick(rng, 0, 1, 2, 2)
    shape = (*(pick(rng, 3, 5, 6) for _ in range(rank)), pick(rng, 1, 2, 3, 4))
    lo, hi = CLAMPS[int(rng.integers(len(CLAMPS)))]
    at = builder.input("x", TensorType(shape, lo, hi), Dyadic(pick(rng, -2, 0, 7)))
    for number in range(int(rng.integers(1, 6))):
        at = _grow(rng, builder, at, f"layer{number}")
        if rng.random() < 0.1:
            builder.output(f"tap{number}", at)
    if rng.random() < 0.3:
        op = Dense(frozen_array(rng.integers(-99, 100, (builder.type(at).shape[-1], 3))), frozen_array([5, -7, 0]))
        at = builder.add(op, (at,), Dyadic((3, 4, 9) if rng.random() < 0.3 else 6), "logits")
    builder.output("y", at)
    return builder.finish()


def _grow(rng: np.random.Generator, builder: GraphBuilder, at: str, layer: str) -> str:
    kind, label = builder.type(at), Dyadic(pick(rng, -1, 0, 4))
    rank = len(kind.shape)
    choice = rng.random()
    if choice < 0.12:
        return builder.add(Reshape((kind.size,)), (at,), builder.label(at), layer)
    if choice < 0.24:
        return builder.add(requant(rng, builder, at), (at,), label, layer)
    if choice < 0.4 and rank > 1:
        window = tuple(min(pick(rng, 2, 3), length) for length in kind.shape[:-1])
        pads = tuple((pick(rng, 0, 1) if size > 1 else 0, pick(rng, 0, 1) if size > 1 else 0) for size in window)
        return builder.add(
            MaxPool(window, tuple(pick(rng, 1, 2) for _ in window), pads), (at,), builder.label(at), layer
        )
    if choice < 0.55 and rank > 1:
        window = tuple(min(pick(rng, 1, 2, 4), length) for length in kind.shape[:-1])
        pads = tuple((0, pick(rng, 0, 0, 1) if size > 1 else 0) for size in window)
        pool = SumPool(window, tuple(pick(rng, 1, 2) for _ in window), pads)
        sums = builder.add(pool, (at,), label, layer)
        if rng.random() < 0.4:
            return builder.add(average(rng, pool), (sums,), builder.label(at), f"{layer}_act")
    elif choice < 0.75 or rank < 2:
        reach = pick(rng, 3, 31, 127)
        weight = rng.integers(-reach, reach + 1, (kind.shape[-1], pick(rng, 1, 3, 6)))
        bias = rng.integers(-999, 1000, weight.shape[1])
        sums = builder.add(Dense(frozen_array(weight), frozen_array(bias)), (at,), label, layer)
    else:
        sums = builder.add(conv(rng, kind), (at,), label, layer)
    return builder.add(requant(rng, builder, sums), (sums,), label, f"{layer}_act")
