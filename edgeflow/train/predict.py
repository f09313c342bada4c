"""Runs a student file with Keras and QKeras on samples: the outputs that every target must equal."""

# pyright: basic
from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from edgeflow.errors import EdgeflowError, Unsupported, did_you_mean
from edgeflow.frontends.qkeras.content import read_content
from edgeflow.frontends.qkeras.layers import IDLE
from edgeflow.train.runtime import Runtime, Tensor, load_runtime, quiet
from edgeflow.train.tiefree import tie_free_class
from edgeflow.vectors import InputData

if TYPE_CHECKING:
    import keras

FloatArray = npt.NDArray[np.float32]

_CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
_NESTED = ("Sequential", "Functional", "Model")
_LARGEST_BATCH = 256


def predict(
    student: Path, inputs: InputData | Mapping[str, FloatArray] | FloatArray, batch: int = _LARGEST_BATCH
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Inputs and outputs by layer name: what `keras.Model.predict` gives for a model file, `batch` samples at a time.

    A softmax at an output is left out, as the integer graph leaves it out: that output is its logits.
    `inputs` are arrays by the name of the input layer, or a single array for a model with one input,
    each of shape (n, *input shape). Outputs carry their layer's name, a repeated one `_2`, `_3` ...
    Raises EdgeflowError for a file that is no Keras model, one with code in it, and inputs that do not fit.
    """
    model = open_student(student)
    given = fitting(model, inputs)
    arrays = list(given.values())
    try:
        with quiet():
            result = model.predict(arrays[0] if len(arrays) == 1 else arrays, batch_size=batch, verbose=0)  # pyright: ignore[reportArgumentType]
    except Exception as error:  # noqa: BLE001 - Keras raises what it likes
        raise cannot_run(error, student) from None
    results = results_of(result)
    outputs = dict(zip(names_of(model.outputs), (np.asarray(one, dtype=np.float32) for one in results), strict=True))
    return given, outputs


def open_student(path: Path) -> keras.Model:
    """As `load_model`, with the softmax at an output left out."""
    model = load_model(path)
    _leave_out_softmax(model)
    return model


def results_of(result: Any) -> list[Any]:
    """What calling a model gives, in the order of model.outputs: for a dict that of its keys."""
    if isinstance(result, dict):
        return [result[key] for key in sorted(result)]
    return list(result) if isinstance(result, list | tuple) else [result]


def cannot_run(error: Exception, path: Path) -> EdgeflowError:
    """The error for a model that Keras loads and cannot run; not raised here."""
    said = " ".join(str(error).split())[:200]
    return EdgeflowError(
        f"Keras cannot run this model: {said}", where=str(path), fix="try model.predict on it in Python"
    )


def _leave_out_softmax(model: keras.Model) -> None:
    """Makes the layers that end in a softmax give their logits."""
    for tensor in model.outputs:
        source = tensor._keras_history
        while (inner := _before(source)) is not None:
            source = inner._keras_history
        layer = source.operation
        if type(layer).__name__ == "Softmax":
            layer.call = _same
        elif getattr(getattr(layer, "activation", None), "__name__", "") == "softmax":
            layer.activation = _same


def _before(source: Any) -> Tensor | None:
    """What really gives a tensor: in a model within the model its own output, before a layer that is idle its input."""
    if hasattr(source.operation, "layers"):
        return source.operation.outputs[source.tensor_index]
    return source.operation.input if type(source.operation).__name__ in IDLE else None


def _same(values: Tensor, *_: object, **__: object) -> Tensor:
    return values


def load_model(path: Path) -> keras.Model:
    """A `.keras` or `.h5` model of Keras and QKeras layers, not compiled.

    Its configuration is read first, in a guarded child process; a layer that holds code is refused by name.
    Raises EdgeflowError when the file is missing, damaged, or cannot be loaded.
    """
    if not path.is_file():
        what = "is a folder, not a model file" if path.is_dir() else "does not exist"
        raise EdgeflowError(what, where=str(path), fix="give a file saved with model.save('model.keras')")
    described = tuple(_described(read_content(path).config))
    for one in described:
        if one.kind in _CODE:
            raise Unsupported(
                f"layer '{one.name}' ({one.kind}) holds code, and edgeflow runs no code from a model file",
                where=str(path),
                fix="replace it by a layer of Keras or QKeras",
            )
    runtime = load_runtime()
    for one in described:
        known = one.kind in _NESTED or any(hasattr(home, one.kind) for home in (runtime.keras.layers, runtime.qkeras))
        if one.layer and not known:
            raise Unsupported(
                f"layer '{one.name}' ({one.kind}) is none of Keras' or QKeras' own",
                where=str(path),
                fix="replace it by a layer of Keras or QKeras",
            )
    return _load(runtime, path)


def _load(runtime: Runtime, path: Path) -> keras.Model:
    objects: dict[str, object] = {}
    with quiet():
        importlib.import_module("qkeras.utils")._add_supported_quantized_objects(objects)
        tie_free_class(runtime)
        try:
            model = runtime.keras.models.load_model(path, custom_objects=objects, compile=False, safe_mode=True)
        except Exception as error:  # noqa: BLE001  Keras raises many kinds
            said = " ".join(str(error).split())
            raise EdgeflowError(
                f"Keras cannot load this model: {said[:200]}",
                where=str(path),
                fix="save it again with the Keras and QKeras that are installed here",
            ) from None
    if not getattr(model, "inputs", None):
        raise EdgeflowError(
            "the model has no declared input",
            where=str(path),
            fix="start it with keras.Input(shape), and save it again",
        )
    return model


@dataclass(frozen=True)
class _Described:
    """Something that has a class in a configuration; `layer` if it stands in a model's list of layers."""

    kind: str
    name: str
    layer: bool


def _described(config: object) -> Iterator[_Described]:
    """Everything in a configuration that has a class, however deep."""
    todo: list[tuple[object, bool]] = [(config, False)]
    while todo:
        one, layer = todo.pop()
        if isinstance(one, list):
            todo.extend((element, layer) for element in cast(list[object], one))
        elif isinstance(one, dict):
            entry = cast(dict[str, object], one)
            todo.extend((value, key == "layers") for key, value in entry.items())
            kind, inner = entry.get("class_name"), entry.get("config")
            if isinstance(kind, str):
                name = cast(dict[str, object], inner).get("name", kind) if isinstance(inner, dict) else kind
                yield _Described(kind.split(">")[-1], str(name)[:80], layer)


def names_of(tensors: list[Tensor]) -> list[str]:
    """The names of the layers that tensors come from, unlike one another."""
    names: list[str] = []
    for tensor in tensors:
        layer = cast(str, tensor._keras_history.operation.name)
        name, number = layer, 1
        while name in names:
            number += 1
            name = f"{layer}_{number}"
        names.append(name)
    return names


def fitting(model: keras.Model, inputs: InputData | Mapping[str, FloatArray] | FloatArray) -> dict[str, FloatArray]:
    """Float32 arrays by input name, in the model's order, of the shapes that it takes."""
    expected = dict(zip(names_of(model.inputs), (tuple(tensor.shape) for tensor in model.inputs), strict=True))
    return fit_inputs(expected, inputs)


def fit_inputs(
    expected: Mapping[str, tuple[int | None, ...]], inputs: InputData | Mapping[str, FloatArray] | FloatArray
) -> dict[str, FloatArray]:
    """Float32 arrays by input name, in the order and of the shapes `expected` (batch axis first; None: any length).

    Raises EdgeflowError for an input that is missing or unknown, of another shape, empty, or not finite.
    """
    where = None
    if isinstance(inputs, InputData):
        where = inputs.where
        inputs = inputs.named if inputs.only is None else inputs.only
    if isinstance(inputs, np.ndarray):
        if len(expected) != 1:
            raise EdgeflowError(
                f"one array for a model with {len(expected)} inputs",
                where=where,
                fix=f"give an .npz with one array each: {', '.join(expected)}",
            )
        inputs = {next(iter(expected)): inputs}
    for name in inputs:
        if name not in expected:
            raise EdgeflowError(
                f'the model has no input "{name}"{did_you_mean(name, expected)}',
                where=where,
                fix=f"its inputs: {', '.join(expected)}",
            )
    return {name: _one(name, shape, inputs, where) for name, shape in expected.items()}


def _one(name: str, shape: tuple[int | None, ...], inputs: Mapping[str, FloatArray], where: str | None) -> FloatArray:
    if name not in inputs:
        raise EdgeflowError(f'no data for input "{name}"', where=where, fix=f"add an array of shape {_shown(shape)}")
    array = np.asarray(inputs[name], dtype=np.float32)
    if not _fits(array.shape, shape) or not len(array):
        raise EdgeflowError(
            f'input "{name}" takes {_shown(shape)}, but the data has shape {array.shape}',
            where=where,
            fix="give the samples along the first axis, in the shape that the model was trained on"
            + _axis(array, shape),
        )
    if not np.isfinite(array).all():
        raise EdgeflowError(
            f'the data for input "{name}" holds NaN or infinite values', where=where, fix="remove or replace them"
        )
    return array


def _axis(array: FloatArray, shape: tuple[int | None, ...]) -> str:
    """How to add the last axis, where that is all that is missing."""
    return "; for example x[..., None]" if len(array) and _fits((*array.shape, 1), shape) else ""


def _fits(have: tuple[int, ...], want: tuple[int | None, ...]) -> bool:
    return len(have) == len(want) and all(b is None or a == b for a, b in zip(have, want, strict=True))


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join(['n', *('any' if axis is None else str(axis) for axis in shape[1:])])})"
