"""hls4ml's own QKeras models: each the same as `predict`, or refused for a true reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.frontends import load_model
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.ir.graph import Graph, Meaning
from tests.frontends.qkeras.against import act, assert_equal, bits, differences, inputs_for, layers, q, relu

DATA = Path(__file__).parent / "data" / "hls4ml"
PIXEL = {"class_name": "quantized_bits", "config": {"bits": 8, "integer": 0, "alpha": 1, "keep_negative": False}}


def jet_tagger() -> Any:
    """qkeras_3layer, behind an input quantizer."""
    six = {"kernel_quantizer": bits(6, 0), "bias_quantizer": bits(6, 0)}
    stack = [act(bits(8, 0, keep_negative=False), "quantize")]
    for name, units in (("fc1", 64), ("fc2", 32), ("fc3", 32)):
        stack += [q("QDense", units, name=name, **six), act(relu(6, 0))]
    return sequential((16,), *stack, q("QDense", 5, name="output", **six))


def digits_cnn() -> Any:
    """qkeras_mnist_cnn, behind an input quantizer."""
    six = {"kernel_quantizer": bits(6, 0), "bias_quantizer": bits(6, 0)}
    stack = [act(bits(8, 0, keep_negative=False), "quantize")]
    for name in ("q_conv2d", "q_conv2d_1"):
        stack += [q("QConv2D", 16, 3, name=name, activation="relu", **six), act(relu(6, 0)), layers().MaxPooling2D()]
    return sequential((28, 28, 1), *stack, layers().Flatten(), q("QDense", 10, name="q_dense", **six))


def digits_dense() -> Any:
    """qkeras_mnist_dense, as it is."""
    import qkeras

    return sequential(
        (784,),
        act("quantized_relu(2)"),
        q(
            "QDense",
            20,
            name="q_dense_2",
            kernel_quantizer=qkeras.quantized_po2(4, 1),
            bias_quantizer=bits(2, 0, 1, alpha=None),
        ),
        act("quantized_relu(3,1)"),
        q("QDense", 10, name="q_dense_3", kernel_quantizer=bits(4, 0, 1), bias_quantizer=bits(4, 0, 1, alpha=None)),
    )


def sequential(size: tuple[int, ...], *stack: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input(size, name="x"), *stack])


def stored(name: str, folder: Path, *, quantize_input: bool) -> Path:
    """A copy of a stored model; with `quantize_input` a QActivation stands behind its input."""
    for one in DATA.glob(f"{name}*"):
        shutil.copy(one, folder)
    path = folder / f"{name}.json"
    if quantize_input:
        model = json.loads(path.read_text())
        entry = {"class_name": "QActivation", "config": {"name": "quantize", "dtype": "float32", "activation": PIXEL}}
        model["config"]["layers"].insert(1, entry)
        path.write_text(json.dumps(model))
    return path


def take_weights(model: Any, path: Path) -> None:
    """The stored weights into a model with layers of the same names."""
    import h5py

    with h5py.File(path) as file:
        for layer in model.layers:
            if layer.weights:
                group: Any = file[layer.name][layer.name]  # pyright: ignore[reportIndexIssue]
                values: list[Float32Array] = [group[key][()] for key in ("kernel:0", "bias:0")]
                layer.set_weights(values)


STORED: dict[str, tuple[Callable[[], Any], bool]] = {
    "qkeras_3layer": (jet_tagger, True),
    "qkeras_mnist_cnn": (digits_cnn, True),
    "qkeras_mnist_dense": (digits_dense, False),
}


@pytest.mark.parametrize("name", STORED)
def test_a_stored_model_equals_predict(name: str, tmp_path: Path) -> None:
    build, quantize_input = STORED[name]
    graph = load_model(stored(name, tmp_path, quantize_input=quantize_input))
    model = build()
    take_weights(model, DATA / f"{name}_weights.h5")
    assert graph.meaning is Meaning.EXACT
    assert differences(model, graph, inputs_for(graph, np.random.default_rng(0), 48)) == {}


@pytest.mark.parametrize("name", ["qkeras_3layer", "qkeras_mnist_cnn"])
def test_a_stored_model_without_an_input_quantizer_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeflowError) as caught:
        load_model(stored(name, tmp_path, quantize_input=False))
    assert caught.value.what == "nothing quantizes this input"


def behind(size: tuple[int, ...], *stack: Any) -> Any:
    """A model of hls4ml's tests behind its input of 16 bits, 6 of them whole, as an input quantizer."""
    return sequential(size, act(bits(16, 5)), *stack)


