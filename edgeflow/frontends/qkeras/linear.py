"""QDense, QConv1D and QConv2D: integer weights and bias on one accumulator unit a channel, then the activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.activations import apply_activation
from edgeflow.frontends.qkeras.importer import Importer
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.parameters import BIAS, KERNEL, MOST_UNITS, Bias, Part, place, read_bias, read_kernel
from edgeflow.frontends.qkeras.quantizers import Codes
from edgeflow.frontends.qkeras.values import RealMap, Terms, Value
from edgeflow.frontends.qkeras.windows import conv_geometry, spatial_shape
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import SumBounds

ReadWeights = Callable[[Layer, Part, Shape, int], tuple[Codes, Bias]]
"""Kernel codes and bias of a layer: (layer, which kernel, its shape, number of outputs)."""


def stored_weights(layer: Layer, part: Part, shape: Shape, outputs: int) -> tuple[Codes, Bias]:
    """Kernel and bias as the file holds them, quantized."""
    return read_kernel(layer, part, shape), read_bias(layer, BIAS, outputs)


def import_dense(
    importer: Importer, layer: Layer, inputs: tuple[Value, ...], read: ReadWeights = stored_weights
) -> Value:
    """QDense: Dense over the last axis of an input of any rank, then its activation."""
    source = importer.one_unit(inputs[0], layer)
    channels = importer.shape(Value(source))[-1]
    units = layer.fields.integer("units", 1, MOST_UNITS)
    kernel, bias = read(layer, KERNEL, (channels, units), units)
    weights = place(layer, kernel, kernel.frac + importer.frac(source), bias)
    op = Dense(weights.kernel, weights.bias)
    sums = op.sums(importer.builder.bounds(source))
    return finish(importer, layer, sums, importer.add(op, (source,), weights.frac, layer), weights.real)


def import_conv(
    importer: Importer,
    layer: Layer,
    inputs: tuple[Value, ...],
    rank: int,
    read: ReadWeights = stored_weights,
) -> Value:
    """QConv1D and QConv2D: Conv with strides, padding, dilation and groups, then its activation."""
    source = importer.one_unit(inputs[0], layer)
    shape = spatial_shape(importer, layer, source, rank)
    groups = layer.fields.integer("groups", 1, MOST_UNITS, 1)
    filters = layer.fields.integer("filters", 1, MOST_UNITS)
    if shape[-1] % groups or filters % groups:
        raise EdgeflowError(
            f"{groups} groups do not divide {shape[-1]} input and {filters} output channels", where=layer.where
        )
    geometry = conv_geometry(layer, shape)
    kernel, bias = read(layer, KERNEL, (*geometry.window, shape[-1] // groups, filters), filters)
    weights = place(layer, kernel, kernel.frac + importer.frac(source), bias)
    op = Conv(weights.kernel, weights.bias, geometry.strides, geometry.pads, geometry.dilation, groups)
    sums = op.sums(importer.builder.bounds(source), shape[-1])
    return finish(importer, layer, sums, importer.add(op, (source,), weights.frac, layer), weights.real)


def finish(importer: Importer, layer: Layer, sums: SumBounds, tensor: str, real: RealMap | None) -> Value:
    """Checks the accumulator `tensor` against float32 and applies the layer's activation."""
    importer.reject_beyond_float32(sums.magnitude, layer)
    frac = importer.frac(tensor)
    largest = np.maximum(-sums.partial_lo, sums.partial_hi).astype(np.float64)
    if real is not None and real.scale != (1,):
        importer.rounds(tensor)
    value = Value(tensor, terms=Terms(int(frac.max()), float(np.ldexp(largest, -frac).max())), real=real)
    return apply_activation(importer, layer, value, f"{layer.name}_act")


def _masked_weights(layer: Layer, part: Part, shape: Shape, outputs: int) -> tuple[Codes, Bias]:
    """As `stored_weights`, with QConv2D's mask on the kernel's codes."""
    kernel, bias = stored_weights(layer, part, shape, outputs)
    mask = layer.fields.raw("mask")
    return (kernel if mask is None else replace(kernel, codes=kernel.codes * _read_mask(mask, layer, shape))), bias


def _read_mask(mask: object, layer: Layer, shape: Shape) -> IntArray:
    try:
        array = np.asarray(mask, dtype=np.float64)
    except (TypeError, ValueError):
        raise layer.fields.wrong("mask", "an array of numbers") from None
    if array.shape != (*shape[:2], 1, 1):
        raise layer.fields.wrong("mask", f"an array of shape {(*shape[:2], 1, 1)}")
    if not np.isin(array, (0.0, 1.0)).all():
        raise Unsupported("its mask holds other values than 0 and 1", where=layer.where, fix="use a mask of 0 and 1")
    return array.astype(np.int64)


import_conv1d = partial(import_conv, rank=1)
import_conv2d = partial(import_conv, rank=2, read=_masked_weights)
