"""Conv, Dense and SumPool with the Requant behind them: one TFLite kernel each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from edgeflow.backends.tflm.arithmetic import (
    INT8_HI,
    INT8_LO,
    along_channels,
    only_value,
    scale_of,
)
from edgeflow.backends.tflm.chains import is_depthwise, sum_conv
from edgeflow.backends.tflm.model import (
    Activation,
    ConvOptions,
    DenseOptions,
    Kernel,
    Quantization,
    TensorKind,
)
from edgeflow.backends.tflm.storage import Storage, stored_result, zero_of
from edgeflow.backends.tflm.widths import INT8, Width
from edgeflow.backends.tflm.windows import Window, pair, place_window
from edgeflow.backends.tflm.writer import NARROWER, Refused, Writer
from edgeflow.ir.graph import Bounds, Node, Op
from edgeflow.ir.types import IntArray, frozen_array, interval_bits
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import SumBounds
from edgeflow.ops.requant import Requant
from edgeflow.ops.sumpool import SumPool


@dataclass(frozen=True)
class Sum:
    """A linear op on its way: what it reads, how its result is stored, and the scales of its weights.

    `form` says how wide its sums are: those of int16 may be 32 bits, rounded as int8's.
    """

    node: Node
    after: Node
    place: int
    source: Storage
    result: Storage
    activation: Activation
    scales: tuple[float, ...]
    left_shift: int
    form: Width


def check_sums(writer: Writer, node: Node) -> None:
    """Raises Refused for what no Requant behind it could mend: weights, padding, bias, accumulator."""
    check_sums_of(writer, node, writer.source(node)[1])


def check_sums_of(writer: Writer, node: Node, source: Storage) -> None:
    """As `check_sums`, for a kernel whose input has the bytes `source`."""
    if isinstance(node.op, Conv | SumPool) and any(map(any, node.op.pads)):
        fill = node.op.pad_value if isinstance(node.op, Conv) else 0
        if not source.lowest <= fill <= source.highest:
            raise Refused(f"pad with {fill}: its input's bytes hold [{source.lowest}, {source.highest}]")
    if isinstance(node.op, Conv | Dense):
        weight = node.op.weight
        if weight.min() < INT8_LO or weight.max() > INT8_HI:
            bits = interval_bits(min(int(weight.min()), -1), int(weight.max()))
            raise Refused(f"carry weights of {bits} bits: TFLite's have 8", NARROWER)
        bias, sums = _kernel_sums(writer, node, node.op, source)
        if max(sums.magnitude, int(np.abs(bias).max())) > writer.width.most_sum:
            raise Refused(_beyond(writer.width), NARROWER)


def _kernel_sums(writer: Writer, node: Node, op: Conv | Dense, source: Storage) -> tuple[IntArray, SumBounds]:
    """The bias for a kernel that subtracts the input's zero from every element, and what it then sums up."""
    bounds = writer.bounds[node.inputs[0]]
    given = Bounds(bounds.lo - source.zero, bounds.hi - source.zero)
    bias = frozen_array(op.bias + source.zero * op.weight.sum(axis=tuple(range(op.weight.ndim - 1))))
    if isinstance(op, Dense):
        return bias, replace(op, bias=bias).sums(given)
    channels = writer.graph.tensor(node.inputs[0]).type.shape[-1]
    return bias, replace(op, bias=bias, pad_value=op.pad_value - source.zero).sums(given, channels)


def sum_of(writer: Writer, node: Node, after: Node, place: int, source: Storage) -> Sum:
    """A linear op that reads the tensor `place`, and its adapted Requant. Raises Refused."""
    requant = after.op
    assert isinstance(requant, Requant)
    result, activation = result_storage(after, requant, writer.width)
    form = INT8 if len(requant.stages) == 2 else writer.width
    if form is not writer.width and not (isinstance(node.op, Dense) or _takes_narrow_bias(node.op)):
        raise refuse(requant, after)
    multipliers = form.multipliers(requant, len(node.type.shape), node.type.shape[-1])
    scale = scale_of(after.label)
    if multipliers is None or scale is None:
        raise refuse(requant, after)
    scales: list[float] = []
    for multiplier in multipliers[:1] if len(set(multipliers)) == 1 else multipliers:
        found = form.weight_scale(multiplier, writer.quantization(place).scales[0], scale)
        if found is None:
            raise Refused(f"scale by {multiplier.real:.9g}: no float32 scale of the weights gives it")
        scales.append(found)
    left = max(0, *(one.exponent for one in multipliers))
    return Sum(node, after, place, source, result, activation, tuple(scales), left, form)


def _takes_narrow_bias(op: Op) -> bool:
    """Whether the op's int16 kernel also sums in 32 bits."""
    return isinstance(op, Conv) and not is_depthwise(op)


