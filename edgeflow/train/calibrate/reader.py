"""The state of reading one Keras model: nodes made so far, a layer's weights, and the activation that follows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias, cast

import numpy as np

from edgeflow.errors import EdgeflowError, InvalidGraph, Unsupported, did_you_mean
from edgeflow.frontends.qkeras.fields import Fields, shown
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.ir.graph import Op, Output
from edgeflow.ir.types import Shape
from edgeflow.semantics.verify import LARGEST_TENSOR
from edgeflow.train.calibrate.floats import Clip, FloatArray, FloatGraph, FloatNode, FloatOp, Function, as_float
from edgeflow.train.calibrate.functions import FUNCTIONS, SAME

LINEAR = "_linear"
"""Ends the name of a layer's result in front of its activation."""
_LARGEST_WEIGHT = 2.0**40


class Reader:
    """Adds float nodes on behalf of Keras layers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: dict[str, Shape] = {}
        self.nodes: list[FloatNode] = []
        self.shapes: dict[str, Shape] = {}
        self.logits: dict[str, str] = {}
        self.notes: list[str] = []

    def input(self, name: str, shape: Shape) -> str:
        """Declares an input."""
        self.inputs[name] = self.shapes[name] = shape
        return name

    def add(self, op: FloatOp | Op, inputs: tuple[str, ...], layer: Layer, part: str = "") -> str:
        """Adds a node, named after the layer and the part of it; returns its tensor.

        Raises Unsupported when the op does not fit its inputs or gives more than 2**24 elements.
        """
        name, number = layer.name + part, 1
        while name in self.shapes:
            number += 1
            name = f"{layer.name}{part}_{number}"
        for one in inputs:
            if one in self.logits:
                raise Unsupported(
                    "it reads a softmax, and a softmax is supported at the end of a model only",
                    where=layer.where,
                    fix="let it read the logits in front of the softmax",
                )
        chosen = as_float(op)
        try:
            shape = chosen.shape(tuple(self.shapes[one] for one in inputs))
        except InvalidGraph as error:
            raise Unsupported(error.what, where=layer.where, fix=error.fix) from None
        if math.prod(shape) > LARGEST_TENSOR:
            raise Unsupported("its result holds more than 2^24 elements", where=layer.where, fix="make it smaller")
        self.nodes.append(FloatNode(name, chosen, inputs, layer.name))
        self.shapes[name] = shape
        return name

    def softmax(self, source: str, layer: Layer) -> str:
        """A softmax: a name that only an output may carry, for the logits behind it."""
        name = f"{layer.name}\0softmax"
        self.logits[name] = source
        self.shapes[name] = self.shapes[source]
        self.notes.append(
            f"'{layer.name}': its softmax is left out, the output is its logits (the largest class is the same)"
        )
        return name

    def finish(self, outputs: tuple[Output, ...]) -> FloatGraph:
        """The network."""
        ends = tuple(
            replace(one, tensor=self.logits[one.tensor], logits=True) if one.tensor in self.logits else one
            for one in outputs
        )
        return FloatGraph(self.name, dict(self.inputs), tuple(self.nodes), ends)


def weight(layer: Layer, names: tuple[str, ...], name: str, shape: Shape) -> FloatArray:
    """A stored weight: `names` are all weights of the layer, in Keras' order (a `.keras` file numbers them).

    Raises EdgeflowError when the file holds none, another shape, or values that are no usable numbers.
    """
    slots = [str(names.index(name)), name, *(("depthwise_kernel",) if name == "kernel" else ())]
    values = next((layer.weights[slot] for slot in slots if slot in layer.weights), None)
    if values is None:
        raise EdgeflowError(f"the file holds no {name} for it", where=layer.where, fix="save the whole model again")
    if values.shape != shape:
        raise EdgeflowError(
            f"its {name} has shape {values.shape} in the file, its configuration asks for {shape}",
            where=layer.where,
            fix="save the whole model again",
        )
    if not np.isfinite(values).all():
        raise EdgeflowError(
            f"its {name} holds NaN or infinite values", where=layer.where, fix="train it again: it has diverged"
        )
    if values.size and float(np.abs(values).max()) > _LARGEST_WEIGHT:
        raise EdgeflowError(
            f"its {name} holds values beyond 2^40", where=layer.where, fix="train it again: it has diverged"
        )
    return values


def activate(reader: Reader, source: str, layer: Layer, part: str) -> str:
    """The activation that a layer applies to its result; no node for a linear one."""
    value = layer.fields.raw("activation")
    if isinstance(value, dict):
        return _activation_object(reader, source, layer, cast(Mapping[str, object], value), part)
    if value is None or value == "linear":
        return source
    if not isinstance(value, str):
        raise layer.fields.wrong("activation", "the name of an activation")
    return _named(reader, source, layer, value, part)


def _named(reader: Reader, source: str, layer: Layer, value: str, part: str) -> str:
    name = value.rpartition(">")[2]
    name = SAME.get(name, name)
    if name == "linear":
        return source
    if name in ("softmax", "log_softmax"):
        return reader.softmax(source, layer)
    if name in ("relu", "relu6"):
        return reader.add(Clip(0.0, math.inf if name == "relu" else 6.0), (source,), layer, part)
    if "(" in name:
        raise Unsupported(
            f"its activation {shown(value)} is a QKeras quantizer", where=layer.where, fix="use edgeflow import"
        )
    if name not in FUNCTIONS:
        raise Unsupported(
            f"activation '{shown(value)}' is not supported{did_you_mean(name, FUNCTIONS)}",
            where=layer.where,
            fix=f"use one of: relu, relu6, {', '.join(FUNCTIONS)}",
        )
    return reader.add(Function(name, FUNCTIONS[name].defaults), (source,), layer, part)


def _activation_object(reader: Reader, source: str, layer: Layer, value: Mapping[str, object], part: str) -> str:
    """An activation that the file describes: a function's name, or a layer such as LeakyReLU."""
    kind, config = value.get("class_name"), value.get("config")
    if isinstance(config, str):
        return _named(reader, source, layer, config, part)
    if isinstance(kind, str) and kind in ACTIVATION_LAYERS and isinstance(config, dict):
        inner = Layer(layer.name, kind, layer.index, Fields(cast(Mapping[str, object], config), layer.where), {})
        return ACTIVATION_LAYERS[kind](reader, inner, source, part)
    raise Unsupported(
        f"its activation {shown(kind)} is not supported", where=layer.where, fix="use a named activation such as relu"
    )


