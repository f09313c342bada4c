"""What a Requant adds before it rounds goes into the bias of the op before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant
from edgeflow.passes.requants import along_last_axis, scale_of
from edgeflow.passes.rewrite import Change, Facts, changed, rewritten


@dataclass(frozen=True)
class FoldBias:
    """A Requant's bias that is a multiple of its factor, in every channel, joins the bias of a Conv or Dense."""

    name: ClassVar[str] = "fold_bias"

    def apply(self, graph: Graph) -> Graph:
        """Folds wherever the division leaves nothing."""
        return rewritten(graph, _fold)


def _fold(facts: Facts, node: Node) -> Mapping[str, Change] | None:
    if not isinstance(node.op, Requant) or not node.op.bias.any():
        return None
    before = facts.private_maker(node.inputs[0])
    if before is None or not isinstance(before.op, Conv | Dense):
        return None
    channels = node.type.shape[-1]
    bias, scale = along_last_axis(node.op.bias, channels), along_last_axis(scale_of(node.op), channels)
    if bias is None or scale is None or (scale == 0).any() or (bias % scale).any():
        return None
    changes: dict[str, Change] = {
        before.name: replace(before, op=replace(before.op, bias=frozen_array(before.op.bias + bias // scale))),
        node.name: replace(node, op=replace(node.op, bias=frozen_array([0]))),
    }
    try:
        changed(facts.graph, changes)
    except InvalidGraph:  # the sums would leave 62 bits
        return None
    return changes
