"""A float Keras model read without Keras computes what Keras predicts, before and after its simplification."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.train.calibrate.floats import FloatGraph, Scale, forward
from edgeflow.train.calibrate.functions import FUNCTIONS
from edgeflow.train.calibrate.read import read_float
from edgeflow.train.calibrate.simplify import simplify
from edgeflow.train.runtime import load_runtime, quiet

pytestmark = pytest.mark.xdist_group("keras")

SQUARE, LINE, ROW = (7, 6, 4), (9, 3), (6,)
Layers = Any
Build = Callable[[Layers, Any], Any]

MODELS: dict[str, tuple[tuple[int, ...], Build]] = {
    "dense": (ROW, lambda k, x: k.Dense(5, activation="relu")(k.Dense(4, use_bias=False)(x))),
    "dense on rows": (LINE, lambda k, x: k.Dense(5)(x)),
    "conv1d": (LINE, lambda k, x: k.Conv1D(4, 3, padding="same", activation="relu")(x)),
    "conv1d causal": (LINE, lambda k, x: k.Conv1D(4, 3, padding="causal", dilation_rate=2)(x)),
    "conv1d valid": (LINE, lambda k, x: k.Conv1D(4, 4, strides=2)(x)),
    "conv2d": (SQUARE, lambda k, x: k.Conv2D(5, (3, 2), strides=(2, 1), padding="same")(x)),
    "conv2d groups": (SQUARE, lambda k, x: k.Conv2D(6, 3, groups=2, dilation_rate=2)(x)),
    "depthwise1d": (LINE, lambda k, x: k.DepthwiseConv1D(3, depth_multiplier=2)(x)),
    "depthwise2d": (SQUARE, lambda k, x: k.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)),
    "separable1d": (LINE, lambda k, x: k.SeparableConv1D(4, 3, padding="same", activation="relu")(x)),
    "separable2d": (SQUARE, lambda k, x: k.SeparableConv2D(4, 3, strides=2)(x)),
    "transposed1d": (LINE, lambda k, x: k.Conv1DTranspose(4, 3, strides=2, padding="same")(x)),
    "transposed2d valid": (SQUARE, lambda k, x: k.Conv2DTranspose(3, 3, strides=2)(x)),
    "transposed2d same": (SQUARE, lambda k, x: k.Conv2DTranspose(3, (4, 2), strides=(3, 2), padding="same")(x)),
    "transposed2d small window": (SQUARE, lambda k, x: k.Conv2DTranspose(3, 1, strides=2, padding="same")(x)),
    "transposed2d dense": (SQUARE, lambda k, x: k.Conv2DTranspose(3, 3, padding="same", activation="relu")(x)),
    "batch norm behind": (SQUARE, lambda k, x: k.ReLU()(k.BatchNormalization()(k.Conv2D(4, 3)(x)))),
    "batch norm in front": (SQUARE, lambda k, x: k.Conv2D(4, 3)(k.BatchNormalization(center=False)(x))),
    "batch norm before padding": (SQUARE, lambda k, x: k.Conv2D(4, 3, padding="same")(k.BatchNormalization()(x))),
    "batch norm behind relu": (
        SQUARE,
        lambda k, x: k.Dense(3)(
            k.Flatten()(k.MaxPooling2D()(k.BatchNormalization()(k.Conv2D(4, 3, activation="relu")(x))))
        ),
    ),
    "batch norm on a row": (ROW, lambda k, x: k.Activation("tanh")(k.BatchNormalization(scale=False)(x))),
    "batch norm behind depthwise": (SQUARE, lambda k, x: k.BatchNormalization()(k.DepthwiseConv2D(3)(x))),
    "batch norm before groups": (SQUARE, lambda k, x: k.Conv2D(4, 3, groups=2)(k.BatchNormalization()(x))),
    "pools": (SQUARE, lambda k, x: k.AveragePooling2D((2, 3), padding="same")(k.MaxPooling2D(2, strides=1)(x))),
    "pools1d": (LINE, lambda k, x: k.MaxPooling1D(2, padding="same")(k.AveragePooling1D(2)(x))),
    "global average": (SQUARE, lambda k, x: k.GlobalAveragePooling2D()(x)),
    "global pools": (LINE, lambda k, x: k.Add()([k.GlobalMaxPooling1D()(x), k.GlobalAveragePooling1D()(x)])),
    "global keepdims": (SQUARE, lambda k, x: k.Multiply()([x, k.GlobalAveragePooling2D(keepdims=True)(x)])),
    "joins": (ROW, lambda k, x: k.Add()([x, k.Dense(6)(x), k.Subtract()([x, k.Dense(6)(x)])])),
    "concatenate": (SQUARE, lambda k, x: k.Concatenate()([x, k.ReLU()(x), k.Conv2D(2, 1)(x)])),
    "concatenate rows": (SQUARE, lambda k, x: k.Concatenate(axis=1)([x, k.ReLU(6.0)(x)])),
    "shapes": (SQUARE, lambda k, x: k.Flatten()(k.Permute((3, 1, 2))(k.Reshape((6, -1, 4))(x)))),
    "padding": (SQUARE, lambda k, x: k.Conv2D(3, 3, strides=2)(k.ZeroPadding2D(((0, 1), (1, 2)))(x))),
    "padding alone": (LINE, lambda k, x: k.MaxPooling1D(2)(k.ZeroPadding1D(1)(x))),
    "cropping": (SQUARE, lambda k, x: k.UpSampling2D((2, 1))(k.Cropping2D(((1, 2), (0, 1)))(x))),
    "cropping1d": (LINE, lambda k, x: k.UpSampling1D(3)(k.Cropping1D((1, 2))(x))),
    "training only": (ROW, lambda k, x: k.Dense(2)(k.GaussianNoise(0.1)(k.Dropout(0.5)(x)))),
    "rescaling": (SQUARE, lambda k, x: k.Conv2D(3, 3, padding="same")(k.Rescaling(1 / 127.5, offset=-1)(x))),
    "normalization": (
        SQUARE,
        lambda k, x: k.Conv2D(3, 3)(k.Normalization(mean=[1, 2, 3, 4.0], variance=[1, 4, 9, 0.25])(x)),
    ),
    "clip behind pool": (SQUARE, lambda k, x: k.ReLU(2.0)(k.Flatten()(k.MaxPooling2D(2)(k.Conv2D(3, 3)(x))))),
    "two clips": (ROW, lambda k, x: k.ReLU(1.0)(k.Dense(9, activation="relu")(x))),
    "layers as activations": (ROW, lambda k, x: k.Dense(8, activation=k.LeakyReLU(negative_slope=0.2))(x)),
    "strange relu": (ROW, lambda k, x: k.ReLU(1.5, negative_slope=0.1, threshold=0.3)(x)),
    "elu": (ROW, lambda k, x: k.ELU(0.7)(k.LeakyReLU()(x))),
    **{name: (ROW, lambda k, x, name=name: k.Activation(name)(x)) for name in ("relu6", *FUNCTIONS)},
}


def shaken(model: Any) -> None:
    """Every weight random, batch normalization's moments included."""
    random = np.random.default_rng(3)
    for layer in model.layers:
        shapes = [one.shape for one in layer.get_weights()]
        layer.set_weights([random.uniform(0.3, 1.5, shape) * random.choice([-1, 1], shape) for shape in shapes])
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([np.abs(one) for one in layer.get_weights()])


