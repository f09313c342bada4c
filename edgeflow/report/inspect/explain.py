"""One layer explained: how each of its Keras numbers became an integer, and what the integers then do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgeflow.errors import EdgeflowError, did_you_mean
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Codes
from edgeflow.ir.graph import Bounds, Graph, Input, Node
from edgeflow.ir.types import Dyadic, IntArray, interval_bits
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.requant import Requant
from edgeflow.ops.threshold import Threshold
from edgeflow.report.inspect.arithmetic import Arithmetic, spell
from edgeflow.report.inspect.inspection import op_words, sums
from edgeflow.report.inspect.stored import Quantizer, Weights, quantizers, weights
from edgeflow.report.inspect.words import (
    Tensor,
    interval_words,
    label_words,
    plural,
    power_words,
    shape_words,
    type_words,
)
from edgeflow.semantics.text import show_node
from edgeflow.semantics.tiefree import Tie, ties
from edgeflow.semantics.verify import verify

Facts = tuple[tuple[str, str], ...]
_SHOWN = 8
_SCALE_AND_SHIFT = "adds no op of its own: the next quantizer holds its scale and shift"
_NO_OP: Mapping[str, str] = {
    "QActivation": "adds no op: what it reads holds these integers already",
    "Activation": "adds no op: what it reads holds these integers already",
    "BatchNormalization": _SCALE_AND_SHIFT,
    "QBatchNormalization": _SCALE_AND_SHIFT,
    "ReLU": "adds no op of its own: the next quantizer clamps",
    "Softmax": "adds no op: the largest class is the largest without it",
}
"""What a layer that left no node became."""


@dataclass(frozen=True)
class Step:
    """One node of the layer: its tensor, its op in words, facts (name, text), and a Requant's arithmetic."""

    tensor: str
    op: str
    facts: Facts
    arithmetic: Arithmetic | None


@dataclass(frozen=True)
class Explanation:
    """A layer (or one tensor): its Keras class, what its file stores, the steps that it became, and a remark.

    `keras_class` is None and `quantizers` and `weights` are empty where only the graph is known.
    """

    name: str
    keras_class: str | None
    quantizers: tuple[Quantizer, ...]
    weights: tuple[Weights, ...]
    steps: tuple[Step, ...]
    remark: str


def explain_layer(graph: Graph, name: str, layers: Mapping[str, Layer]) -> Explanation:
    """Explains the layer, or else the tensor, called `name`; `layers` are the Keras file's, if it came from one.

    Raises EdgeflowError when nothing has that name.
    """
    bounds = verify(graph)
    nodes = [node for node in graph.nodes if node.layer == name]
    layer = layers.get(name)
    if not nodes and layer is None:
        nodes = [node for node in graph.nodes if node.name == name]
    source = next((one for one in graph.inputs if one.name == name), None)
    if not nodes and layer is None and source is None:
        known = [*dict.fromkeys([*layers, *(one.layer for one in graph.nodes)]), *(one.name for one in graph.tensors())]
        inner = next((one for one in known if one.endswith(f"/{name}")), None)
        hint = f'; did you mean "{inner}"?' if inner else did_you_mean(name, known)
        raise EdgeflowError(
            f'no layer and no tensor is named "{name}"{hint}',
            fix="edgeflow inspect lists the layers, edgeflow inspect --text the tensors",
        )
    met = ties(graph) if any(isinstance(node.op, Requant) for node in nodes) else ()
    pairs = tuple(weights(layer)) if layer else ()
    codes = {one.quantizer.role: found for one, found in pairs}
    return Explanation(
        name=name,
        keras_class=None if layer is None else layer.kind,
        quantizers=tuple(quantizers(layer, codes)) if layer else (),
        weights=tuple(one for one, _ in pairs),
        steps=tuple(_step(node, graph, bounds, codes, met) for node in nodes),
        remark=_remark(name, nodes, source, layer),
    )


def _remark(name: str, nodes: list[Node], source: Input | None, layer: Layer | None) -> str:
    if nodes:
        return "" if nodes[0].layer == name else f"a tensor of layer '{nodes[0].layer}'"
    if source is None:
        assert layer
        return _NO_OP.get(layer.kind, "adds no op of its own")
    shown = f"{type_words(source.type)}, {label_words(source.label)}"
    match source.label:
        case Dyadic(int() as frac):
            scaled = f"x * {power_words(frac)}"
        case _:
            scaled = "x / step + zero"
    return f"a model input, {shown}: code = clip(round_half_even({scaled}), {source.type.lo}, {source.type.hi})"


def _step(
    node: Node, graph: Graph, bounds: Mapping[str, Bounds], codes: Mapping[str, Codes], met: Sequence[Tie]
) -> Step:
    facts = [("reads", _tensor(graph.tensor(name))) for name in node.inputs]
    arithmetic = None
    match node.op:
        case Conv() | Dense():
            facts += _linear_facts(node, node.op, graph, bounds, codes)
        case Requant() as requant:
            arithmetic = spell(node, requant, graph, bounds, met)
        case _:
            facts += _FACTS.get(type(node.op), _other_facts)(node)
    facts.append(("gives", _tensor(node)))
    return Step(node.name, op_words(node.op), tuple(facts), arithmetic)


