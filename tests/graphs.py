"""Random integer graphs that use every op in many forms, and inputs that sit on the extremes."""

from __future__ import annotations

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.builder import GraphBuilder

UNIT = Dyadic(0)
_LARGE = 400
"""Elements: larger tensors do not grow."""


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
    most = 1 << max(0, magnitude - 3) if rng.random() < 0.5 else 0
    return Requant(pre, multiplier, tuple(stages), parameter(-9, 9), lo, hi, parameter(-most, most))


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


def random_lut(rng: np.random.Generator, kind: TensorType) -> Lut:
    """A table for a narrow tensor, sometimes longer than it needs."""
    before, after = pick(rng, 0, 0, 3), pick(rng, 0, 0, 5)
    reach = pick(rng, 3, 100, 100, 40_000, 3_000_000_000)
    table = rng.integers(-reach, reach + 1, kind.hi - kind.lo + 1 + before + after)
    if rng.random() < 0.3:
        table = np.abs(table)
    return Lut(frozen_array(table), kind.lo - before, "tanh" if rng.random() < 0.3 else "")


def random_threshold(rng: np.random.Generator, kind: TensorType) -> Threshold:
    """Few or many levels, shared or a row a channel, some of them out of the input's reach."""
    levels, rows = pick(rng, 1, 2, 7, 15, 40), pick(rng, 1, kind.shape[-1])
    room = (kind.hi - kind.lo) // 8 + 2
    thresholds = np.sort(rng.integers(kind.lo - room, kind.hi + room, (rows, levels)), axis=1)

    def parameter(lo: int, hi: int) -> IntArray:
        return frozen_array(rng.integers(lo, hi + 1, pick(rng, 1, kind.shape[-1])))

    step = parameter(0, 1) * 2 - 1 if rng.random() < 0.5 else np.array([1])
    return Threshold(frozen_array(thresholds), parameter(-40, 9), frozen_array(step))


def random_softmax(rng: np.random.Generator) -> Softmax:
    """A softmax of any scale."""
    multiplier = int(rng.integers(1 << 30, 1 << 31))
    if rng.random() < 0.3:
        return Softmax(multiplier, pick(rng, -9, 0, 3, 6), 0, 15)
    shift = pick(rng, 16, 20, 22, 24, 27, 31)
    return Softmax(multiplier, shift, -((31 << 26) >> shift), pick(rng, 8, 16))


def random_slice(rng: np.random.Generator, kind: TensorType) -> Slice:
    """Any regular part: often whole axes."""
    begin, size, strides = [], [], []
    for length in kind.shape:
        first = 0 if rng.random() < 0.5 else int(rng.integers(0, length))
        stride = pick(rng, 1, 1, 2)
        most = (length - first - 1) // stride + 1
        begin.append(first)
        strides.append(stride)
        size.append(most if rng.random() < 0.6 else int(rng.integers(1, most + 1)))
    return Slice(tuple(begin), tuple(size), tuple(strides))


def random_move(rng: np.random.Generator, kind: TensorType) -> Op:
    """Slice, Pad, Transpose or Upsample."""
    rank = len(kind.shape)
    match int(rng.integers(4)):
        case 0:
            return random_slice(rng, kind)
        case 1:
            pads = tuple((pick(rng, 0, 0, 1), pick(rng, 0, 0, 2)) for _ in range(rank))
            return Pad(pads, pick(rng, 0, -1, 5, kind.lo, kind.hi))
        case 2:
            return Transpose(tuple(int(one) for one in rng.permutation(rank)))
        case _:
            return Upsample(tuple(pick(rng, 1, 2, 3) for _ in range(rank - 1)), bool(rng.random() < 0.5))


def random_graph(seed: int) -> Graph:
    """One graph; the same seed gives the same graph."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(f"net {seed}")
    rank = pick(rng, 1, 2, 2)
    shape = (*(pick(rng, 3, 5, 6) for _ in range(rank)), pick(rng, 1, 2, 3, 4))
    bits = pick(rng, 1, 4, 8, 8, 12)
    lo = 0 if rng.random() < 0.5 else -(1 << (bits - 1))
    kind = TensorType(shape, lo, lo + (1 << bits) - 1)
    at = builder.input("x", kind, UNIT)
    if rng.random() < 0.2:
        other = builder.input("other", TensorType(shape, -9, 20), UNIT)
        at = _joined(rng, builder, at, other, "join")
    for number in range(int(rng.integers(2, 7))):
        at = _grow(rng, builder, at, f"layer{number}")
        if rng.random() < 0.15:
            builder.output(f"tap{number}", at)
    if rng.random() < 0.2:
        at = _added(builder, (ArgMax(), random_softmax(rng))[pick(rng, 0, 1)], at, "head")
    if rng.random() < 0.2:
        at = builder.add(Reshape((builder.type(at).size,)), (at,), UNIT, "last view")
    builder.output("y", at)
    return builder.finish()


def _added(builder: GraphBuilder, op: Op, at: str, layer: str) -> str:
    """The op's result; what it should read where it does not fit."""
    try:
        return builder.add(op, (at,), UNIT, layer)
    except InvalidGraph:
        return at