@pytest.mark.parametrize("shape", [SQUARE, LINE, ROW], ids=str)
def test_equals_keras_before_and_after_simplification(shape: tuple[int, ...], tmp_path: Path) -> None:
    keras, _, _ = load_runtime()
    names = [name for name, (its, _) in MODELS.items() if its == shape]
    with quiet():
        image = keras.Input(shape, name="x")
        model = keras.Model(image, [MODELS[name][1](keras.layers, image) for name in names])
        shaken(model)
        model.save(tmp_path / "m.keras")
        model.save(tmp_path / "m.h5")
        samples = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
        wanted = {name: np.asarray(one) for name, one in zip(names, model(samples), strict=True)}
    for suffix in (".keras", ".h5"):
        graph, notes = read_float(tmp_path / f"m{suffix}")
        assert notes == ()
        assert differences(graph, samples, wanted) == dict.fromkeys(names, "none")
    simple = simplify(graph)
    assert differences(simple, samples, wanted) == dict.fromkeys(names, "none")
    assert not any(isinstance(node.op, Scale) for node in simple.nodes)


def differences(graph: FloatGraph, samples: Any, wanted: dict[str, Any]) -> dict[str, str]:
    """Each output's largest, relative to its largest value; "none" where float32 explains it."""
    found: dict[str, str] = {}
    for (name, want), got in zip(wanted.items(), forward(graph, {"x": samples}).values(), strict=True):
        assert got.shape == want.shape, name
        error = float(np.abs(got - want).max() / np.abs(want).max())
        found[name] = "none" if error < 1e-5 else f"{error}"
    return found
