"""QKeras models as integer graphs, read from their files without TensorFlow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgeflow.errors import EdgeflowError, InvalidGraph, Unsupported
from edgeflow.frontends.qkeras.content import Content, read_content
from edgeflow.frontends.qkeras.doubts import Doubt
from edgeflow.frontends.qkeras.fields import is_list, shown
from edgeflow.frontends.qkeras.importer import Importer, Value
from edgeflow.frontends.qkeras.layers import LAYERS, MOVES_ONLY, import_layer, unknown_layer
from edgeflow.frontends.qkeras.model import Layer, Model, Ref, read_model
from edgeflow.frontends.qkeras.quantizers import Activation, Steps, read_activation
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, Shape, TensorType
from edgeflow.semantics.verify import LARGEST_TENSOR

_MOST_AXES = 8
_QUANTIZE_INPUT = 'put QActivation("quantized_bits(8, 0, alpha=1)") right after the input'
_DECLARE = f'{_QUANTIZE_INPUT}, or say what the data is: --input "quantized_bits(8, 0, alpha=1)"'


@dataclass(frozen=True)
class Import:
    """A graph, and where the float32 of the model that it came from may decide otherwise."""

    graph: Graph
    doubts: tuple[Doubt, ...]


def load_qkeras(path: Path, weights: Path | None = None, declared: Steps | None = None) -> Graph:
    """The graph of a `.keras` or `.h5` file, or of a JSON architecture and its file of `weights`.

    `declared` says what the data of inputs that no layer quantizes is: integers of that quantizer.
    Raises EdgeflowError; Unsupported for what cannot be exact.
    """
    return import_content(read_content(path, weights), str(path), declared)


def load_with_doubts(path: Path, declared: Steps | None = None) -> Import:
    """As load_qkeras, for a `.keras` or `.h5` file, with the places where float32 may decide otherwise."""
    return import_with_doubts(read_content(path), str(path), declared)


def declared_input(text: str) -> Steps:
    """The quantizer that `--input` names. Raises EdgeflowError for anything but plain steps with alpha 1."""
    steps = read_activation(text, "--input")
    if not isinstance(steps, Steps) or steps.offset or steps.finest is not None or steps.unit != steps.frac:
        raise EdgeflowError(
            f"{shown(text)} is no plain quantizer, from real numbers to the nearest step",
            where="--input",
            fix='use --input "quantized_bits(8, 0, alpha=1)" with your number of bits and integer bits',
        )
    return steps


def import_content(content: Content, where: str, declared: Steps | None = None) -> Graph:
    """The verified graph of a file's content; `where` names the file in errors, `declared` is as in load_qkeras."""
    return import_with_doubts(content, where, declared).graph


def import_with_doubts(content: Content, where: str, declared: Steps | None = None) -> Import:
    """As import_content, with the places where float32 may decide otherwise."""
    model = read_model(content, where)
    _reject_unknown_layers(model)
    importer = Importer(model.name)
    quantizers = _input_quantizers(model)
    if declared is not None:
        _reject_idle_declaration(model, quantizers)
    values = {
        call.ref: _import_input(importer, call.layer, quantizers.get(call.ref), declared)
        for call in model.calls
        if call.layer.kind == "InputLayer"
    }
    count = len({call.layer.index for call in model.calls})
    doubts: list[Doubt] = []
    readers = Counter([*(ref for call in model.calls for ref in call.inputs), *model.outputs])
    for call in model.calls:
        if call.ref in values:
            continue
        inputs = tuple(values[ref] for ref in call.inputs)
        value = import_layer(importer, call.layer, inputs, f"layer {call.layer.index + 1} of {count}")
        doubts += (replace(one, layer=call.layer.name) for one in importer.doubts[len(doubts) :])
        values[call.ref] = value if readers[call.ref] == 1 else replace(value, terms=None)
    _name_outputs(importer, model, values)
    try:
        return Import(importer.builder.finish(), tuple(doubts))
    except InvalidGraph as error:
        raise Unsupported(error.what, where=error.where, fix=error.fix) from None


def _reject_unknown_layers(model: Model) -> None:
    """Names an unknown layer before anything else about the model is judged."""
    count = len({call.layer.index for call in model.calls})
    for call in model.calls:
        if call.layer.kind != "InputLayer" and call.layer.kind not in LAYERS:
            raise unknown_layer(call.layer, f"layer {call.layer.index + 1} of {count}")


