"""Builds the recipe's models with the user's functions, and refuses those that do not fit the data."""

# pyright: basic
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeflow.errors import EdgeflowError
from edgeflow.train.data import Dataset, load_data
from edgeflow.train.quantize import is_quantized, quantize_model
from edgeflow.train.recipe import Config, Training
from edgeflow.train.runtime import Runtime, quiet, save_model, start
from edgeflow.train.usercode import call, load_function

if TYPE_CHECKING:
    import keras

_ENDS = ("softmax", "log_softmax", "sigmoid")


def build_student(config: Config, folder: Path, data: Dataset | None = None) -> Path:
    """Writes the untrained student to `folder/student.untrained.keras` and gives its path.

    For a verdict before training: the sizes are real, the weights random, nothing is pruned yet.
    Raises EdgeflowError when the user's function fails or its model cannot be quantized.
    """
    runtime = start(config.seed)
    model = build_model(runtime, config, "student", data or load_data(config))
    path = folder / "student.untrained.keras"
    save_model(model, path)
    return path


def build_model(runtime: Runtime, config: Config, table: str, data: Dataset) -> keras.Model:
    """The float teacher, or the quantized student, fresh. `table` is "teacher" or "student"."""
    training = config.student if table == "student" else config.teacher
    assert training is not None
    function = load_function(config, (table, "model"), training.model)
    with quiet():
        result = call(function, data.shape, data.classes)
    where = f"{function.file}: {function.name}()"
    model = _functional(runtime, result, where)
    _check_ends(model, data, where)
    if table == "student":
        model = _quantized(runtime, config, model, training, where)
    return model


def _quantized(runtime: Runtime, config: Config, model: keras.Model, training: Training, where: str) -> keras.Model:
    if is_quantized(model):
        if config.quantize is not None:
            raise config.error(
                ("quantize",),
                f"{training.model} already returns a QKeras model",
                fix="remove [quantize] from the recipe",
            )
        return model
    if config.quantize is None:
        raise EdgeflowError(
            "returned a float model, and the recipe has no [quantize]",
            where=where,
            fix=f"add [quantize] to {config.path.name}, or return a QKeras model",
        )
    try:
        return quantize_model(runtime, model, config, config.quantize)
    except EdgeflowError as error:
        error.where = error.where or where
        raise


def _functional(runtime: Runtime, result: Any, where: str) -> keras.Model:
    if not isinstance(result, runtime.keras.Model):
        raise EdgeflowError(
            f"returned {type(result).__name__}, not a Keras model",
            where=where,
            fix="return keras.Model(inputs, outputs)",
        )
    if isinstance(result, runtime.keras.Sequential) and result.built:
        return runtime.keras.Model(result.inputs, result.outputs, name=result.name)
    if not getattr(result, "inputs", None):
        raise EdgeflowError(
            "returned a model without a declared input",
            where=where,
            fix="start with keras.Input(input_shape), and build a functional or Sequential model",
        )
    return result


def _check_ends(model: keras.Model, data: Dataset, where: str) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise EdgeflowError(
            f"returned a model with {len(model.inputs)} inputs and {len(model.outputs)} outputs",
            where=where,
            fix="training takes one of each",
        )
    given, wanted = tuple(model.inputs[0].shape), (None, *data.shape)
    if given != wanted:
        raise EdgeflowError(
            f"returned a model for inputs {given}, but the data gives {wanted}",
            where=where,
            fix="use the input_shape that the function is called with",
        )
    given, wanted = tuple(model.outputs[0].shape), (None, data.classes)
    if given != wanted:
        raise EdgeflowError(
            f"returned a model with outputs {given}, but {data.classes} classes need {wanted}",
            where=where,
            fix="end with Dense(classes)",
        )
    last = model.outputs[0]._keras_history.operation
    end = "softmax" if type(last).__name__ == "Softmax" else getattr(getattr(last, "activation", None), "__name__", "")
    if end in _ENDS:
        raise EdgeflowError(
            f"layer '{last.name}' ends the model with {end}; training takes logits",
            where=where,
            fix=f"leave {end} out: the highest logit is the same class",
        )