def lower_sums(writer: Writer, node: Node, after: Node) -> None:
    """Adds the operator for a linear op and its adapted Requant. Raises Refused."""
    place, source = writer.source(node)
    sums = sum_of(writer, node, after, place, source)
    match node.op:
        case Dense() as dense:
            _dense(writer, sums, dense)
        case Conv() as conv:
            _conv(writer, sums, conv)
        case op:
            _conv(writer, sums, sum_conv(cast(SumPool, op), node.type.shape[-1]))


def _beyond(form: Width) -> str:
    return f"sum in TFLite's {form.bias.bits} bits what can leave them"


def refuse(requant: Requant, after: Node) -> Refused:
    """Why `adapt` could not give a Requant a kernel's form; to be raised."""
    if after.type.hi - after.type.lo > INT8.span:
        return Refused(f"keep values of {after.type.bits} bits: TFLite keeps 8 between layers", NARROWER)
    return Refused(_why_not(requant, after))


def _why_not(requant: Requant, after: Node) -> str:
    rank, channels = len(after.type.shape), after.type.shape[-1]
    arrays = [requant.pre, requant.multiplier, requant.bias, *(stage.shift for stage in requant.stages)]
    if any(along_channels(one, rank, channels) is None for one in arrays):
        return "scale each position by itself: TFLite has one factor a channel"
    if any(only_value(one) is None for one in (requant.lo, requant.hi)):
        return "clamp each element by itself: TFLite has one clamp a tensor"
    if scale_of(after.label) is None:
        return f"say the unit {after.label}: TFLite has one float32 scale a tensor"
    return "rescale like this: TFLite has no such factor or offset"


def result_storage(after: Node, requant: Requant, width: Width) -> tuple[Storage, Activation]:
    """The storage and the activation that an adapted Requant's clamp stands for."""
    found = stored_result(requant, after.label, width)
    held = found is not None and found[0].holds(after.type.lo, after.type.hi)
    if found is None or not held or only_value(requant.offset) != zero_of(after.label):
        raise refuse(requant, after)
    return found


def _dense(writer: Writer, sums: Sum, dense: Dense) -> None:
    bias = kernel_bias(writer, sums, dense)
    operands = sum_operands(writer, sums, np.ascontiguousarray(dense.weight.T), bias, 0)
    keep = len(sums.node.type.shape) > 1
    options, result = DenseOptions(sums.activation, keep), writer.result(sums.after, sums.result)
    macs = sums.node.type.size * dense.weight.shape[0]
    writer.operator(Kernel.FULLY_CONNECTED, (sums.place, *operands), result, options, sums.node.layer, macs)


def _conv(writer: Writer, sums: Sum, conv: Conv) -> None:
    channels, outputs = conv.weight.shape[-2] * conv.groups, conv.weight.shape[-1]
    size, strides, dilation = pair(conv.window, 1), pair(conv.strides, 1), pair(conv.dilation, 1)
    window = Window(size, strides, dilation, pair(conv.pads, (0, 0)))
    bias = kernel_bias(writer, sums, conv)
    fill = None if conv.pad_value == sums.source.zero else conv.pad_value + sums.source.shift
    place, same = place_window(writer, sums.node, sums.place, window, fill, same=fill is None)
    weight = conv.weight.reshape(*size, -1, outputs)
    if is_depthwise(conv):
        operands = sum_operands(writer, sums, weight.reshape(1, *size, outputs), bias, 3)
        kernel, multiplier = Kernel.DEPTHWISE_CONV_2D, outputs // channels
    else:
        operands = sum_operands(writer, sums, np.ascontiguousarray(np.moveaxis(weight, -1, 0)), bias, 0)
        kernel, multiplier = Kernel.CONV_2D, 0
    options = ConvOptions(same, strides, dilation, sums.activation, multiplier)
    result = writer.result(sums.after, sums.result)
    macs = sums.node.type.size * conv.weight.size // outputs
    writer.operator(kernel, (place, *operands), result, options, sums.node.layer, macs)


def sum_operands(writer: Writer, sums: Sum, weight: IntArray, bias: IntArray, axis: int) -> tuple[int, int]:
    """The constants of a kernel: int8 weights, and the bias.

    Kernels compare a bias's scale with the sums' own where that is a single one. Of several they read none.
    """
    layer = sums.node.layer
    source = writer.quantization(sums.place).scales[0]
    of_bias = tuple(float(np.float32(source * one)) for one in sums.scales)
    return (
        writer.constant(f"{layer}/weight", weight, TensorKind.INT8, Quantization(sums.scales, axis=axis)),
        writer.constant(f"{layer}/bias", bias, sums.form.bias, Quantization(of_bias) if len(of_bias) == 1 else None),
    )


def kernel_bias(writer: Writer, sums: Sum, op: Conv | Dense) -> IntArray:
    """The file's bias. Refused where the kernel's left shift would leave its 32 bits."""
    bias, found = _kernel_sums(writer, sums.node, op, sums.source)
    if max(-int(found.lo.min()), int(found.hi.max())) << sums.left_shift > sums.form.most_sum:
        raise Refused(_beyond(sums.form), NARROWER)
    return bias
