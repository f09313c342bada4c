"""What models learn from: labels, and a teacher's logits at a temperature."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable

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
