"""Narrow tensors between ops made unsigned, so that zero points and padding of TFLite's models become 0; or signed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds, Graph, Node, Op
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, Shape, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import INT64_SAFE
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.ops.window import window_counts
from edgeflow.passes.requants import compact, scale_of
from edgeflow.passes.rewrite import Facts, rebuilt
from edgeflow.semantics.verify import type_bounds

_SPAN = 255
"""How far a byte's largest value lies above its least."""


def unsigned(graph: Graph) -> Graph:
    """The graph with every internal tensor of up to 8 bits moved to start at 0, where that is exact.

    A tensor that a Requant, Lut or Threshold makes moves up by a constant: [-128, 127] becomes [0, 255]. What reads it
    takes the constant back: a Conv or Dense in its bias, a Requant in its own, a Lut or Threshold in where it starts.
    Rearrangements and pools hand it on, and what a Concat joins moves together. Where a reader cannot (a product, a
    padded sum), or where a tensor must stay (outputs, next states), everything that reaches it stays. Inputs and
    outputs keep their values, types and labels; labels between tell the new zero point. Gives the very same graph where
    nothing moves. Raises InvalidGraph for a broken graph.
    """
    return _moved_to(graph, 0)


def signed(graph: Graph) -> Graph:
    """The graph with every internal tensor that fits int8_t after a move moved there, as `unsigned` does to [0, 255].

    For cores whose products of bytes want both factors signed. A tensor that lies within [-128, 127] stays.
    """
    return _moved_to(graph, -128)


def _moved_to(graph: Graph, least: int) -> Graph:
    """The graph with internal tensors of up to 8 bits moved into [least, least + 255], where that is exact."""
    facts = Facts.of(graph)
    moves = _wanted(facts, least)
    while True:
        attempt = _moved(facts, moves)
        if not attempt.guilty:
            break
        moves = {name: move for name, move in moves.items() if name not in attempt.guilty}
    return rebuilt(graph, list(attempt.nodes)) if any(attempt.shifts.values()) else graph


@dataclass(frozen=True)
class _Read:
    """An op for inputs that have moved, and how far its result moves with them."""

    op: Op
    shift: int = 0


@dataclass(frozen=True)
class _Attempt:
    """The nodes after some moves, how far each tensor moved, and the moved tensors that some reader cannot take."""

    nodes: tuple[Node, ...]
    shifts: Mapping[str, int]
    guilty: frozenset[str]


_Rule: TypeAlias = Callable[[Op, tuple[int, ...], tuple[Shape, ...]], _Read | None]
"""From an op, how far its inputs move, and their shapes."""


def _wanted(facts: Facts, least: int) -> dict[str, int]:
    """How far each tensor that can move by itself should move; those that a Concat joins move together.

    What lies within [least, least + 255] stays, and so does what does not fit there.
    """
    most = least + _SPAN
    moves: dict[str, int] = {}
    for group in _groups(facts.graph):
        makers = [facts.makers[name] for name in group]
        lowest = min(node.type.lo for node in makers)
        highest = max(node.type.hi for node in makers)
        stays = lowest >= least and (highest <= most or least == 0)
        for move in (least - min(_least(node) for node in makers), least - lowest):
            if not stays and move and lowest + move >= least and highest + move <= most:
                moves.update(dict.fromkeys(group, move))
                break
    return moves


def _least(node: Node) -> int:
    """The lower end of a clamp, which fits a target's saturation better than what is reached; else the type's."""
    return min(int(node.op.lo.min()), node.type.lo) if isinstance(node.op, Requant) else node.type.lo


def _groups(graph: Graph) -> Iterable[frozenset[str]]:
    """The tensors that can move by themselves, those that meet in a Concat in one group."""
    origins: dict[str, frozenset[str]] = {one.name: frozenset() for one in graph.tensors()}
    groups: dict[str, frozenset[str]] = {}
    for node in graph.nodes:
        if type(node.op) in _MAKERS:
            origins[node.name] = frozenset({node.name})
            groups[node.name] = origins[node.name]
        elif type(node.op) in _HANDED_ON:
            origins[node.name] = frozenset[str]().union(*(origins[name] for name in node.inputs))
        if isinstance(node.op, Concat):
            together = frozenset[str]().union(*(groups[name] for name in origins[node.name]))
            groups.update(dict.fromkeys(together, together))
    return dict.fromkeys(groups.values())


