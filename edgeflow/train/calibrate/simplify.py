"""A float network with less in it: batch normalization folded into its neighbours, padding into convolutions.

Every rule keeps what the network computes (in real arithmetic). They are tried until none applies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from edgeflow.ir.types import Shape
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.train.calibrate.floats import (
    Average,
    Clip,
    FloatArray,
    FloatConv,
    FloatDense,
    FloatGraph,
    FloatNode,
    Move,
    Scale,
)

Shapes: TypeAlias = Mapping[str, Shape]
Rule: TypeAlias = Callable[[FloatGraph, FloatNode, Shapes], FloatGraph | None]


def simplify(graph: FloatGraph) -> FloatGraph:
    """Applies every rule until none changes anything; what scales are left become 1x1 depthwise convolutions."""
    while True:
        shapes = graph.shapes()
        changed = next(
            (new for node in graph.nodes for rule in _RULES if (new := rule(graph, node, shapes)) is not None), None
        )
        if changed is None:
            return _scales_as_convolutions(graph, shapes)
        graph = changed


def rewritten(graph: FloatGraph, changes: Mapping[str, FloatNode | None]) -> FloatGraph:
    """The graph with nodes replaced by name, in their place; None removes one."""
    nodes: list[FloatNode] = []
    for node in graph.nodes:
        new = changes.get(node.name, node)
        if new is not None:
            nodes.append(new)
    return replace(graph, nodes=tuple(nodes))


def _producer(graph: FloatGraph, node: FloatNode) -> FloatNode | None:
    """The node in front, if nothing else reads it."""
    if len(node.inputs) != 1 or graph.sole_reader(node.inputs[0]) is None:
        return None
    return graph.node(node.inputs[0])


def _fold_back(graph: FloatGraph, node: FloatNode, shapes: Shapes) -> FloatGraph | None:
    """Linear, then Scale: the weights take the factor."""
    before = _producer(graph, node)
    if not isinstance(node.op, Scale) or before is None or not isinstance(before.op, FloatConv | FloatDense):
        return None
    op = replace(
        before.op,
        kernel=before.op.kernel * node.op.factor,
        bias=before.op.bias * node.op.factor + node.op.shift,
    )
    return rewritten(graph, {before.name: None, node.name: replace(before, name=node.name, op=op)})


def _join_scales(graph: FloatGraph, node: FloatNode, shapes: Shapes) -> FloatGraph | None:
    before = _producer(graph, node)
    if not isinstance(node.op, Scale) or before is None or not isinstance(before.op, Scale):
        return None
    first, second = before.op, node.op
    op = Scale(first.factor * second.factor, first.shift * second.factor + second.shift)
    return rewritten(graph, {before.name: None, node.name: replace(node, op=op, inputs=before.inputs)})


def _join_clips(graph: FloatGraph, node: FloatNode, shapes: Shapes) -> FloatGraph | None:
    before = _producer(graph, node)
    if not isinstance(node.op, Clip) or before is None or not isinstance(before.op, Clip):
        return None
    lo, hi = (min(max(end, node.op.lo), node.op.hi) for end in (before.op.lo, before.op.hi))
    return rewritten(graph, {before.name: None, node.name: replace(node, op=Clip(lo, hi), inputs=before.inputs)})


def _fold_forward(graph: FloatGraph, node: FloatNode, shapes: Shapes) -> FloatGraph | None:
    """Scale, then linear: the weights take the factor, the bias the shift; padding then stands for -shift / factor."""
    if not isinstance(node.op, Scale) or any(one.tensor == node.name for one in graph.outputs):
        return None
    changes: dict[str, FloatNode | None] = {node.name: None}
    for reader in graph.readers(node.name):
        op = _absorb(reader, node.op)
        if op is None:
            return None
        changes[reader.name] = replace(reader, op=op, inputs=node.inputs)
    return rewritten(graph, changes)


def _absorb(reader: FloatNode, scale: Scale) -> FloatConv | FloatDense | None:
    op = reader.op
    if isinstance(op, FloatDense):
        shift = (scale.shift.astype(np.float64) @ op.kernel).astype(np.float32)
        return replace(op, kernel=op.kernel * scale.factor[:, None], bias=op.bias + shift)
    if not isinstance(op, FloatConv):
        return None
    pad = op.pad
    if any(map(any, op.pads)):
        outside = _padding(op.pad, scale)
        if outside is None:
            return None
        pad = outside
    factor, shift = (_by_output(one, op) for one in (scale.factor, scale.shift))
    axes = tuple(range(op.kernel.ndim - 1))
    bias = op.bias + (op.kernel.astype(np.float64) * shift).sum(axis=axes).astype(np.float32)
    return replace(op, kernel=op.kernel * factor, bias=bias, pad=pad)


def _padding(pad: float, scale: Scale) -> float | None:
    """What to pad in front of the scale so that it becomes `pad` behind it, if that is one value for all channels."""
    if (scale.factor == 0).any():
        return None
    outside = (pad - scale.shift.astype(np.float64)) / scale.factor
    return float(outside[0]) if np.ptp(outside) <= 1e-6 * max(1.0, float(np.abs(outside).max())) else None


def _by_output(values: FloatArray, op: FloatConv) -> FloatArray:
    """One entry an input channel as (channels / groups, outputs): what each weight reads."""
    each, outputs = op.kernel.shape[-2:]
    groups = np.arange(outputs) // (outputs // op.groups)
    return values[groups[None, :] * each + np.arange(each)[:, None]]


def _push_scale(graph: FloatGraph, node: FloatNode, shapes: Shapes) -> FloatGraph | None:
    """Scale, then an op that commutes with it: the scale goes behind, where there is less to do and more to fold."""
    after = graph.sole_reader(node.name)
    if not isinstance(node.op, Scale) or after is None:
        return None
    scale = _behind(node.op, after, shapes)
    if scale is None:
        return None
    return _swapped(graph, node, after, replace(node, op=scale))


def _behind(scale: Scale, after: FloatNode, shapes: Shapes) -> Scale | None:
    """The scale that does behind `after` what `scale` did in front of it; None where they do not commute."""
    op = after.op.op if isinstance(after.op, Move) else after.op
    if isinstance(op, Average) or (isinstance(op, MaxPool) and (scale.factor > 0).all()):
        return scale
    if isinstance(op, Upsample) and not op.zeros:
        return scale
    if isinstance(op, Reshape):
        source, target = shapes[after.inputs[0]], op.target
        if source[-1] == target[-1]:
            return scale
        if len(target) == 1:
            return Scale(*(np.tile(one, math.prod(source[:-1])) for one in (scale.factor, scale.shift)))
    return None


def _hoist_clip(graph: FloatGraph, node: FloatNode, shapes: Shapes) -> FloatGraph | None:
    """An op that only moves values, then Clip: the clip goes in front, where a layer's rounding can do it."""
    before = _producer(graph, node)
    if not isinstance(node.op, Clip) or before is None or not isinstance(before.op, Move):
        return None
    moves = (MaxPool, Reshape, Transpose, Slice, Upsample)
    if not isinstance(before.op.op, moves) or (isinstance(before.op.op, Upsample) and before.op.op.zeros):
        return None
    return _swapped(graph, before, node, before)


