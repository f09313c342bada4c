"""From an adapted graph to TFLite operators, or to what TFLite cannot say about it, layer by layer.

Every result is int8. A kernel takes `byte - zero_point` of its input, so a tensor's integers keep their meaning
whatever is added to store them (`storage.py`), and padding is the real 0. Operator versions are the smallest of
tensorflow/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.arithmetic import is_clamp, only_value, same_but_clamps, scale_of
from edgeflow.backends.tflm.chains import Join, Spread, absorbed, find_joins, find_spreads, linear
from edgeflow.backends.tflm.elementwise import Elementwise, covered, find_elementwise
from edgeflow.backends.tflm.functions import lower_lut, lower_softmax, lower_threshold
from edgeflow.backends.tflm.joined import lower_elementwise, lower_join, own_joins, refuse_join
from edgeflow.backends.tflm.model import Activation, Kernel, NoOptions, TfliteModel
from edgeflow.backends.tflm.moves import (
    lower_concat,
    lower_pad,
    lower_reshape,
    lower_slice,
    lower_transpose,
    lower_upsample,
)
from edgeflow.backends.tflm.pools import lower_average, lower_max_pool
from edgeflow.backends.tflm.rescale import quantize_kernel
from edgeflow.backends.tflm.storage import Storage, input_storage, zero_of
from edgeflow.backends.tflm.sums import check_sums, lower_sums, refuse, result_storage
from edgeflow.backends.tflm.transposed import lower_transposed, transposable
from edgeflow.backends.tflm.widths import INT8, INT16, Width
from edgeflow.backends.tflm.writer import NARROWER, Refused, Writer, file_shape, layer_of, refusal
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import frozen_array
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.concat import Concat
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.verify import verify


@dataclass(frozen=True)
class Refusal:
    """What TFLite cannot say, at which layer, and what to do about it."""

    what: str
    layer: str
    fix: str


@dataclass(frozen=True)
class Lowered:
    """The model, complete where `refusals` is empty. `stored` says how each stored tensor's values become bytes."""

    model: TfliteModel
    stored: Mapping[str, Storage]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class _Found:
    """Which nodes belong together.

    `own` are the joins that a kernel computes, `absorbed` what kernels do besides, `waiting` what other joins read;
    `elementwise` are sums and products with a constant or a repeated input, by their last node.
    """

    makers: Mapping[str, Node]
    joins: Mapping[str, Join]
    own: Mapping[str, Join]
    elementwise: Mapping[str, Elementwise]
    spreads: Mapping[str, Spread]
    absorbed: set[str]
    waiting: set[str]

    @staticmethod
    def of(graph: Graph, width: Width) -> _Found:
        joins = find_joins(graph)
        own = own_joins(graph, joins, width)
        spreads = {
            name: one for name, one in find_spreads(graph).items() if transposable(one, graph.tensor(one.source).label)
        }
        makers = {node.name: node for node in graph.nodes}
        elementwise = find_elementwise(graph, width)
        done = covered(elementwise)
        others = {name: join for name, join in joins.items() if name not in own and name not in done}
        return _Found(makers, joins, own, elementwise, spreads, absorbed(own, spreads) | done, absorbed(others, {}))


def lower(graph: Graph) -> Lowered:
    """Operators for every node of an adapted graph: int8 or, where only that is possible, int16."""
    narrow = lower_in(graph, INT8)
    if not narrow.refusals:
        return narrow
    wide = lower_in(graph, INT16)
    return narrow if wide.refusals else wide


def lower_in(graph: Graph, width: Width) -> Lowered:
    """Operators for activations of one width; nodes that nothing can be made of become refusals."""
    writer, found = Writer(graph, verify(graph), width), _Found.of(graph, width)
    refusals: list[Refusal] = []
    broken: set[str] = set()
    for one in graph.inputs:
        storage, scale = input_storage(one.type.lo, one.type.hi, zero_of(one.label), width), scale_of(one.label)
        if storage is None or scale is None:
            what = f"store an input in [{one.type.lo}, {one.type.hi}] with the unit {one.label} as int8"
            refusals.append(Refusal(refusal(what), one.name, NARROWER))
            broken.add(one.name)
        else:
            writer.activation(one.name, one.name, one.type.shape, scale, storage)
    for node in graph.nodes:
        try:
            if not broken & set(node.inputs):
                _lower_node(writer, found, node)
                continue
        except Refused as refused:
            refusals.append(Refusal(refused.what, node.layer, refused.fix))
        broken.add(node.name)
    refusals += _wide_outputs(writer, broken)
    model = TfliteModel(
        graph.name,
        tuple(writer.tensors),
        tuple(writer.operators),
        tuple(writer.places.get(one.name, 0) for one in graph.inputs),
        tuple(writer.places.get(one.tensor, 0) for one in graph.outputs),
    )
    return Lowered(model, writer.stored, tuple(refusals))


