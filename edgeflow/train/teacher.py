"""Trains the float teacher, whose logits the student learns from."""

# pyright: basic
from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow import __version__
from edgeflow.errors import EdgeflowError
from edgeflow.train.build import build_model
from edgeflow.train.data import Dataset
from edgeflow.train.distill import cross_entropy
from edgeflow.train.loop import Run, Samples, accuracy, discard, fit, logits
from edgeflow.train.progress import Progress, silent
from edgeflow.train.recipe import Config
from edgeflow.train.results import TeacherResult, read_record, teacher_from, write_record
from edgeflow.train.runtime import quiet, save_model, start
from edgeflow.train.usercode import read_source


def train_teacher(
    config: Config, data: Dataset, folder: Path, progress: Progress = silent, *, fresh: bool = False
) -> TeacherResult:
    """Trains the teacher on the labels and writes `folder/teacher.keras`.

    The same recipe, data, code and seed give the same bytes. A file that a former run made from the same is
    taken as it is, an interrupted run goes on after its last finished epoch; `fresh` starts anew.
    Raises EdgeflowError when the recipe has no teacher, or the user's function fails.
    """
    if config.teacher is None:
        raise EdgeflowError("the recipe has no [teacher]", where=str(config.path), fix="add a [teacher] table")
    path = folder / "teacher.keras"
    source = read_source(config, ("teacher", "model"), config.teacher.model)
    key = fingerprint("teacher", config.seed, config.teacher, data.digest, source)
    run = Run("teacher", config.teacher, config.seed, folder / "teacher.checkpoint.npz", key)
    if fresh:
        discard(run)
    elif (record := read_record(path, key)) and (former := teacher_from(record, path)):
        return former
    runtime = start(config.seed)
    model = build_model(runtime, config, "teacher", data)
    history = fit(runtime, model, Samples(data.x_train, data.y_train), cross_entropy(runtime), run, progress)
    save_model(model, path)
    parameters = model.count_params()
    result = TeacherResult(path, accuracy(model, data.x_test, data.y_test), parameters, parameters * 32, history)
    write_record(result, key)
    discard(run)
    return result


def teacher_logits(
    config: Config, data: Dataset, teacher: Path, inputs: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The logits (n, classes) of the teacher in a file on some inputs (n, *data.shape).

    The model itself is built by the user's function, so that it may hold layers of the user's own.
    Raises EdgeflowError when the file does not hold that model's weights.
    """
    model = build_model(start(config.seed), config, "teacher", data)
    try:
        with quiet():
            model.load_weights(teacher)
    except Exception as error:  # noqa: BLE001  Keras raises many kinds
        said = " ".join(str(error).split())
        raise EdgeflowError(
            f"does not hold the weights of [teacher]'s model: {said[:200]}",
            where=str(teacher),
            fix="train the teacher again",
        ) from None
    return logits(model, inputs)


def fingerprint(*parts: object) -> str:
    """A digest of all that decides a training's result, edgeflow's version among it."""
    return hashlib.sha256(repr((__version__, *parts)).encode()).hexdigest()