def _moved(facts: Facts, moves: Mapping[str, int]) -> _Attempt:
    """Moves tensors and everything behind them, as far as it goes."""
    graph = facts.graph
    sources = (*graph.inputs, *graph.states)
    shapes = {one.name: one.type.shape for one in graph.tensors()}
    labels = {one.name: one.label for one in graph.tensors()}
    bounds: dict[str, Bounds] = {one.name: type_bounds(one.type) for one in sources}
    shifts = dict.fromkeys(bounds, 0)
    origins: dict[str, frozenset[str]] = dict.fromkeys(bounds, frozenset())
    nodes: list[Node] = []
    guilty = frozenset[str]()
    for node in graph.nodes:
        inputs = tuple(shifts[name] for name in node.inputs)
        before = frozenset[str]().union(*(origins[name] for name in node.inputs))
        own = moves.get(node.name, 0)
        itself = frozenset({node.name}) if own else frozenset[str]()
        found = _rewritten(node, inputs, own, tuple(shapes[name] for name in node.inputs))
        shift = 0 if found is None else found.shift + own
        label = _label(node, inputs, shift, labels)
        known = None if found is None else _bounds(found.op, node, bounds, shapes)
        kept = shift != 0 and node.name in facts.kept
        if found is None or known is None or label is None or kept:
            guilty |= before if found is None or known is None or found.shift else frozenset[str]()
            guilty |= itself if found is not None else frozenset[str]()
            found, shift, known, label = _Read(node.op), 0, facts.bounds[node.name], node.label
        nodes.append(node if found.op is node.op and label is node.label else replace(node, op=found.op, label=label))
        bounds[node.name], shifts[node.name] = known, shift
        origins[node.name] = (before if found.shift else frozenset[str]()) | itself
    return _Attempt(tuple(nodes), shifts, guilty)


def _rewritten(node: Node, inputs: tuple[int, ...], own: int, shapes: tuple[Shape, ...]) -> _Read | None:
    """The node's op for moved inputs and a result that moves by `own` beyond what its inputs do to it."""
    found: _Read | None = _Read(node.op)
    if any(inputs):
        rule = _READERS.get(type(node.op))
        found = None if rule is None else rule(node.op, inputs, shapes)
    if found is None or not own:
        return found
    return replace(found, op=_MAKERS[type(node.op)](found.op, own))


def _bounds(op: Op, node: Node, bounds: Mapping[str, Bounds], shapes: Mapping[str, Shape]) -> Bounds | None:
    """The result's bounds; None where the moved op could leave 62 bits."""
    sources = tuple(shapes[name] for name in node.inputs)
    try:
        op.shape(sources)
        return op.bounds(tuple(bounds[name] for name in node.inputs), sources)
    except InvalidGraph:
        return None


def _label(node: Node, inputs: tuple[int, ...], shift: int, labels: Mapping[str, Label]) -> Label | None:
    """What one unit means after a move; None where no label can say it."""
    if not shift:
        return node.label
    if isinstance(node.op, SumPool) and node.label == labels[node.inputs[0]]:
        shift = inputs[0]  # a sum goes by its input's label, zero point included
    match node.label:
        case Affine(scale, zero_point):
            return Affine(scale, zero_point + shift)
        case Dyadic(int() as frac) if abs(frac) < 1000:
            return Affine(math.ldexp(1.0, -frac), shift)
        case _:
            return None


def _requant_up(op: Op, move: int) -> Op:
    own = cast(Requant, op)
    offset, lo, hi = (frozen_array(array + move) for array in (own.offset, own.lo, own.hi))
    return replace(own, offset=offset, lo=lo, hi=hi)


def _lut_up(op: Op, move: int) -> Op:
    own = cast(Lut, op)
    return replace(own, table=frozen_array(own.table + move))


