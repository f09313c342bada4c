"""SOFTMAX, and tables: LOGISTIC and TANH where the table is theirs, else a GATHER from the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgeflow.backends.tflm.arithmetic import INT8_LO, SMALLEST_EXPONENT, quantize_multiplier, scale_of
from edgeflow.backends.tflm.curves import CURVES, Curve, byte_curve
from edgeflow.backends.tflm.lookup import LARGEST_LOG2_ERROR, interpolated_logistic, interpolated_tanh
from edgeflow.backends.tflm.model import AxisOptions, Kernel, NoOptions, Quantization, SoftmaxOptions, TensorKind
from edgeflow.backends.tflm.storage import Storage, input_storage, zero_of
from edgeflow.backends.tflm.widths import INT8, INT16, Width
from edgeflow.backends.tflm.writer import NARROWER, Refused, Writer
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.interpolation import LAST_POSITION
from edgeflow.ops.lut import Lut
from edgeflow.ops.softmax import DIFF_FRACTION, LONGEST_EXPONENTIAL, SOFTMAX_FORMS, Softmax
from edgeflow.ops.threshold import Threshold

_MOST_CHANNELS = 511
"""TFLite-Micro's int8 softmax stops where the sum of the exponentials reaches 512."""


def lower_softmax(writer: Writer, node: Node) -> None:
    """SOFTMAX of int8, to 8 or 16 bits, and of int16, to 15 bits."""
    op = node.op
    assert isinstance(op, Softmax)
    place, _ = writer.source(node)
    zero, kinds = SOFTMAX_FORMS[op.bits].lo, SOFTMAX_KINDS[op.bits]
    if writer.tensors[place].kind is not kinds[0].kind:
        found = writer.tensors[place].kind.bits
        raise Refused(f"do this softmax of {found}-bit values: TFLite-Micro's reads {kinds[0].bits} bits")
    if scale_of(node.label) != 2.0**-op.bits or zero_of(node.label) != zero:
        raise Refused(f"say the unit {node.label} of a softmax: TFLite's is 2^-{op.bits} (q + {-zero})")
    if op.bits == 8 and node.type.shape[-1] > _MOST_CHANNELS:
        raise Refused(f"do a softmax of {node.type.shape[-1]} classes: TFLite-Micro stops beyond {_MOST_CHANNELS}")
    beta = _beta(op, writer.quantization(place).scales[0])
    if beta is None:
        raise Refused("do this softmax: no float32 beta gives its multiplier")
    result = writer.result(node, Storage(zero, 0, kinds[1]))
    writer.operator(Kernel.SOFTMAX, (place,), result, SoftmaxOptions(beta), node.layer)


SOFTMAX_KINDS: Mapping[int, tuple[Width, Width]] = {8: (INT8, INT8), 15: (INT16, INT16), 16: (INT8, INT16)}
"""What SOFTMAX reads and makes, by the bits of the graph's op."""
_DIFF_STEP = LONGEST_EXPONENTIAL / LAST_POSITION
"""What a step of a difference means in the kernel of int16."""


def softmax_op(bits: int, scale: float, beta: float) -> Softmax | None:
    """The op with the parameters of TFLite-Micro's kernel (CalculateSoftmaxParams in micro/kernels/softmax_common.cc,
    PreprocessSoftmaxScaling in quantization_util.cc). None where the input's scale is too small for the kernel.
    """
    return _softmax_of_int16(scale, beta) if bits == 15 else _softmax_of_int8(bits, scale, beta)


def _softmax_of_int8(bits: int, scale: float, beta: float) -> Softmax | None:
    factor = min(beta * scale * 2.0**DIFF_FRACTION, 2.0**31 - 1)
    if factor <= 1.0:
        return None
    found = quantize_multiplier(factor)
    return Softmax(found.significand, found.exponent, -((31 << DIFF_FRACTION) >> found.exponent), bits)


def _softmax_of_int16(scale: float, beta: float) -> Softmax | None:
    factor = scale * beta / _DIFF_STEP
    if factor < 2.0 ** (SMALLEST_EXPONENT - 1):
        return None
    found = quantize_multiplier(factor)
    return Softmax(found.significand, found.exponent, 0, 15)


def _beta(op: Softmax, scale: float) -> float | None:
    """The float32 beta with which a kernel has the op's parameters."""
    unit = _DIFF_STEP if op.bits == 15 else 2.0**-DIFF_FRACTION
    nearest = np.float32(np.ldexp(float(op.multiplier), op.shift - 31) * unit / scale)
    neighbours = (np.nextafter(nearest, end) for end in (np.float32(0), np.float32(np.inf)))
    candidates = (float(one) for one in (np.float32(1), nearest, *neighbours))
    return next((beta for beta in candidates if softmax_op(op.bits, scale, beta) == op), None)


def lower_lut(writer: Writer, node: Node) -> None:
    """LOGISTIC or TANH where the table is theirs for every value that can come, else its entries by number."""
    op = node.op
    assert isinstance(op, Lut)
    kind = writer.graph.tensor(node.inputs[0]).type
    table = op.table[kind.lo - op.first : kind.hi - op.first + 1]
    if writer.width.narrow:
        lower_table(writer, node, table, op.function)
    else:
        _lower_wide_curve(writer, node, table, op.function)


_WIDE_CURVES: Mapping[str, tuple[Kernel, Callable[[float], IntArray | None]]] = {
    "logistic": (Kernel.LOGISTIC, interpolated_logistic),
    "tanh": (Kernel.TANH, interpolated_tanh),
}


def _lower_wide_curve(writer: Writer, node: Node, table: IntArray, function: str) -> None:
    """LOGISTIC or TANH of int16, in units of 2**-15; TFLite-Micro's GATHER takes no table of 65,536 entries."""
    place, _ = writer.source(node)
    kind, scale, zero = writer.graph.tensor(node.inputs[0]).type, scale_of(node.label), zero_of(node.label)
    found = _WIDE_CURVES.get(function)
    computed = None if found is None else found[1](writer.quantization(place).scales[0])
    if found is None or computed is None or scale is None or zero or abs(math.log2(scale) + 15) >= LARGEST_LOG2_ERROR:
        raise Refused(_NO_TABLE)
    reached = np.clip(computed, INT16.lo, INT16.hi)[kind.lo - INT16.lo : kind.hi - INT16.lo + 1]
    if not np.array_equal(reached, table):
        raise Refused(_NO_TABLE)
    writer.operator(found[0], (place,), writer.result(node, Storage(0, 0, INT16)), NoOptions(), node.layer)


_NO_TABLE = "look values of more than 8 bits up in a table"


def lower_table(writer: Writer, node: Node, table: IntArray, function: str = "") -> None:
    """`table` holds a node's result for every value of its input, from the least on. Raises Refused."""
    place, source = writer.source(node)
    if not writer.width.narrow:
        raise Refused(_NO_TABLE)
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
