"""Students without rounding ties: which biases they get, that the importer reads them exactly, and what is refused."""

# pyright: basic
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.backends.tflm.adapt import adapt
from edgeflow.conformance import adaptation, compare_predict, graph_inputs
from edgeflow.errors import Unsupported
from edgeflow.frontends import load_model
from edgeflow.passes import simplify
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.tiefree import tie_summary
from edgeflow.train.predict import predict
from edgeflow.train.runtime import load_runtime, save_model
from edgeflow.train.tiefree import tie_free_bits
from edgeflow.vectors import Vectors

from .conftest import WriteRecipe
from .test_quantize import builder, described, student

pytestmark = pytest.mark.xdist_group("keras")
ON = ("[quantize]\n", "[quantize]\ntie_free = true\n")


def dense_model(bits: int, integer: int, bias: np.ndarray) -> Any:
    """An input quantizer and a dense layer with this bias, of 2 + 3 fractional bits a product, then a relu of 2."""
    keras, qkeras, _ = load_runtime()
    image = keras.Input((3,), name="x")
    x = qkeras.QActivation(qkeras.quantized_bits(4, 1, alpha=1.0), name="x_quantizer")(image)
    dense = qkeras.QDense(
        len(bias),
        kernel_quantizer=qkeras.quantized_bits(4, 0, 1, alpha=1.0),
        bias_quantizer=tie_free_bits(bits, integer),
        activation=qkeras.quantized_relu(4, 2),
        name="dense",
    )
    model = keras.Model(image, dense(x), name="odd")
    dense.set_weights([np.random.default_rng(0).uniform(-1, 1, (3, len(bias))), bias])
    return model


def test_values_are_the_nearest_odd_multiples_and_gradients_pass() -> None:
    tf = load_runtime().tf
    quantizer: Any = tie_free_bits(4, 1)
    given = tf.constant([-9.0, -2.0, -0.26, -0.24, 0.0, 0.24, 0.49, 0.5, 1.6, 9.0])
    with tf.GradientTape() as tape:
        tape.watch(given)
        result = quantizer(given)
    assert (np.asarray(result) * 4).tolist() == [-7, -7, -1, -1, 1, 1, 1, 3, 7, 7]
    assert np.asarray(tape.gradient(result, given)).tolist() == [1.0] * 10
    assert str(quantizer) == "tie_free_bits(4,1)"
    with pytest.raises(ValueError, match="takes 2 to 24 bits, not 25"):
        tie_free_bits(25)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_saved_model_imports_exactly(suffix: str, tmp_path: Path) -> None:
    bias = np.array([0.0, 0.3, -0.3, 1.99, -50.0, 1e-9, -1e-9, 0.015625])
    model, path = dense_model(8, 1, bias), tmp_path / f"model.{suffix}"
    if suffix == "keras":
        save_model(model, path)
    else:
        model.save(path)
    graph = load_model(path)
    assert tie_summary(graph) == "tie-free: none of 1 roundings can meet a tie"
    sample = np.random.default_rng(1).uniform(-2, 2, (400, 3)).astype(np.float32)
    vectors = Vectors(*predict(path, sample))
    outputs, _ = interpret(graph, graph_inputs(graph, vectors))
    assert compare_predict(graph, vectors, outputs).bit_exact


def test_each_bias_is_odd_in_half_the_unit_of_its_products(recipe: WriteRecipe) -> None:
    found = described(student(recipe(ON)))
    assert found["conv"] == "QConv2D quantized_bits(5,0,1,alpha=1.0) tie_free_bits(10,0) quantized_relu(6,2)"
    assert found["logits"] == "QDense quantized_bits(7,1,1,alpha=1.0) tie_free_bits(11,0) linear"


def test_a_student_moves_no_output_of_tflite_micro(recipe: WriteRecipe, tmp_path: Path) -> None:
    path = tmp_path / "student.keras"
    model = student(recipe(ON))
    for layer in model.layers:
        layer.set_weights([np.random.default_rng(2).uniform(-1, 1, one.shape) for one in layer.get_weights()])
    save_model(model, path)
    graph = load_model(path)
    assert tie_summary(graph) == "tie-free: none of 1 roundings can meet a tie"
    vectors = Vectors(*predict(path, np.random.default_rng(3).uniform(0, 1, (300, 4, 4, 1)).astype(np.float32)))
    inputs = graph_inputs(graph, vectors)
    meant, _ = interpret(graph, inputs)
    assert compare_predict(graph, vectors, meant).bit_exact
    adapted = adapt(simplify(graph))
    moved = adaptation(graph, adapted, meant, interpret(adapted, inputs)[0])
    assert (moved.values, moved.moved) == (900, 0)


