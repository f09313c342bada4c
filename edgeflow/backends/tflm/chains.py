"""What belongs together: TFLite's kernels round inside the op that sums, adds or multiplies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from edgeflow.backends.tflm.arithmetic import along_channels, only_value
from edgeflow.ir.graph import Graph, Node, Op
from edgeflow.ir.types import frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample


@dataclass(frozen=True)
class Fused:
    """The Requant of a linear op; `between` stood before it and gives the same when it comes after."""

    requant: Node
    between: tuple[Node, ...]


@dataclass(frozen=True)
class WideOutput:
    """Sums that reach nothing but outputs, through `after`."""

    after: tuple[Node, ...]


@dataclass(frozen=True)
class Join:
    """An Add or Multiply with what its kernel does besides.

    `sources` are the tensors that the kernel may read; `parts` the Requants that bring them to what the op reads (None:
    the op reads the source itself); `after` is the Requant behind it, None if others read its result.
    """

    node: Node
    sources: tuple[str, ...]
    parts: tuple[Node | None, ...]
    after: Node | None


@dataclass(frozen=True)
class Spread:
    """Zeros put between positions, and the Conv that alone reads them: a transposed convolution.

    `part` takes the input's zero point off (None: it has none); `source` is what the kernel reads.
    """

    conv: Node
    upsample: Node
    part: Node | None
    source: str


def linear(op: Op) -> TypeGuard[Conv | Dense | SumPool]:
    """Whether the op gives sums that a kernel requantizes before it stores them."""
    return isinstance(op, Conv | Dense | SumPool)


def joining(op: Op) -> TypeGuard[Add | Multiply]:
    """Whether the op's kernel rescales what it reads, and what it gives."""
    return isinstance(op, Add | Multiply)


def moving(op: Op) -> bool:
    """Whether every element of the result is one of the op's input."""
    nearest = isinstance(op, Upsample) and not op.zeros
    return nearest or isinstance(op, MaxPool | Reshape | Slice | Transpose)


def is_depthwise(conv: Conv) -> bool:
    """Whether DEPTHWISE_CONV_2D says it: one group a channel, and more than one."""
    return conv.groups > 1 and conv.weight.shape[-2] == 1


def sum_conv(pool: SumPool, channels: int) -> Conv:
    """A sum pool as a depthwise Conv."""
    ones = frozen_array(np.ones((*pool.window, 1, channels), dtype=np.int64))
    return Conv(ones, frozen_array([0] * channels), pool.strides, pool.pads, (1,) * len(pool.window), channels)


def identity_conv(channels: int, axes: int) -> Conv:
    """The depthwise Conv that changes nothing: a kernel's place to requantize."""
    return sum_conv(SumPool((1,) * axes, (1,) * axes, ((0, 0),) * axes), channels)


def find_fused(graph: Graph) -> dict[str, Fused | WideOutput]:
    """What follows each linear op, by its tensor's name."""
    results = _results(graph)
    found: dict[str, Fused | WideOutput] = {}
    for node in graph.nodes:
        if linear(node.op):
            fused = _requant_behind(graph, node, results) or only_outputs(graph, node)
            if fused is not None:
                found[node.name] = fused
    return found


def _results(graph: Graph) -> set[str]:
    return {output.tensor for output in graph.outputs}


def _requant_behind(graph: Graph, node: Node, results: set[str]) -> Fused | None:
    between: list[Node] = []
    at = node
    while at.name not in results:
        readers = graph.readers(at.name)
        if len(readers) != 1:
            return None
        at = readers[0]
        if isinstance(at.op, Requant):
            return Fused(at, tuple(between)) if _commutes(at.op, between, at) else None
        if not moving(at.op):
            return None
        between.append(at)
    return None


