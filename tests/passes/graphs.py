"""Random graphs full of what passes look for: ops that do nothing, exact factors, borders, constant channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT, pick, random_conv, random_requant, rounding

Grow = Callable[[np.random.Generator, GraphBuilder, str], str]


def requant(
    shift: int | list[int] = 0,
    how: Rounding = Rounding.FLOOR,
    *,
    pre: int = 0,
    multiplier: int | list[int] = 1,
    bias: int | list[int] = 0,
    offset: int = 0,
    lo: int = -(1 << 40),
    hi: int = 1 << 40,
) -> Requant:
    """A Requant of one stage; without arguments it changes nothing that has fewer than 41 bits."""
    first, factor, plus, least, most, added = (frozen_array(one) for one in (pre, multiplier, offset, lo, hi, bias))
    return Requant(first, factor, (Stage(frozen_array(shift), how),), plus, least, most, added)


def depthwise(scale: IntArray, bias: IntArray, axes: int) -> Conv:
    """The Conv of one tap a channel."""
    weight = frozen_array(scale.reshape((1,) * (axes + 1) + (-1,)))
    return Conv(weight, frozen_array(bias), (1,) * axes, ((0, 0),) * axes, (1,) * axes, len(scale))


def random_redundant_graph(seed: int) -> Graph:
    """One graph; the same seed gives the same graph."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(f"redundant {seed}")
    shape = (*(pick(rng, 2, 3, 5) for _ in range(pick(rng, 1, 2, 2))), pick(rng, 1, 2, 3, 4))
    lo = 0 if rng.random() < 0.5 else -8
    at = builder.input("x", TensorType(shape, lo, lo + 15), UNIT)
    for _ in range(int(rng.integers(3, 10))):
        if builder.type(at).bits > 20:
            at = builder.add(random_requant(rng, builder.type(at)), (at,), UNIT, "squeeze")
        at = _GROWTH[int(rng.integers(len(_GROWTH)))](rng, builder, at)
        if rng.random() < 0.05:
            builder.output(f"tap {at}", at)
    builder.output("y", at)
    return builder.finish()


def _idle(rng: np.random.Generator, builder: GraphBuilder, at: str) -> str:
    """An op that changes nothing."""
    shape = builder.type(at).shape
    rank = len(shape)
    ops = [
        requant(),
        Reshape(shape),
        Concat(0),
        Transpose(tuple(range(rank))),
        Slice((0,) * rank, shape, (1,) * rank),
        Pad(((0, 0),) * rank, 3),
    ]
    if rank > 1:
        ones, zeros = (1,) * (rank - 1), ((0, 0),) * (rank - 1)
        ops += [Upsample(ones, bool(rng.integers(2))), MaxPool(ones, ones, zeros), SumPool(ones, ones, zeros)]
    return builder.add(ops[int(rng.integers(len(ops)))], (at,), UNIT, "idle")


def _turn(rng: np.random.Generator, builder: GraphBuilder, at: str) -> str:
    """Two rearrangements in a row."""
    rank = len(builder.type(at).shape)
    for _ in range(2):
        order = tuple(int(axis) for axis in rng.permutation(rank))
        at = builder.add(Transpose(order), (at,), UNIT, "turn")
    if rng.random() < 0.3:
        at = builder.add(Reshape((builder.type(at).size,)), (at,), UNIT, "view")
        at = builder.add(Reshape((builder.type(at).size, 1)), (at,), UNIT, "view")
    return at


def _scale(rng: np.random.Generator, builder: GraphBuilder, at: str) -> str:
    """An exact factor, with or without a binding clamp."""
    kind = builder.type(at)
    channels = kind.shape[-1]
    scale, bias = rng.integers(-3, 4, channels), rng.integers(-5, 6, channels)
    if rng.random() < 0.4 and len(kind.shape) > 1:
        return builder.add(depthwise(scale, bias, len(kind.shape) - 1), (at,), UNIT, "scale")
    op = requant(pre=pick(rng, 0, 1, 3), multiplier=pick(rng, 1, 1, -1, 3), offset=pick(rng, 0, 0, 7))
    op = replace(op, bias=frozen_array(bias) if rng.random() < 0.5 else frozen_array(0))
    if rng.random() < 0.4:
        op = replace(op, lo=frozen_array(rng.integers(-9, 2, channels)), hi=frozen_array(pick(rng, 3, 15, 200)))
    return builder.add(op, (at,), UNIT, "scale")


