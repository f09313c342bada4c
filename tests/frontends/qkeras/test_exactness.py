"""What float32 rounds on the way is never called exact: each form once was, and `predict` gave other values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import Unsupported
from edgeflow.frontends import load_model
from edgeflow.ir.graph import Meaning
from tests.frontends.qkeras.against import act, bits, conv, dense, differences, inputs_for, layers

Build = Callable[[Any], Any]

FLOAT_BIAS = {"bias_quantizer": None, "activation": None, "name": "d"}


def normal(name: str) -> Any:
    return layers().BatchNormalization(epsilon=0.25, name=name)


def save(
    path: Path, shape: tuple[int, ...], build: Build, weights: dict[str, list[float]], first: tuple[int, int] = (6, 2)
) -> Any:
    """A model with every array of a named layer filled with one number."""
    import keras

    source = keras.Input(shape, name="x")
    model = keras.Model(source, build(act(bits(*first))(source)))
    for name, values in weights.items():
        layer = model.get_layer(name)
        layer.set_weights(
            [np.full(one.shape, v, np.float32) for one, v in zip(layer.get_weights(), values, strict=True)]
        )
    model.save(path)
    return model


REFUSED: dict[str, tuple[tuple[int, ...], Build, dict[str, list[float]], str]] = {
    "fine steps behind a float bias": (
        (3,),
        lambda x: act(bits(16, -8))(dense(2, **FLOAT_BIAS)(x)),
        {"d": [0.5, 0.25]},
        "above 2^24 of its steps",
    ),
    "a sum with a fine float bias": (
        (4,),
        lambda x: layers().Add()([dense(4, **FLOAT_BIAS)(x), act(bits(6, 8))(dense(4, name="e")(x))]),
        {"d": [0.25, 2.0**-18], "e": [0.5, 0.0]},
        "QKeras' float32 is exact only up to 2^24",
    ),
    "an average over a fine float bias": (
        (4, 4, 2),
        lambda x: layers().AveragePooling2D(4)(conv(3, 1, **FLOAT_BIAS)(x)),
        {"d": [0.25, 2.0**-18]},
        "it has no bias_quantizer, and nothing quantizes its result",
    ),
}


@pytest.mark.parametrize(("shape", "build", "weights", "what"), REFUSED.values(), ids=REFUSED.keys())
def test_what_float32_loses_is_refused(
    tmp_path: Path, shape: tuple[int, ...], build: Build, weights: dict[str, list[float]], what: str
) -> None:
    save(tmp_path / "m.keras", shape, build, weights)
    with pytest.raises(Unsupported) as caught:
        load_model(tmp_path / "m.keras")
    assert what in caught.value.what


def test_a_bias_beyond_64_bits_is_refused(tmp_path: Path) -> None:
    save(
        tmp_path / "m.keras",
        (3,),
        lambda x: dense(2, kernel_quantizer=bits(8, -30), bias_quantizer=bits(8, 4), name="d")(x),
        {"d": [2.0**-31, 8.0]},
        (8, -30),
    )
    with pytest.raises(Unsupported) as caught:
        load_model(tmp_path / "m.keras")
    assert caught.value.what == "its bias is more than 2^60 times larger than the unit of its products"


REAL: dict[str, tuple[tuple[int, int], Build, dict[str, list[float]]]] = {
    "a large float bias that a normalization takes away": (
        (6, 2),
        lambda x: act(bits(8, 2))(normal("n")(dense(2, **FLOAT_BIAS)(x))),
        {"d": [0.5, 2.0**22], "n": [1, 0, 2.0**22, 0.75]},
    ),
    "two normalizations that cancel": (
        (6, 2),
        lambda x: act(bits(8, 2))(normal("n")(normal("m")(dense(2)(x)))),
        {"m": [1, 2.0**22, 0, 0.75], "n": [1, 0, 2.0**22, 0.75]},
    ),
    "a mean that cancels beta": (
        (6, 2),
        lambda x: act(bits(8, 2))(normal("n")(dense(2)(x))),
        {"n": [3, 3 * 2.0**23, 2.0**23 + 1, 0.75]},
    ),
    "a root that is no power of two": (
        (6, 2),
        lambda x: act(bits(8, 2))(normal("n")(dense(2)(x))),
        {"n": [3, 0, 0, 2.0]},
    ),
    "quantized_tanh of what is finer than its float32": (
        (8, -3),
        lambda x: act("quantized_tanh(14)")(dense(2, kernel_quantizer=bits(4, -8), **FLOAT_BIAS)(x)),
        {"d": [2.0**-9, 2.0**-3 + 2.0**-14 + 2.0**-25]},
    ),
}


@pytest.mark.parametrize(("first", "build", "weights"), REAL.values(), ids=REAL.keys())
def test_what_float32_may_round_has_a_real_meaning(
    tmp_path: Path, first: tuple[int, int], build: Build, weights: dict[str, list[float]]
) -> None:
    save(tmp_path / "m.keras", (3,), build, weights, first)
    assert load_model(tmp_path / "m.keras").meaning is Meaning.REAL


EXACT: dict[str, Build] = {
    "bits": lambda x: act(bits(8, 2))(x),
    "a curve": lambda x: act("quantized_po2(4, 2)")(x),
    "a leaky ReLU": lambda x: act("quantized_relu(6, 2, negative_slope=0.25)")(x),
    "a ReLU whose end lies between two units": lambda x: act(bits(8, 3))(layers().ReLU(2.3)(x)),
}


@pytest.mark.parametrize("build", EXACT.values(), ids=EXACT.keys())
def test_a_short_float_bias_stays_exact(tmp_path: Path, build: Build) -> None:
    model = save(tmp_path / "m.keras", (3,), lambda x: build(dense(3, **FLOAT_BIAS)(x)), {"d": [0.5, 0.25 - 2.0**-10]})
    graph = load_model(tmp_path / "m.keras")
    assert graph.meaning is Meaning.EXACT
    assert differences(model, graph, inputs_for(graph, np.random.default_rng(1))) == {}


def each(filters: int) -> Any:
    """A convolution whose channels have float biases of different units."""
    return conv(filters, 1, **FLOAT_BIAS)


MOVED: dict[str, Build] = {
    "permuted to an axis as long": lambda x: layers().Permute((3, 1, 2))(each(4)(x)),
    "reshaped to fewer channels": lambda x: layers().Reshape((-1, 2))(each(4)(x)),
    "averaged over other counts at the edges": lambda x: act(bits(9, 3))(
        layers().AveragePooling2D(3, strides=2, padding="same")(each(4)(x))
    ),
}


@pytest.mark.parametrize("build", MOVED.values(), ids=MOVED.keys())
def test_channels_of_different_real_maps_move(tmp_path: Path, build: Build) -> None:
    path = tmp_path / "m.keras"
    model = save(path, (4, 4, 2), build, {})
    layer = model.get_layer("d")
    kernel, _ = layer.get_weights()
    layer.set_weights([kernel, np.array([0.5, 2.0**-9, 3 * 2.0**-7, 8], np.float32)])
    model.save(path)
    graph = load_model(path)
    assert graph.meaning is Meaning.EXACT
    assert differences(model, graph, inputs_for(graph, np.random.default_rng(1))) == {}
