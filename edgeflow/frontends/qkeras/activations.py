"""What stands behind a layer: its quantizer, or a softmax that the integer graph leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.importer import Importer
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import read_activation
from edgeflow.frontends.qkeras.values import Value


def import_activation(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """QActivation and Activation: a quantizer, linear, or a softmax at the model's end."""
    return apply_activation(importer, layer, inputs[0], layer.name)


def import_softmax(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Softmax over the last axis, at the model's end."""
    rank = len(importer.shape(inputs[0]))
    axis = layer.fields.integer("axis", -rank, rank, -1)
    if axis not in (-1, rank):
        raise Unsupported(
            f"a softmax over axis {axis} is not supported", where=layer.where, fix="use the last axis, -1"
        )
    return replace(inputs[0], logits=True)


def apply_activation(importer: Importer, layer: Layer, value: Value, name: str) -> Value:
    """The layer's `activation` on `value`; `name` is for the tensor that it makes.

    A softmax leaves the logits: it keeps their order, so the largest class stays the same.
    """
    data = _plain(layer.fields.raw("activation"))
    if data == "softmax":
        return replace(value, logits=True)
    return importer.activate(value, read_activation(data, layer.where), layer, name)


def _plain(activation: object) -> object:
    """The name of a Keras function that QActivation stores as an object."""
    if isinstance(activation, dict):
        entry = cast(Mapping[str, object], activation)
        if entry.get("class_name") == "function" and entry.get("module") == "builtins":
            return entry.get("config")
    return cast(object, activation)
