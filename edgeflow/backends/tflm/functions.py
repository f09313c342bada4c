"""SOFTMAX, and tables: LOGISTIC and TANH where the table is theirs, else a GATHER from the table."""

from __future__ import annotations

import numpy as np

from edgeflow.backends.tflm.arithmetic import INT8_LO, quantize_multiplier, scale_of
from edgeflow.backends.tflm.curves import CURVES, Curve, byte_curve
from edgeflow.backends.tflm.model import AxisOptions, Kernel, NoOptions, Quantization, SoftmaxOptions, TensorKind
from edgeflow.backends.tflm.storage import Storage, input_storage, zero_of
from edgeflow.backends.tflm.widths import INT8, INT16
from edgeflow.backends.tflm.writer import NARROWER, Refused, Writer
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.lut import Lut
from edgeflow.ops.softmax import DIFF_FRACTION, Softmax
from edgeflow.ops.threshold import Threshold

_MOST_CHANNELS = 511
"""TFLite-Micro's int8 softmax stops where the sum of the exponentials reaches 512."""


def lower_softmax(writer: Writer, node: Node) -> None:
    """SOFTMAX of int8: to 8 or 16 bits."""
    op = node.op
    assert isinstance(op, Softmax)
    place, _ = writer.source(node)
    half = 1 << (op.bits - 1)
    if scale_of(node.label) != 2.0**-op.bits or zero_of(node.label) != -half:
        raise Refused(f"say the unit {node.label} of a softmax: TFLite's is 2^-{op.bits} (q + {half})")
    if op.bits == 8 and node.type.shape[-1] > _MOST_CHANNELS:
        raise Refused(f"do a softmax of {node.type.shape[-1]} classes: TFLite-Micro stops beyond {_MOST_CHANNELS}")
    beta = _beta(op, writer.quantization(place).scales[0])
    if beta is None:
        raise Refused("do this softmax: no float32 beta gives its multiplier")
    result = writer.result(node, Storage(-half, 0, INT8 if op.bits == 8 else INT16))
    writer.operator(Kernel.SOFTMAX, (place,), result, SoftmaxOptions(beta), node.layer)


def _beta(op: Softmax, scale: float) -> float | None:
    """The float32 beta with which PreprocessSoftmaxScaling (quantization_util.cc) gives the op's parameters."""
    nearest = np.float32(np.ldexp(float(op.multiplier), op.shift - 31 - DIFF_FRACTION) / scale)
    neighbours = (np.nextafter(nearest, end) for end in (np.float32(0), np.float32(np.inf)))
    for beta in (np.float32(1), nearest, *neighbours):
        factor = min(float(beta) * scale * 2.0**DIFF_FRACTION, 2.0**31 - 1)
        found = quantize_multiplier(factor)
        if (found.significand, found.exponent) == (op.multiplier, op.shift):
            return float(beta) if op.diff_min == -((31 << DIFF_FRACTION) >> op.shift) else None
    return None


def lower_lut(writer: Writer, node: Node) -> None:
    """LOGISTIC or TANH where the table is theirs for every value that can come, else its entries by number."""
    op = node.op
    assert isinstance(op, Lut)
    kind = writer.graph.tensor(node.inputs[0]).type
    lower_table(writer, node, op.table[kind.lo - op.first : kind.hi - op.first + 1], op.function)


def lower_table(writer: Writer, node: Node, table: IntArray, function: str = "") -> None:
    """`table` holds a node's result for every value of its input, from the least on. Raises Refused."""
    place, source = writer.source(node)
    if not writer.width.narrow:
        raise Refused("look values of more than 8 bits up in a table")
    storage = input_storage(node.type.lo, node.type.hi, zero_of(node.label), writer.width)
    if storage is None:
        raise Refused(f"keep values of {node.type.bits} bits: TFLite keeps 8 between layers", NARROWER)
    kind = writer.graph.tensor(node.inputs[0]).type
    curve = CURVES.get(function)
    if curve is not None and _is_curve(writer, node, table, curve, source):
        own = Storage(zero_of(node.label), curve.zero - zero_of(node.label))
        writer.operator(curve.kernel, (place,), writer.result(node, own), NoOptions(), node.layer)
        return
    tensor = writer.tensors[place]
    numbers = Quantization(writer.quantization(place).scales, source.zero - kind.lo)
    index = writer.tensor(f"{node.layer}/index", tensor.shape, TensorKind.INT32, numbers)
    writer.operator(Kernel.QUANTIZE, (place,), index, NoOptions(), node.layer)
    result = writer.result(node, storage)
    values = frozen_array(table + storage.shift)
    entries = writer.constant(f"{node.layer}/table", values, storage.width.kind, writer.quantization(result))
    writer.operator(Kernel.GATHER, (entries, index), result, AxisOptions(0), node.layer)


def _is_curve(writer: Writer, node: Node, table: IntArray, curve: Curve, source: Storage) -> bool:
    """Whether a kernel's bytes are the table's, in the unit that the kernel has."""
    kind, scale = writer.graph.tensor(node.inputs[0]).type, scale_of(node.label)
    place = writer.places[node.inputs[0]]
    computed = byte_curve(curve, writer.quantization(place).scales[0], source.zero_point)
    if computed is None or scale != 2.0**-curve.bits:
        return False
    reached = computed[kind.lo + source.shift - INT8_LO : kind.hi + source.shift - INT8_LO + 1]
    return bool((reached - curve.zero + zero_of(node.label) == table).all())


def lower_threshold(writer: Writer, node: Node) -> None:
    """A count of thresholds of 8-bit values, the same for all channels, as a table."""
    op = node.op
    assert isinstance(op, Threshold)
    writer.source(node)
    if max(len(op.thresholds), op.first.size, op.step.size) > 1:
        raise Refused("count each channel's own thresholds")
    kind = writer.graph.tensor(node.inputs[0]).type
    lower_table(writer, node, op.evaluate((np.arange(kind.lo, kind.hi + 1, dtype=np.int64)[:, None],), ())[:, 0])