def one_dense(width: int, alpha: Any) -> Any:
    inner = q("QDense", 16, kernel_quantizer=bits(width, 0, alpha=alpha), bias_quantizer=bits(width, 0))
    return sequential((16,), act(bits(width, 0)), inner, act(relu(width, 0)))


def ternary_dense(kernel: Any, activation: Any, *, normalized: bool) -> Any:
    stack = [q("QDense", 10, kernel_quantizer=kernel, bias_quantizer=bits(5, 2, alpha=None))]
    stack += [layers().BatchNormalization()] if normalized else []
    return behind((10,), *stack, act(activation))


def dense_with(weights: Any, activation: Any) -> Any:
    return behind((10,), q("QDense", 10, kernel_quantizer=weights, bias_quantizer=weights, activation=activation))


def binary_cnn() -> Any:
    import qkeras

    stack: list[Any] = []
    for number, (filters, pool) in enumerate(((4, False), (8, True), (8, True))):
        bias = {"bias_quantizer": "quantized_bits(5,2)"} if number == 0 else {"use_bias": False}
        stack += [q("QConv2D", filters, 3, kernel_quantizer="binary", **bias), qkeras.QBatchNormalization()]
        stack += [act("binary"), *([layers().MaxPooling2D()] if pool else [])]
    stack += [layers().Flatten(), q("QDense", 10, kernel_quantizer="binary", use_bias=False)]
    stack += [qkeras.QBatchNormalization(), act("binary_tanh")]
    return behind((28, 28, 1), *stack, q("QDense", 10, kernel_quantizer="binary", use_bias=False))


def saved_cnn() -> Any:
    import qkeras

    return behind(
        (8, 8, 3),
        q("QConv2D", 4, 3, kernel_quantizer="quantized_bits(8,4)", bias_quantizer=qkeras.ternary()),
        act("quantized_relu(6)"),
        q("QConv2D", 5, 3, kernel_quantizer=bits(8, 4, alpha=None), bias_quantizer=qkeras.binary()),
        act(relu(2)),
        layers().Flatten(),
        q("QDense", 5, kernel_quantizer="quantized_po2(8,4)", bias_quantizer=None),
    )


def quantizers() -> Any:
    import qkeras

    return qkeras


SEPARABLE = {f"{role}_quantizer": (8, 3) for role in ("depthwise", "pointwise", "bias")}

