"""Conv, Dense and SumPool with the Requant behind them: one TFLite kernel each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np

from edgeflow.backends.tflm.arithmetic import (
    INT8_HI,
    INT8_LO,
    INT32_HI,
    JUST_BELOW_ONE,
    along_channels,
    kernel_multipliers,
    only_value,
    quantize_multiplier,
    recover_weight_scale,
    scale_of,
)
from edgeflow.backends.tflm.model import (
    Activation,
    ConvOptions,
    DenseOptions,
    Kernel,
    NoOptions,
    PoolOptions,
    Quantization,
    TensorKind,
)
from edgeflow.backends.tflm.storage import Storage, zero_of
from edgeflow.backends.tflm.writer import NARROWER, Refused, Writer
from edgeflow.ir.graph import Bounds, Node
from edgeflow.ir.types import IntArray, frozen_array, interval_bits
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import SumBounds
from edgeflow.ops.requant import Requant
from edgeflow.ops.sumpool import SumPool

Pair = tuple[int, int]
_MOST = INT32_HI - 256
"""The largest sum: 32 bits, with room for a zero point added to the result."""
T = TypeVar("T")


@dataclass(frozen=True)
class _Sum:
    """A linear op on its way: what it reads, how its result is stored, and the scales of its weights."""

    node: Node
    after: Node
    place: int
    source: Storage
    result: Storage
    activation: Activation
    scales: tuple[float, ...]
    left_shift: int


def check_sums(writer: Writer, node: Node) -> None:
    """Raises Refused for what no Requant behind it could mend: weights, padding, bias, accumulator."""
    _, source = writer.source(node)
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
        if max(sums.magnitude, int(np.abs(bias).max())) > _MOST:
            raise Refused("sum in TFLite's 32 bits what can leave them", NARROWER)


def _kernel_sums(writer: Writer, node: Node, op: Conv | Dense, source: Storage) -> tuple[IntArray, SumBounds]:
    """The bias for a kernel that subtracts the input's zero from every element, and what it then sums up."""
    bounds = writer.bounds[node.inputs[0]]
    given = Bounds(bounds.lo - source.zero, bounds.hi - source.zero)
    bias = frozen_array(op.bias + source.zero * op.weight.sum(axis=tuple(range(op.weight.ndim - 1))))
    if isinstance(op, Dense):
        return bias, replace(op, bias=bias).sums(given)
    channels = writer.graph.tensor(node.inputs[0]).type.shape[-1]
    return bias, replace(op, bias=bias, pad_value=op.pad_value - source.zero).sums(given, channels)


def lower_sums(writer: Writer, node: Node, after: Node, requant: Requant) -> None:
    """Adds the operator for a linear op and its adapted Requant. Raises Refused."""
    place, source = writer.source(node)
    if requant.bias.any():
        raise Refused(why_not(requant, after))
    result, activation = _result_storage(after, requant)
    multipliers = kernel_multipliers(requant, len(node.type.shape), node.type.shape[-1])
    scale = scale_of(after.label)
    if multipliers is None or scale is None:
        raise Refused(why_not(requant, after))
    if isinstance(node.op, SumPool) and _is_average(writer, node, requant, result, scale):
        _average(writer, node, after, place, result, activation)
        return
    scales: list[float] = []
    for multiplier in multipliers[:1] if len(set(multipliers)) == 1 else multipliers:
        found = recover_weight_scale(multiplier, writer.quantization(place).scales[0], scale)
        if found is None:
            raise Refused(f"scale by {multiplier.real:.9g}: no float32 scale of the weights gives it")
        scales.append(found)
    left = max(0, *(one.exponent for one in multipliers))
    sums = _Sum(node, after, place, source, result, activation, tuple(scales), left)
    match node.op:
        case Dense() as dense:
            _dense(writer, sums, dense)
        case Conv() as conv:
            _conv(writer, sums, conv)
        case op:
            _conv(writer, sums, _ones(cast(SumPool, op), node.type.shape[-1]))


