"""Random integer graphs that use every op in many forms, and inputs that sit on the extremes."""

from __future__ import annotations

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder

UNIT = Dyadic(0)


def pick(rng: np.random.Generator, *choices: int) -> int:
    """One of some integers."""
    return int(choices[int(rng.integers(len(choices)))])


def random_requant(rng: np.random.Generator, kind: TensorType) -> Requant:
    """A Requant whose parameters are per tensor, per channel or per position, in one or two stages."""
    rank = len(kind.shape)
    choices = [(), (kind.shape[-1],), kind.shape, (*kind.shape[:1], *(1,) * (rank - 1))]

    def parameter(lo: int, hi: int) -> IntArray:
        return frozen_array(rng.integers(lo, hi + 1, choices[int(rng.integers(len(choices)))]))

    wide = kind.bits > 24 or rng.random() < 0.2
    room = 61 - kind.bits
    multiplier = parameter(1, 1 << min(room // 2, 30 if wide else 5))
    if rng.random() < 0.1:
        multiplier = frozen_array(-multiplier)
    pre = parameter(0, 2)
    magnitude = kind.bits + int(np.abs(multiplier).max()).bit_length() + 2
    stages = [Stage(parameter(max(0, magnitude - 14), max(0, magnitude - 6)), rounding(rng))]
    if rng.random() < 0.3:
        stages.insert(0, Stage(parameter(0, 4), rounding(rng)))
    reach = pick(rng, 200, 200, 70_000, 5_000_000_000)
    lo = parameter(-reach, reach // 4)
    hi = frozen_array(lo.max() + 0 * lo + reach + 55)
    return Requant(pre, multiplier, tuple(stages), parameter(-9, 9), lo, hi)


def rounding(rng: np.random.Generator) -> Rounding:
    """Any of the four."""
    return list(Rounding)[int(rng.integers(len(Rounding)))]


def random_conv(rng: np.random.Generator, kind: TensorType, *, wild: bool = True) -> Conv:
    """A convolution that fits an input of one or two spatial axes: groups, strides, dilation, padding value."""
    spatial, channels = kind.shape[:-1], kind.shape[-1]
    groups = pick(rng, *[g for g in range(1, channels + 1) if channels % g == 0])
    window = tuple(pick(rng, *range(1, min(3, length) + 1)) for length in spatial)
    weight = rng.integers(-9, 10, (*window, channels // groups, groups * pick(rng, 1, 2, 3)))
    return Conv(
        frozen_array(weight),
        frozen_array(rng.integers(-99, 100, weight.shape[-1]) * (rng.random() < 0.8)),
        tuple(pick(rng, 1, 2) for _ in spatial),
        tuple((pick(rng, 0, 1), pick(rng, 0, 1, 2)) for _ in spatial),
        tuple(pick(rng, 1, 1, 2) if length > 2 * size else 1 for length, size in zip(spatial, window, strict=True)),
        groups,
        pick(rng, 0, 0, kind.lo, kind.hi) if wild else 0,
    )


def random_pool(rng: np.random.Generator, kind: TensorType) -> Op:
    """A max or sum pool, perhaps padded."""
    window = tuple(min(pick(rng, 2, 3), length) for length in kind.shape[:-1])
    pads = tuple((pick(rng, 0, 1) if size > 1 else 0, pick(rng, 0, 1) if size > 1 else 0) for size in window)
    strides = tuple(pick(rng, 1, 2) for _ in window)
    return (MaxPool if rng.random() < 0.5 else SumPool)(window, strides, pads)


def random_graph(seed: int) -> Graph:
    """One graph; the same seed gives the same graph."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(f"net {seed}")
    rank = pick(rng, 1, 2, 2)
    shape = (*(pick(rng, 3, 5, 6) for _ in range(rank)), pick(rng, 1, 2, 3, 4))
    bits = pick(rng, 1, 4, 8, 8, 12)
    lo = 0 if rng.random() < 0.5 else -(1 << (bits - 1))
    at = builder.input("x", TensorType(shape, lo, lo + (1 << bits) - 1), UNIT)
    for number in range(int(rng.integers(2, 7))):
        at = _grow(rng, builder, at, f"layer{number}")
        if rng.random() < 0.15:
            builder.output(f"tap{number}", at)
    if rng.random() < 0.2:
        at = builder.add(Reshape((builder.type(at).size,)), (at,), UNIT, "last view")
    builder.output("y", at)
    return builder.finish()


def _grow(rng: np.random.Generator, builder: GraphBuilder, at: str, layer: str) -> str:
    kind = builder.type(at)
    op: Op
    if len(kind.shape) < 2 or rng.random() < 0.15:
        if len(kind.shape) > 1 and rng.random() < 0.6:
            at = builder.add(Reshape((kind.size,)), (at,), UNIT, layer)
        weight = frozen_array(rng.integers(-9, 10, (builder.type(at).shape[-1], pick(rng, 1, 5, 8))))
        op = Dense(weight, frozen_array(rng.integers(-99, 100, weight.shape[1])))
    elif rng.random() < 0.25:
        op = random_pool(rng, kind)
    elif rng.random() < 0.3:
        other = builder.add(random_requant(rng, kind), (at,), UNIT, layer)
        return builder.add(Add((1, pick(rng, 1, -1))), (at, other), UNIT, layer)
    else:
        op = random_conv(rng, kind)
    try:
        at = builder.add(op, (at,), UNIT, layer)
    except InvalidGraph:
        return at
    if builder.type(at).bits > 20 or rng.random() < 0.7:
        at = builder.add(random_requant(rng, builder.type(at)), (at,), UNIT, layer)
    return at


def extreme_inputs(graph: Graph, seed: int, samples: int = 24) -> dict[str, IntArray]:
    """Random samples; the first ones are all lowest, all highest, and a mix of both ends."""
    rng = np.random.default_rng(seed)
    found: dict[str, IntArray] = {}
    for source in graph.inputs:
        kind = source.type
        values = rng.integers(kind.lo, kind.hi + 1, (samples, *kind.shape))
        values[0], values[1] = kind.lo, kind.hi
        values[2:8] = np.where(rng.random(values[2:8].shape) < 0.5, kind.lo, kind.hi)
        found[source.name] = values
    return found
