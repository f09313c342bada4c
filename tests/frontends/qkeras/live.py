"""QKeras' own quantizer objects, which the tests compare with."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings

Floats = npt.NDArray[np.float32]
Entry = dict[str, Any]
RELAXED = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


def named(name: str, **config: Any) -> Entry:
    return {"class_name": name, "config": config}


def live(entry: Entry) -> Any:
    from qkeras import quantizers

    return getattr(quantizers, entry["class_name"])(**entry["config"])


def stored(entry: Entry, quantizer: Any) -> Entry:
    """As a file holds it, with the arguments that QKeras does not save put back."""
    import keras

    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(quantizer)))
    return {**saved, "config": {**entry["config"], **saved["config"]}}


def both_modes(quantizer: Any, x: Floats) -> tuple[Floats, Floats]:
    import tensorflow as tf

    return quantizer(tf.constant(x)).numpy(), tf.function(quantizer)(tf.constant(x)).numpy()


def label(entry: Entry) -> str:
    return ",".join([entry["class_name"], *(f"{key}={value}" for key, value in entry["config"].items())])