def _tensor(tensor: Tensor) -> str:
    kind = tensor.type
    return f"'{tensor.name}' {shape_words(kind.shape)} {type_words(kind)}, {label_words(tensor.label)}"


def _linear_facts(
    node: Node, op: Conv | Dense, graph: Graph, bounds: Mapping[str, Bounds], codes: Mapping[str, Codes]
) -> Iterator[tuple[str, str]]:
    weight = op.weight
    zeros = weight.size - int(np.count_nonzero(weight))
    lo, hi = int(weight.min()), int(weight.max())
    yield (
        "weights",
        f"{shape_words(weight.shape)}, {interval_words(lo, hi)}: {interval_bits(lo, hi)} bits, {plural(zeros, 'zero')}",
    )
    yield from _units(node, op, graph, codes)
    found = sums(node, graph, bounds)
    assert found
    least, most = int(found.partial_lo.min()), int(found.partial_hi.max())
    yield "sum", f"{interval_words(int(found.lo.min()), int(found.hi.max()))} for every input, proven"
    yield (
        "accumulator",
        f"{interval_words(least, most)} at every step, in any order: {interval_bits(least, most)} bits",
    )


def _units(node: Node, op: Conv | Dense, graph: Graph, codes: Mapping[str, Codes]) -> Iterator[tuple[str, str]]:
    """How the unit of the sum follows from the units of input and weights, and how codes were brought to it."""
    source = graph.tensor(node.inputs[0]).label
    if any(one.scale is not None for one in codes.values()):
        yield "unit", "the codes as they are; the weights' scales go into what quantizes the sum"
        return
    if not isinstance(source, Dyadic) or not isinstance(node.label, Dyadic) or not isinstance(source.frac, int):
        yield "unit", f"{label_words(node.label)}"
        return
    total = np.asarray(node.label.frac, dtype=np.int64)
    kernel = next((role for role in codes if role != "bias" and _is(op.weight, codes[role], total - source.frac)), None)
    finest = total - source.frac if kernel is None else codes[kernel].frac
    yield (
        "unit",
        f"{power_words(-source.frac)} (input) * {_powers(-finest)} (weights) = {_powers(-(finest + source.frac))}",
    )
    if kernel:
        yield kernel, f"{_moved(total - source.frac - codes[kernel].frac)}, in steps of {_powers(source.frac - total)}"
    elif any(role != "bias" for role in codes):
        yield "kernel", "other integers than these codes alone: a mask or a batch normalization is folded in"
    if "bias" in codes and _is(op.bias, codes["bias"], total):
        shift = np.broadcast_to(total - codes["bias"].frac, op.bias.shape)
        live = shift[op.bias != 0]
        yield "bias", f"{_moved(live if live.size else np.zeros(1, dtype=np.int64))}, in steps of {_powers(-total)}"
    elif op.bias.any():
        yield "bias", f"{interval_words(int(op.bias.min()), int(op.bias.max()))} in steps of {_powers(-total)}"


def _is(stored: IntArray, codes: Codes, frac: IntArray) -> bool:
    """Whether integers in units of 2**-frac are these codes, in whatever layout."""
    if stored.size != codes.codes.size:
        return False
    moved = np.ldexp(codes.codes.astype(np.float64), (frac - codes.frac).astype(np.int32))
    return np.array_equal(np.sort(moved, axis=None), np.sort(stored.astype(np.float64), axis=None))


def _powers(exponents: IntArray) -> str:
    lo, hi = int(exponents.min()), int(exponents.max())
    return power_words(lo) if lo == hi else f"{power_words(lo)} to {power_words(hi)}"


def _moved(shift: IntArray) -> str:
    """`code << 4`; a right shift drops zeros only."""
    lo, hi = int(shift.min()), int(shift.max())
    if lo == hi == 0:
        return "the codes as they are"
    if lo < hi:
        return f"code * {_powers(shift)}, by channel, exactly"
    return f"code << {lo}" if lo > 0 else f"code >> {-lo}, which drops zeros only"


def _other_facts(node: Node) -> Iterator[tuple[str, str]]:
    yield "does", show_node(node).partition(" = ")[2].partition("  # ")[0]


def _lut_facts(node: Node) -> Iterator[tuple[str, str]]:
    op = cast(Lut, node.op)
    yield "does", f"y = table[x - {op.first}]".replace("- -", "+ ") + (f", {op.function}" if op.function else "")
    yield "table", f"{plural(op.table.size, 'entry', 'entries')} from x = {op.first}: {_list(op.table)}"


def _threshold_facts(node: Node) -> Iterator[tuple[str, str]]:
    op = cast(Threshold, node.op)
    row, sign = op.thresholds[0], "+" if op.step[0] > 0 else "-"
    yield "does", "y = first + step * (how many thresholds x has reached)"
    place = "channel 0" if len(op.thresholds) > 1 else "all channels"
    yield place, f"y = {int(op.first[0])} {sign} (how many of {plural(row.size, 'threshold')} {_list(row)} are <= x)"


def _list(values: IntArray) -> str:
    """`0, 3, 7 ... 120`."""
    head = ", ".join(str(int(one)) for one in values[:_SHOWN])
    return head if values.size <= _SHOWN else f"{head} ... {int(values[-1])}"


_FACTS: Mapping[type, Callable[[Node], Iterator[tuple[str, str]]]] = {Lut: _lut_facts, Threshold: _threshold_facts}