def why_not(requant: Requant, after: Node) -> str:
    """Why `adapt` could not give a Requant a kernel's form: a text after "cannot"."""
    if requant.bias.any():
        return "add a bias between the multiplication and the rounding yet"
    rank, channels = len(after.type.shape), after.type.shape[-1]
    arrays = [requant.pre, requant.multiplier, *(stage.shift for stage in requant.stages)]
    if any(along_channels(one, rank, channels) is None for one in arrays):
        return "scale each position by itself: TFLite has one factor a channel"
    if (requant.multiplier <= 0).any():
        return "scale by a factor that is not positive"
    if any(only_value(one) is None for one in (requant.lo, requant.hi, requant.offset)):
        return "clamp or offset each element by itself: TFLite has one clamp a tensor"
    if scale_of(after.label) is None:
        return f"say the unit {after.label}: TFLite has one float32 scale a tensor"
    if after.type.hi - after.type.lo > INT8_HI - INT8_LO:
        return f"keep values of {after.type.bits} bits: TFLite keeps 8 between layers"
    return "rescale like this: TFLite has no such factor or offset"


def _result_storage(after: Node, requant: Requant) -> tuple[Storage, Activation]:
    """The bytes and the activation that an adapted Requant's clamp stands for."""
    lo, hi, zero = (only_value(one) for one in (requant.lo, requant.hi, requant.offset))
    if lo is None or hi is None or zero is None or zero != zero_of(after.label):
        raise Refused(why_not(requant, after))
    storage = Storage(zero, INT8_HI - hi)
    if not storage.holds(after.type.lo, after.type.hi) or lo not in (storage.lowest, zero):
        raise Refused(why_not(requant, after), NARROWER)
    return storage, Activation.NONE if lo == storage.lowest else Activation.RELU


def _is_average(writer: Writer, node: Node, requant: Requant, result: Storage, scale: float) -> bool:
    """Whether AVERAGE_POOL_2D gives the same: it divides the sum of bytes by the count, half away from zero.

    (reference/integer_ops/pooling.h). So bytes must be values, and the factor one over a power of two.
    """
    pool = cast(SumPool, node.op)
    count, name = math.prod(pool.window), node.inputs[0]
    same = writer.stored[name] == result and result == Storage(0, 0)
    same = same and writer.quantization(writer.places[name]).scales == (scale,)
    if not same or any(map(any, pool.pads)) or count & (count - 1) or count == 1 or count >= 1 << 15:
        return False
    wanted = quantize_multiplier(JUST_BELOW_ONE / count)
    return set(kernel_multipliers(requant, len(node.type.shape), node.type.shape[-1]) or ()) == {wanted}


def _average(writer: Writer, node: Node, after: Node, place: int, result: Storage, activation: Activation) -> None:
    pool = cast(SumPool, node.op)
    window, strides = pair(pool.window, 1), pair(pool.strides, 1)
    options = PoolOptions(False, strides, window, activation)
    elements = node.type.size * math.prod(window)
    writer.operator(Kernel.AVERAGE_POOL_2D, 2, (place,), writer.result(after, result), options, after.layer, elements)


def _ones(pool: SumPool, channels: int) -> Conv:
    """A sum pool as the depthwise Conv that it is."""
    ones = frozen_array(np.ones((*pool.window, 1, channels), dtype=np.int64))
    return Conv(ones, frozen_array([0] * channels), pool.strides, pool.pads, (1,) * len(pool.window), channels)


def _dense(writer: Writer, sums: _Sum, dense: Dense) -> None:
    bias = _bias(writer, sums, dense)
    operands = _operands(writer, sums, np.ascontiguousarray(dense.weight.T), bias, 0)
    keep = len(sums.node.type.shape) > 1
    version = 5 if keep else 4
    options, result = DenseOptions(sums.activation, keep), writer.result(sums.after, sums.result)
    macs = sums.node.type.size * dense.weight.shape[0]
    writer.operator(Kernel.FULLY_CONNECTED, version, (sums.place, *operands), result, options, sums.node.layer, macs)