def _relu(reader: Reader, layer: Layer, source: str, part: str) -> str:
    largest = math.inf if layer.fields.raw("max_value") is None else layer.fields.number("max_value")
    slope, threshold = (
        0.0 if layer.fields.raw(key) is None else layer.fields.number(key) for key in ("negative_slope", "threshold")
    )
    if slope == 0.0 and threshold == 0.0 and largest >= 0:
        return reader.add(Clip(0.0, largest), (source,), layer, part)
    return reader.add(Function("relu", (slope, largest, threshold)), (source,), layer, part)


def _leaky_relu(reader: Reader, layer: Layer, source: str, part: str) -> str:
    key = "alpha" if layer.fields.raw("negative_slope") is None else "negative_slope"
    return reader.add(Function("leaky_relu", (layer.fields.number(key, 0.3),)), (source,), layer, part)


def _elu(reader: Reader, layer: Layer, source: str, part: str) -> str:
    return reader.add(Function("elu", (layer.fields.number("alpha", 1.0),)), (source,), layer, part)


def _softmax(reader: Reader, layer: Layer, source: str, part: str) -> str:
    axis = layer.fields.raw("axis")
    if axis not in (None, -1, [-1], len(reader.shapes[source])):
        raise Unsupported("its axis is not the last one", where=layer.where, fix="use axis=-1")
    return reader.softmax(source, layer)


ActivationLayer: TypeAlias = Callable[[Reader, Layer, str, str], str]
ACTIVATION_LAYERS: Mapping[str, ActivationLayer] = {
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "Softmax": _softmax,
}
"""Keras layers that are activations with parameters."""
