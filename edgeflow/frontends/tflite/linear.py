"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: a Conv or a Dense, and the kernel's Requant.

Sources: tensorflow/lite/micro/kernels/{conv,depthwise_conv,fully_connected}_common.cc and the reference kernels in
tensorflow/lite/kernels/internal/reference/integer_ops. The input's zero point goes into the bias and the padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.backends.tflm.windows import same_padding
from edgeflow.frontends.tflite.arithmetic import (
    AGAIN,
    finish_sums,
    output_ends,
    require_alike,
    reshaped,
    sums_label,
)
from edgeflow.frontends.tflite.importer import Handler, Importer
from edgeflow.frontends.tflite.model import Operator
from edgeflow.frontends.tflite.scaling import scaled_ends
from edgeflow.ir.types import IntArray, Shape, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.window import Pads

_WEIGHTS: Mapping[str, tuple[str, ...]] = {"INT8": ("INT8", "INT4"), "INT16": ("INT8",)}
"""Element types of the weights, by the activations'."""
_BIASES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("INT16", "CONV_2D"): ("INT64", "INT32"),
    ("INT16", "FULLY_CONNECTED"): ("INT64", "INT32"),
    ("INT16", "DEPTHWISE_CONV_2D"): ("INT64",),
}
"""Element types of the bias, by the activations' and the operator; else INT32. An int16 kernel sums as wide as it."""
_LARGEST_BIAS_ERROR = 0.02
"""Of the output's scale: how far the bias' scale may lie from the sums' where one scale serves the whole filter."""


@dataclass(frozen=True)
class _Weights:
    """A filter as the file has it, its scales (one, or one an output), the bias, and how wide the kernel sums."""

    values: IntArray
    scales: tuple[float, ...]
    bias: IntArray
    wide: bool


def _read(importer: Importer, operator: Operator, shape: int, outputs: int) -> _Weights:
    """The constants of an operator whose filter has `shape` axes, the outputs along axis `outputs`."""
    kind = require_alike(importer, operator, (operator.inputs[0], operator.outputs[0]))
    index = operator.inputs[1]
    tensor = importer.tensor(index)
    values = importer.constant(index, operator)
    if tensor.kind not in _WEIGHTS[kind]:
        what = f"its weights are {tensor.kind}, not {' or '.join(_WEIGHTS[kind])}"
        raise importer.refuse(operator, what, "convert the model with int8 weights")
    if values.ndim != shape or 0 in values.shape:
        raise importer.refuse(operator, f"its weights have the shape {tensor.shape}", "the file is damaged")
    found = tensor.quantization
    if found is None:
        raise importer.refuse(operator, "its weights have no scale", "quantize the model in full")
    if len(found.scales) > 1 and found.axis != outputs:
        raise importer.refuse(operator, f"its weights have their scales along axis {found.axis}, not {outputs}", AGAIN)
    bias, wide = _bias(importer, operator, kind, values.shape[outputs])
    return _Weights(values, found.scales, bias, wide)


def _bias_index(operator: Operator) -> int:
    return operator.inputs[2] if len(operator.inputs) > 2 else -1


def _bias(importer: Importer, operator: Operator, kind: str, outputs: int) -> tuple[IntArray, bool]:
    """The bias (0 where it is left out), and whether the kernel sums in 64 bits."""
    index = _bias_index(operator)
    if index < 0:
        if operator.code == "DEPTHWISE_CONV_2D" and len(operator.inputs) > 2:
            what = "its bias is left out by a -1, with which TFLite-Micro crashes"
            raise importer.refuse(operator, what, "give it two inputs, or a bias of zeros")
        return np.zeros(outputs, dtype=np.int64), kind == "INT16"
    tensor, values = importer.tensor(index), importer.constant(index, operator)
    allowed = _BIASES.get((kind, operator.code), ("INT32",))
    if tensor.kind not in allowed or values.size != outputs:
        what = f"its bias is {tensor.kind} of shape {tensor.shape}, not {' or '.join(allowed)} of {outputs}"
        raise importer.refuse(operator, what, AGAIN)
    return values.reshape(outputs), tensor.kind == "INT64"


def _conv(importer: Importer, operator: Operator) -> None:
    """CONV_2D; grouped where the filter reads fewer channels than the input has."""
    weights = _read(importer, operator, 4, 0)
    outputs, _, _, each = weights.values.shape
    channels = image(importer, operator)[-1]
    groups = channels // each
    if channels % each or groups < 1 or outputs % groups:
        what = f"its filter of shape {weights.values.shape} cannot read {channels} channels"
        raise importer.refuse(operator, what, "the file is damaged")
    _convolve(importer, operator, weights, weights.values.transpose(1, 2, 3, 0), groups)


def _depthwise(importer: Importer, operator: Operator) -> None:
    """DEPTHWISE_CONV_2D with any depth multiplier."""
    weights = _read(importer, operator, 4, 3)
    channels, outputs = image(importer, operator)[-1], weights.values.shape[3]
    each = importer.integer(operator, "depth_multiplier")
    if weights.values.shape[0] != 1 or each * channels != outputs:
        what = f"its filter of shape {weights.values.shape} with a depth multiplier of {each} cannot read {channels} "
        raise importer.refuse(operator, f"{what}channels", "the file is damaged")
    _convolve(importer, operator, weights, weights.values[0][:, :, None, :], channels)


