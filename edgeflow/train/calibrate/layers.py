"""Which float Keras layers edgeflow can quantize, each by one function; everything else is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias, cast

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported, near
from edgeflow.frontends.qkeras.fields import shown
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.windows import conv_pads, require_channels_last
from edgeflow.ir.types import Shape
from edgeflow.ops.concat import Concat
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.ops.window import Pads
from edgeflow.train.calibrate.floats import Average, FloatArray, Product, Scale, Sum
from edgeflow.train.calibrate.linear import (
    read_conv,
    read_dense,
    read_depthwise,
    read_separable,
    read_transposed,
)
from edgeflow.train.calibrate.reader import ACTIVATION_LAYERS, Reader, activate, weight

LayerReader: TypeAlias = Callable[[Reader, Layer, tuple[str, ...]], str]
_MOST = 1 << 16
_LONGEST_AXIS = 1 << 24
_SMALLEST_DEVIATION = 1e-7


def _identity(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    return inputs[0]


def _activation(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    return activate(reader, inputs[0], layer, "")


def _activation_layer(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    return ACTIVATION_LAYERS[layer.kind](reader, layer, inputs[0], "")


def _batch_norm(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, a channel."""
    shape = reader.shapes[inputs[0]]
    _require_last_axis(layer, len(shape))
    channels = shape[-1:]
    names = (
        *(("gamma",) if layer.fields.flag("scale", True) else ()),
        *(("beta",) if layer.fields.flag("center", True) else ()),
        "moving_mean",
        "moving_variance",
    )
    stored = {name: weight(layer, names, name, channels).astype(np.float64) for name in names}
    spread = stored["moving_variance"] + layer.fields.number("epsilon", 1e-3)
    if (spread <= 0).any():
        raise EdgeflowError("its moving_variance is negative", where=layer.where, fix="train the model again")
    factor = stored.get("gamma", 1.0) / np.sqrt(spread)
    shift = stored.get("beta", 0.0) - stored["moving_mean"] * factor
    return reader.add(_scale(factor, shift, channels[0]), inputs, layer)


