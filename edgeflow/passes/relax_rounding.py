"""Half to even becomes half up where no value can tell the difference: targets round half up for nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from edgeflow.ir.graph import Graph, Node
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.passes.rewrite import rebuilt
from edgeflow.semantics.tiefree import ties


@dataclass(frozen=True)
class RelaxRounding:
    """In every Requant that provably never meets a tie, half to even becomes half up."""

    name: ClassVar[str] = "relax_rounding"

    def apply(self, graph: Graph) -> Graph:
        """Changes the roundings."""
        if not any(_to_even(node) for node in graph.nodes):
            return graph
        guilty = {tie.node for tie in ties(graph)}
        nodes = [_half_up(node) if _to_even(node) and node.name not in guilty else node for node in graph.nodes]
        same = all(new is old for new, old in zip(nodes, graph.nodes, strict=True))
        return graph if same else rebuilt(graph, nodes)


def _to_even(node: Node) -> bool:
    return isinstance(node.op, Requant) and any(stage.rounding is Rounding.HALF_EVEN for stage in node.op.stages)


def _half_up(node: Node) -> Node:
    assert isinstance(node.op, Requant)
    stages = tuple(
        Stage(stage.shift, Rounding.HALF_UP) if stage.rounding is Rounding.HALF_EVEN else stage
        for stage in node.op.stages
    )
    return replace(node, op=replace(node.op, stages=stages))
