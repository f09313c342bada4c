"""The training loop: seeded shuffling, Adam with a cosine, pruning masks, and a checkpoint after every epoch."""

# pyright: basic
from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeflow.artifacts import remove_file, write_file
from edgeflow.errors import EdgeflowError
from edgeflow.train.progress import Progress
from edgeflow.train.prune import keep_mask
from edgeflow.train.recipe import Training
from edgeflow.train.runtime import Runtime, Tensor, quiet

if TYPE_CHECKING:
    import keras

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Epoch:
    """One finished epoch, counted from 1: means over the training samples, and the share of zero weights."""

    epoch: int
    loss: float
    accuracy: float
    sparsity: float


@dataclass(frozen=True)
class Samples:
    """What one model learns from, samples first: inputs, class numbers, and the teacher's logits if there are any."""

    inputs: FloatArray
    labels: npt.NDArray[np.int64]
    logits: FloatArray | None = None


@dataclass(frozen=True)
class Pruned:
    """A kernel under pruning, and its share of zeros in every epoch (from 0)."""

    kernel: keras.Variable
    sparsity: Callable[[int], float]


@dataclass(frozen=True)
class Run:
    """One training: its stage's name, its settings, where its checkpoint lies and what that must match."""

    stage: str
    training: Training
    seed: int
    checkpoint: Path
    fingerprint: str


def fit(
    runtime: Runtime,
    model: keras.Model,
    samples: Samples,
    loss: Callable[..., Tensor],
    run: Run,
    progress: Progress,
    pruned: Sequence[Pruned] = (),
) -> tuple[Epoch, ...]:
    """Trains `model` in place and gives its history. `loss(labels, logits, teacher logits)` is one batch's mean.

    Resumes after the last finished epoch of a checkpoint with the same fingerprint; the result is the same
    as without the interruption, since an epoch's order depends on the seed and its number alone.
    Raises EdgeflowError when the loss is no longer a number.
    """
    count = len(samples.inputs)
    steps = math.ceil(count / run.training.batch)
    optimizer = runtime.keras.optimizers.Adam(
        runtime.keras.optimizers.schedules.CosineDecay(run.training.learning_rate, steps * run.training.epochs)
    )
    optimizer.build(model.trainable_variables)
    masks = [runtime.tf.Variable(runtime.tf.ones(one.kernel.shape), trainable=False) for one in pruned]
    with quiet():
        step_through = _epoch_function(runtime, model, optimizer, samples, loss, run.training.batch, pruned, masks)
    history = _resume(run, model, optimizer)
    for number in range(len(history), run.training.epochs):
        for one, mask in zip(pruned, masks, strict=True):
            kernel = one.kernel.numpy()
            mask.assign(keep_mask(kernel, one.sparsity(number)))
            one.kernel.assign(kernel * mask.numpy())
        order = np.random.default_rng([run.seed, number]).permutation(count)
        with quiet():
            total, correct = (float(value) for value in step_through(runtime.tf.constant(order)))
        if not math.isfinite(total):
            raise EdgeflowError(
                f"the {run.stage}'s loss is no longer a number in epoch {number + 1}",
                fix=f"lower learning_rate in [{run.stage}]",
            )
        history = (*history, Epoch(number + 1, total / count, correct / count, _sparsity(pruned)))
        _save(run, model, optimizer, history)
        progress(run.stage, number + 1, run.training.epochs, "accuracy", correct / count)
    return history


def discard(run: Run) -> None:
    """Removes the checkpoint of a training that has ended."""
    remove_file(run.checkpoint)


def accuracy(model: keras.Model, inputs: FloatArray, labels: npt.NDArray[np.int64]) -> float:
    """The share of samples whose highest logit is their label."""
    return float(np.mean(np.argmax(logits(model, inputs), axis=-1) == labels))


def logits(model: keras.Model, inputs: FloatArray) -> FloatArray:
    """What `predict` gives: float32 of shape (n, classes)."""
    with quiet():
        return model.predict(inputs, batch_size=256, verbose=0)  # pyright: ignore[reportArgumentType]


def _epoch_function(
    runtime: Runtime,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    samples: Samples,
    loss: Callable[..., Tensor],
    batch: int,
    pruned: Sequence[Pruned],
    masks: Sequence[Tensor],
) -> Callable[..., tuple[Tensor, Tensor]]:
    """A compiled function of one epoch's sample order: the sums of loss and of correct answers."""
    tf = runtime.tf
    inputs = tf.constant(samples.inputs)
    labels = tf.constant(samples.labels)
    teacher = None if samples.logits is None else tf.constant(samples.logits)
    count = len(samples.inputs)
    variables = model.trainable_variables

    @tf.function
    def epoch(order):
        total = tf.constant(0.0)
        correct = tf.constant(0.0)
        for start in tf.range(0, count, batch):
            index = order[start : start + batch]
            wanted = tf.gather(labels, index)
            with tf.GradientTape() as tape:
                given = model(tf.gather(inputs, index), training=True)
                value = loss(wanted, given, None if teacher is None else tf.gather(teacher, index))
                penalized = tf.add_n([value, *model.losses])
            optimizer.apply(tape.gradient(penalized, variables), variables)
            for one, mask in zip(pruned, masks):  # noqa: B905  autograph knows no strict zip
                one.kernel.assign(one.kernel * mask)
            total += value * tf.cast(tf.size(index), tf.float32)
            hits = tf.argmax(given, axis=-1, output_type=wanted.dtype) == wanted
            correct += tf.reduce_sum(tf.cast(hits, tf.float32))
        return total, correct

    return epoch


def _sparsity(pruned: Sequence[Pruned]) -> float:
    kernels = [one.kernel.numpy() for one in pruned]
    size = sum(kernel.size for kernel in kernels)
    return sum(int(np.count_nonzero(kernel == 0)) for kernel in kernels) / size if size else 0.0


def _variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """All that an epoch changes: weights, the state of random layers, the optimizer's moments."""
    return [*model.variables, *optimizer.variables]


def _save(run: Run, model: keras.Model, optimizer: keras.optimizers.Optimizer, history: tuple[Epoch, ...]) -> None:
    about = json.dumps({"fingerprint": run.fingerprint, "history": [asdict(one) for one in history]})
    arrays = {str(index): variable.numpy() for index, variable in enumerate(_variables(model, optimizer))}
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, about=np.frombuffer(about.encode(), dtype=np.uint8), **arrays)
    write_file(run.checkpoint, stream.getvalue())


def _resume(run: Run, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> tuple[Epoch, ...]:
    """Loads a checkpoint that matches, and gives its history; else leaves all as it is and gives none."""
    variables = _variables(model, optimizer)
    try:
        with run.checkpoint.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            about = json.loads(archive["about"].tobytes())
            if about["fingerprint"] != run.fingerprint:
                return ()
            arrays = [archive[str(index)] for index in range(len(variables))]
        history = tuple(Epoch(**one) for one in about["history"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return ()
    if any(array.shape != tuple(variable.shape) for array, variable in zip(arrays, variables, strict=True)):
        return ()
    for array, variable in zip(arrays, variables, strict=True):
        variable.assign(array)
    return history