def _commutes(requant: Requant, between: list[Node], after: Node) -> bool:
    """Whether a Requant may move in front of moves: it rises, and is the same wherever elements may trade places."""
    if not between:
        return True
    if (requant.multiplier <= 0).any():
        return False
    if all(only_value(one) is not None for one in requant.arrays()):
        return True
    rank, channels = len(after.type.shape), after.type.shape[-1]
    same = all(along_channels(one, rank, channels) is not None for one in requant.arrays())
    return same and all(_keeps_channels(one.op, channels) for one in between)


def _keeps_channels(op: Op, channels: int) -> bool:
    """Whether each channel of the result is the input's channel of the same number."""
    match op:
        case MaxPool() | Upsample():
            return True
        case Slice(begin, _, strides):
            return begin[-1] == 0 and strides[-1] == 1
        case Transpose(order):
            return order[-1] == len(order) - 1
        case _:
            return False


def only_outputs(graph: Graph, node: Node) -> WideOutput | None:
    """What stands behind a tensor, if that only moves its elements to outputs."""
    after: list[Node] = []
    waiting = [node]
    while waiting:
        at = waiting.pop(0)
        readers = graph.readers(at.name)
        if not all(moving(one.op) for one in readers):
            return None
        waiting += readers
        after += readers
    order = {one.name: index for index, one in enumerate(graph.nodes)}
    return WideOutput(tuple(sorted(after, key=lambda one: order[one.name])))


def find_joins(graph: Graph) -> dict[str, Join]:
    """Every Add and Multiply by its tensor's name."""
    makers = {node.name: node for node in graph.nodes}
    results = _results(graph)
    found: dict[str, Join] = {}
    for node in graph.nodes:
        if joining(node.op):
            parts = tuple(_part(graph, makers, results, name, node) for name in node.inputs)
            sources = tuple(
                name if part is None else part.inputs[0] for name, part in zip(node.inputs, parts, strict=True)
            )
            readers = graph.readers(node.name)
            alone = len(readers) == 1 and node.name not in results and isinstance(readers[0].op, Requant)
            found[node.name] = Join(node, sources, parts, readers[0] if alone else None)
    return found


def find_spreads(graph: Graph) -> dict[str, Spread]:
    """Every Conv that reads zeros between positions, by its tensor's name."""
    makers = {node.name: node for node in graph.nodes}
    results = _results(graph)
    found: dict[str, Spread] = {}
    for node in graph.nodes:
        spread = makers.get(node.inputs[0]) if isinstance(node.op, Conv) else None
        if spread is None or not isinstance(spread.op, Upsample) or not spread.op.zeros:
            continue
        if graph.readers(spread.name) == (node,) and spread.name not in results:
            part = _part(graph, makers, results, spread.inputs[0], spread)
            source = spread.inputs[0] if part is None else part.inputs[0]
            found[node.name] = Spread(node, spread, part, source)
    return found


def absorbed(joins: dict[str, Join], spreads: dict[str, Spread]) -> set[str]:
    """The nodes that a join's or a transposed convolution's own kernel does away with."""
    parts = {part.name for join in joins.values() for part in join.parts if part is not None}
    for one in spreads.values():
        parts |= {one.upsample.name} if one.part is None else {one.upsample.name, one.part.name}
    return parts


def _part(graph: Graph, makers: dict[str, Node], results: set[str], name: str, reader: Node) -> Node | None:
    """The Requant in front of `reader` that a kernel may do besides: one for the whole tensor, read by nothing else."""
    node = makers.get(name)
    if node is None or not isinstance(node.op, Requant) or graph.readers(name) != (reader,) or name in results:
        return None
    maker = makers.get(node.inputs[0])
    if maker is not None and (linear(maker.op) or joining(maker.op)):
        return None
    return node if all(only_value(one) is not None for one in node.op.arrays()) else None


def only_shifts(requant: Requant) -> bool:
    """Whether a Requant is a power of two, not below 1, the same everywhere. Its clamp may bind."""
    factor = only_value(requant.multiplier)
    if factor is None or factor < 1 or factor & (factor - 1) or requant.bias.any() or requant.offset.any():
        return False
    return not any(stage.shift.any() for stage in requant.stages) and only_value(requant.pre) is not None
