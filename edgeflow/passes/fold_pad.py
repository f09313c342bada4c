"""A border becomes the padding of the window op that reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Node, Op
from edgeflow.ops.conv import Conv
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.window import Pads
from edgeflow.passes.rewrite import Change, Facts, changed, rewritten


@dataclass(frozen=True)
class FoldPad:
    """A Pad of spatial axes whose only reader is a Conv or a pool, where that pads with the same value."""

    name: ClassVar[str] = "fold_pad"

    def apply(self, graph: Graph) -> Graph:
        """Folds wherever the padding means the same."""
        return rewritten(graph, _fold)


def _fold(facts: Facts, node: Node) -> Mapping[str, Change] | None:
    rule = _PADDED.get(type(node.op))
    before = facts.private_maker(node.inputs[0]) if rule else None
    if rule is None or before is None or not isinstance(before.op, Pad) or any(before.op.pads[-1]):
        return None
    own = cast(Conv | MaxPool | SumPool, node.op).pads
    pads = tuple(
        (outer[0] + inner[0], outer[1] + inner[1]) for outer, inner in zip(own, before.op.pads[:-1], strict=True)
    )
    op = rule(facts, node, before, pads)
    if op is None:
        return None
    changes: dict[str, Change] = {before.name: before.inputs[0], node.name: replace(node, op=op)}
    try:
        changed(facts.graph, changes)
    except InvalidGraph:  # a pool's window would lie wholly in the padding
        return None
    return changes


def _conv(facts: Facts, node: Node, before: Node, pads: Pads) -> Op | None:
    op, value = cast(Conv, node.op), cast(Pad, before.op).value
    same = op.pad_value == value or not any(map(any, op.pads))
    return replace(op, pads=pads, pad_value=value) if same else None


def _max_pool(facts: Facts, node: Node, before: Node, pads: Pads) -> Op | None:
    """A border that no element lies below never wins, as a pool's padding never does."""
    least = int(facts.bounds[before.inputs[0]].lo.min())
    return replace(cast(MaxPool, node.op), pads=pads) if cast(Pad, before.op).value <= least else None


def _sum_pool(facts: Facts, node: Node, before: Node, pads: Pads) -> Op | None:
    return replace(cast(SumPool, node.op), pads=pads) if cast(Pad, before.op).value == 0 else None


_PADDED: Mapping[type[Op], Callable[[Facts, Node, Node, Pads], Op | None]] = {
    Conv: _conv,
    MaxPool: _max_pool,
    SumPool: _sum_pool,
}
