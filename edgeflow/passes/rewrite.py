"""What every pass needs: what is known about a graph, and a new graph with some of its nodes changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeAlias

from edgeflow.ir.graph import Bounds, Graph, Node
from edgeflow.ir.types import Label, Shape, TensorType
from edgeflow.semantics.verify import type_bounds, verify


class Pass(Protocol):
    """A graph to an equal graph: a frozen dataclass whose fields are its arguments.

    `apply` gives the very same graph back where it changes nothing. For every input both graphs have the same
    outputs, by name, in the same units. Inputs keep their types.
    """

    name: ClassVar[str]

    def apply(self, graph: Graph) -> Graph:
        """The graph that this pass makes."""
        ...


@dataclass(frozen=True)
class Facts:
    """A verified graph with its proven bounds, who makes and who reads each tensor, and which tensors must stay."""

    graph: Graph
    bounds: Mapping[str, Bounds]
    makers: Mapping[str, Node]
    reads: Mapping[str, int]
    kept: frozenset[str]

    @classmethod
    def of(cls, graph: Graph) -> Facts:
        """Raises InvalidGraph for a graph that breaks its rules."""
        reads = Counter(name for node in graph.nodes for name in node.inputs)
        kept = [output.tensor for output in graph.outputs] + [state.next for state in graph.states]
        return cls(graph, verify(graph), {node.name: node for node in graph.nodes}, reads, frozenset(kept))

    def shape(self, tensor: str) -> Shape:
        """A tensor's shape."""
        return self.graph.tensor(tensor).type.shape

    def label(self, tensor: str) -> Label:
        """A tensor's label."""
        return self.graph.tensor(tensor).label

    def private_maker(self, tensor: str) -> Node | None:
        """The node that makes a tensor which nothing but one node reads; None for any other tensor."""
        if tensor in self.kept or self.reads[tensor] != 1:
            return None
        return self.makers.get(tensor)


Change: TypeAlias = Node | str
"""What becomes of a node: another node, which may have another name, or the tensor that is read in its place."""

Rewrite: TypeAlias = Callable[[Facts, Node], Mapping[str, Change] | None]
"""Changes that begin at a node, by the names of the nodes changed; None where nothing is to be done."""


def rewritten(graph: Graph, rewrite: Rewrite) -> Graph:
    """Applies a rewrite wherever it finds something, again and again until it finds nothing."""
    place = 0
    facts = Facts.of(graph)
    while place < len(facts.graph.nodes):
        changes = rewrite(facts, facts.graph.nodes[place])
        if changes is None:
            place += 1
        else:
            facts = Facts.of(changed(facts.graph, changes))
            place = 0
    return facts.graph


def changed(graph: Graph, changes: Mapping[str, Change]) -> Graph:
    """The graph with some nodes changed; every node's type becomes what is proven. Raises InvalidGraph."""
    renamed = {old: new if isinstance(new, str) else new.name for old, new in changes.items()}
    nodes = [node if (new := changes.get(node.name, node)) is node else new for node in graph.nodes]
    return rebuilt(graph, [node for node in nodes if isinstance(node, Node)], renamed)


def rebuilt(graph: Graph, nodes: list[Node], renamed: Mapping[str, str] | None = None) -> Graph:
    """The graph with other nodes, typed anew with their proven bounds; `renamed` tensors are read as what they became.

    Raises InvalidGraph for ops that do not fit.
    """
    names = renamed or {}

    def final(name: str) -> str:
        while names.get(name, name) != name:
            name = names[name]
        return name

    bounds = {source.name: type_bounds(source.type) for source in (*graph.inputs, *graph.states)}
    shapes = {source.name: source.type.shape for source in (*graph.inputs, *graph.states)}
    typed: list[Node] = []
    for node in nodes:
        inputs = tuple(final(name) for name in node.inputs)
        sources = tuple(shapes[name] for name in inputs)
        shapes[node.name] = node.op.shape(sources)
        bounds[node.name] = node.op.bounds(tuple(bounds[name] for name in inputs), sources)
        lo, hi = int(bounds[node.name].lo.min()), int(bounds[node.name].hi.max())
        typed.append(replace(node, inputs=inputs, type=TensorType(shapes[node.name], lo, hi)))
    return replace(
        graph,
        nodes=tuple(typed),
        outputs=tuple(replace(one, tensor=final(one.tensor)) for one in graph.outputs),
        states=tuple(replace(one, next=final(one.next)) for one in graph.states),
    )