def _wide_outputs(writer: Writer, broken: set[str]) -> list[Refusal]:
    """Outputs that are sums: `adapt` has rounded them to 8 bits wherever it could."""
    found: list[Refusal] = []
    for output in writer.graph.outputs:
        if output.tensor not in writer.places and output.tensor not in broken:
            bits = writer.graph.tensor(output.tensor).type.bits
            what = refusal(f"give {bits}-bit sums as the output '{output.name}': TFLite gives 8 bits")
            fix = "end the model in a QActivation of 8 bits or fewer, or use --backend c"
            found.append(Refusal(what, layer_of(writer.graph, output.tensor), fix))
    return found


def _lower_node(writer: Writer, found: _Found, node: Node) -> None:
    if node.name in found.absorbed or node.name in found.waiting:
        return
    if node.name in found.elementwise:
        lower_elementwise(writer, found.elementwise[node.name])
    elif isinstance(node.op, Requant):
        _requant(writer, found, node, node.op)
    elif node.name in found.joins:
        if node.name not in found.own:
            raise refuse_join(writer, found.joins[node.name])
    elif linear(node.op):
        if node.name not in found.spreads:
            check_sums(writer, node)
    elif type(node.op) in _LOWERINGS:
        _LOWERINGS[type(node.op)](writer, node)
    else:
        writer.source(node)
        raise Refused(f"do {type(node.op).__name__}")


def _refuse_largest(writer: Writer, node: Node) -> None:
    writer.source(node)
    what = "number the largest channel in 8 or 16 bits: TFLite-Micro's ARG_MAX gives 32"
    raise Refused(what, f"end the model before '{node.layer}' and let the program take the largest, or use --backend c")


_LOWERINGS: Mapping[type, Callable[[Writer, Node], None]] = {
    MaxPool: lower_max_pool,
    Reshape: lower_reshape,
    Transpose: lower_transpose,
    Pad: lower_pad,
    Slice: lower_slice,
    Concat: lower_concat,
    Upsample: lower_upsample,
    Softmax: lower_softmax,
    Lut: lower_lut,
    Threshold: lower_threshold,
    ArgMax: _refuse_largest,
}


def _requant(writer: Writer, found: _Found, node: Node, requant: Requant) -> None:
    """With what it rescales as one operator; alone as QUANTIZE; a plain clamp as MAXIMUM and MINIMUM."""
    source = node.inputs[0]
    producer = found.makers.get(source)
    if is_clamp(requant) and _keeps_meaning(writer, node):
        _clamp(writer, node, requant)
        return
    if producer is None or not (linear(producer.op) or producer.name in found.own):
        _quantize(writer, node, requant)
        return
    if writer.graph.readers(producer.name) != (node,):
        what = f"rescale the sums of '{producer.layer}' twice: TFLite keeps 8 bits between layers"
        raise Refused(what, NARROWER)
    if producer.name in found.own:
        lower_join(writer, found.own[producer.name])
    elif producer.name in found.spreads:
        lower_transposed(writer, found.spreads[producer.name], node)
    elif not lower_average(writer, producer, node):
        lower_sums(writer, producer, node)


def _keeps_meaning(writer: Writer, node: Node) -> bool:
    """Whether a node reads a stored tensor in whose unit, zero point included, its result is."""
    place = writer.places.get(node.inputs[0])
    if place is None or writer.quantization(place).scales != (scale_of(node.label),):
        return False
    return writer.stored[node.inputs[0]].zero == zero_of(node.label)


def _quantize(writer: Writer, node: Node, requant: Requant) -> None:
    """A Requant between stored tensors, where it is what QUANTIZE computes."""
    place, _ = writer.source(node)
    form = quantize_kernel(writer.graph.tensor(node.inputs[0]).label, node.label, writer.width)
    if form is None or not same_but_clamps(requant, form):
        raise refuse(requant, node) if node.type.shape else Refused("rescale a tensor without axes")
    storage, activation = result_storage(node, requant, writer.width)
    if activation is not Activation.NONE:
        raise refuse(requant, node)
    writer.operator(Kernel.QUANTIZE, (place,), writer.result(node, storage), NoOptions(), node.layer)


def _clamp(writer: Writer, node: Node, requant: Requant) -> None:
    place, storage = writer.source(node)
    lo, hi = only_value(requant.lo), only_value(requant.hi)
    if lo is None or hi is None:
        raise Refused("clamp each channel by itself: TFLite has one clamp a tensor")
    source = writer.graph.tensor(node.inputs[0]).type
    ends = [(Kernel.MAXIMUM, lo)] if lo > source.lo else []
    ends += [(Kernel.MINIMUM, hi)] if hi < source.hi else []
    if not ends:
        writer.places[node.name], writer.stored[node.name] = place, storage
    shape = (1,) * len(file_shape(node.type.shape))
    for kernel, end in ends:
        byte = frozen_array(np.full(shape, min(max(end + storage.shift, storage.width.lo), storage.width.hi)))
        limit = writer.constant(f"{node.layer}/limit", byte, storage.width.kind, writer.quantization(place))
        result = writer.result(node, storage)
        writer.operator(kernel, (place, limit), result, NoOptions(), node.layer)
        place = result
