"""QConv2DTranspose: zeros between the inputs, then a Conv with the kernel turned round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.importer import Importer
from edgeflow.frontends.qkeras.linear import finish
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.parameters import BIAS, KERNEL, MOST_UNITS, place, read_bias, read_kernel, reject_wide
from edgeflow.frontends.qkeras.quantizers import Codes
from edgeflow.frontends.qkeras.values import Value
from edgeflow.frontends.qkeras.windows import MOST_WINDOW, reject_taps, spatial_shape
from edgeflow.ir.types import Shape
from edgeflow.ops.conv import Conv
from edgeflow.ops.upsample import Upsample
from edgeflow.ops.window import Pads


def import_conv_transpose(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """QConv2DTranspose. Keras stores its kernel as (height, width, outputs, inputs)."""
    fields = layer.fields
    _reject_options(layer)
    source = importer.one_unit(inputs[0], layer)
    shape = spatial_shape(importer, layer, source, 2)
    window = fields.shape("kernel_size", 2, 1, MOST_WINDOW)
    strides = fields.shape("strides", 2, 1, MOST_WINDOW)
    filters = fields.integer("filters", 1, MOST_UNITS)
    lengths, pads = _output(layer, shape[:-1], window, strides)
    reject_taps(layer, lengths, window, shape[:-1])
    kernel = _turned(layer, read_kernel(layer, KERNEL, (*window, filters, shape[-1])))
    weights = place(layer, kernel, kernel.frac + importer.frac(source), read_bias(layer, BIAS, filters))
    if max(strides) > 1:
        frac = importer.frac(source)
        source = importer.add(Upsample(strides, zeros=True), (source,), frac, layer, f"{layer.name}_spread")
    op = Conv(weights.kernel, weights.bias, (1, 1), pads, (1, 1))
    sums = op.sums(importer.builder.bounds(source), shape[-1])
    return finish(importer, layer, sums, importer.add(op, (source,), weights.frac, layer), weights.real)


def _reject_options(layer: Layer) -> None:
    if layer.fields.raw("output_padding") is not None:
        raise Unsupported(
            "QKeras ignores its output_padding, so the saved value is not what it computes",
            where=layer.where,
            fix="leave output_padding at None",
        )
    if layer.fields.shape("dilation_rate", 2, 1, MOST_WINDOW) != (1, 1):
        raise Unsupported(
            "a dilated transposed convolution is not supported: TensorFlow cannot run it on a CPU either",
            where=layer.where,
            fix="leave dilation_rate at 1",
        )


def _output(layer: Layer, spatial: Shape, window: Shape, strides: Shape) -> tuple[Shape, Pads]:
    """The output's lengths, and the Conv's padding around the spread input that gives them."""
    padding = layer.fields.text("padding", "valid").lower()
    if padding not in ("same", "valid"):
        raise Unsupported(f"padding '{padding}' is not supported", where=layer.where, fix="use 'same' or 'valid'")
    lengths: list[int] = []
    pads: list[tuple[int, int]] = []
    for length, size, stride in zip(spatial, window, strides, strict=True):
        whole = (length - 1) * stride
        result = length * stride + (max(size - stride, 0) if padding == "valid" else 0)
        cut = max(whole + size - result, 0) // 2
        lengths.append(result)
        pads.append((size - 1 - cut, result - whole - 1 + cut))
    return tuple(lengths), tuple(pads)


def _turned(layer: Layer, kernel: Codes) -> Codes:
    """The kernel for a Conv: mirrored, inputs before outputs, and one unit for all inputs.

    QKeras scales along the last axis, which holds the inputs here: different units meet in one sum.
    """
    codes, frac = kernel.codes, kernel.frac.max()
    if kernel.scale is not None and len(set(np.atleast_1d(kernel.scale).tolist())) > 1:
        raise Unsupported(
            "its kernel_quantizer gives each input channel another real scale, and they meet in one sum",
            where=layer.where,
            fix="give the kernel_quantizer alpha=1 or 'auto_po2'",
        )
    scale = None if kernel.scale is None else np.asarray(kernel.scale).reshape(-1)[0]
    reject_wide(layer, int((frac - kernel.frac).max()) + int(np.abs(codes).max()).bit_length())
    codes = codes << (frac - kernel.frac)
    return replace(kernel, codes=codes[::-1, ::-1].transpose(0, 1, 3, 2), frac=frac, scale=scale)
