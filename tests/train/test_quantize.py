"""A float student becomes a QKeras student, and what cannot is refused by name."""

# pyright: basic
from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.train.build import build_model, build_student
from edgeflow.train.data import load_data
from edgeflow.train.predict import load_model
from edgeflow.train.quantize import LayerSize, is_quantized, layer_sizes
from edgeflow.train.recipe import Config
from edgeflow.train.runtime import quiet, start

from .conftest import RECIPE, WriteRecipe

pytestmark = pytest.mark.xdist_group("keras")
LAYERS = RECIPE[RECIPE.index("[quantize.layers.logits]") : RECIPE.index("[[targets]]")]
PRUNED_LAYERS = ("layers = { logits = 0.25 }", "")


def student(config: Config) -> Any:
    return build_model(start(config.seed), config, "student", load_data(config))


def builder(body: str) -> str:
    """A models.py whose student() has this body between `image` and the returned model."""
    return (
        "import keras\nfrom keras import layers\n"
        "def student(input_shape, classes):\n"
        '    image = keras.Input(input_shape, name="image")\n'
        + textwrap.indent(textwrap.dedent(body).strip(), "    ")
        + "\n    return keras.Model(image, x)\n"
    )


def described(model: Any) -> dict[str, str]:
    """Layer name -> class, and the quantizers as QKeras writes them."""
    found: dict[str, str] = {}
    for layer in model.layers:
        parts = [type(layer).__name__]
        for name in ("kernel_quantizer_internal", "depthwise_quantizer_internal", "bias_quantizer_internal"):
            if getattr(layer, name, None) is not None:
                parts.append(str(getattr(layer, name)))
        if getattr(layer, "quantizer", None) is not None:
            parts.append(str(layer.quantizer))
        elif getattr(layer, "activation", None) is not None:
            parts.append(getattr(layer.activation, "__name__", str(layer.activation)))
        found[layer.name] = " ".join(parts)
    return found


def test_each_layer_gets_the_recipes_formats(recipe: WriteRecipe) -> None:
    model = student(recipe())
    assert model.name == "small"
    assert described(model) == {
        "image": "InputLayer",
        "image_quantizer": "QActivation quantized_bits(5,1,0,keep_negative=False,alpha=1.0)",
        "conv": "QConv2D quantized_bits(5,0,1,alpha=1.0) quantized_bits(8,0,0,alpha=1.0) quantized_relu(6,2)",
        "pool": "MaxPooling2D",
        "flat": "Flatten",
        "logits": "QDense quantized_bits(7,1,1,alpha=1.0) quantized_bits(8,0,0,alpha=1.0) linear",
    }
    assert is_quantized(model)


def test_sizes_are_parameters_times_declared_width(recipe: WriteRecipe) -> None:
    conv, logits = layer_sizes(student(recipe()))
    assert (conv.name, conv.weights, conv.weight_bits, conv.biases, conv.bias_bits) == ("conv", 27, 5, 3, 8)
    assert (logits.name, logits.weights, logits.weight_bits, logits.biases, logits.bias_bits) == ("logits", 36, 7, 3, 8)
    assert LayerSize("a", 27, 5, 3, 8, 0, 0).bits == 27 * 5 + 3 * 8
    assert 0 == conv.zeros <= conv.quantized_zeros


def test_linear_layers_have_a_quantizer_only_where_nothing_else_quantizes(recipe: WriteRecipe) -> None:
    body = """
        x = layers.Conv2D(4, 3, padding="same", name="before_relu")(image)
        x = layers.ReLU(name="relu")(x)
        y = layers.DepthwiseConv2D(3, padding="same", name="before_add")(x)
        x = layers.Add(name="sum")([x, y])
        x = layers.Activation("relu", name="again")(x)
        x = layers.AveragePooling2D(2, name="mean")(x)
        x = layers.Activation("linear", name="requantized")(x)
        x = layers.Flatten()(x)
        x = layers.Dense(classes, use_bias=False, name="logits")(x)
        """
    model = student(recipe(models=builder(body)))
    weights, biases = "quantized_bits(5,0,1,alpha=1.0)", "quantized_bits(8,0,0,alpha=1.0)"
    assert {name: text for name, text in described(model).items() if text.startswith("Q")} == {
        "image_quantizer": "QActivation quantized_bits(5,1,0,keep_negative=False,alpha=1.0)",
        "before_relu": f"QConv2D {weights} {biases} linear",
        "relu": "QActivation quantized_relu(6,2)",
        "before_add": f"QDepthwiseConv2D {weights} {biases} quantized_bits(6,2,0,alpha=1.0)",
        "again": "QActivation quantized_relu(6,2)",
        "requantized": "QActivation quantized_bits(6,2,0,alpha=1.0)",
        "logits": "QDense quantized_bits(7,1,1,alpha=1.0) linear",
    }


