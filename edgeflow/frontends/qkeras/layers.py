"""Which Keras layers edgeflow imports, each by one function; everything else is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edgeflow.errors import EdgeflowError, InvalidGraph, Unsupported, near
from edgeflow.frontends.qkeras.fields import shown
from edgeflow.frontends.qkeras.importer import Importer, Value
from edgeflow.frontends.qkeras.linear import import_conv2d, import_dense
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.pooling import (
    import_average_pool,
    import_global_average,
    import_global_max,
    import_max_pool,
)
from edgeflow.frontends.qkeras.quantizers import read_activation
from edgeflow.ir.types import Shape
from edgeflow.ops.add import Add
from edgeflow.ops.reshape import Reshape

LayerImport = Callable[[Importer, Layer, tuple[Value, ...]], Value]
_LONGEST_AXIS = 1 << 24


def import_activation(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """QActivation and Activation: a quantizer, or linear."""
    steps = read_activation(layer.fields.raw("activation"), layer.where)
    return inputs[0] if steps is None else importer.quantize(inputs[0], steps, layer, layer.name)


def import_identity(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """A layer that does nothing at inference."""
    return inputs[0]


def import_flatten(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Flatten: one axis, row-major."""
    if layer.fields.raw("data_format") not in (None, "channels_last"):
        raise Unsupported("data_format 'channels_first' is not supported", where=layer.where, fix="use channels_last")
    return _reshape(importer, layer, inputs[0], (math.prod(importer.shape(inputs[0])),))