def _shift(rng: np.random.Generator, builder: GraphBuilder, at: str) -> str:
    """A small right shift."""
    op = requant(pick(rng, 1, 2), rounding(rng), offset=pick(rng, 0, 0, 3), lo=pick(rng, -999, 0), hi=999)
    return builder.add(op, (at,), UNIT, "shift")


def _weights(rng: np.random.Generator, builder: GraphBuilder, at: str) -> str:
    """A Conv or Dense with dead and constant channels, and weights with a common factor."""
    kind = builder.type(at)
    op: Conv | Dense
    if len(kind.shape) > 1 and rng.random() < 0.7:
        op = random_conv(rng, kind)
    else:
        inputs = builder.type(at).shape[-1]
        op = Dense(frozen_array(rng.integers(-9, 10, (inputs, pick(rng, 1, 3, 5)))), frozen_array([0]))
        op = replace(op, bias=frozen_array(rng.integers(-99, 100, op.weight.shape[1])))
    alive = rng.random(len(op.bias)) < 0.7
    used = rng.random((op.weight.shape[-2], 1)) < 0.8
    weight = op.weight * alive * used << pick(rng, 0, 1, 3)
    at = builder.add(replace(op, weight=frozen_array(weight)), (at,), UNIT, "weights")
    if rng.random() < 0.6:
        how = Rounding.FLOOR if rng.random() < 0.3 else rounding(rng)
        at = builder.add(requant(pick(rng, 2, 4), how, lo=0, hi=31), (at,), UNIT, "act")
    return at


def _border(rng: np.random.Generator, builder: GraphBuilder, at: str) -> str:
    """A border, then a window."""
    kind = builder.type(at)
    if len(kind.shape) < 2:
        return at
    axes = len(kind.shape) - 1
    pads = tuple((pick(rng, 0, 1), pick(rng, 0, 1)) for _ in range(axes))
    at = builder.add(Pad((*pads, (0, 0)), pick(rng, 0, 0, kind.lo, 5)), (at,), UNIT, "border")
    window, none = tuple(min(2, length) for length in kind.shape[:-1]), ((0, 0),) * axes
    if rng.random() < 0.6:
        pool = (MaxPool if rng.random() < 0.5 else SumPool)(window, (1,) * axes, none)
        return builder.add(pool, (at,), UNIT, "window")
    return _weights(rng, builder, at)


def _join(rng: np.random.Generator, builder: GraphBuilder, at: str) -> str:
    """Branches that come together, one of them perhaps nothing but zeros."""
    kind = builder.type(at)
    zeros = builder.add(requant(multiplier=0), (at,), UNIT, "zeros")
    other = builder.add(random_requant(rng, kind), (at,), UNIT, "branch")
    if rng.random() < 0.5:
        axis = pick(rng, *range(len(kind.shape)))
        return builder.add(Concat(axis), (at, zeros, other)[: pick(rng, 2, 3)], UNIT, "join")
    return builder.add(Add((pick(rng, 1, -1), 1, 1)), (at, zeros, other), UNIT, "join")


_GROWTH: tuple[Grow, ...] = (_idle, _turn, _scale, _scale, _shift, _shift, _weights, _weights, _border, _join)


def chain(kind: TensorType, *ops: Op, label: Dyadic = UNIT) -> Graph:
    """Ops one behind the other."""
    builder = GraphBuilder("chain")
    at = builder.input("x", kind, label)
    for number, op in enumerate(ops):
        at = builder.add(op, (at,), label, f"layer{number}")
    builder.output("y", at)
    return builder.finish()