def _threshold_up(op: Op, move: int) -> Op:
    own = cast(Threshold, op)
    return replace(own, first=frozen_array(own.first + move))


_MAKERS: Mapping[type[Op], Callable[[Op, int], Op]] = {
    Requant: _requant_up,
    Lut: _lut_up,
    Threshold: _threshold_up,
}
"""The ops whose result moves by itself."""


def _less(bias: IntArray, factor: IntArray, shift: int) -> IntArray | None:
    """bias - factor * shift; None where it could leave 62 bits."""
    largest = np.abs(bias.astype(np.float64)).max() + np.abs(factor.astype(np.float64)).max() * abs(shift)
    return compact(bias - factor * shift) if largest < INT64_SAFE else None


def _weighted(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    """sum of w (x + d) + (b - d sum of w) = sum of w x + b, where what a Conv pads with moves as well."""
    own = cast(Conv | Dense, op)
    (shift,) = inputs
    axes = tuple(range(own.weight.ndim - 1))
    if float(np.abs(own.weight.astype(np.float64)).sum()) >= INT64_SAFE:
        return None
    bias = _less(own.bias, own.weight.sum(axis=axes), shift)
    if bias is None:
        return None
    bias = frozen_array(np.broadcast_to(bias, own.bias.shape))
    if isinstance(own, Dense):
        return _Read(replace(own, bias=bias))
    padded = any(map(any, own.pads))
    return _Read(replace(own, bias=bias, pad_value=own.pad_value + shift if padded else 0))


def _requant(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    """(x + d) s + (b - d s) = x s + b: the stages see the same integer."""
    own = cast(Requant, op)
    bias = _less(own.bias, scale_of(own), inputs[0])
    return None if bias is None else _Read(replace(own, bias=bias))


def _lut(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    own = cast(Lut, op)
    return _Read(replace(own, first=own.first + inputs[0]))


def _threshold(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    own = cast(Threshold, op)
    if float(np.abs(own.thresholds.astype(np.float64)).max()) + abs(inputs[0]) >= INT64_SAFE:
        return None
    return _Read(replace(own, thresholds=frozen_array(own.thresholds + inputs[0])))


def _differences(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    """An op that compares elements with one another alone."""
    return _Read(op)


def _same(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    """An op whose every result is one of its inputs' elements."""
    return _Read(op, inputs[0]) if len(set(inputs)) == 1 else None


def _pad(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    own = cast(Pad, op)
    return _Read(replace(own, value=own.value + inputs[0]), inputs[0])


def _upsample(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    """Zeros between do not move."""
    own = cast(Upsample, op)
    return _Read(own, inputs[0]) if not own.zeros or own.shape(shapes) == shapes[0] else None


def _add(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    return _Read(op, sum(sign * shift for sign, shift in zip(cast(Add, op).signs, inputs, strict=True)))


def _sum_pool(op: Op, inputs: tuple[int, ...], shapes: tuple[Shape, ...]) -> _Read | None:
    """Every window must sum the same number of elements."""
    own = cast(SumPool, op)
    counts = window_counts(shapes[0][:-1], own.window, own.strides, own.pads)
    count = int(counts.min())
    return _Read(op, inputs[0] * count) if count == int(counts.max()) else None


_READERS: Mapping[type[Op], _Rule] = {
    Conv: _weighted,
    Dense: _weighted,
    Requant: _requant,
    Lut: _lut,
    Threshold: _threshold,
    ArgMax: _differences,
    Softmax: _differences,
    Concat: _same,
    MaxPool: _same,
    Reshape: _same,
    Slice: _same,
    Transpose: _same,
    Pad: _pad,
    Upsample: _upsample,
    Add: _add,
    SumPool: _sum_pool,
}
"""What an op becomes when its inputs have moved; an op without a rule cannot follow."""

_HANDED_ON: frozenset[type[Op]] = frozenset({Concat, MaxPool, Reshape, Slice, Transpose, Pad, Upsample})
"""The ops that a move passes through unchanged."""