def _rescaling(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    channels = reader.shapes[inputs[0]][-1]
    factor, shift = (_numbers(layer, key, channels, default) for key, default in (("scale", 1.0), ("offset", 0.0)))
    return reader.add(_scale(factor, shift, channels), inputs, layer)


def _normalization(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """(x - mean) / max(sqrt(variance), 1e-7)."""
    shape = reader.shapes[inputs[0]]
    if layer.fields.flag("invert", False):
        raise Unsupported("invert=True is not supported", where=layer.where, fix="use Rescaling")
    axis = layer.fields.raw("axis")
    if axis not in (None, [], -1, [-1], len(shape), [len(shape)]):
        raise Unsupported("it normalizes another axis than the last", where=layer.where, fix="use axis=-1")
    whole = axis in (None, [])
    if layer.fields.raw("mean") is not None:
        mean, variance = (_numbers(layer, key, shape[-1], 0.0) for key in ("mean", "variance"))
    else:
        stored: Shape = () if whole else shape[-1:]
        names = ("mean", "variance", "count")
        mean, variance = (weight(layer, names, name, stored).astype(np.float64) for name in names[:2])
    factor = 1.0 / np.maximum(np.sqrt(np.maximum(variance, 0.0)), _SMALLEST_DEVIATION)
    return reader.add(_scale(factor, -mean * factor, shape[-1]), inputs, layer)


def _scale(factor: object, shift: object, channels: int) -> Scale:
    return Scale(*(np.broadcast_to(np.asarray(one, np.float32), (channels,)) for one in (factor, shift)))


def _numbers(layer: Layer, key: str, channels: int, default: float) -> FloatArray:
    value = layer.fields.raw(key)
    try:
        array = np.asarray(default if value is None else value, dtype=np.float32)
        return np.broadcast_to(array.reshape(-1), (channels,))
    except (TypeError, ValueError):
        raise layer.fields.wrong(key, f"a number, or {channels} of them") from None


def _require_last_axis(layer: Layer, rank: int) -> None:
    axis = layer.fields.raw("axis")
    if axis not in (None, -1, [-1], rank, [rank]):
        raise Unsupported(f"its axis is {shown(axis)}, not the last one", where=layer.where, fix="use axis=-1")


def _window(reader: Reader, layer: Layer, source: str) -> tuple[Shape, Shape, Pads]:
    require_channels_last(layer)
    shape = reader.shapes[source]
    rank = len(shape) - 1
    window = layer.fields.shape("pool_size", rank, 1, _MOST)
    strides = window if layer.fields.raw("strides") is None else layer.fields.shape("strides", rank, 1, _MOST)
    return window, strides, conv_pads(layer, shape, window, strides, (1,) * rank)


def _max_pool(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    return reader.add(MaxPool(*_window(reader, layer, inputs[0])), inputs, layer)


def _average_pool(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    return reader.add(Average(*_window(reader, layer, inputs[0])), inputs, layer)


def _global_max(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    spatial = _spatial(reader, layer, inputs[0])
    return _drop_axes(reader, layer, MaxPool(spatial, spatial, ((0, 0),) * len(spatial)), inputs)


def _global_average(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    spatial = _spatial(reader, layer, inputs[0])
    return _drop_axes(reader, layer, Average(spatial, spatial, ((0, 0),) * len(spatial), whole=True), inputs)


def _spatial(reader: Reader, layer: Layer, source: str) -> Shape:
    require_channels_last(layer)
    shape = reader.shapes[source]
    if len(shape) < 2:
        raise EdgeflowError(f"it reads a tensor of shape {shape}, which has no spatial axis", where=layer.where)
    return shape[:-1]


def _drop_axes(reader: Reader, layer: Layer, op: MaxPool | Average, inputs: tuple[str, ...]) -> str:
    if layer.fields.flag("keepdims", False):
        return reader.add(op, inputs, layer)
    pooled = reader.add(op, inputs, layer, "_pool")
    return reader.add(Reshape(reader.shapes[pooled][-1:]), (pooled,), layer)


def _flatten(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    require_channels_last(layer)
    return _reshaped(reader, layer, inputs, (math.prod(reader.shapes[inputs[0]]),))


def _reshape(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    source = reader.shapes[inputs[0]]
    size = math.prod(source)
    target = list(layer.fields.shape("target_shape", None, -1, _LONGEST_AXIS))
    known = math.prod(axis for axis in target if axis != -1)
    if target.count(-1) == 1 and known > 0 and size % known == 0:
        target[target.index(-1)] = size // known
    if not 0 < len(target) <= 8 or min(target) < 1 or math.prod(target) != size:
        raise EdgeflowError(
            f"a tensor of shape {source} cannot become {tuple(target)}",
            where=layer.where,
            fix="correct its target_shape",
        )
    return _reshaped(reader, layer, inputs, tuple(target))


def _reshaped(reader: Reader, layer: Layer, inputs: tuple[str, ...], target: Shape) -> str:
    return inputs[0] if reader.shapes[inputs[0]] == target else reader.add(Reshape(target), inputs, layer)


def _permute(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    rank = len(reader.shapes[inputs[0]])
    order = tuple(axis - 1 for axis in layer.fields.shape("dims", rank, 1, rank))
    return reader.add(Transpose(order), inputs, layer)


def _add(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """Any number of tensors, two at a time: each sum gets its own scale."""
    return _chain(reader, layer, inputs, Sum(), _same_shapes)


def _subtract(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    return _chain(reader, layer, inputs, Sum((1, -1)), _same_shapes)


def _multiply(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    return _chain(reader, layer, inputs, Product(), _same_ranks)


def _chain(
    reader: Reader,
    layer: Layer,
    inputs: tuple[str, ...],
    op: Sum | Product,
    check: Callable[[Layer, list[Shape]], None],
) -> str:
    if len(inputs) < 2:
        raise EdgeflowError(f"it joins {len(inputs)} tensor", where=layer.where, fix="give it two or more tensors")
    check(layer, [reader.shapes[one] for one in inputs])
    total = inputs[0]
    for number, other in enumerate(inputs[1:]):
        part = "" if number == len(inputs) - 2 else f"_part{number + 1}"
        total = reader.add(op, (total, other), layer, part)
    return total


def _same_shapes(layer: Layer, shapes: list[Shape]) -> None:
    if len(set(shapes)) != 1:
        raise Unsupported(
            f"it joins tensors of different shapes: {', '.join(map(str, shapes))}",
            where=layer.where,
            fix="give all its inputs one shape",
        )


def _same_ranks(layer: Layer, shapes: list[Shape]) -> None:
    if len({len(shape) for shape in shapes}) != 1:
        raise Unsupported(
            f"it joins tensors of different ranks: {', '.join(map(str, shapes))}",
            where=layer.where,
            fix="put a Reshape in front of it, to (1, 1, channels) for example",
        )


def _concatenate(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    rank = len(reader.shapes[inputs[0]])
    axis = layer.fields.integer("axis", -rank, rank, -1)
    if axis == 0:
        raise Unsupported("it joins along the batch axis", where=layer.where, fix="use axis=-1")
    return reader.add(Concat(axis - 1 if axis > 0 else axis + rank), inputs, layer)


def _zero_padding(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    pads = _pairs(layer, "padding", len(_spatial(reader, layer, inputs[0])))
    return reader.add(Pad((*pads, (0, 0)), 0), inputs, layer)


def _cropping(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    spatial = _spatial(reader, layer, inputs[0])
    crops = _pairs(layer, "cropping", len(spatial))
    sizes = tuple(length - sum(pair) for length, pair in zip(spatial, crops, strict=True))
    channels = reader.shapes[inputs[0]][-1]
    begin = (*(before for before, _ in crops), 0)
    return reader.add(Slice(begin, (*sizes, channels), (1,) * (len(spatial) + 1)), inputs, layer)


def _pairs(layer: Layer, key: str, rank: int) -> Pads:
    """(before, after) for each spatial axis, from Keras' several ways to write them."""
    value = layer.fields.raw(key)
    parts = cast(list[object], value) if isinstance(value, (list, tuple)) else [value] * rank
    if rank == 1 and len(parts) == 2 and all(isinstance(one, int) for one in parts):
        parts = [parts]
    pairs: list[tuple[int, int]] = []
    for one in parts:
        pair = cast(list[object], one) if isinstance(one, (list, tuple)) else [one, one]
        if len(pair) != 2 or not all(isinstance(end, int) and 0 <= end <= _MOST for end in pair):
            raise layer.fields.wrong(key, f"{rank} pairs of whole numbers")
        pairs.append((cast(int, pair[0]), cast(int, pair[1])))
    if len(pairs) != rank:
        raise layer.fields.wrong(key, f"{rank} pairs of whole numbers")
    return tuple(pairs)


def _upsampling(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    rank = len(_spatial(reader, layer, inputs[0]))
    if layer.fields.raw("interpolation") not in (None, "nearest"):
        raise Unsupported(
            f"interpolation '{shown(layer.fields.raw('interpolation'))}' is not supported",
            where=layer.where,
            fix="use interpolation='nearest'",
        )
    return reader.add(Upsample(layer.fields.shape("size", rank, 1, _MOST), zeros=False), inputs, layer)


LAYERS: Mapping[str, LayerReader] = {
    "Dense": read_dense,
    "Conv1D": read_conv,
    "Conv2D": read_conv,
    "DepthwiseConv1D": read_depthwise,
    "DepthwiseConv2D": read_depthwise,
    "SeparableConv1D": read_separable,
    "SeparableConv2D": read_separable,
    "Conv1DTranspose": read_transposed,
    "Conv2DTranspose": read_transposed,
    "BatchNormalization": _batch_norm,
    "Activation": _activation,
    **dict.fromkeys(ACTIVATION_LAYERS, _activation_layer),
    "MaxPooling1D": _max_pool,
    "MaxPooling2D": _max_pool,
    "AveragePooling1D": _average_pool,
    "AveragePooling2D": _average_pool,
    "GlobalMaxPooling1D": _global_max,
    "GlobalMaxPooling2D": _global_max,
    "GlobalAveragePooling1D": _global_average,
    "GlobalAveragePooling2D": _global_average,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "Add": _add,
    "Subtract": _subtract,
    "Multiply": _multiply,
    "Concatenate": _concatenate,
    "ZeroPadding1D": _zero_padding,
    "ZeroPadding2D": _zero_padding,
    "Cropping1D": _cropping,
    "Cropping2D": _cropping,
    "UpSampling1D": _upsampling,
    "UpSampling2D": _upsampling,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Dropout": _identity,
    "SpatialDropout1D": _identity,
    "SpatialDropout2D": _identity,
    "SpatialDropout3D": _identity,
    "AlphaDropout": _identity,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "ActivityRegularization": _identity,
    "Identity": _identity,
}

_JOINS = (_add, _subtract, _multiply, _concatenate)
_RECURRENT = "use Conv1D over the time axis, or a Dense on a window of samples"
_EMBED = "compute the embedding outside, and give the model its vectors"
_NORM = "use BatchNormalization, which costs nothing after training"
_TRAINING_ONLY = "leave it out of the saved model: it only changes training data"

INSTEAD: Mapping[str, str] = {
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "SimpleRNN": _RECURRENT,
    "Bidirectional": _RECURRENT,
    "ConvLSTM2D": _RECURRENT,
    "TimeDistributed": "use the inner layer on the whole tensor: Dense works on the last axis",
    "Embedding": _EMBED,
    "MultiHeadAttention": "use Conv1D or SeparableConv1D",
    "Attention": "use Conv1D or SeparableConv1D",
    "LayerNormalization": _NORM,
    "GroupNormalization": _NORM,
    "UnitNormalization": _NORM,
    "Conv3D": "use Conv2D",
    "MaxPooling3D": "use MaxPooling2D",
    "PReLU": "use LeakyReLU or ReLU",
    "Maximum": "use Add, or Concatenate",
    "Minimum": "use Add, or Concatenate",
    "Average": "use Add: a following BatchNormalization or Dense learns the factor",
    "Dot": "use Multiply, or Dense",
    "Resizing": "resize the samples before they reach the model",
    "CenterCrop": "use Cropping2D",
    "RandomFlip": _TRAINING_ONLY,
    "RandomRotation": _TRAINING_ONLY,
    "RandomZoom": _TRAINING_ONLY,
    "RandomTranslation": _TRAINING_ONLY,
    "RandomContrast": _TRAINING_ONLY,
    "RandomBrightness": _TRAINING_ONLY,
    "RandomCrop": _TRAINING_ONLY,
}


def read_layer(reader: Reader, layer: Layer, inputs: tuple[str, ...]) -> str:
    """Reads one layer; returns its tensor. Raises Unsupported by name."""
    function = LAYERS[layer.kind]
    if function not in _JOINS and len(inputs) != 1:
        raise EdgeflowError(f"it reads {len(inputs)} tensors, not one", where=layer.where)
    if function is _identity and inputs[0] in reader.logits:
        return inputs[0]
    layer = replace(layer, name=layer.name.replace("\0", " "))  # a NUL marks the reader's own names
    return function(reader, layer, inputs)


def refuse_unknown(layer: Layer, place: str, path: str) -> None:
    """Raises Unsupported for a layer that cannot be quantized; `place` says where it stands ("layer 4 of 7")."""
    kind = layer.kind
    if kind in LAYERS:
        return
    if kind[:1] == "Q" and kind[1:2].isupper():
        raise Unsupported(
            f"{shown(kind)} is a QKeras layer, already quantized ({place})",
            where=layer.where,
            fix=f"edgeflow import {path} -o graph",
        )
    fix = INSTEAD.get(kind)
    if fix is None:
        close = near(kind.rpartition(".")[2], LAYERS)
        fix = f"use {close}" if close else f"edgeflow quantizes {', '.join(list(LAYERS)[:12])} ..."
    raise Unsupported(f"{shown(kind)} is not supported yet ({place})", where=layer.where, fix=fix)
