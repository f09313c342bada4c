"""A factor and a bias a channel (a batch normalization, an exact shift) go into the weights beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import IntArray, frozen_array, interval_bits
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import INT64_SAFE
from edgeflow.ops.requant import Requant
from edgeflow.ops.sumpool import SumPool
from edgeflow.passes.requants import (
    NO_STAGE,
    ONE,
    ZERO,
    along_last_axis,
    binding,
    natural_range,
    rounding_stages,
    scale_of,
)
from edgeflow.passes.rewrite import Change, Facts, changed, rewritten


@dataclass(frozen=True, eq=False)
class _Affine:
    """y = x * scale + bias, both (channels,)."""

    scale: IntArray
    bias: IntArray


@dataclass(frozen=True)
class FoldAffine:
    """A Requant that drops nothing, or a depthwise Conv of one tap, folds into the Conv or Dense before or after it.

    Only while the weights stay within `most_bits`, or as wide as they were: a factor in wider weights costs more flash
    and, on most targets, more time than the op that it saves.
    """

    most_bits: int = 8
    name: ClassVar[str] = "fold_affine"

    def apply(self, graph: Graph) -> Graph:
        """Folds wherever it is exact and the weights stay narrow."""
        return rewritten(graph, self._fold)

    def _fold(self, facts: Facts, node: Node) -> Mapping[str, Change] | None:
        found = _affine(facts, node)
        if found is None:
            return None
        before = facts.private_maker(node.inputs[0])
        if before is not None and isinstance(before.op, Conv | Dense):
            op = _into_outputs(before.op, found)
            if op is not None and self._narrow(before.op, op):
                return _accepted(facts, _behind(facts, before, op, node))
        after = None if isinstance(node.op, Requant) and _sums(before) else _only_reader(facts, node)
        if after is not None and isinstance(after.op, Conv | Dense):
            op = _into_inputs(after.op, found)
            if op is not None and self._narrow(after.op, op):
                return _accepted(facts, {node.name: node.inputs[0], after.name: replace(after, op=op)})
        return None

    def _narrow(self, before: Conv | Dense, after: Conv | Dense) -> bool:
        return _bits(after.weight) <= max(self.most_bits, _bits(before.weight))


def _sums(node: Node | None) -> bool:
    return node is not None and isinstance(node.op, Conv | Dense | SumPool)


def _bits(weight: IntArray) -> int:
    return interval_bits(min(int(weight.min()), -1), int(weight.max()))


def _behind(facts: Facts, before: Node, op: Conv | Dense, node: Node) -> dict[str, Change]:
    """The folded op in the second node's unit. A Requant stays as one that changes nothing: see remove_identities."""
    if not isinstance(node.op, Requant):
        return {
            before.name: before.inputs[0],
            node.name: replace(node, op=op, inputs=before.inputs, layer=before.layer),
        }
    lo, hi = natural_range(facts.bounds[node.name])
    nothing = Requant(ZERO, ONE, (NO_STAGE,), ZERO, frozen_array([lo]), frozen_array([hi]))
    return {before.name: replace(before, op=op, label=node.label), node.name: replace(node, op=nothing)}


def _accepted(facts: Facts, changes: Mapping[str, Change]) -> Mapping[str, Change] | None:
    """The changes, unless their sums could leave 62 bits."""
    try:
        changed(facts.graph, changes)
    except InvalidGraph:
        return None
    return changes


def _only_reader(facts: Facts, node: Node) -> Node | None:
    if node.name in facts.kept or facts.reads[node.name] != 1:
        return None
    return facts.graph.readers(node.name)[0]


def _affine(facts: Facts, node: Node) -> _Affine | None:
    """What a node multiplies and adds, if that is all it does."""
    match node.op:
        case Requant() as op if node.type.shape:
            channels = node.type.shape[-1]
            scale, bias = along_last_axis(scale_of(op), channels), along_last_axis(op.bias + op.offset, channels)
            if scale is None or bias is None or rounding_stages(op) or binding(op, facts.bounds[node.inputs[0]]):
                return None
            return _Affine(scale, bias) if (scale != 1).any() or bias.any() else None
        case Conv() as op if op.groups == op.weight.shape[-1] and op.weight.size == op.groups:
            plain = not any(map(any, op.pads)) and set(op.strides) == {1}
            return _Affine(op.weight.reshape(-1), op.bias) if plain else None
        case _:
            return None


def _into_outputs(op: Conv | Dense, affine: _Affine) -> Conv | Dense | None:
    """(x W + b) s + c = x (W s) + (b s + c)."""
    if not _safe(op.weight, affine.scale) or not _safe(op.bias, affine.scale):
        return None
    weight = frozen_array(op.weight * affine.scale)
    return replace(op, weight=weight, bias=frozen_array(op.bias * affine.scale + affine.bias))


def _into_inputs(op: Conv | Dense, affine: _Affine) -> Conv | Dense | None:
    """(x s + c) W + b = x (s W) + (c W + b); what pads must become what would give the padding value."""
    if isinstance(op, Dense):
        scale, bias = affine.scale[:, None], affine.bias[:, None]
    else:
        each, outputs = op.weight.shape[-2], op.weight.shape[-1] // op.groups
        scale, bias = (one.reshape(op.groups, each).repeat(outputs, axis=0).T for one in (affine.scale, affine.bias))
    if not _safe(op.weight, scale) or not _safe(op.weight, bias):
        return None
    axes = tuple(range(op.weight.ndim - 1))
    weight, total = frozen_array(op.weight * scale), frozen_array(op.bias + (op.weight * bias).sum(axis=axes))
    if isinstance(op, Dense) or not any(map(any, op.pads)):
        return replace(op, weight=weight, bias=total)
    pad = _padding(op.pad_value, affine)
    return None if pad is None else replace(op, weight=weight, bias=total, pad_value=pad)


def _padding(value: int, affine: _Affine) -> int | None:
    """The one x with x s + c = value in every channel; None when there is none."""
    if value == 0 and not affine.bias.any():
        return 0
    scale = np.where(affine.scale == 0, 1, affine.scale)
    found = (value - affine.bias) // scale
    fits = (found * affine.scale + affine.bias == value).all() and (found == found[0]).all()
    return int(found[0]) if fits else None


def _safe(left: IntArray, right: IntArray) -> bool:
    """Whether the products stay far below 64 bits, sums over the weights included."""
    most = max(abs(int(left.min())), abs(int(left.max()))) * max(abs(int(right.min())), abs(int(right.max())))
    return most * left.size < INT64_SAFE
