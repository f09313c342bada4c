"""A recipe small enough to train in a second: 4x4 pictures of three kinds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeflow.train.recipe import Config, load_config

RECIPE = """\
name = "small"
seed = 3

[data]
source = "data.npz"

[teacher]
model = "models.py:teacher"
epochs = 3
batch = 16
learning_rate = 0.02

[student]
model = "models.py:student"
epochs = 4
batch = 16
learning_rate = 0.02

[distill]
temperature = 2.0
soft = 0.5
hard = 0.5
mixed = 1

[prune]
sparsity = 0.6
begin = 1
end = 2
layers = { logits = 0.25 }

[quantize]
input = { bits = 5, integer = 1, signed = false }
weights = { bits = 5 }
biases = { bits = 8 }
activations = { bits = 6, integer = 2 }

[quantize.layers.logits]
weights = { bits = 7, integer = 1 }

[[targets]]
board = "nucleo-f446re"
"""

MODELS = '''\
"""Two small models."""

import keras
from keras import layers


def teacher(input_shape, classes):
    return keras.Sequential(
        [
            keras.Input(input_shape, name="image"),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(classes),
        ]
    )


def student(input_shape, classes):
    image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")(image)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="small")
'''

WriteRecipe = Callable[..., Config]


def write_data(path: Path) -> None:
    """96 and 48 pictures of three kinds, in sixteenths."""
    random = np.random.default_rng(0)
    labels = np.arange(144) % 3
    pictures = random.integers(0, 9, size=(144, 4, 4, 1))
    for kind in range(3):
        pictures[labels == kind, kind + 1] += 6
    pictures = (np.minimum(pictures, 16) / 16).astype(np.float32)
    np.savez(path, x_train=pictures[:96], y_train=labels[:96], x_test=pictures[96:], y_test=labels[96:])


def write_recipe(folder: Path, *changes: tuple[str, str], models: str = MODELS) -> Config:
    """The recipe with some text replaced, its models and data, in a folder; loaded."""
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "edgeflow.toml").write_text(text)
    (folder / "models.py").write_text(models)
    write_data(folder / "data.npz")
    return load_config(folder / "edgeflow.toml")


@pytest.fixture
def recipe(tmp_path: Path) -> WriteRecipe:
    """`write_recipe` into this test's own folder."""
    return functools.partial(write_recipe, tmp_path)
