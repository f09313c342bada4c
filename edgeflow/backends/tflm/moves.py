"""Operators that move elements and keep their bytes: RESHAPE, TRANSPOSE, PAD, STRIDED_SLICE, CONCATENATION, RESIZE."""

from __future__ import annotations

import numpy as np

from edgeflow.backends.tflm.arithmetic import scale_of
from edgeflow.backends.tflm.model import AxisOptions, Kernel, NoOptions, ReshapeOptions, ResizeOptions, TensorKind
from edgeflow.backends.tflm.storage import Storage, input_storage, zero_of
from edgeflow.backends.tflm.writer import NARROWER, Refused, Writer, file_shape
from edgeflow.ir.graph import Node
from edgeflow.ir.types import Shape, frozen_array
from edgeflow.ops.concat import Concat
from edgeflow.ops.pad import Pad
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample

_MOST_AXES = 3
MOST_JOINED = 10
"""Inputs that TFLite-Micro's CONCATENATION takes (kMaxInputNum)."""


def lower_reshape(writer: Writer, node: Node) -> None:
    """RESHAPE."""
    assert isinstance(node.op, Reshape)
    place, result = writer.moved(node)
    writer.operator(Kernel.RESHAPE, (place,), result, ReshapeOptions(file_shape(node.type.shape)), node.layer)


def lower_transpose(writer: Writer, node: Node) -> None:
    """TRANSPOSE."""
    assert isinstance(node.op, Transpose)
    place, result = writer.moved(node)
    before = _axes_before(writer, node)
    order = (*range(before), *(axis + before for axis in node.op.order))
    writer.operator(Kernel.TRANSPOSE, (place, _numbers(writer, node, "order", order)), result, NoOptions(), node.layer)


def lower_pad(writer: Writer, node: Node) -> None:
    """PAD where the value means 0, else PADV2."""
    op = node.op
    assert isinstance(op, Pad)
    place, storage = writer.source(node)
    if not storage.lowest <= op.value <= storage.highest:
        raise Refused(f"pad with {op.value}: its input's bytes hold [{storage.lowest}, {storage.highest}]")
    place, result = writer.moved(node)
    amounts = frozen_array([(0, 0)] * _axes_before(writer, node) + [list(pair) for pair in op.pads])
    operands = [place, writer.constant(f"{node.layer}/pads", amounts, TensorKind.INT32, None)]
    if op.value != storage.zero:
        fill, kind = frozen_array([op.value + storage.shift]), writer.tensors[place].kind
        operands.append(writer.constant(f"{node.layer}/fill", fill, kind, writer.quantization(place)))
    kernel = Kernel.PAD if len(operands) == 2 else Kernel.PADV2
    writer.operator(kernel, tuple(operands), result, NoOptions(), node.layer)


def lower_slice(writer: Writer, node: Node) -> None:
    """STRIDED_SLICE."""
    op = node.op
    assert isinstance(op, Slice)
    place, result = writer.moved(node)
    before = _axes_before(writer, node)
    ends = tuple(
        first + (count - 1) * step + 1 for first, count, step in zip(op.begin, op.size, op.strides, strict=True)
    )
    parts = (("begin", (0,) * before + op.begin), ("end", (1,) * before + ends), ("step", (1,) * before + op.strides))
    operands = tuple(_numbers(writer, node, name, values) for name, values in parts)
    writer.operator(Kernel.STRIDED_SLICE, (place, *operands), result, NoOptions(), node.layer)


def lower_upsample(writer: Writer, node: Node) -> None:
    """RESIZE_NEAREST_NEIGHBOR, with half-pixel centers where the kernel's float32 would read a neighbour else."""
    op = node.op
    assert isinstance(op, Upsample)
    if op.zeros:
        raise Refused("put zeros between positions but in front of a plain convolution")
    place, result = writer.moved(node)
    before, after = writer.tensors[place].shape, writer.tensors[result].shape
    if len(before) != 4:
        raise Refused(f"repeat positions of a tensor with {len(node.type.shape)} axes")
    pairs = list(zip(before[1:3], after[1:3], strict=True))
    half = not all(_reads_right(*pair, half=False) for pair in pairs)
    if half and not all(_reads_right(*pair, half=True) for pair in pairs):
        raise Refused(f"repeat positions {op.factors} times: its kernel's float32 reads others")
    size = _numbers(writer, node, "size", after[1:3])
    writer.operator(Kernel.RESIZE_NEAREST_NEIGHBOR, (place, size), result, ResizeOptions(half), node.layer)


def _reads_right(before: int, after: int, *, half: bool) -> bool:
    """GetNearestNeighbor (reference/resize_nearest_neighbor.h) in its own float32."""
    scale, offset = np.float32(before) / np.float32(after), np.float32(0.5 if half else 0.0)
    places = np.arange(after)
    read = np.minimum(np.floor((places.astype(np.float32) + offset) * scale).astype(np.int64), before - 1)
    return bool((read == places // (after // before)).all())


def lower_concat(writer: Writer, node: Node) -> None:
    """CONCATENATION, behind a QUANTIZE for each input whose bytes are shifted otherwise."""
    op = node.op
    assert isinstance(op, Concat)
    if len(node.inputs) > MOST_JOINED:
        raise Refused(
            f"join {len(node.inputs)} tensors: TFLite-Micro joins up to {MOST_JOINED}", "join a few at a time"
        )
    places = [writer.place(name)[0] for name in node.inputs]
    scale, zero = scale_of(node.label), zero_of(node.label)
    if scale is None:
        raise Refused(f"say the unit {node.label}: TFLite has one float32 scale a tensor")
    for name, place in zip(node.inputs, places, strict=True):
        if writer.quantization(place).scales != (scale,) or writer.stored[name].zero != zero:
            raise Refused("join tensors of different units: TFLite keeps one unit", "give them one quantizer")
    storage = _common_storage(writer, node)
    inputs = tuple(writer.restored(name, storage, node.layer) for name in node.inputs)
    options = AxisOptions(op.axis + _axes_before(writer, node))
    writer.operator(Kernel.CONCATENATION, inputs, writer.result(node, storage), options, node.layer)


def _common_storage(writer: Writer, node: Node) -> Storage:
    """Bytes that hold every input: those of most elements among the inputs' own, if any do."""
    kinds = {name: writer.graph.tensor(name).type for name in node.inputs}
    lo, hi = min(one.lo for one in kinds.values()), max(one.hi for one in kinds.values())
    for name in sorted(kinds, key=lambda name: -kinds[name].size):
        if writer.stored[name].holds(lo, hi):
            return writer.stored[name]
    found = input_storage(lo, hi, zero_of(node.label), writer.width)
    if found is None:
        raise Refused(f"join values of {node.type.bits} bits: TFLite keeps 8 between layers", NARROWER)
    return found


def _axes_before(writer: Writer, node: Node) -> int:
    """How many axes the file's tensor has in front of the graph's."""
    shape = writer.graph.tensor(node.inputs[0]).type.shape
    if len(shape) > _MOST_AXES:
        raise Refused(f"do {type(node.op).__name__} on {len(shape)} axes")
    return len(file_shape(shape)) - len(shape)


def _numbers(writer: Writer, node: Node, name: str, values: Shape) -> int:
    return writer.constant(f"{node.layer}/{name}", frozen_array(values), TensorKind.INT32, None)
