"""Concats of wide sums, or of several units, which TFLite could not store.

Requants behind one move in front of it: exact, each part is requantized by itself, with its own entries of the
parameters. Where something else reads 8-bit parts of several units, they are stored as if they had the finest one: the
file then says an equal network, with other weights behind channels of another scale.
"""

from __future__ import annotations

from dataclasses import replace

from edgeflow.backends.tflm.arithmetic import scale_of
from edgeflow.backends.tflm.chains import moving
from edgeflow.backends.tflm.widths import Width
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import Dyadic, IntArray, Label, frozen_array
from edgeflow.ops.concat import Concat
from edgeflow.ops.requant import Requant, Stage
from edgeflow.semantics.builder import GraphBuilder


def storable_concats(graph: Graph, width: Width) -> Graph:
    """A graph that computes the same, with Concats that TFLite can store wherever that is possible."""
    return _in_one_unit(_requants_first(graph, width), width)


def _in_one_unit(graph: Graph, width: Width) -> Graph:
    """New labels for what only a Concat of several units reads."""
    results = {output.tensor for output in graph.outputs}
    labels: dict[str, Label] = {}
    for node in graph.nodes:
        frac = node.label.frac if isinstance(node.label, Dyadic) else 0
        if not isinstance(node.op, Concat) or isinstance(frac, int) or node.name in results:
            continue
        finest = Dyadic(max(frac))
        found = [_relabelled(graph, results, name, node, finest) for name in node.inputs]
        if node.type.hi - node.type.lo <= width.span and all(one is not None for one in found):
            labels |= {name: finest for one in found for name in one or ()} | {node.name: finest}
    nodes = tuple(replace(node, label=labels.get(node.name, node.label)) for node in graph.nodes)
    return replace(graph, nodes=nodes) if labels else graph


def _relabelled(graph: Graph, results: set[str], name: str, reader: Node, label: Label) -> list[str] | None:
    """The tensors whose label must change so that `name` gets another; None where others read them."""
    tensor = graph.tensor(name)
    if tensor.label == label:
        return []
    if not isinstance(tensor, Node) or graph.readers(name) != (reader,) or name in results:
        return None
    if isinstance(tensor.op, Requant):
        return [name]
    more = _relabelled(graph, results, tensor.inputs[0], tensor, label) if moving(tensor.op) else None
    return None if more is None else [name, *more]


def _requants_first(graph: Graph, width: Width) -> Graph:
    turned = {node.name: node for node in graph.nodes if isinstance(node.op, Concat) and _turns(graph, node, width)}
    if not turned:
        return graph
    builder = GraphBuilder(graph.name, graph.meaning)
    names = {one.name: builder.input(one.name, one.type, one.label) for one in graph.inputs}
    for node in graph.nodes:
        join = turned.get(node.inputs[0])
        if node.name in turned:
            continue
        if join is not None:
            names[node.name] = _joined(graph, builder, names, join, node)
        else:
            inputs = tuple(names[name] for name in node.inputs)
            names[node.name] = builder.add(node.op, inputs, node.label, node.layer, node.name)
    for output in graph.outputs:
        builder.output(output.name, names[output.tensor], logits=output.logits)
    return builder.finish()


def _turns(graph: Graph, node: Node, width: Width) -> bool:
    """Whether a tensor of one unit does not hold a Concat, but what its readers make of it."""
    stored = node.type.hi - node.type.lo <= width.span and scale_of(node.label) is not None
    readers = graph.readers(node.name)
    results = {output.tensor for output in graph.outputs}
    return not stored and bool(readers) and node.name not in results and all(_narrows(one, width) for one in readers)


def _narrows(node: Node, width: Width) -> bool:
    narrow = node.type.hi - node.type.lo <= width.span
    return isinstance(node.op, Requant) and narrow and scale_of(node.label) is not None


def _joined(graph: Graph, builder: GraphBuilder, names: dict[str, str], join: Node, after: Node) -> str:
    """The Concat of each part's Requant, called as the Requant was."""
    assert isinstance(join.op, Concat)
    assert isinstance(after.op, Requant)
    axis, rank, first = join.op.axis, len(join.type.shape), 0
    parts: list[str] = []
    for number, name in enumerate(join.inputs, start=1):
        length = graph.tensor(name).type.shape[axis]
        op = _part(after.op, rank, axis, slice(first, first + length))
        first += length
        parts.append(builder.add(op, (names[name],), after.label, after.layer, f"{after.name}_part{number}"))
    return builder.add(join.op, tuple(parts), after.label, join.layer, after.name)


def _part(requant: Requant, rank: int, axis: int, where: slice) -> Requant:
    def cut(array: IntArray) -> IntArray:
        at = axis - rank + array.ndim
        return array if at < 0 or array.shape[at] == 1 else frozen_array(array[(slice(None),) * at + (where,)])

    fields = ("pre", "multiplier", "offset", "lo", "hi", "bias")
    stages = tuple(Stage(cut(stage.shift), stage.rounding) for stage in requant.stages)
    return replace(requant, stages=stages, **{name: cut(getattr(requant, name)) for name in fields})