def _reject_idle_declaration(model: Model, quantizers: Mapping[Ref, tuple[Layer, Activation]]) -> None:
    """Refuses `--input` for a model whose every input has a quantizer of its own."""
    if model.inputs and all(ref in quantizers for ref in model.inputs):
        layer = quantizers[model.inputs[0]][0]
        raise EdgeflowError(
            "it quantizes the model's input itself, so --input says nothing",
            where=layer.where,
            fix="leave out --input",
        )


def _import_input(
    importer: Importer, layer: Layer, quantizer: tuple[Layer, Activation] | None, declared: Steps | None
) -> Value:
    """Declares a graph input: the integers behind the input quantizer, under the Keras input's name.

    An input that no layer quantizes is what `declared` says: its real values are those integers already.
    """
    if quantizer is None:
        if declared is None:
            raise Unsupported("nothing quantizes this input", where=layer.where, fix=_DECLARE)
        kind = TensorType(_input_shape(layer), declared.lo, declared.hi)
        return Value(importer.builder.input(layer.name, kind, Dyadic(declared.unit)))
    steps = quantizer[1]
    if not isinstance(steps, Steps) or steps.offset or steps.finest is not None:
        raise Unsupported(
            "its quantizer is not a plain one, from real numbers to the nearest step",
            where=layer.where,
            fix=_QUANTIZE_INPUT,
        )
    if steps.unit != steps.frac:
        raise Unsupported(
            "its quantizer has another alpha than 1", where=layer.where, fix="use alpha=1 and more integer bits"
        )
    kind = TensorType(_input_shape(layer), steps.lo, steps.hi)
    return Value(importer.builder.input(layer.name, kind, Dyadic(steps.unit)), unquantized=steps)


def _input_quantizers(model: Model) -> Mapping[Ref, tuple[Layer, Activation]]:
    """For each input the first layer that quantizes it, directly or behind layers that only move values, and how."""
    origins = {ref: ref for ref in model.inputs}
    found: dict[Ref, tuple[Layer, Activation]] = {}
    for call in model.calls:
        carried = [origins[ref] for ref in call.inputs if ref in origins]
        if not carried:
            continue
        if call.layer.kind in ("QActivation", "Activation"):
            steps = read_activation(call.layer.fields.raw("activation"), call.layer.where)
            if steps is None:
                origins[call.ref] = carried[0]
            else:
                found.setdefault(carried[0], (call.layer, steps))
        elif call.layer.kind in MOVES_ONLY:
            origins[call.ref] = carried[0]
    return found


def _input_shape(layer: Layer) -> Shape:
    key = "batch_input_shape" if "batch_input_shape" in layer.fields.data else "batch_shape"
    shape = layer.fields.raw(key)
    if shape is None:
        raise Unsupported(
            "the model does not say what it reads", where=layer.where, fix="start it with keras.Input(shape)"
        )
    axes = shape[1:] if is_list(shape) else []
    if not 0 < len(axes) <= _MOST_AXES:
        raise layer.fields.wrong(key, f"a batch axis and 1 to {_MOST_AXES} more")
    sizes = tuple(int(axis) for axis in axes if isinstance(axis, int) and axis > 0)
    if len(sizes) != len(axes):
        raise Unsupported(
            "an axis of the input has no fixed length", where=layer.where, fix="give keras.Input a full shape"
        )
    if math.prod(sizes) > LARGEST_TENSOR:
        raise Unsupported("the input holds more than 2^24 elements", where=layer.where, fix="make it smaller")
    return sizes


def _name_outputs(importer: Importer, model: Model, values: Mapping[Ref, Value]) -> None:
    """Outputs carry their Keras layer's name, as `keras_model.output_names`; a repeated name gets _2, _3 ..."""
    layers = {call.ref: call.layer for call in model.calls}
    taken: set[str] = set()
    for ref, own_name in zip(model.outputs, model.output_names, strict=True):
        layer = layers[ref]
        if values[ref].unquantized is not None:
            raise Unsupported(f"output '{shown(own_name)}' is a raw input", where=layer.where, fix=_QUANTIZE_INPUT)
        name, number = own_name, 1
        while name in taken:
            number += 1
            name = f"{own_name}_{number}"
        taken.add(name)
        importer.builder.output(name, importer.one_unit(values[ref], layer), logits=values[ref].logits)


__all__ = ["declared_input", "import_content", "load_qkeras"]