def test_formats_follow_fractions_through_pools_branches_and_views(recipe: WriteRecipe) -> None:
    body = """
        x = layers.Conv2D(4, 3, padding="same", name="before_relu")(image)
        x = layers.ReLU(name="relu")(x)
        y = layers.DepthwiseConv2D(3, padding="same", name="before_add")(x)
        x = layers.Add(name="sum")([x, y])
        x = layers.AveragePooling2D(2, name="mean")(x)
        x = layers.Flatten()(x)
        x = layers.Dense(classes, name="logits")(x)
        """
    found = described(
        student(recipe(ON, ("activations = { bits = 6,", "activations = { bits = 7,"), models=builder(body)))
    )
    assert "tie_free_bits(10,0) linear" in found["before_relu"], "4 + 4 + 1 fractional bits"
    assert "tie_free_bits(11,0)" in found["before_add"], "5 + 4 + 1"
    assert "tie_free_bits(14,0)" in found["logits"], "5 + 2 of the mean + 5 + 1"


def test_a_bias_is_as_coarse_as_a_result_that_drops_nothing(recipe: WriteRecipe) -> None:
    fine = (
        "[quantize.layers.logits]",
        "[quantize.layers.conv]\nactivations = { bits = 11, integer = 3 }\n\n[quantize.layers.logits]",
    )
    found = described(student(recipe(ON, fine)))
    assert "quantized_bits(8,0,0,alpha=1.0) quantized_relu(11,3)" in found["conv"], "7 of 8 fractional bits"
    finer = (fine[0], fine[1].replace("integer = 3", "integer = 2").replace("11", "9"))
    found = described(student(recipe(ON, finer)))
    assert "tie_free_bits(10,0) quantized_relu(9,2)" in found["conv"]


REFUSED = {
    "no bias": (
        'x = layers.Dense(classes, name="logits")(layers.Flatten()(layers.Conv2D(2, 3, use_bias=False, name="c", '
        'activation="relu")(image)))',
        "layer 'c' (Conv2D) has no bias to keep its sums off ties ([quantize] tie_free)",
        "give it a bias (use_bias=True)",
    ),
    "a rounding without weights": (
        'x = layers.AveragePooling2D(2, name="mean")(layers.Conv2D(2, 3, activation="relu", name="c")(image))\n'
        'x = layers.ReLU(name="again")(x)\n'
        'x = layers.Dense(classes, name="logits")(layers.Flatten()(x))',
        "layer 'again' (ReLU) rounds values of 6 fractional bits to 4, and no bias keeps them off ties "
        "([quantize] tie_free)",
        "give its activations 6 fractional bits in [quantize.layers.again]",
    ),
    "a mean of three": (
        'x = layers.AveragePooling2D((3, 1), name="mean")(image)\n'
        'x = layers.Dense(classes, name="logits")(layers.Flatten()(x))',
        "layer 'mean' (AveragePooling2D) divides by 3 or fewer, which is not always a power of two "
        "([quantize] tie_free)",
        'average 2, 4, 8 ... values, with padding="valid"',
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_no_bias_keeps_off_ties_is_refused(case: tuple[str, str, str], recipe: WriteRecipe) -> None:
    body, what, fix = case
    with pytest.raises(Unsupported) as caught:
        student(recipe(ON, models=builder(body)))
    assert (caught.value.what, caught.value.fix) == (what, fix)


def test_a_bias_of_more_than_24_bits_is_refused(recipe: WriteRecipe) -> None:
    wide = ("weights = { bits = 5 }", "weights = { bits = 5, integer = -16 }")
    with pytest.raises(Unsupported) as caught:
        student(recipe(ON, wide))
    assert caught.value.what == (
        "layer 'conv' (Conv2D) needs a bias with 25 fractional bits, 26 in all ([quantize] tie_free)"
    )
