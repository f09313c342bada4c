"""Keras' pools: MaxPool, or SumPool with the division left to the label or to the next quantizer."""

from __future__ import annotations

import math

import numpy as np

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.qkeras.importer import Importer, Value
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.windows import conv_pads, require_channels_last
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.window import Pads, window_counts

_MOST_WINDOW = 4096


def import_max_pool(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """MaxPooling2D."""
    source = importer.settle(inputs[0], layer)
    window, strides, pads = _window(importer, layer, source)
    return Value(importer.add(MaxPool(window, strides, pads), (source,), importer.frac(source), layer))


def import_average_pool(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """AveragePooling2D: 'same' padding divides by the number of real elements."""
    source = importer.settle(inputs[0], layer)
    window, strides, pads = _window(importer, layer, source)
    counts = window_counts(importer.shape(Value(source))[:-1], window, strides, pads)
    return _average(importer, layer, source, SumPool(window, strides, pads), counts)


def import_global_max(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """GlobalMaxPooling2D."""
    source = importer.settle(inputs[0], layer)
    spatial = _spatial(importer, layer, source)
    tensor = importer.add(MaxPool(spatial, spatial, ((0, 0), (0, 0))), (source,), importer.frac(source), layer)
    return _drop_axes(importer, layer, Value(tensor))


def import_global_average(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """GlobalAveragePooling2D."""
    source = importer.settle(inputs[0], layer)
    spatial = _spatial(importer, layer, source)
    pool = SumPool(spatial, spatial, ((0, 0), (0, 0)))
    value = _average(importer, layer, source, pool, np.full((1, 1), math.prod(spatial), dtype=np.int64))
    return _drop_axes(importer, layer, value)


def _average(importer: Importer, layer: Layer, source: str, pool: SumPool, counts: IntArray) -> Value:
    frac = importer.frac(source)
    most = int(counts.max())
    importer.reject_beyond_float32(int(importer.reach(source).max()) * most, layer)
    if (counts == most).all():
        if most & (most - 1) == 0:
            return Value(importer.add(pool, (source,), frac + most.bit_length() - 1, layer))
        counts = np.array([most])
    else:
        counts = counts[..., None]
    return Value(importer.add(pool, (source,), frac, layer), divisor=counts, pool=layer)


def _window(importer: Importer, layer: Layer, source: str) -> tuple[Shape, Shape, Pads]:
    require_channels_last(layer)
    shape = importer.shape(Value(source))
    _spatial(importer, layer, source)
    window = layer.fields.shape("pool_size", 2, 1, _MOST_WINDOW)
    strides = window if layer.fields.raw("strides") is None else layer.fields.shape("strides", 2, 1, _MOST_WINDOW)
    return window, strides, conv_pads(layer, shape, window, strides, (1, 1))


def _spatial(importer: Importer, layer: Layer, source: str) -> Shape:
    require_channels_last(layer)
    shape = importer.shape(Value(source))
    if len(shape) != 3:
        raise EdgeflowError(f"it reads a tensor of shape {shape}, not (height, width, channels)", where=layer.where)
    return shape[:-1]


def _drop_axes(importer: Importer, layer: Layer, value: Value) -> Value:
    if layer.fields.flag("keepdims", False):
        return value
    op = Reshape(importer.shape(value)[-1:])
    tensor = importer.add(op, (value.tensor,), importer.frac(value.tensor), layer, f"{layer.name}_flat")
    return Value(tensor, divisor=value.divisor, pool=value.pool)
