"""Nodes that nothing needs go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgeflow.ir.graph import Graph
from edgeflow.passes.rewrite import rebuilt


@dataclass(frozen=True)
class RemoveDead:
    """Removes every node that no output and no state needs."""

    name: ClassVar[str] = "remove_dead"

    def apply(self, graph: Graph) -> Graph:
        """Walks back from outputs and states."""
        needed = {output.tensor for output in graph.outputs} | {state.next for state in graph.states}
        for node in reversed(graph.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        kept = [node for node in graph.nodes if node.name in needed]
        return graph if len(kept) == len(graph.nodes) else rebuilt(graph, kept)
