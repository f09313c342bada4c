"""The text form of a graph: one line a tensor, for people, errors and tests."""

from __future__ import annotations

import enum
from typing import cast

import numpy as np

from edgeflow.errors import printable
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import interval_bits
from edgeflow.semantics.verify import op_fields


def show_graph(graph: Graph) -> str:
    """The whole graph, readable."""
    lines = [f"graph '{graph.name}'"]
    lines += [f"  input %{one.name}: {one.type} @ {one.label}" for one in graph.inputs]
    lines += [f"  state %{one.name}: {one.type} @ {one.label}, next %{one.next}" for one in graph.states]
    lines += [f"  {show_node(node)}" for node in graph.nodes]
    lines += [f"  output '{one.name}' = %{one.tensor}" for one in graph.outputs]
    return "\n".join(printable(line) for line in lines) + "\n"


def show_node(node: Node) -> str:
    """One node: name, type, label, op, inputs, parameters, source layer."""
    sources = ", ".join(f"%{name}" for name in node.inputs)
    parameters = "".join(f" {name}={_show(value)}" for name, value in op_fields(node.op) if not _no_bias(name, value))
    kind = type(node.op).__name__
    return f"%{node.name}: {node.type} @ {node.label} = {kind}({sources}){parameters}  # layer '{node.layer}'"


def _no_bias(name: str, value: object) -> bool:
    """A bias of zeros says nothing."""
    return name == "bias" and isinstance(value, np.ndarray) and not value.any()


def _show(value: object) -> str:
    if isinstance(value, np.ndarray):
        if value.size <= 4:
            return str(value.tolist()).replace(" ", "")
        lo, hi = int(value.min()), int(value.max())
        sign = "i" if lo < 0 else "u"
        shape = cast(tuple[int, ...], value.shape)
        return f"{sign}{interval_bits(lo, hi)}<{'x'.join(map(str, shape))}>"
    if isinstance(value, enum.Enum):
        return str(value.value)
    return str(value).replace(" ", "")
