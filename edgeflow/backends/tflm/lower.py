"""From an adapted graph to TFLite operators, or to what TFLite cannot say about it, layer by layer.

Every result is int8. A kernel takes `byte - zero_point` of its input, so a tensor's integers keep their meaning
whatever is added to store them (`storage.py`), and padding is the real 0. Operator versions are the smallest of
tensorflow/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.arithmetic import INT8_HI, INT8_LO, is_clamp, only_value, scale_of
from edgeflow.backends.tflm.chains import linear
from edgeflow.backends.tflm.model import (
    Activation,
    Kernel,
    NoOptions,
    PoolOptions,
    ReshapeOptions,
    TensorKind,
    TfliteModel,
)
from edgeflow.backends.tflm.storage import Storage, input_storage, zero_of
from edgeflow.backends.tflm.sums import Window, check_sums, lower_sums, pair, place_window, why_not
from edgeflow.backends.tflm.writer import NARROWER, Refused, Writer, file_shape, layer_of, refusal
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import frozen_array
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
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


def lower(graph: Graph) -> Lowered:
    """Operators for every node of an adapted graph; nodes that nothing can be made of become refusals."""
    writer = Writer(graph, verify(graph))
    refusals: list[Refusal] = []
    broken: set[str] = set()
    for one in graph.inputs:
        storage, scale = input_storage(one.type.lo, one.type.hi, zero_of(one.label)), scale_of(one.label)
        if storage is None or scale is None:
            what = f"store an input in [{one.type.lo}, {one.type.hi}] with the unit {one.label} as int8"
            refusals.append(Refusal(refusal(what), one.name, NARROWER))
            broken.add(one.name)
        else:
            writer.activation(one.name, one.name, one.type.shape, scale, storage)
    for node in graph.nodes:
        try:
            if not broken & set(node.inputs):
                _lower_node(writer, node)
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
            fix = "end the model in a QActivation of 8 bits or fewer, or use backend c"
            found.append(Refusal(what, layer_of(writer.graph, output.tensor), fix))
    return found


def _lower_node(writer: Writer, node: Node) -> None:
    match node.op:
        case Requant() as requant:
            _requant(writer, node, requant)
        case MaxPool() as pool:
            _max_pool(writer, node, pool)
        case Reshape():
            place, storage = writer.source(node)
            options = ReshapeOptions(file_shape(node.type.shape))
            writer.operator(Kernel.RESHAPE, 1, (place,), writer.result(node, storage), options, node.layer)
        case op if linear(op):
            check_sums(writer, node)
        case op:
            raise Refused(f"do {type(op).__name__} yet")


def _requant(writer: Writer, node: Node, requant: Requant) -> None:
    """With the sums that it rescales as one operator; a plain clamp as MAXIMUM and MINIMUM."""
    producer = next((one for one in writer.graph.nodes if one.name == node.inputs[0]), None)
    place = writer.places.get(node.inputs[0])
    if is_clamp(requant) and place is not None and writer.quantization(place).scales == (scale_of(node.label),):
        _clamp(writer, node, requant)
        return
    if producer is None or not linear(producer.op):
        writer.source(node)
        raise Refused(why_not(requant, node) if node.type.shape else "rescale a tensor without axes")
    if writer.graph.readers(producer.name) != (node,):
        what = f"rescale the sums of '{producer.layer}' twice: TFLite keeps 8 bits between layers"
        raise Refused(what, NARROWER)
    lower_sums(writer, producer, node, requant)


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
        byte = frozen_array(np.full(shape, min(max(end + storage.shift, INT8_LO), INT8_HI)))
        limit = writer.constant(f"{node.layer}/limit", byte, TensorKind.INT8, writer.quantization(place))
        result = writer.result(node, storage)
        writer.operator(kernel, 2, (place, limit), result, NoOptions(), node.layer)
        place = result


def _max_pool(writer: Writer, node: Node, pool: MaxPool) -> None:
    place, storage = writer.source(node)
    window = Window(pair(pool.window, 1), pair(pool.strides, 1), (1, 1), pair(pool.pads, (0, 0)))
    place, same = place_window(writer, node, place, window, INT8_LO, same=True)
    options = PoolOptions(same, window.strides, window.size, Activation.NONE)
    result = writer.result(node, storage)
    if writer.quantization(place) != writer.quantization(result):
        raise Refused("change the unit in a pool: TFLite keeps its input's")
    elements = node.type.size * window.size[0] * window.size[1]
    writer.operator(Kernel.MAX_POOL_2D, 2, (place,), result, options, node.layer, elements)
