"""Ops that change nothing go, and rearrangements in a row become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from edgeflow.ir.graph import Graph, Node, Op
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.passes.requants import binding, rounding_stages, scale_of
from edgeflow.passes.rewrite import Change, Facts, rewritten


@dataclass(frozen=True)
class RemoveIdentities:
    """Removes what leaves every value that can come as it is, in the same unit."""

    name: ClassVar[str] = "remove_identities"

    def apply(self, graph: Graph) -> Graph:
        """Removes wherever the values and the unit stay."""
        return rewritten(graph, _rewrite)


def _rewrite(facts: Facts, node: Node) -> Mapping[str, Change] | None:
    rule = _SIMPLER.get(type(node.op))
    found = None if rule is None else rule(facts, node)
    if isinstance(found, str) and facts.label(found) != node.label:
        return None
    return None if found is None else {node.name: found}


def _requant(facts: Facts, node: Node) -> Change | None:
    op = cast(Requant, node.op)
    plain = not rounding_stages(op) and bool((scale_of(op) == 1).all() and (op.bias + op.offset == 0).all())
    before = facts.private_maker(node.inputs[0])
    if not plain or (before is not None and isinstance(before.op, Conv | Dense | SumPool)):
        return None  # behind sums it is where kernels that requantize say so; it costs the others nothing
    return None if binding(op, facts.bounds[node.inputs[0]]) else node.inputs[0]


def _same_shape(facts: Facts, node: Node) -> Change | None:
    return node.inputs[0] if facts.shape(node.inputs[0]) == node.type.shape else None


def _reshape(facts: Facts, node: Node) -> Change | None:
    before = facts.makers.get(node.inputs[0])
    if before is not None and isinstance(before.op, Reshape):
        return replace(node, inputs=before.inputs)
    return _same_shape(facts, node)


def _transpose(facts: Facts, node: Node) -> Change | None:
    order = cast(Transpose, node.op).order
    before = facts.makers.get(node.inputs[0])
    if before is not None and isinstance(before.op, Transpose):
        return replace(node, op=Transpose(tuple(before.op.order[axis] for axis in order)), inputs=before.inputs)
    if order == tuple(sorted(order)):
        return node.inputs[0]
    shape = facts.shape(node.inputs[0])
    long = [axis for axis in order if shape[axis] > 1]
    # Axes of length 1 hold nothing that could move.
    return replace(node, op=Reshape(node.type.shape)) if long == sorted(long) else None


def _one_input(facts: Facts, node: Node) -> Change | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _add(facts: Facts, node: Node) -> Change | None:
    signs = cast(Add, node.op).signs
    kept = [
        (name, sign)
        for name, sign in zip(node.inputs, signs, strict=True)
        if facts.bounds[name].lo.any() or facts.bounds[name].hi.any()
    ]
    if len(kept) == 1 and kept[0][1] == 1:
        return kept[0][0]
    if len(kept) < 2 or len(kept) == len(signs):
        return None
    return replace(node, op=Add(tuple(sign for _, sign in kept)), inputs=tuple(name for name, _ in kept))


def _pool(facts: Facts, node: Node) -> Change | None:
    op = cast(MaxPool | SumPool, node.op)
    return node.inputs[0] if set(op.window) == set(op.strides) == {1} and not any(map(any, op.pads)) else None


_SIMPLER: Mapping[type[Op], Callable[[Facts, Node], Change | None]] = {
    Requant: _requant,
    Reshape: _reshape,
    Transpose: _transpose,
    Pad: _same_shape,
    Slice: _same_shape,
    Upsample: _same_shape,
    Concat: _one_input,
    Add: _add,
    MaxPool: _pool,
    SumPool: _pool,
}