def import_reshape(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Reshape: -1 stands for what is left."""
    size = math.prod(importer.shape(inputs[0]))
    target = list(layer.fields.shape("target_shape", None, -1, _LONGEST_AXIS))
    known = math.prod(axis for axis in target if axis != -1)
    if target.count(-1) == 1 and known > 0 and size % known == 0:
        target[target.index(-1)] = size // known
    if not 0 < len(target) <= 8 or min(target) < 1 or math.prod(target) != size:
        raise EdgeflowError(
            f"a tensor of shape {importer.shape(inputs[0])} cannot become {tuple(target)}",
            where=layer.where,
            fix="correct its target_shape",
        )
    return _reshape(importer, layer, inputs[0], tuple(target))


def import_add(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Add: inputs of one shape, brought to the finest unit among them."""
    if len(inputs) < 2:
        raise EdgeflowError(f"it adds {len(inputs)} tensor", where=layer.where, fix="give it two or more tensors")
    shapes = [importer.shape(one) for one in inputs]
    if len(set(shapes)) != 1:
        raise Unsupported(
            f"it adds tensors of different shapes: {', '.join(map(str, shapes))}",
            where=layer.where,
            fix="give all its inputs one shape",
        )
    tensors = tuple(importer.settle(one, layer) for one in inputs)
    finest = importer.frac(tensors[0])
    for tensor in tensors[1:]:
        finest = np.maximum(finest, importer.frac(tensor))
    terms = importer.sum_terms(inputs, tensors, layer)
    aligned = tuple(importer.align(tensor, finest, layer) for tensor in tensors)
    return Value(importer.add(Add((1,) * len(aligned)), aligned, finest, layer), terms=terms)


def _reshape(importer: Importer, layer: Layer, value: Value, target: Shape) -> Value:
    source = importer.shape(value)
    if source == target:
        return value
    divisor = value.divisor
    if divisor is not None and divisor.size > 1:
        divisor = np.broadcast_to(divisor, source).reshape(target)
    frac = importer.frac(value.tensor)
    if frac.ndim and source[-1] != target[-1]:
        if divisor is not None:
            value = replace(value, tensor=importer.align(value.tensor, frac.max(), layer))
        else:
            value = Value(importer.one_unit(value, layer))
        frac = importer.frac(value.tensor)
    tensor = importer.add(Reshape(target), (value.tensor,), frac, layer)
    return replace(value, tensor=tensor, divisor=divisor, terms=None)


LAYERS: Mapping[str, LayerImport] = {
    "QDense": import_dense,
    "QConv2D": import_conv2d,
    "QActivation": import_activation,
    "Activation": import_activation,
    "MaxPooling2D": import_max_pool,
    "AveragePooling2D": import_average_pool,
    "GlobalMaxPooling2D": import_global_max,
    "GlobalAveragePooling2D": import_global_average,
    "Flatten": import_flatten,
    "Reshape": import_reshape,
    "Add": import_add,
    "Dropout": import_identity,
    "SpatialDropout1D": import_identity,
    "SpatialDropout2D": import_identity,
    "SpatialDropout3D": import_identity,
    "AlphaDropout": import_identity,
    "GaussianDropout": import_identity,
    "GaussianNoise": import_identity,
    "ActivityRegularization": import_identity,
    "Identity": import_identity,
}

MOVES_ONLY = {name for name, function in LAYERS.items() if function is import_identity} | {"Flatten", "Reshape"}
"""Layers that change no value: an input quantizer may stand behind them."""

_SOFTMAX = "end the model at its logits: the largest class stays the same"
_BATCH_NORM = "train the quantized layers without batch normalization: edgeflow cannot fold it exactly yet"
_AVERAGE = "use AveragePooling2D or GlobalAveragePooling2D, then QActivation"
_FLATTENED = "build one flat model: copy the inner model's layers into the outer one"

INSTEAD: Mapping[str, str] = {
    "Dense": "use QDense with a kernel_quantizer",
    "Conv2D": "use QConv2D with a kernel_quantizer",
    "Conv1D": "use QConv2D on an input of shape (1, length, channels)",
    "QConv1D": "use QConv2D on an input of shape (1, length, channels)",
    "DepthwiseConv2D": "use QConv2D",
    "QDepthwiseConv2D": "use QConv2D",
    "QSeparableConv2D": "use QConv2D",
    "BatchNormalization": _BATCH_NORM,
    "QBatchNormalization": _BATCH_NORM,
    "QConv2DBatchnorm": f"use QConv2D: {_BATCH_NORM}",
    "QDenseBatchnorm": f"use QDense: {_BATCH_NORM}",
    "Softmax": _SOFTMAX,
    "ReLU": 'use QActivation("quantized_relu(8, 2)")',
    "QAveragePooling2D": _AVERAGE,
    "QGlobalAveragePooling2D": _AVERAGE,
    "Concatenate": "use Add, or give each branch its own output",
    "Subtract": "use Add",
    "ZeroPadding2D": "use padding='same' in the next QConv2D",
    "QAdaptiveActivation": "use QActivation: qkeras-v3 cannot save or reload QAdaptiveActivation",
    "Sequential": _FLATTENED,
    "Functional": _FLATTENED,
    "Model": _FLATTENED,
}


def import_layer(importer: Importer, layer: Layer, inputs: tuple[Value, ...], place: str) -> Value:
    """Imports one layer; `place` says where it stands ("layer 4 of 7"). Raises Unsupported by name."""
    function = LAYERS.get(layer.kind)
    if function is None:
        raise unknown_layer(layer, place)
    _reject_dtype(layer)
    if function is not import_add and len(inputs) != 1:
        raise EdgeflowError(f"it reads {len(inputs)} tensors, not one", where=layer.where)
    try:
        return function(importer, layer, inputs)
    except InvalidGraph as error:
        raise Unsupported(error.what, where=layer.where, fix=error.fix) from None


def unknown_layer(layer: Layer, place: str) -> Unsupported:
    """The error for a layer that edgeflow does not import; not raised here."""
    fix = INSTEAD.get(layer.kind)
    if fix is None:
        close = near(layer.kind.rpartition(".")[2], LAYERS)
        fix = f"use {close}" if close else f"edgeflow imports {', '.join(list(LAYERS)[:11])}"
    return Unsupported(f"{shown(layer.kind)} is not supported yet ({place})", where=layer.where, fix=fix)


def _reject_dtype(layer: Layer) -> None:
    policy = layer.fields.raw("dtype")
    match policy:
        case None | "float32" | {"class_name": "DTypePolicy", "config": {"name": "float32"}}:
            return
        case _:
            raise Unsupported(
                "its dtype policy is not float32", where=layer.where, fix="build the model with dtype='float32'"
            )