def _conv(writer: Writer, sums: _Sum, conv: Conv) -> None:
    channels, outputs = conv.weight.shape[-2] * conv.groups, conv.weight.shape[-1]
    size, strides, dilation = pair(conv.window, 1), pair(conv.strides, 1), pair(conv.dilation, 1)
    window = Window(size, strides, dilation, pair(conv.pads, (0, 0)))
    bias = _bias(writer, sums, conv)
    fill = None if conv.pad_value == sums.source.zero else conv.pad_value + sums.source.shift
    place, same = place_window(writer, sums.node, sums.place, window, fill, same=fill is None)
    weight = conv.weight.reshape(*size, -1, outputs)
    depthwise = conv.groups == channels > 1
    if depthwise:
        operands = _operands(writer, sums, weight.reshape(1, *size, outputs), bias, 3)
        kernel, version, multiplier = Kernel.DEPTHWISE_CONV_2D, 3, outputs // channels
    else:
        operands = _operands(writer, sums, np.ascontiguousarray(np.moveaxis(weight, -1, 0)), bias, 0)
        kernel, version, multiplier = Kernel.CONV_2D, 6 if conv.groups > 1 else 3, 0
    options = ConvOptions(same, strides, dilation, sums.activation, multiplier)
    result = writer.result(sums.after, sums.result)
    macs = sums.node.type.size * conv.weight.size // outputs
    writer.operator(kernel, version, (place, *operands), result, options, sums.node.layer, macs)


def _operands(writer: Writer, sums: _Sum, weight: IntArray, bias: IntArray, axis: int) -> tuple[int, int]:
    """The constants of a kernel: int8 weights, and the int32 bias in the sums' own scales."""
    layer = sums.node.layer
    source = writer.quantization(sums.place).scales[0]
    of_bias = tuple(float(np.float32(source * one)) for one in sums.scales)
    return (
        writer.constant(f"{layer}/weight", weight, TensorKind.INT8, Quantization(sums.scales, axis=axis)),
        writer.constant(f"{layer}/bias", bias, TensorKind.INT32, Quantization(of_bias)),
    )


def _bias(writer: Writer, sums: _Sum, op: Conv | Dense) -> IntArray:
    """The file's bias. Refused where the kernel's left shift would leave its 32 bits."""
    bias, found = _kernel_sums(writer, sums.node, op, sums.source)
    if max(-int(found.lo.min()), int(found.hi.max())) << sums.left_shift > _MOST:
        raise Refused("sum in TFLite's 32 bits what can leave them", NARROWER)
    return bias


def pair(values: tuple[T, ...], alone: T) -> tuple[T, T]:
    """A parameter of one or two spatial axes for two: one axis is the horizontal one."""
    return (alone, values[0]) if len(values) == 1 else (values[0], values[1])


@dataclass(frozen=True)
class Window:
    """What slides over the two spatial axes."""

    size: Pair
    strides: Pair
    dilation: Pair
    pads: tuple[Pair, Pair]


def place_window(
    writer: Writer, node: Node, place: int, window: Window, fill: int | None, *, same: bool
) -> tuple[int, bool]:
    """Where a window slides: the tensor, and whether TFLite's SAME padding is the wanted one.

    Other paddings get an operator of their own that fills with the byte `fill` (None: the zero point). `same`
    says whether the kernel's own padding counts for what `fill` would.
    """
    shape = writer.tensors[place].shape
    if not any(map(any, window.pads)):
        return place, False
    axes = zip(shape[1:3], window.size, window.strides, window.dilation, window.pads, strict=True)
    if same and all(_same(length, *one) == wanted for length, *one, wanted in axes):
        return place, True
    layer, quantization = node.layer, writer.quantization(place)
    amounts = frozen_array([(0, 0), *window.pads, (0, 0)])
    operands = [place, writer.constant(f"{layer}/pads", amounts, TensorKind.INT32, None)]
    if fill is not None:
        operands.append(writer.constant(f"{layer}/fill", frozen_array([fill]), TensorKind.INT8, quantization))
    padded = tuple(length + sum(pad) for length, pad in zip(shape, amounts.tolist(), strict=True))
    result = writer.tensor(f"{layer}/padded", padded, TensorKind.INT8, quantization)
    kernel = Kernel.PAD if fill is None else Kernel.PADV2
    writer.operator(kernel, 2, tuple(operands), result, NoOptions(), layer)
    return result, False


def _same(length: int, window: int, stride: int, dilation: int) -> Pair:
    """The padding that TFLite means by SAME (ComputePaddingHeightWidth in tensorflow/lite/kernels/padding.h)."""
    results = -(-length // stride)
    total = max((results - 1) * stride + (window - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2
