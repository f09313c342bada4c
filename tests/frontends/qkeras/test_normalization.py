"""Batch normalization and float ReLU behind quantized layers, against real arithmetic and against Keras."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import Unsupported
from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph, Meaning
from edgeflow.ir.types import Dyadic
from edgeflow.semantics.interpret import interpret, interpret_all
from edgeflow.semantics.labels import exact_integers, to_integers
from edgeflow.train.predict import predict

Build = Callable[[Any, Any, Any], Any]


def bits(count: int, integer: int = 0) -> Any:
    import qkeras

    return qkeras.quantized_bits(count, integer, alpha=1)


def relu(count: int, integer: int = 0) -> Any:
    import qkeras

    return qkeras.quantized_relu(count, integer)


def act(quantizer: Any) -> Any:
    import qkeras

    return qkeras.QActivation(quantizer)


def dense(units: int, **more: Any) -> Any:
    import qkeras

    return qkeras.QDense(units, kernel_quantizer=bits(6), bias_quantizer=bits(6, 1), **more)


def save(path: Path, shape: tuple[int, ...], build: Build) -> Any:
    """A model with random weights: batch normalizations with scales of both signs."""
    import keras
    import qkeras

    rng = np.random.default_rng(5)
    source = keras.Input(shape, name="x")
    model = keras.Model(source, build(keras, qkeras, act(bits(8, 1))(source)))
    for layer in model.layers:
        values = [rng.normal(0, 0.6, one.shape) for one in layer.get_weights()]
        if "BatchNormalization" in type(layer).__name__ and values:
            values[-1] = rng.uniform(0.2, 3, values[-1].shape)
        layer.set_weights(values)
    model.save(path)
    return model


def rate(path: Path, graph: Graph, samples: int = 600) -> tuple[int, int]:
    """(values that differ from predict, values)."""
    rng = np.random.default_rng(6)
    source = graph.inputs[0]
    x = rng.normal(0, 1, (samples, *source.type.shape)).astype(np.float32)
    x[0], x[1] = 90, -90
    _, outputs = predict(path, x)
    got, _ = interpret(graph, {source.name: to_integers(x, source.type, source.label)})
    wrong = count = 0
    for output in graph.outputs:
        label = graph.tensor(output.tensor).label
        assert isinstance(label, Dyadic)
        wanted, inexact = exact_integers(outputs[output.name], label)
        wrong += int(((wanted != got[output.name]) | inexact).sum())
        count += wanted.size
    return wrong, count


def conv(qkeras: Any) -> Any:
    return qkeras.QConv2D(4, 3, kernel_quantizer=bits(5), bias_quantizer=bits(6, 1))


REAL: dict[str, tuple[tuple[int, ...], Build]] = {
    "dense": ((9,), lambda k, _, x: dense(3)(act(relu(6, 2))(k.layers.BatchNormalization()(dense(8)(x))))),
    "without gamma and beta": (
        (9,),
        lambda k, _, x: act(bits(6, 2))(k.layers.BatchNormalization(center=False, scale=False)(dense(8)(x))),
    ),
    "convolution, ReLU6": (
        (6, 6, 2),
        lambda k, q, x: act(relu(6, 3))(k.layers.ReLU(6.0)(k.layers.BatchNormalization()(conv(q)(x)))),
    ),
    "two in a row": (
        (9,),
        lambda k, _, x: act(bits(7, 3))(k.layers.BatchNormalization()(k.layers.BatchNormalization()(dense(5)(x)))),
    ),
    "after a global average": (
        (5, 5, 3),
        lambda k, _, x: act(bits(7, 2))(k.layers.BatchNormalization()(k.layers.GlobalAveragePooling2D()(x))),
    ),
    "quantized": ((9,), lambda _, q, x: act(bits(7, 2))(q.QBatchNormalization()(dense(8)(x)))),
    "into a sign": ((9,), lambda k, q, x: act(q.binary(alpha=1))(k.layers.BatchNormalization()(dense(8)(x)))),
    "into powers of two": (
        (9,),
        lambda k, q, x: act(q.quantized_po2(4, 2))(k.layers.BatchNormalization()(dense(8)(x))),
    ),
}

EXACT: dict[str, tuple[tuple[int, ...], Build]] = {
    "quantized, with a dyadic inverse": (
        (9,),
        lambda _, q, x: dense(2)(
            q.QBatchNormalization(
                gamma_quantizer=None,
                variance_quantizer=None,
                beta_quantizer=bits(6, 2),
                mean_quantizer=bits(6, 2),
                inverse_quantizer=q.quantized_po2(4),
            )(dense(4)(x))
        ),
    ),
    "ReLU": ((9,), lambda k, _, x: dense(2)(k.layers.ReLU()(dense(4)(x)))),
    "ReLU6": ((9,), lambda k, _, x: dense(2)(k.layers.ReLU(6.0)(dense(4)(x)))),
    "ReLU with an end between two units": ((9,), lambda k, _, x: act(relu(5, 1))(k.layers.ReLU(1.337)(dense(4)(x)))),
    "ReLU of an average": (
        (4, 4, 2),
        lambda k, _, x: act(bits(7, 1))(k.layers.ReLU()(k.layers.AveragePooling2D(3)(x))),
    ),
    "Activation('relu')": ((9,), lambda k, _, x: k.layers.Activation("relu")(dense(4)(x))),
}


@pytest.mark.parametrize(("shape", "build"), REAL.values(), ids=REAL.keys())
def test_real_arithmetic_differs_rarely_from_predict(tmp_path: Path, shape: tuple[int, ...], build: Build) -> None:
    save(tmp_path / "m.keras", shape, build)
    graph = load_model(tmp_path / "m.keras")
    wrong, count = rate(tmp_path / "m.keras", graph)
    assert graph.meaning is Meaning.REAL
    assert wrong <= count // 500


@pytest.mark.parametrize(("shape", "build"), EXACT.values(), ids=EXACT.keys())
def test_dyadic_forms_equal_predict(tmp_path: Path, shape: tuple[int, ...], build: Build) -> None:
    save(tmp_path / "m.keras", shape, build)
    graph = load_model(tmp_path / "m.keras")
    assert rate(tmp_path / "m.keras", graph)[0] == 0
    assert graph.meaning is Meaning.EXACT


def test_every_code_is_the_real_numbers_code(tmp_path: Path) -> None:
    """Fractions of the stored parameters, sample by sample, against the graph."""
    model = save(
        tmp_path / "m.keras",
        (4,),
        lambda k, _, x: act(bits(5, 1))(k.layers.BatchNormalization(name="bn")(dense(6)(x))),
    )
    graph = load_model(tmp_path / "m.keras")
    assert [type(one.op).__name__ for one in graph.nodes] == ["Dense", "Requant"]
    rng = np.random.default_rng(2)
    trace = interpret_all(graph, {"x": rng.integers(graph.inputs[0].type.lo, graph.inputs[0].type.hi + 1, (300, 4))})
    label = graph.nodes[0].label
    assert isinstance(label, Dyadic)
    assert isinstance(label.frac, int)
    gamma, beta, mean, variance = model.get_layer("bn").get_weights()
    for channel in range(6):
        root = Fraction(float(variance[channel])) + Fraction(0.001)
        scaled = isqrt(int(root * (1 << 200)))
        for sums, code in zip(
            trace[graph.nodes[0].name][:, channel], trace[graph.nodes[1].name][:, channel], strict=True
        ):
            x = Fraction(int(sums), 1 << label.frac) - Fraction(float(mean[channel]))
            y = x * Fraction(float(gamma[channel])) * (1 << 100) / scaled + Fraction(float(beta[channel]))
            assert code == min(max(round(y * 8), -16), 15)


REFUSED: dict[str, tuple[Build, str]] = {
    "reads it unquantized": (
        lambda k, _, x: dense(2)(k.layers.BatchNormalization()(dense(4)(x))),
        "what it reads or computes has real factors (batch normalization, a float scale or bias) that nothing has "
        "quantized\n"
        '  fix: put QActivation("quantized_bits(8, 2, alpha=1)") or quantized_relu right behind those factors',
    ),
    "behind a float ReLU": (
        lambda k, _, x: act(bits(8))(
            k.layers.BatchNormalization()(k.layers.ReLU()(k.layers.BatchNormalization()(dense(4)(x))))
        ),
        "it follows a ReLU that nothing has quantized\n"
        "  fix: use QActivation('quantized_relu(8, 2)') instead of that ReLU, or normalize in front of it",
    ),
    "a ReLU with a slope": (
        lambda k, _, x: k.layers.ReLU(negative_slope=0.125)(dense(4)(x)),
        "a ReLU with a negative slope of 0.125 is not supported\n"
        "  fix: use quantized_relu with negative_slope, a power of two",
    ),
    "a ReLU with a threshold": (
        lambda k, _, x: k.layers.ReLU(threshold=1.0)(dense(4)(x)),
        "a ReLU with a threshold is not supported\n  fix: leave threshold at 0",
    ),
}


@pytest.mark.parametrize(("build", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(tmp_path: Path, build: Build, text: str) -> None:
    save(tmp_path / "m.keras", (9,), build)
    with pytest.raises(Unsupported) as caught:
        load_model(tmp_path / "m.keras")
    assert str(caught.value).split("): ", 1)[1] == text


def test_another_axis_is_refused(tmp_path: Path) -> None:
    save(
        tmp_path / "m.keras",
        (6, 6, 2),
        lambda k, q, x: act(bits(8))(k.layers.BatchNormalization(axis=1, name="bn")(conv(q)(x))),
    )
    with pytest.raises(Unsupported) as caught:
        load_model(tmp_path / "m.keras")
    assert str(caught.value) == (
        "layer 'bn' (BatchNormalization): it normalizes another axis than the channels\n"
        "  fix: use axis=-1 and channels_last"
    )
