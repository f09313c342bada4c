"""A float Keras file as a float network, without Keras."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends import is_tflite
from edgeflow.frontends.qkeras.content import read_content
from edgeflow.frontends.qkeras.fields import shown
from edgeflow.frontends.qkeras.model import Call, Ref, read_model
from edgeflow.ir.graph import Output
from edgeflow.ir.types import Shape
from edgeflow.semantics.verify import LARGEST_TENSOR
from edgeflow.train.calibrate.floats import FloatGraph
from edgeflow.train.calibrate.layers import read_layer, refuse_unknown
from edgeflow.train.calibrate.reader import Reader

_MOST_AXES = 4


def read_float(path: Path) -> tuple[FloatGraph, tuple[str, ...]]:
    """The network of a `.keras` or `.h5` file, and what a user should know about how it was read.

    Raises EdgeflowError for a file that is no readable model, Unsupported for a layer that cannot be quantized.
    """
    if not path.is_file():
        what = "is a folder, not a model file" if path.is_dir() else "does not exist"
        raise EdgeflowError(what, where=str(path), fix="give a file saved with model.save('model.keras')")
    if is_tflite(path):
        raise Unsupported(
            "a TFLite model: quantize takes the float Keras model",
            where=str(path),
            fix="give that; an int8 or 16x8 .tflite file is quantized: edgeflow import reads it as it is",
        )
    model = read_model(read_content(path), str(path))
    layers = [call.layer for call in model.calls if call.layer.kind != "InputLayer"]
    count = len({call.layer.index for call in model.calls})
    for layer in layers:
        refuse_unknown(layer, f"layer {layer.index + 1} of {count}", str(path))
    reader = Reader(model.name)
    tensors: dict[Ref, str] = {}
    kept = {call.ref: call for call in model.calls}
    for ref in model.inputs:
        tensors[ref] = reader.input(kept[ref].layer.name, _input_shape(kept[ref]))
    for call in model.calls:
        if call.layer.kind == "InputLayer":
            if call.ref not in tensors:
                raise EdgeflowError("it is not one of the model's inputs", where=call.layer.where)
            continue
        tensors[call.ref] = read_layer(reader, call.layer, tuple(tensors[ref] for ref in call.inputs))
    names = unlike(model.output_names)
    graph = reader.finish(tuple(Output(*pair) for pair in zip(names, (tensors[r] for r in model.outputs), strict=True)))
    if not graph.nodes:
        raise Unsupported("the model computes nothing", where=str(path), fix="give it a layer with weights")
    return graph, tuple(reader.notes)


def unlike(names: Iterable[str]) -> list[str]:
    """The names, a repeated one with _2, _3 ... added: how Keras names outputs."""
    taken: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.append(candidate)
    return taken


def _input_shape(call: Call) -> Shape:
    shape = call.layer.fields.raw("batch_shape") or call.layer.fields.raw("batch_input_shape")
    axes = cast(list[object], shape)[1:] if isinstance(shape, list) else []
    if not 0 < len(axes) <= _MOST_AXES:
        raise call.layer.fields.wrong("batch_shape", f"a batch axis and 1 to {_MOST_AXES} more")
    sizes = tuple(int(axis) for axis in axes if isinstance(axis, int) and axis > 0)
    if len(sizes) != len(axes):
        raise Unsupported(
            f"an axis of input '{shown(call.layer.name)}' has no fixed length",
            where=call.layer.where,
            fix="give keras.Input a full shape",
        )
    if math.prod(sizes) > LARGEST_TENSOR:
        raise Unsupported("the input holds more than 2^24 elements", where=call.layer.where, fix="make it smaller")
    return sizes
