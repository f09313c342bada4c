"""Channels that hold one value whatever the input, and channels that nobody reads, go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Node, Op
from edgeflow.ir.types import Dyadic, Label, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import INT64_SAFE, per_channel
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.threshold import Threshold
from edgeflow.passes.channels import Masks, needed_channels, picked
from edgeflow.passes.rewrite import Facts, rebuilt


@dataclass(frozen=True)
class DropConstantChannels:
    """A constant input channel moves into the bias of the Conv or Dense that reads it; unread channels are dropped.

    A dead ReLU is such a channel. Where a Conv pads, the channel counts as constant only if it holds the padding's
    value. Dropping goes through pools, Requants, reshapes and concatenations back to the weights that make the channel.
    """

    name: ClassVar[str] = "drop_constant_channels"

    def apply(self, graph: Graph) -> Graph:
        """Moves constants into biases, then drops what is left without a reader."""
        facts = Facts.of(graph)
        nodes = [_without_constants(facts, node) for node in graph.nodes]
        if any(new is not old for new, old in zip(nodes, graph.nodes, strict=True)):
            try:
                graph = rebuilt(graph, nodes)
            except InvalidGraph:  # a bias that large would leave 62 bits
                return graph
        masks = needed_channels(graph)
        if all(mask.all() for mask in masks.values()):
            return graph
        return rebuilt(graph, [_shrunk(node, masks, graph) for node in graph.nodes])


def _without_constants(facts: Facts, node: Node) -> Node:
    op = node.op
    if not isinstance(op, Conv | Dense) or (isinstance(op, Conv) and op.groups > 1):
        return node
    lo, hi = per_channel(facts.bounds[node.inputs[0]], op.weight.shape[-2])
    constant = lo == hi
    if isinstance(op, Conv) and any(map(any, op.pads)):
        constant = constant & (lo == op.pad_value)
    taps = op.weight.reshape(-1, *op.weight.shape[-2:])
    constant = constant & taps.any(axis=(0, 2))
    if not constant.any():
        return node
    values = np.where(constant, lo, 0)
    if float(np.abs(values).max()) * float(np.abs(taps).sum()) >= INT64_SAFE:
        return node
    bias = frozen_array(op.bias + np.einsum("tkm,k->m", taps, values))
    return replace(node, op=replace(op, weight=frozen_array(np.where(constant[:, None], 0, op.weight)), bias=bias))


def _shrunk(node: Node, masks: Masks, graph: Graph) -> Node:
    """The node for inputs and a result without the channels that nobody needs."""
    mask = masks[node.name]
    rule = _SMALLER.get(type(node.op))
    op = node.op if rule is None else rule(node, masks, graph)
    return replace(node, op=op, label=_label(node.label, mask))


def _label(label: Label, mask: np.ndarray) -> Label:
    match label:
        case Dyadic(tuple() as frac):
            return Dyadic(tuple(one for one, keep in zip(frac, mask, strict=True) if keep))
        case _:
            return label


def _dense(node: Node, masks: Masks, graph: Graph) -> Op:
    op, mask = cast(Dense, node.op), masks[node.name]
    return Dense(frozen_array(op.weight[masks[node.inputs[0]]][:, mask]), frozen_array(op.bias[mask]))


def _conv(node: Node, masks: Masks, graph: Graph) -> Op:
    op, mask, source = cast(Conv, node.op), masks[node.name], masks[node.inputs[0]]
    weight, bias = op.weight[..., mask], frozen_array(op.bias[mask])
    if op.groups == 1:
        return replace(op, weight=frozen_array(weight[..., source, :]), bias=bias)
    groups = int(source.sum()) if op.groups == len(source) else op.groups
    return replace(op, weight=frozen_array(weight), bias=bias, groups=groups)


def _requant(node: Node, masks: Masks, graph: Graph) -> Op:
    op, mask = cast(Requant, node.op), masks[node.name]
    if mask.all():
        return op
    names = ("pre", "multiplier", "offset", "lo", "hi", "bias")
    arrays = {name: frozen_array(picked(getattr(op, name), mask)) for name in names}
    stages = tuple(replace(stage, shift=frozen_array(picked(stage.shift, mask))) for stage in op.stages)
    return replace(op, stages=stages, **arrays)


def _threshold(node: Node, masks: Masks, graph: Graph) -> Op:
    op, mask = cast(Threshold, node.op), masks[node.name]
    rows = op.thresholds if len(op.thresholds) == 1 else frozen_array(op.thresholds[mask])
    return Threshold(rows, frozen_array(picked(op.first, mask)), frozen_array(picked(op.step, mask)))


def _reshape(node: Node, masks: Masks, graph: Graph) -> Op:
    return Reshape((*node.type.shape[:-1], int(masks[node.name].sum())) if node.type.shape else ())


def _slice(node: Node, masks: Masks, graph: Graph) -> Op:
    op = cast(Slice, node.op)
    return op if masks[node.name].all() else replace(op, size=(*op.size[:-1], int(masks[node.name].sum())))


_SMALLER: Mapping[type[Op], Callable[[Node, Masks, Graph], Op]] = {
    Dense: _dense,
    Conv: _conv,
    Requant: _requant,
    Threshold: _threshold,
    Reshape: _reshape,
    Slice: _slice,
}