def test_a_shared_layer_stays_shared(recipe: WriteRecipe) -> None:
    body = """
        shared = layers.Conv2D(1, 3, padding="same", activation="relu", name="shared")
        x = layers.Flatten()(shared(shared(image)))
        x = layers.Dense(classes, name="logits")(x)
        """
    model = student(recipe(models=builder(body)))
    assert [layer.name for layer in model.layers].count("shared") == 1
    assert len(layer_sizes(model)) == 2


def test_an_output_quantizer_is_there_if_asked_for(recipe: WriteRecipe) -> None:
    model = student(recipe(("weights = { bits = 7, integer = 1 }", "activations = { bits = 8, integer = 3 }")))
    assert described(model)["logits"].endswith(" quantized_bits(8,3,0,alpha=1.0)")


QKERAS = """
    from qkeras import QActivation, QDense, quantized_bits
    x = QActivation(quantized_bits(5, 1, keep_negative=0, alpha=1.0))(image)
    x = layers.Flatten()(x)
    x = QDense(classes, kernel_quantizer=quantized_bits(3, 0, alpha=1.0), name="logits")(x)
    """
NO_QUANTIZE = (RECIPE[RECIPE.index("[quantize]") : RECIPE.index("[[targets]]")], "")


def test_a_qkeras_student_is_taken_as_it_is(recipe: WriteRecipe) -> None:
    model = student(recipe(NO_QUANTIZE, models=builder(QKERAS)))
    assert layer_sizes(model)[0].weight_bits == 3
    assert layer_sizes(model)[0].bias_bits == 32


DENSE = "x = layers.Dense(classes, name='logits')(layers.Flatten()(image))"
WHERE = "{models}: student(): "
REFUSED_LAYERS = {
    "batch normalization": (
        "x = layers.BatchNormalization(name='bn')(image)",
        "layer 'bn' (BatchNormalization) cannot be quantized by [quantize]\n"
        "  fix: leave it out, or return a QKeras model with QConv2DBatchnorm",
    ),
    "unknown": (
        "x = layers.LSTM(4, name='memory')(layers.Reshape((4, 4))(image))\nimage_ = x",
        "layer 'memory' (LSTM) cannot be quantized by [quantize]\n"
        "  fix: use Dense, Conv1D, Conv2D, DepthwiseConv2D, relu, pooling, Add or Flatten, "
        "or return a QKeras model and remove [quantize]",
    ),
    "activation": (
        "x = layers.Conv2D(2, 3, activation='tanh', name='conv')(image)",
        "layer 'conv' (Conv2D) has the activation 'tanh', which [quantize] cannot make exact\n"
        "  fix: use relu; the last layer has none, so that it gives logits",
    ),
    "relu6": (
        "x = layers.ReLU(6, name='relu6')(image)",
        "layer 'relu6' (ReLU) is more than a plain relu\n"
        "  fix: use ReLU() as it is: the quantizer limits its range by `integer` in activations",
    ),
    "groups": (
        "x = layers.Conv2D(2, 1, groups=2, name='conv')(layers.Conv2D(2, 3, name='first')(image))",
        "layer 'conv' (Conv2D) has groups, which QKeras' convolution lacks\n  fix: use DepthwiseConv2D, or groups=1",
    ),
    "nested": (
        "x = keras.Sequential([layers.Flatten()], name='inner')(image)",
        "layer 'inner' (Sequential) is a model inside the student\n  fix: put its layers into the student itself",
    ),
    "the user's own": (
        "class Twice(layers.Layer):\n    def call(self, x):\n        return 2 * x\nx = Twice(name='twice')(image)",
        "layer 'twice' (Twice) is not one of Keras' own layers\n  fix: use Keras' layers, or return a QKeras model",
    ),
}


