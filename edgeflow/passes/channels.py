"""Which channels of each tensor anything needs: a mask a tensor, grown until every op agrees."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from edgeflow.ir.graph import Graph, Node, Op
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.upsample import Upsample

Mask: TypeAlias = npt.NDArray[np.bool_]
Masks: TypeAlias = dict[str, Mask]
Shapes: TypeAlias = Mapping[str, Shape]


def needed_channels(graph: Graph) -> Masks:
    """For each tensor, which channels (of its last axis) must stay.

    Inputs, states and outputs keep all theirs. A channel that every reader multiplies by zero is not needed. Ops whose
    channels cannot be told apart keep all. At least one channel stays in every tensor.
    """
    shapes = {one.name: one.type.shape for one in graph.tensors()}
    masks: Masks = {name: np.zeros(shape[-1] if shape else 1, dtype=np.bool_) for name, shape in shapes.items()}
    for name in _whole(graph):
        masks[name][:] = True
    _grow(graph, masks, shapes)
    for mask in masks.values():
        if not mask.any():
            mask[0] = True
            _grow(graph, masks, shapes)
    return masks


def _grow(graph: Graph, masks: Masks, shapes: Shapes) -> None:
    """Lets every op add what it needs, until none adds anything."""
    before = -1
    while before != (now := sum(int(mask.sum()) for mask in masks.values())):
        before = now
        for node in reversed(graph.nodes):
            _RULES.get(type(node.op), _all)(node, masks, shapes)


def _whole(graph: Graph) -> Iterator[str]:
    yield from (one.name for one in (*graph.inputs, *graph.states))
    yield from (output.tensor for output in graph.outputs)
    yield from (state.next for state in graph.states)


def _all(node: Node, masks: Masks, shapes: Shapes) -> None:
    """An op whose channels cannot be told apart."""
    for name in (node.name, *node.inputs):
        masks[name][:] = True


def _alike(node: Node, masks: Masks, shapes: Shapes) -> None:
    """An op that works on each channel by itself: what it makes and reads has the same channels."""
    together = masks[node.name]
    if any(len(masks[name]) != len(together) for name in node.inputs):
        _all(node, masks, shapes)
        return
    for name in node.inputs:
        together = together | masks[name]
    for name in (node.name, *node.inputs):
        masks[name] |= together


def _dense(node: Node, masks: Masks, shapes: Shapes) -> None:
    weight = cast(Dense, node.op).weight
    masks[node.inputs[0]] |= weight[:, masks[node.name]].any(axis=1)


def _conv(node: Node, masks: Masks, shapes: Shapes) -> None:
    op = cast(Conv, node.op)
    result, source = masks[node.name], masks[node.inputs[0]]
    if op.groups == 1:
        used = op.weight[..., result].any(axis=(*range(op.weight.ndim - 2), op.weight.ndim - 1))
        source |= used
    elif op.groups == len(source):
        each = len(result) // len(source)
        source |= result.reshape(-1, each).any(axis=1)
        result |= source.repeat(each)
    else:
        _all(node, masks, shapes)


def _reshape(node: Node, masks: Masks, shapes: Shapes) -> None:
    result, source = masks[node.name], masks[node.inputs[0]]
    copies = channel_copies(shapes[node.inputs[0]], node.type.shape)
    if copies is None:
        _all(node, masks, shapes)
        return
    source |= result.reshape(copies, -1).any(axis=0)
    result |= np.tile(source, copies)


def channel_copies(source: Shape, target: Shape) -> int | None:
    """How often the channels of `source` stand in the last axis of `target`; None when they are mixed with others.

    1 where the last axis stays, the number of positions where everything is flattened.
    """
    if not source or not target:
        return None
    if source[-1] == target[-1]:
        return 1
    return math.prod(source[:-1]) if target[-1] == math.prod(source) else None


def _concat(node: Node, masks: Masks, shapes: Shapes) -> None:
    axis = cast(Concat, node.op).axis
    if axis != len(node.type.shape) - 1:
        _alike(node, masks, shapes)
        return
    if len(set(node.inputs)) != len(node.inputs):
        _all(node, masks, shapes)
        return
    start = 0
    for name in node.inputs:
        part = masks[node.name][start : start + len(masks[name])]
        masks[name] |= part
        part |= masks[name]
        start += len(masks[name])


def _spatial(node: Node, masks: Masks, shapes: Shapes) -> None:
    """A Pad or Slice that leaves the channel axis alone."""
    (_alike if shapes[node.inputs[0]][-1:] == node.type.shape[-1:] else _all)(node, masks, shapes)


_RULES: Mapping[type[Op], Callable[[Node, Masks, Shapes], None]] = {
    Dense: _dense,
    Conv: _conv,
    Add: _alike,
    Multiply: _alike,
    Requant: _alike,
    Threshold: _alike,
    MaxPool: _alike,
    SumPool: _alike,
    Upsample: _alike,
    Reshape: _reshape,
    Concat: _concat,
    Pad: _spatial,
    Slice: _spatial,
}


def picked(array: IntArray, mask: Mask) -> IntArray:
    """A parameter's entries along the last axis that a mask keeps; what stands for the whole axis stays."""
    return array[..., mask] if array.ndim and array.shape[-1] == len(mask) else array
