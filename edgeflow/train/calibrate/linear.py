"""Dense and the convolutions of Keras, with their activation."""

from __future__ import annotations

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.windows import conv_pads, require_channels_last
from edgeflow.ir.types import Shape
from edgeflow.ops.upsample import Upsample
from edgeflow.ops.window import Pads
from edgeflow.train.calibrate.floats import FloatArray, FloatConv, FloatDense, FloatOp
from edgeflow.train.calibrate.reader import LINEAR, Reader, activate, weight

_MOST_UNITS = 1 << 20
_MOST_WINDOW = 4096


def read_dense(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """Dense over the last axis."""
    if layer.fields.raw("lora_rank") is not None:
        raise Unsupported("LoRA weights are not supported", where=layer.where, fix="merge them before saving")
    shape = (reader.shapes[inputs[0]][-1], layer.fields.integer("units", 1, _MOST_UNITS))
    kernel = weight(layer, ("kernel", "bias"), "kernel", shape)
    return _finish(reader, layer, inputs, FloatDense(kernel, _bias(layer, ("kernel", "bias"), shape[1])))


def read_conv(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """Conv1D and Conv2D with strides, padding ('causal' too), dilation and groups."""
    source, window, strides, dilation = _geometry(reader, layer, inputs[0])
    groups = layer.fields.integer("groups", 1, _MOST_UNITS, 1)
    filters = layer.fields.integer("filters", 1, _MOST_UNITS)
    if source[-1] % groups or filters % groups:
        raise EdgeflowError(
            f"{groups} groups do not divide {source[-1]} input and {filters} output channels", where=layer.where
        )
    names = ("kernel", "bias")
    kernel = weight(layer, names, "kernel", (*window, source[-1] // groups, filters))
    pads = _pads(layer, source, window, strides, dilation)
    op = FloatConv(kernel, _bias(layer, names, filters), strides, pads, dilation, groups)
    return _finish(reader, layer, inputs, op)


def read_depthwise(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """DepthwiseConv1D and 2D."""
    op = _depthwise(reader, layer, inputs[0], ("kernel", "bias"), "kernel")
    return _finish(reader, layer, inputs, op)


def read_separable(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """SeparableConv1D and 2D: depthwise, then 1x1."""
    names = ("depthwise_kernel", "pointwise_kernel", "bias")
    first = reader.add(_depthwise(reader, layer, inputs[0], names, names[0]), inputs, layer, "_depthwise")
    channels = reader.shapes[first][-1]
    filters = layer.fields.integer("filters", 1, _MOST_UNITS)
    ones = (1,) * (len(reader.shapes[first]) - 1)
    kernel = weight(layer, names, names[1], (*ones, channels, filters))
    op = FloatConv(kernel, _bias(layer, names, filters), ones, ((0, 0),) * len(ones), ones)
    return _finish(reader, layer, (first,), op)


def read_transposed(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """Conv1DTranspose and Conv2DTranspose: zeros between the elements, then a convolution with the kernel reversed."""
    source, window, strides, dilation = _geometry(reader, layer, inputs[0])
    if any(step != 1 for step in dilation):
        raise Unsupported("its dilation is not 1", where=layer.where, fix="use dilation_rate=1")
    if layer.fields.raw("output_padding") is not None:
        raise Unsupported("output_padding is not supported", where=layer.where, fix="leave it out")
    filters = layer.fields.integer("filters", 1, _MOST_UNITS)
    names = ("kernel", "bias")
    kernel = weight(layer, names, "kernel", (*window, filters, source[-1]))
    flipped = np.flip(kernel, axis=tuple(range(len(window)))).swapaxes(-1, -2)
    pads = tuple(_transposed_pads(layer, reach, stride) for reach, stride in zip(window, strides, strict=True))
    ones = (1,) * len(window)
    spread = inputs[0]
    if any(stride > 1 for stride in strides):
        spread = reader.add(Upsample(strides, zeros=True), inputs, layer, "_spread")
    op = FloatConv(np.ascontiguousarray(flipped), _bias(layer, names, filters), ones, pads, ones)
    return _finish(reader, layer, (spread,), op)


def _transposed_pads(layer: Layer, window: int, stride: int) -> tuple[int, int]:
    """Around n elements with stride - 1 zeros between: 'same' gives n * stride results, 'valid' all that overlap.

    TensorFlow's transposed convolution is the gradient of the convolution that pads (total // 2, rest).
    """
    padding = layer.fields.text("padding", "valid")
    if padding not in ("same", "valid"):
        raise Unsupported(f"padding '{padding}' is not supported", where=layer.where, fix="use 'same' or 'valid'")
    longer = max(window - stride, 0)
    if padding == "valid":
        return window - 1, stride - 1 + longer
    before = window - 1 - longer // 2
    return before, stride - 1 + longer // 2


def _geometry(reader: Reader, layer: Layer, source: str) -> tuple[Shape, Shape, Shape, Shape]:
    """The input's shape, the window, strides and dilation."""
    require_channels_last(layer)
    shape = reader.shapes[source]
    rank = len(shape) - 1
    if rank not in (1, 2) or ("1D" in layer.kind) != (rank == 1):
        raise EdgeflowError(f"it reads a tensor of shape {shape}", where=layer.where, fix="put a Reshape before it")
    window, strides = (layer.fields.shape(key, rank, 1, _MOST_WINDOW) for key in ("kernel_size", "strides"))
    rate = layer.fields.raw("dilation_rate")
    dilation = (1,) * rank if rate is None else layer.fields.shape("dilation_rate", rank, 1, _MOST_WINDOW)
    return shape, window, strides, dilation


def _pads(layer: Layer, source: Shape, window: Shape, strides: Shape, dilation: Shape) -> Pads:
    if layer.fields.raw("padding") == "causal" and len(window) == 1:
        return (((window[0] - 1) * dilation[0], 0),)
    return conv_pads(layer, source, window, strides, dilation)


def _depthwise(reader: Reader, layer: Layer, source: str, names: tuple[str, ...], name: str) -> FloatConv:
    shape, window, strides, dilation = _geometry(reader, layer, source)
    each = layer.fields.integer("depth_multiplier", 1, _MOST_UNITS, 1)
    channels = shape[-1]
    kernel = weight(layer, names, name, (*window, channels, each)).reshape(*window, 1, channels * each)
    bias = np.zeros(channels * each, np.float32) if name == "depthwise_kernel" else _bias(layer, names, channels * each)
    return FloatConv(kernel, bias, strides, _pads(layer, shape, window, strides, dilation), dilation, channels)


def _bias(layer: Layer, names: tuple[str, ...], outputs: int) -> FloatArray:
    if not layer.fields.flag("use_bias", True):
        return np.zeros(outputs, np.float32)
    return weight(layer, names, "bias", (outputs,))


def _finish(reader: Reader, layer: Layer, inputs: tuple[str, ...], op: FloatOp) -> str:
    value = layer.fields.raw("activation")
    linear = value in (None, "linear", "softmax")
    return activate(reader, reader.add(op, inputs, layer, "" if linear else LINEAR), layer, "")
