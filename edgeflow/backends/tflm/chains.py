"""Which linear ops carry which Requant: TFLite's kernels round inside the op that sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from edgeflow.backends.tflm.arithmetic import only_value
from edgeflow.ir.graph import Graph, Node, Op
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool


@dataclass(frozen=True)
class Fused:
    """The Requant of a linear op; `between` stood before it and gives the same when it comes after."""

    requant: Node
    between: tuple[Node, ...]


@dataclass(frozen=True)
class WideOutput:
    """Sums that reach nothing but outputs, through `after`."""

    after: tuple[Node, ...]


def linear(op: Op) -> TypeGuard[Conv | Dense | SumPool]:
    """Whether the op gives sums that a kernel requantizes before it stores them."""
    return isinstance(op, Conv | Dense | SumPool)


def find_fused(graph: Graph) -> dict[str, Fused | WideOutput]:
    """What follows each linear op, by its tensor's name."""
    results = {output.tensor for output in graph.outputs}
    found: dict[str, Fused | WideOutput] = {}
    for node in graph.nodes:
        if linear(node.op):
            fused = _requant_behind(graph, node, results) or _only_outputs(graph, node, results)
            if fused is not None:
                found[node.name] = fused
    return found


def _requant_behind(graph: Graph, node: Node, results: set[str]) -> Fused | None:
    between: list[Node] = []
    at = node
    while at.name not in results:
        readers = graph.readers(at.name)
        if len(readers) != 1:
            return None
        at = readers[0]
        if isinstance(at.op, Requant):
            return Fused(at, tuple(between)) if _commutes(at.op, between) else None
        if not isinstance(at.op, MaxPool | Reshape):
            return None
        between.append(at)
    return None


def _commutes(requant: Requant, between: list[Node]) -> bool:
    """Whether a Requant may move in front of pools and reshapes: it rises, and is the same for every element moved."""
    if not between:
        return True
    same = all(only_value(one) is not None for one in requant.arrays())
    return same and int(requant.multiplier.flat[0]) > 0


def _only_outputs(graph: Graph, node: Node, results: set[str]) -> WideOutput | None:
    after: list[Node] = []
    waiting = [node]
    while waiting:
        at = waiting.pop(0)
        readers = graph.readers(at.name)
        if not all(isinstance(one.op, MaxPool | Reshape) for one in readers):
            return None
        waiting += readers
        after += readers
    order = {one.name: index for index, one in enumerate(graph.nodes)}
    return WideOutput(tuple(sorted(after, key=lambda one: order[one.name])))
