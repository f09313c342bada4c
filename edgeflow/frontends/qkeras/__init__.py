"""QKeras models as integer graphs, read from their files without TensorFlow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from edgeflow.errors import EdgeflowError, InvalidGraph, Unsupported
from edgeflow.frontends.qkeras.content import Content, read_content
from edgeflow.frontends.qkeras.fields import shown
from edgeflow.frontends.qkeras.importer import Importer, Value
from edgeflow.frontends.qkeras.layers import LAYERS, MOVES_ONLY, import_layer, unknown_layer
from edgeflow.frontends.qkeras.model import Call, Model, Ref, read_model
from edgeflow.frontends.qkeras.quantizers import Steps, read_activation
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, Shape, TensorType
from edgeflow.semantics.verify import LARGEST_TENSOR

_MOST_AXES = 8
_QUANTIZE_INPUT = 'put QActivation("quantized_bits(8, 0, alpha=1)") right after the input'


def load_qkeras(path: Path) -> Graph:
    """The graph of a `.keras` or `.h5` file. Raises EdgeflowError; Unsupported for what cannot be exact."""
    return import_content(read_content(path), str(path))


def import_content(content: Content, where: str) -> Graph:
    """The verified graph of a file's content; `where` names the file in errors."""
    model = read_model(content, where)
    _reject_unknown_layers(model)
    importer = Importer(model.name)
    values = {ref: _import_input(importer, model, ref) for ref in model.inputs}
    count = len({call.layer.index for call in model.calls})
    readers = Counter([*(ref for call in model.calls for ref in call.inputs), *model.outputs])
    for call in model.calls:
        if call.layer.kind == "InputLayer":
            if call.ref not in values:
                raise EdgeflowError("it is not one of the model's inputs", where=call.layer.where)
            continue
        inputs = tuple(values[ref] for ref in call.inputs)
        value = import_layer(importer, call.layer, inputs, f"layer {call.layer.index + 1} of {count}")
        values[call.ref] = value if readers[call.ref] == 1 else replace(value, terms=None)
    _name_outputs(importer, model, values)
    try:
        return importer.builder.finish()
    except InvalidGraph as error:
        raise Unsupported(error.what, where=error.where, fix=error.fix) from None


def _reject_unknown_layers(model: Model) -> None:
    """Names an unknown layer before anything else about the model is judged."""
    count = len({call.layer.index for call in model.calls})
    for call in model.calls:
        if call.layer.kind != "InputLayer" and call.layer.kind not in LAYERS:
            raise unknown_layer(call.layer, f"layer {call.layer.index + 1} of {count}")


def _import_input(importer: Importer, model: Model, ref: Ref) -> Value:
    """Declares a graph input: the integers behind the input quantizer, under the Keras input's name."""
    call = next(one for one in model.calls if one.ref == ref)
    found = list(_input_quantizers(model, ref))
    if not found:
        raise Unsupported("nothing quantizes this input", where=call.layer.where, fix=_QUANTIZE_INPUT)
    steps = found[0]
    if steps.unit != steps.frac:
        raise Unsupported(
            "its quantizer has another alpha than 1", where=call.layer.where, fix="use alpha=1 and more integer bits"
        )
    kind = TensorType(_input_shape(call), steps.lo, steps.hi)
    return Value(importer.builder.input(call.layer.name, kind, Dyadic(steps.unit)), unquantized=steps)


def _input_quantizers(model: Model, ref: Ref) -> list[Steps]:
    """The quantizers that read an input directly or through layers that only move values."""
    carriers = {ref}
    found: list[Steps] = []
    for call in model.calls:
        if not carriers & set(call.inputs):
            continue
        steps = None
        if call.layer.kind in ("QActivation", "Activation"):
            steps = read_activation(call.layer.fields.raw("activation"), call.layer.where)
            if steps is None:
                carriers.add(call.ref)
        elif call.layer.kind in MOVES_ONLY:
            carriers.add(call.ref)
        if steps is not None:
            found.append(steps)
    return found


def _input_shape(call: Call) -> Shape:
    shape = call.layer.fields.raw("batch_shape")
    axes = cast(list[object], shape)[1:] if isinstance(shape, list) else []
    if not 0 < len(axes) <= _MOST_AXES:
        raise call.layer.fields.wrong("batch_shape", f"a batch axis and 1 to {_MOST_AXES} more")
    sizes = tuple(int(axis) for axis in axes if isinstance(axis, int) and axis > 0)
    if len(sizes) != len(axes):
        raise Unsupported(
            "an axis of the input has no fixed length", where=call.layer.where, fix="give keras.Input a full shape"
        )
    if math.prod(sizes) > LARGEST_TENSOR:
        raise Unsupported("the input holds more than 2^24 elements", where=call.layer.where, fix="make it smaller")
    return sizes


def _name_outputs(importer: Importer, model: Model, values: Mapping[Ref, Value]) -> None:
    """Outputs carry their Keras layer's name, as `keras_model.output_names`; a repeated name gets _2, _3 ..."""
    layers = {call.ref: call.layer for call in model.calls}
    taken: set[str] = set()
    for ref in model.outputs:
        layer = layers[ref]
        if values[ref].unquantized is not None:
            raise Unsupported(f"output '{shown(layer.name)}' is a raw input", where=layer.where, fix=_QUANTIZE_INPUT)
        name, number = layer.name, 1
        while name in taken:
            number += 1
            name = f"{layer.name}_{number}"
        taken.add(name)
        importer.builder.output(name, importer.one_unit(values[ref], layer))


__all__ = ["import_content", "load_qkeras"]
