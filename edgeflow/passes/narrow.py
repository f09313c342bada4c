"""Types and clamps say what is proven."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from edgeflow.ir.graph import Bounds, Graph, Node
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import Requant
from edgeflow.passes.requants import clamp_equals, natural_range, reach
from edgeflow.passes.rewrite import Facts, rebuilt


@dataclass(frozen=True)
class Narrow:
    """Every node's type becomes its proven interval, from the real weights.

    An end of a Requant's clamp that no value passes becomes the end of the smallest integer type that holds the
    result: then a target whose types saturate has nothing more to do.
    """

    name: ClassVar[str] = "narrow"

    def apply(self, graph: Graph) -> Graph:
        """Narrows types and clamps."""
        facts = Facts.of(graph)
        nodes = [_clamped(facts, node) for node in graph.nodes]
        narrowed = rebuilt(graph, nodes)
        pairs = zip(narrowed.nodes, graph.nodes, strict=True)
        same = all(new.op is old.op and new.type == old.type for new, old in pairs)
        return graph if same else narrowed


def _clamped(facts: Facts, node: Node) -> Node:
    op = node.op
    if not isinstance(op, Requant):
        return node
    ends, result = reach(op, facts.bounds[node.inputs[0]]), facts.bounds[node.name]
    least, most = natural_range(result)
    lo, hi = op.lo, op.hi
    if _free(ends, frozen_array([least]), hi, result) and (lo != least).any():
        lo = frozen_array([least])
    if _free(ends, lo, frozen_array([most]), result) and (hi != most).any():
        hi = frozen_array([most])
    return node if lo is op.lo and hi is op.hi else replace(node, op=replace(op, lo=lo, hi=hi))


def _free(ends: Bounds, lo: IntArray, hi: IntArray, result: Bounds) -> bool:
    return bool((lo <= hi).all()) and clamp_equals(ends, lo, hi, result)