def _swapped(graph: FloatGraph, first: FloatNode, second: FloatNode, moved: FloatNode) -> FloatGraph:
    """`second` reads what `first` read, and `moved` stands behind it under the name that readers know."""
    inner = replace(second, name=first.name, inputs=first.inputs)
    outer = replace(moved, name=second.name, inputs=(first.name,))
    return rewritten(graph, {first.name: inner, second.name: outer})


def _merge_padding(graph: FloatGraph, node: FloatNode, shapes: Shapes) -> FloatGraph | None:
    """ZeroPadding, then convolutions: they pad themselves."""
    if not isinstance(node.op, Move) or not isinstance(node.op.op, Pad) or any(node.op.op.pads[-1]):
        return None
    if any(one.tensor == node.name for one in graph.outputs):
        return None
    changes: dict[str, FloatNode | None] = {node.name: None}
    for reader in graph.readers(node.name):
        if not isinstance(reader.op, FloatConv) or reader.op.pad != 0.0:
            return None
        pads = tuple(
            (before + more, after + most)
            for (before, after), (more, most) in zip(node.op.op.pads[:-1], reader.op.pads, strict=True)
        )
        changes[reader.name] = replace(reader, op=replace(reader.op, pads=pads), inputs=node.inputs)
    return rewritten(graph, changes)


_RULES: tuple[Rule, ...] = (
    _fold_back,
    _join_scales,
    _join_clips,
    _merge_padding,
    _fold_forward,
    _push_scale,
    _hoist_clip,
)


def _scales_as_convolutions(graph: FloatGraph, shapes: Shapes) -> FloatGraph:
    nodes: list[FloatNode] = []
    for node in graph.nodes:
        nodes += _as_convolution(node, shapes[node.name]) if isinstance(node.op, Scale) else [node]
    return replace(graph, nodes=tuple(nodes))


def _as_convolution(node: FloatNode, shape: Shape) -> list[FloatNode]:
    """A scale that nothing could take: each channel times one weight, which 8 bits hold exactly with its own scale."""
    assert isinstance(node.op, Scale)
    rank = min(max(len(shape) - 1, 1), 2)
    wide = shape if len(shape) == rank + 1 else (*((1,) * (rank - 1)), math.prod(shape[:-1]), shape[-1])
    ones = (1,) * rank
    kernel = node.op.factor.reshape(*ones, 1, -1)
    op = FloatConv(kernel, node.op.shift, ones, ((0, 0),) * rank, ones, shape[-1])
    if wide == shape:
        return [replace(node, op=op)]
    spread, product = f"{node.name}_spread", f"{node.name}_product"
    return [
        FloatNode(spread, Move(Reshape(wide)), node.inputs, node.layer),
        FloatNode(product, op, (spread,), node.layer),
        FloatNode(node.name, Move(Reshape(shape)), (product,), node.layer),
    ]
