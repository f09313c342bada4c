"""Trains the student: quantized from the first step, distilled from the teacher, pruned on a schedule."""

# pyright: basic
from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from edgeflow.artifacts import file_digest
from edgeflow.errors import did_you_mean
from edgeflow.train.build import build_model
from edgeflow.train.data import Dataset
from edgeflow.train.distill import cross_entropy, distillation, with_blends
from edgeflow.train.loop import Pruned, Run, Samples, accuracy, discard, fit
from edgeflow.train.progress import Progress, silent
from edgeflow.train.prune import default_end, sparsity_at
from edgeflow.train.quantize import kernel_of, layer_sizes
from edgeflow.train.recipe import Config
from edgeflow.train.results import LayerSparsity, StudentResult, read_record, student_from, write_record
from edgeflow.train.runtime import save_model, start
from edgeflow.train.teacher import fingerprint, teacher_logits
from edgeflow.train.usercode import read_source

if TYPE_CHECKING:
    import keras


def train_student(
    config: Config,
    data: Dataset,
    teacher: Path | None,
    folder: Path,
    progress: Progress = silent,
    *,
    fresh: bool = False,
) -> StudentResult:
    """Trains the student and writes `folder/student.keras`.

    `teacher` is the teacher's file; without one the student learns from the labels alone. In the file each
    pruned kernel has exactly round(sparsity * size) zeros. Reproducible, reused and resumed as `train_teacher`.
    Raises EdgeflowError when the user's function fails, its model cannot be quantized, or the teacher's file
    does not fit.
    """
    path = folder / "student.keras"
    recipe = (config.student, config.distill, config.prune, config.quantize)
    source = read_source(config, ("student", "model"), config.student.model)
    origin = file_digest(teacher) if teacher else None
    key = fingerprint("student", config.seed, recipe, data.digest, source, origin)
    run = Run("student", config.student, config.seed, folder / "student.checkpoint.npz", key)
    if fresh:
        discard(run)
    elif (record := read_record(path, key)) and (former := student_from(record, path)):
        return former
    distill = config.distill if teacher else None
    samples = Samples(data.x_train, data.y_train)
    if teacher and distill:
        inputs, labels = with_blends(data.x_train, data.y_train, distill.mixed, config.seed)
        samples = Samples(inputs, labels, teacher_logits(config, data, teacher, inputs))
    runtime = start(config.seed)
    model = build_model(runtime, config, "student", data)
    pruned = _pruned(config, model)
    loss = distillation(runtime, distill) if distill else cross_entropy(runtime)
    history = fit(runtime, model, samples, loss, run, progress, pruned)
    save_model(model, path)
    sizes = layer_sizes(model)
    result = StudentResult(
        path=path,
        accuracy=accuracy(model, data.x_test, data.y_test),
        parameters=sum(size.weights + size.biases for size in sizes),
        weight_bits=sum(size.bits for size in sizes),
        layers=tuple(LayerSparsity(one.name, one.weights, one.zeros, one.quantized_zeros) for one in sizes),
        history=history,
    )
    write_record(result, key)
    discard(run)
    return result


def _pruned(config: Config, model: keras.Model) -> tuple[Pruned, ...]:
    """The kernels that `[prune]` names, each with its schedule. Raises EdgeflowError for a layer without one."""
    prune = config.prune
    if prune is None:
        return ()
    kernels = {layer.name: kernel for layer in model.layers if (kernel := kernel_of(layer)) is not None}
    for name in prune.layers:
        if name not in kernels:
            raise config.error(
                ("prune", "layers", name),
                f'[prune.layers] names "{name}", which is no layer with a kernel{did_you_mean(name, kernels)}',
                fix=f"layers with a kernel: {', '.join(kernels)}",
            )
    end = default_end(prune.begin, config.student.epochs) if prune.end is None else prune.end
    targets = {name: prune.layers.get(name, prune.sparsity) for name in kernels}
    return tuple(
        Pruned(kernels[name], functools.partial(sparsity_at, target, prune.begin, end))
        for name, target in targets.items()
        if target > 0
    )