def _joined(rng: np.random.Generator, builder: GraphBuilder, at: str, other: str, layer: str) -> str:
    """Two tensors of one shape as one."""
    rank = len(builder.type(at).shape)
    op = (Add((1, pick(rng, 1, -1))), Multiply(), Concat(int(rng.integers(rank))))[pick(rng, 0, 1, 2)]
    try:
        return builder.add(op, (at, other) if rng.random() < 0.5 else (other, at), UNIT, layer)
    except InvalidGraph:
        return at


def _gated(rng: np.random.Generator, builder: GraphBuilder, at: str, layer: str) -> str:
    """A tensor times a part of itself, which broadcasts along some axes."""
    shape = builder.type(at).shape
    size = tuple(pick(rng, 1, length) for length in shape)
    part = builder.add(Slice((0,) * len(shape), size, (1,) * len(shape)), (at,), UNIT, layer)
    gate = builder.add(random_requant(rng, builder.type(part)), (part,), UNIT, layer)
    try:
        return builder.add(Multiply(), (at, gate) if rng.random() < 0.5 else (gate, at), UNIT, layer)
    except InvalidGraph:
        return at


def _narrow(rng: np.random.Generator, builder: GraphBuilder, at: str, layer: str) -> str:
    """What a short table can read: a Requant to a few bits, then a Lut."""
    kind = builder.type(at)
    if kind.hi - kind.lo > 1000:
        stage = Stage(frozen_array(max(kind.bits - 7, 0)), rounding(rng))
        zero = frozen_array(0)
        op = Requant(zero, frozen_array(1), (stage,), zero, frozen_array(-50), frozen_array(pick(rng, 40, 250)))
        at = builder.add(op, (at,), UNIT, layer)
    return builder.add(random_lut(rng, builder.type(at)), (at,), UNIT, layer)


def _grow(rng: np.random.Generator, builder: GraphBuilder, at: str, layer: str) -> str:
    kind, before = builder.type(at), at
    if len(kind.shape) < 2 or rng.random() < 0.15:
        at = _dense(rng, builder, at, layer)
    else:
        at = _spatial(rng, builder, at, layer)
    if builder.type(at).bits > 58:
        return before  # a Requant would have no room for its products
    if builder.type(at).bits > 20 and rng.random() < 0.3:
        return builder.add(random_threshold(rng, builder.type(at)), (at,), UNIT, layer)
    if builder.type(at).bits > 20 or rng.random() < 0.6:
        at = builder.add(random_requant(rng, builder.type(at)), (at,), UNIT, layer)
    if rng.random() < 0.15:
        at = _narrow(rng, builder, at, layer)
    if rng.random() < 0.15:
        at = builder.add(random_threshold(rng, builder.type(at)), (at,), UNIT, layer)
    return at


def _dense(rng: np.random.Generator, builder: GraphBuilder, at: str, layer: str) -> str:
    kind = builder.type(at)
    if len(kind.shape) > 1 and rng.random() < 0.6:
        at = builder.add(Reshape((kind.size,)), (at,), UNIT, layer)
    weight = frozen_array(rng.integers(-9, 10, (builder.type(at).shape[-1], pick(rng, 1, 5, 8))))
    return _added(builder, Dense(weight, frozen_array(rng.integers(-99, 100, weight.shape[1]))), at, layer)


def _spatial(rng: np.random.Generator, builder: GraphBuilder, at: str, layer: str) -> str:
    kind = builder.type(at)
    choice = rng.random()
    if choice < 0.2:
        return _added(builder, random_pool(rng, kind), at, layer)
    if choice < 0.35:
        other = builder.add(random_requant(rng, kind), (at,), UNIT, layer)
        return _joined(rng, builder, at, other, layer)
    if choice < 0.42:
        return _gated(rng, builder, at, layer)
    if choice < 0.65 and kind.size < _LARGE:
        at = _added(builder, random_move(rng, kind), at, layer)
    return _added(builder, random_conv(rng, builder.type(at)), at, layer) if choice > 0.5 else at


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