@pytest.mark.parametrize(("body", "expected"), REFUSED_LAYERS.values(), ids=REFUSED_LAYERS)
def test_layers_that_cannot_be_quantized_are_refused_by_name(body: str, expected: str, recipe: WriteRecipe) -> None:
    end = "\nx = layers.Dense(classes, name='logits')(layers.Flatten()(x))"
    config = recipe(models=builder(textwrap.dedent(body) + end))
    with pytest.raises(Unsupported) as caught:
        student(config)
    assert str(caught.value) == f"{config.folder / 'models.py'}: student(): {expected}"


REFUSED_MODELS = {
    "no model": (
        "def student(shape, classes): return 3",
        "returned int, not a Keras model\n  fix: return keras.Model(inputs, outputs)",
    ),
    "no input": (
        "import keras\ndef student(shape, classes): return keras.Sequential([keras.layers.Dense(3)])",
        "returned a model without a declared input\n"
        "  fix: start with keras.Input(input_shape), and build a functional or Sequential model",
    ),
    "other input": (
        builder(DENSE).replace("keras.Input(input_shape", "keras.Input((8, 8, 1)"),
        "returned a model for inputs (None, 8, 8, 1), but the data gives (None, 4, 4, 1)\n"
        "  fix: use the input_shape that the function is called with",
    ),
    "other classes": (
        builder(DENSE.replace("classes", "5")),
        "returned a model with outputs (None, 5), but 3 classes need (None, 3)\n  fix: end with Dense(classes)",
    ),
    "softmax": (
        builder(DENSE.replace("name=", "activation='softmax', name=")),
        "layer 'logits' ends the model with softmax; training takes logits\n"
        "  fix: leave softmax out: the highest logit is the same class",
    ),
    "two outputs": (
        builder(DENSE + "\nx = [x, x]"),
        "returned a model with 1 inputs and 2 outputs\n  fix: training takes one of each",
    ),
}


@pytest.mark.parametrize(("models", "expected"), REFUSED_MODELS.values(), ids=REFUSED_MODELS)
def test_models_that_do_not_fit_are_refused(models: str, expected: str, recipe: WriteRecipe) -> None:
    config = recipe(models=models)
    with pytest.raises(EdgeflowError) as caught:
        student(config)
    assert str(caught.value) == f"{config.folder / 'models.py'}: student(): {expected}"


def test_recipe_and_model_must_agree_on_who_quantizes(recipe: WriteRecipe) -> None:
    config = recipe(models=builder(QKERAS))
    with pytest.raises(EdgeflowError) as caught:
        student(config)
    assert str(caught.value) == (
        f"{config.path}:31: models.py:student already returns a QKeras model\n  fix: remove [quantize] from the recipe"
    )
    config = recipe(NO_QUANTIZE)
    with pytest.raises(EdgeflowError) as caught:
        student(config)
    assert str(caught.value) == (
        f"{config.folder / 'models.py'}: student(): returned a float model, and the recipe has no [quantize]\n"
        "  fix: add [quantize] to edgeflow.toml, or return a QKeras model"
    )


OVERRIDES = {
    "no such layer": (
        ("[quantize.layers.logits]", "[quantize.layers.logit]"),
        '37: [quantize.layers] names "logit", which is no layer of the student; did you mean "logits"?\n'
        "  fix: its layers with something to quantize: conv, logits",
    ),
    "nothing to quantize": (
        ("[quantize.layers.logits]", "[quantize.layers.pool]"),
        "38: layer 'pool' (MaxPooling2D) has no weights\n  fix: remove that key",
    ),
}


@pytest.mark.parametrize(("change", "expected"), OVERRIDES.values(), ids=OVERRIDES)
def test_overrides_must_name_layers(change: tuple[str, str], expected: str, recipe: WriteRecipe) -> None:
    config = recipe(change)
    with pytest.raises(EdgeflowError) as caught:
        student(config)
    assert str(caught.value) == f"{config.path}:{expected}"


def test_the_untrained_student_is_written_for_an_early_verdict(recipe: WriteRecipe, tmp_path: Path) -> None:
    config = recipe()
    path = build_student(config, tmp_path / "out")
    assert path == tmp_path / "out" / "student.untrained.keras"
    first = path.read_bytes()
    with quiet():
        assert described(load_model(path)) == described(student(config))
    assert build_student(config, tmp_path / "out").read_bytes() == first
