"""What models learn from: labels, and a teacher's logits at a temperature."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgeflow.train.recipe import Distill
from edgeflow.train.runtime import Runtime, Tensor


def cross_entropy(runtime: Runtime) -> Callable[..., Tensor]:
    """The loss of one batch on its labels alone: mean cross-entropy of the softmax, in nats."""
    tf = runtime.tf

    def loss(labels, logits, _teacher):
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))

    return loss


def distillation(runtime: Runtime, distill: Distill) -> Callable[..., Tensor]:
    """soft * T^2 * KL(softmax(teacher/T) || softmax(student/T)) + hard * cross-entropy, means over a batch.

    T^2 keeps the soft part's gradients as large as the hard part's: Hinton, Vinyals and Dean,
    "Distilling the Knowledge in a Neural Network" (2015).
    """
    tf = runtime.tf
    labels_loss = cross_entropy(runtime)
    temperature = distill.temperature

    def loss(labels, logits, teacher):
        wanted = tf.nn.log_softmax(teacher / temperature)
        given = tf.nn.log_softmax(logits / temperature)
        divergence = tf.reduce_mean(tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=-1))
        return distill.soft * temperature**2 * divergence + distill.hard * labels_loss(labels, logits, None)

    return loss


def with_blends(
    inputs: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], copies: int, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The samples, then `copies` blends for each: (1 - t) * itself + t * another, t uniform in [0, 0.5).

    A blend keeps the label of its larger part; the teacher's logits say the rest. Learning what the teacher makes
    of blends copies it better than the samples alone: Beyer and others, "Knowledge distillation: A good teacher
    is patient and consistent" (2022).
    """
    random = np.random.default_rng([seed, len(inputs)])
    blends = [inputs]
    for _ in range(copies):
        other = inputs[random.permutation(len(inputs))]
        share = random.uniform(0.0, 0.5, size=(len(inputs), *(1 for _ in inputs.shape[1:]))).astype(np.float32)
        blends.append((inputs + share * (other - inputs)).astype(np.float32))
    return np.concatenate(blends), np.tile(labels, copies + 1)