# name: (builder, what edgeflow says)
BUILT: dict[str, tuple[Callable[[], Any], str]] = {
    **{f"dense of {width} bits": (lambda width=width: one_dense(width, 1), "exact") for width in (2, 4, 6, 8)},
    **{
        f"dense of {width} bits, auto_po2": (lambda width=width: one_dense(width, "auto_po2"), "exact")
        for width in (4, 6)
    },
    "ternary, binary_tanh": (
        lambda: ternary_dense(quantizers().ternary(alpha=1), "binary_tanh", normalized=False),
        "exact",
    ),
    "binary, binary_tanh": (lambda: ternary_dense(quantizers().binary(), "binary_tanh", normalized=False), "exact"),
    "binary, binary": (lambda: ternary_dense(quantizers().binary(), quantizers().binary(), normalized=False), "exact"),
    "ternary auto, normalized, ternary": (
        lambda: ternary_dense(quantizers().ternary(alpha="auto"), "ternary", normalized=True),
        "real",
    ),
    "ternary auto, normalized, threshold": (
        lambda: ternary_dense(quantizers().ternary(alpha="auto"), quantizers().ternary(threshold=0.8), normalized=True),
        "real",
    ),
    "activation binary": (lambda: dense_with("binary", "binary"), "exact"),
    "activation ternary": (lambda: dense_with("ternary", "ternary"), "exact"),
    "activation of 4 bits": (lambda: dense_with("quantized_bits(4, 0, alpha=1)", "quantized_relu(4, 0)"), "exact"),
    "folded convolution": (
        lambda: behind(
            (8, 8, 1),
            q(
                "QConv2DBatchnorm",
                4,
                3,
                kernel_quantizer="quantized_bits(8, 0, alpha=1)",
                bias_quantizer="quantized_bits(8, 0, alpha=1)",
                activation="quantized_relu(8, 0)",
            ),
        ),
        "exact",
    ),
    "depthwise": (
        lambda: behind(
            (32, 32, 3),
            q(
                "QDepthwiseConv2D",
                3,
                depthwise_quantizer="quantized_bits(6, 0, alpha=1)",
                bias_quantizer="quantized_bits(4, 0, alpha=1)",
                activation="quantized_relu(3, 0)",
            ),
        ),
        "exact",
    ),
    "separable 1D": (
        lambda: sequential(
            (13, 20),
            act(bits(8, 0)),
            q("QSeparableConv1D", 5, 3, **{key: bits(*value) for key, value in SEPARABLE.items()}),
        ),
        "exact",
    ),
    "separable 2D": (
        lambda: sequential(
            (13, 21, 20),
            act(bits(8, 0)),
            q("QSeparableConv2D", 5, 3, **{key: bits(*value) for key, value in SEPARABLE.items()}),
        ),
        "exact",
    ),
    "binary convolutions": (binary_cnn, "real"),
    "saved and loaded": (saved_cnn, "its sums can reach"),
    "powers of two of 18 bits": (
        lambda: behind((26,), q("QDense", 6, kernel_quantizer=quantizers().quantized_po2(18, max_value=2**20))),
        "its sums can reach",
    ),
    "no kernel quantizer": (
        lambda: behind((10,), q("QDense", 8, kernel_quantizer=None, activation="quantized_relu(8, 0)")),
        "it has no kernel_quantizer, so its weights are floats",
    ),
    "recurrent": (
        lambda: behind((5, 2), quantizers().QLSTM(4, kernel_quantizer="quantized_bits(8, 0, alpha=1)")),
        "recurrent layers are not supported yet",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
def test_a_built_model_is_equal_or_refused(name: str, tmp_path: Path) -> None:
    build, said = BUILT[name]
    model = build()
    path = tmp_path / "model.keras"
    if said in ("exact", "real"):
        graph: Graph = assert_equal(model, path)
        assert graph.meaning is Meaning(said)
        return
    model.save(path)
    with pytest.raises(EdgeflowError) as caught:
        load_model(path)
    assert said in caught.value.what


ACTIVATIONS: dict[str, Callable[[], Any]] = {
    **{f"bits {a}": lambda a=a: bits(*a, alpha=None) for a in ((8, 0), (8, 4), (4, 2), (4, 0), (10, 0))},
    **{f"relu {a}": lambda a=a: relu(*a) for a in ((4,), (4, 2), (8,), (8, 4), (10,), (10, 5))},
    **{f"leaky {a}": lambda a=a: relu(*a[:2], negative_slope=a[2]) for a in ((4, 0, 0.5), (8, 4, 1.0), (10, 2, 0.25))},
    "tanh": lambda: quantizers().quantized_tanh(8),
    "sigmoid": lambda: quantizers().quantized_sigmoid(5),
}


def test_every_single_quantizer(tmp_path: Path) -> None:
    import keras

    source = keras.Input((7,), name="x")
    x = act(bits(16, 5))(act(bits(16, 5))(source))
    outputs = [act(build(), f"row_{number}")(x) for number, build in enumerate(ACTIVATIONS.values())]
    assert assert_equal(keras.Model(source, outputs), tmp_path / "model.keras").meaning is Meaning.EXACT