def image(importer: Importer, operator: Operator) -> Shape:
    """(height, width, channels) of an operator's first input. Raises Unsupported for another number of axes."""
    shape = importer.tensor(operator.inputs[0]).shape
    if len(shape) != 4 or shape[0] != 1:
        what = f"it reads a tensor of shape {shape}"
        raise importer.refuse(operator, what, "give it one image: a batch of 1, height, width and channels")
    return shape[1:]


def _convolve(importer: Importer, operator: Operator, weights: _Weights, kernel: IntArray, groups: int) -> None:
    """`kernel` is (*window, channels / groups, outputs)."""
    place = importer.place(operator)
    source = importer.scaled(operator.inputs[0], place)
    strides = importer.integer(operator, "stride_h"), importer.integer(operator, "stride_w")
    dilation = importer.integer(operator, "dilation_h_factor"), importer.integer(operator, "dilation_w_factor")
    spatial = image(importer, operator)[:2]
    pads = window_pads(operator, spatial, kernel.shape[:2], strides, dilation)
    bias = weights.bias - source.zero_point * kernel.sum(axis=(0, 1, 2))
    op = Conv(frozen_array(kernel), frozen_array(bias), strides, pads, dilation, groups, source.zero_point)
    name = importer.named(operator.inputs[0], place)
    label = sums_label(source.scale, weights.scales[0])
    sums = importer.add(op, (name,), label, operator, end="_sums")
    importer.define(operator.outputs[0], _finish(importer, operator, weights, sums))


def window_pads(operator: Operator, spatial: Shape, window: Shape, strides: Shape, dilation: Shape) -> Pads:
    """What the option `padding` puts around the two spatial axes."""
    if operator.options["padding"] != "SAME":
        return ((0, 0), (0, 0))
    return tuple(map(same_padding, spatial, window, strides, dilation))


def _dense(importer: Importer, operator: Operator) -> None:
    """FULLY_CONNECTED. The input's elements are rows of the filter's length, whatever its axes."""
    weights = _dense_weights(importer, operator)
    units, length = weights.values.shape
    place, shape = importer.place(operator), importer.shape(operator.inputs[0])
    rows = math.prod(shape) // length
    if rows * length != math.prod(shape) or math.prod(importer.shape(operator.outputs[0])) != rows * units:
        given, made = (importer.tensor(index).shape for index in (operator.inputs[0], operator.outputs[0]))
        what = f"its filter of shape {weights.values.shape} cannot bring a tensor of shape {given} to {made}"
        raise importer.refuse(operator, what, "the file is damaged")
    source = importer.scaled(operator.inputs[0], place)
    name = importer.named(operator.inputs[0], place)
    if shape[-1] != length or rows == 1:
        name = reshaped(importer, operator, name, (length,) if rows == 1 else (rows, length), "_rows")
    bias = weights.bias - source.zero_point * weights.values.sum(axis=1)
    op = Dense(frozen_array(weights.values.T), frozen_array(bias))
    sums = importer.add(op, (name,), sums_label(source.scale, weights.scales[0]), operator, end="_sums")
    result = _finish(importer, operator, weights, sums)
    importer.define(operator.outputs[0], reshaped(importer, operator, result, importer.shape(operator.outputs[0])))


def _dense_weights(importer: Importer, operator: Operator) -> _Weights:
    """The constants; with one scale for all, the weights' zero point counts, and the bias' scale is looked at."""
    weights = _read(importer, operator, 2, 0)
    if operator.options["weights_format"] != "DEFAULT":
        raise importer.refuse(operator, "its weights are shuffled", "convert the model with weights in the usual order")
    tensor = importer.tensor(operator.inputs[1])
    scale, *others = weights.scales
    if others:
        if tensor.kind == "INT4":
            what = "its int4 weights have a scale for every output, which TFLite-Micro does not take"
            raise importer.refuse(operator, what, "convert the model with int8 weights, or with one scale")
        return weights
    _require_bias_scale(importer, operator, scale)
    zeros = tensor.quantization.zero_points if tensor.quantization else ()
    return replace(weights, values=weights.values - sum(zeros))


def _require_bias_scale(importer: Importer, operator: Operator, scale: float) -> None:
    """GetQuantizedConvolutionMultipler (tensorflow/lite/kernels/kernel_util.cc)."""
    index = _bias_index(operator)
    if index < 0:
        return
    source, target = scaled_ends(importer, operator)
    found = importer.tensor(index).quantization
    bias, sums = found.scales[0] if found else 0.0, source.scale * scale
    if abs(sums - bias) / target.scale > _LARGEST_BIAS_ERROR:
        what = f"its bias has the scale {bias:g}, its sums {sums:g}"
        raise importer.refuse(operator, what, AGAIN)


def _finish(importer: Importer, operator: Operator, weights: _Weights, sums: str) -> str:
    """The sums in the output's unit."""
    ends = output_ends(importer, operator)
    source = importer.scaled(operator.inputs[0], importer.place(operator)).scale
    factors = [source * scale / ends.scaled.scale for scale in weights.scales]
    return finish_sums(importer, operator, sums, factors, ends, wide=weights.wide)


LINEAR: Mapping[str, Handler] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
}
