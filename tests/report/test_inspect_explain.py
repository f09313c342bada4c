# ruff: noqa: E501
"""`edgeflow inspect --explain`: a layer's Keras numbers, its integers, and the text that a user sees."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from edgeflow.errors import EdgeflowError
from edgeflow.frontends import load_model
from edgeflow.frontends.qkeras.fields import Fields
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Activation, Break, Curve, Relu, Steps
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, Dyadic, TensorType, frozen_array
from edgeflow.ops import Dense, Lut, Threshold
from edgeflow.report.inspect import Explanation, explain_layer, read_layers
from edgeflow.report.inspect.show import show_explanation
from edgeflow.report.inspect.stored import activation_words, weights
from edgeflow.report.record import to_json
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.serialize import load_graph, to_files


@pytest.fixture(scope="module")
def path(root: Path) -> Path:
    return root / "tests" / "frontends" / "qkeras" / "data" / "small.keras"


@pytest.fixture(scope="module")
def small(path: Path) -> Graph:
    return load_model(path)


@pytest.fixture(scope="module")
def layers(path: Path) -> Mapping[str, Layer]:
    return read_layers(path)


def shown(found: Explanation) -> str:
    stream = io.StringIO()
    show_explanation(Console(file=stream, width=40), found)
    return stream.getvalue()


def facts(found: Explanation, step: int = 0) -> dict[str, str]:
    return dict(found.steps[step].facts)


def test_the_page_of_a_convolution(small: Graph, layers: Mapping[str, Layer]) -> None:
    assert shown(explain_layer(small, "conv_1", layers)) == CONV


CONV = """\
conv_1  QConv2D

kernel  quantized_bits(bits=4, integer=0, symmetric=0, alpha=1, keep_negative=True, use_stochastic_rounding=False, qnoise_factor=1.0)
  code = clip(round_half_even(x * 2^3), -8, 7)
  value = code * 2^-3
                 at             stored float32   code   value         off by
  first          [0, 0, 0, 0]   0.000615076686      0       0   +0.005 steps
  smallest       [2, 2, 0, 2]      -1.25837982     -8      -1   -2.067 steps
  largest        [0, 2, 0, 1]      0.670107603      5   0.625   +0.361 steps
  furthest off   [2, 2, 0, 2]      -1.25837982     -8      -1   -2.067 steps
  3x3x1x3: codes in [-8, 5], 4 zeros, one step = 2^-3; off by at most 2.067 steps, 1 by more than half a step

bias  quantized_bits(bits=6, integer=1, symmetric=0, alpha=1, keep_negative=True, use_stochastic_rounding=False, qnoise_factor=1.0)
  code = clip(round_half_even(x * 2^4), -32, 31)
  value = code * 2^-4
                 at    stored float32   code    value         off by
  first          [0]     -0.269346446     -4    -0.25   -0.310 steps
  smallest       [0]     -0.269346446     -4    -0.25   -0.310 steps
  largest        [2]     0.0566544943      1   0.0625   -0.094 steps
  furthest off   [1]     -0.024250472      0        0   -0.388 steps
  3: codes in [-4, 1], 1 zero, one step = 2^-4; off by at most 0.388 steps, 0 by more than half a step

activation  quantized_relu(bits=4, integer=1, use_sigmoid=0, negative_slope=0.0, use_stochastic_rounding=False, qnoise_factor=1.0)
  code = clip(round_half_even(x * 2^3), 0, 15)
  value = code * 2^-3

Conv 3x3  'conv_1'
  reads         'image' 6x6x1 int8 [-128, 127], one step = 2^-6
  weights       3x3x1x3, [-8, 5]: 4 bits, 4 zeros
  unit          2^-6 (input) * 2^-3 (weights) = 2^-9
  kernel        the codes as they are, in steps of 2^-3
  bias          code << 5, in steps of 2^-9
  sum           [-3818, 3832] for every input, proven
  accumulator   [-3818, 3832] at every step, in any order: 13 bits
  gives         'conv_1' 6x6x3 int13 [-3818, 3832], one step = 2^-9

Requant  'conv_1_act'
  reads   'conv_1' 6x6x3 int13 [-3818, 3832], one step = 2^-9
  gives   'conv_1_act' 6x6x3 uint4 [0, 15], one step = 2^-3
  q = (x + 31 + ((x >> 6) & 1)) >> 6   to nearest, a tie to the even neighbour
  y = clamp(q, 0, 15)
  ties: possible in 3 channels of 3
            at              x      means     q    y   means
  lowest    [0, 0, 1]   -3818   -7.45703   -60    0       0
  highest   [0, 0, 1]    3832    7.48438    60   15   1.875
  a tie     [0, 0, 0]      32     0.0625     0    0       0
"""


def test_a_scale_fitted_to_the_weights_gives_each_channel_its_unit(small: Graph, layers: Mapping[str, Layer]) -> None:
    found = explain_layer(small, "conv_2", layers)
    kernel, bias = found.weights
    assert kernel.quantizer.formula == (
        "code = sign(x) * min(floor(|x| / step + 1/2), 7), the step a power of two fitted to the weights",
        "value = code * 2^-4 to 2^-3, by channel",
    )
    assert kernel.unit == "one step = 2^-4 to 2^-3, by channel"
    assert bias.unit == "one step = 2^-4"
    assert facts(found)["unit"] == "2^-3 (input) * 2^-4 to 2^-3 (weights) = 2^-7 to 2^-6"
    assert facts(found)["kernel"] == "the codes as they are, in steps of 2^-4 to 2^-3"
    assert facts(found)["bias"] == "code * 2^2 to 2^3, by channel, exactly, in steps of 2^-7 to 2^-6"


def test_every_example_is_stored_equals_value_plus_error(small: Graph, layers: Mapping[str, Layer]) -> None:
    for name in ("conv_1", "logits"):
        for told in explain_layer(small, name, layers).weights:
            step = 2.0**-3 if told.quantizer.role == "kernel" else 2.0**-4
            for one in told.examples:
                assert one.value == one.code * step
                assert one.stored == pytest.approx(one.value + one.steps * step, abs=1e-12)
            assert told.worst_steps == max(abs(one.steps) for one in told.examples)


def test_a_stored_graph_is_explained_without_its_floats(small: Graph, tmp_path: Path) -> None:
    for name, content in to_files(small).items():
        (tmp_path / name).write_bytes(content)
    found = explain_layer(load_graph(tmp_path), "conv_1", read_layers(tmp_path))
    assert (found.keras_class, found.weights, found.quantizers) == (None, (), ())
    assert shown(found).startswith("conv_1  from the integer graph alone\n\nConv 3x3  'conv_1'\n  reads ")
    assert facts(found)["unit"] == "2^-6 (input) * 2^-3 (weights) = 2^-9"
    assert facts(found)["bias"] == "[-128, 32] in steps of 2^-9"


def test_a_tensors_name_explains_that_tensor_alone(small: Graph, layers: Mapping[str, Layer]) -> None:
    found = explain_layer(small, "conv_1_act", layers)
    assert [step.tensor for step in found.steps] == ["conv_1_act"]
    assert shown(found).startswith("conv_1_act  a tensor of layer 'conv_1'\n\nRequant  'conv_1_act'\n")


def test_an_input_and_its_quantizer_are_explained(small: Graph, layers: Mapping[str, Layer]) -> None:
    text = "  a model input, int8 [-128, 127], one step = 2^-6: code = clip(round_half_even(x * 2^6), -128, 127)\n"
    assert shown(explain_layer(small, "image", layers)) == f"image  InputLayer\n{text}"
    assert shown(explain_layer(small, "image", {})) == f"image{text}"
    found = explain_layer(small, "quantize", layers)
    assert found.remark == "adds no op: what it reads holds these integers already"
    assert found.quantizers[0].formula == ("code = clip(round_half_even(x * 2^6), -128, 127)", "value = code * 2^-6")


def test_an_unknown_name_is_an_error_that_names_the_near_one(small: Graph, layers: Mapping[str, Layer]) -> None:
    with pytest.raises(EdgeflowError) as caught:
        explain_layer(small, "conv_3", layers)
    assert str(caught.value) == (
        'no layer and no tensor is named "conv_3"; did you mean "conv_2"?\n'
        "  fix: edgeflow inspect lists the layers, edgeflow inspect --text the tensors"
    )


def test_a_nested_layers_own_name_leads_to_its_full_one(small: Graph, layers: Mapping[str, Layer]) -> None:
    with pytest.raises(EdgeflowError, match='no tensor is named "d0"; did you mean "block/d0"'):
        explain_layer(small, "d0", {**layers, "block/d0": layers["conv_1"]})


def test_an_architecture_is_explained_with_its_floats(path: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        (tmp_path / "small.json").write_bytes(archive.read("config.json"))
        (tmp_path / "other.weights.h5").write_bytes(archive.read("model.weights.h5"))
    model = tmp_path / "small.json"
    assert read_layers(model, tmp_path / "other.weights.h5").keys() == read_layers(path).keys()
    (tmp_path / "other.weights.h5").rename(tmp_path / "small.weights.h5")
    assert read_layers(model).keys() == read_layers(path).keys()


@pytest.mark.parametrize(
    ("name", "kind", "remark"),
    [
        ("drop", "Dropout", "adds no op of its own"),
        ("bn", "BatchNormalization", "adds no op of its own: the next quantizer holds its scale and shift"),
        ("soft", "Softmax", "adds no op: the largest class is the largest without it"),
    ],
)
def test_a_layer_without_an_op_says_what_became_of_it(small: Graph, name: str, kind: str, remark: str) -> None:
    layer = Layer(name, kind, 9, Fields({}, f"layer '{name}'"), {})
    assert shown(explain_layer(small, name, {name: layer})) == f"{name}  {kind}\n  {remark}\n"


def test_weights_that_batch_normalization_changes_are_not_shown_as_the_files(
    small: Graph, layers: Mapping[str, Layer]
) -> None:
    found = explain_layer(small, "conv_1", {"conv_1": replace(layers["conv_1"], kind="QConv2DBatchnorm")})
    assert found.weights == ()
    first = found.quantizers[0]
    assert first.role == "kernel"
    assert first.formula == ("quantizes what folding the batch normalization in makes of the weights",)


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        (
            Steps(frac=5, lo=0, hi=63, unit=6, straight_through=False, offset=32),
            ("code = clip(round_half_even(x * 2^5) + 32, 0, 63)", "value = code * 2^-6"),
        ),
        (
            Curve("binary", (Break(Fraction(0), True),), frozen_array([-1, 1]), 0, False, lambda x: frozen_array([0])),
            ("1 step from code -1 to code 1, the first at x = 0", "value = code * 1"),
        ),
        (Relu(Fraction(6)), ("max(x, 0), at most 6: rounds nothing",)),
        (Relu(), ("max(x, 0): rounds nothing",)),
    ],
)
def test_activations_in_words(activation: Activation, words: tuple[str, ...]) -> None:
    assert activation_words(activation) == words


BITS = st.builds(
    dict,
    bits=st.integers(2, 8),
    integer=st.integers(-2, 3),
    symmetric=st.sampled_from([0, 1]),
    keep_negative=st.booleans(),
    alpha=st.just(1.0),
)


@settings(deadline=None, max_examples=40)
@given(config=BITS, seed=st.integers(0, 1 << 30))
def test_the_formula_of_quantized_bits_gives_the_codes(config: dict[str, object], seed: int) -> None:
    data = {"class_name": "quantized_bits", "config": config}
    values = np.random.default_rng(seed).normal(0, 2, (4, 3)).astype(np.float32)
    fields = Fields({"kernel_quantizer": data}, "layer 'a'")
    ((found, codes),) = weights(Layer("a", "QDense", 0, fields, {"0": values}))
    formula = found.quantizer.formula[0].removeprefix("code = ").replace("^", "**")
    names = {"clip": np.clip, "round_half_even": np.rint, "x": values.astype(np.float64)}
    np.testing.assert_array_equal(codes.codes, eval(formula, {}, names))


def test_a_scale_that_is_no_power_of_two_is_told(small: Graph, layers: Mapping[str, Layer]) -> None:
    config = {"bits": 4, "integer": 0, "symmetric": 0, "keep_negative": True, "alpha": 0.3}
    fields = Fields({"kernel_quantizer": {"class_name": "quantized_bits", "config": config}}, "layer 'conv_1'")
    layer = replace(layers["conv_1"], fields=fields)
    found = explain_layer(small, "conv_1", {"conv_1": layer})
    assert found.weights[0].unit == "one step = 0.0375"
    assert facts(found)["unit"] == "the codes as they are; the weights' scales go into what quantizes the sum"


def test_integers_that_are_not_the_files_are_told(small: Graph, layers: Mapping[str, Layer]) -> None:
    other = explain_layer(small, "conv_1", {"conv_1": layers["logits"]})
    assert facts(other)["kernel"] == (
        "other integers than these codes alone: a mask or a batch normalization is folded in"
    )


def test_tables_and_thresholds_are_explained() -> None:
    builder = GraphBuilder("tables")
    x = builder.input("x", TensorType((2,), -2, 9), Affine(0.5, -3))
    table = builder.add(Lut(frozen_array(range(12)), -2, "logistic"), (x,), Dyadic(1), "lut")
    steps = Threshold(frozen_array([[2, 5, 7], [1, 1, 1]]), frozen_array([4, 0]), frozen_array([-1, 1]))
    builder.output("y", builder.add(steps, (table,), Dyadic(1), "steps"))
    graph = builder.finish()
    assert facts(explain_layer(graph, "lut", {})) == {
        "reads": "'x' 2 int5 [-2, 9], one step = 0.5, zero at -3",
        "does": "y = table[x + 2], logistic",
        "table": "12 entries from x = -2: 0, 1, 2, 3, 4, 5, 6, 7 ... 11",
        "gives": "'lut' 2 uint4 [0, 11], one step = 2^-1",
    }
    found = facts(explain_layer(graph, "steps", {}))
    assert found["does"] == "y = first + step * (how many thresholds x has reached)"
    assert found["channel 0"] == "y = 4 - (how many of 3 thresholds 2, 5, 7 are <= x)"
    assert explain_layer(graph, "x", {}).remark == (
        "a model input, int5 [-2, 9], one step = 0.5, zero at -3: code = clip(round_half_even(x / step + zero), -2, 9)"
    )


def test_every_layer_of_the_file_can_be_explained_and_is_plain_json(small: Graph, layers: Mapping[str, Layer]) -> None:
    for name in layers:
        data = json.loads(json.dumps(to_json(explain_layer(small, name, layers))))
        assert data["keras_class"] == layers[name].kind
        assert shown(explain_layer(small, name, layers)).startswith(f"{name}  {layers[name].kind}\n")


def test_a_sum_with_an_affine_input_names_its_unit() -> None:
    builder = GraphBuilder("affine")
    x = builder.input("x", TensorType((2,), 0, 9), Affine(0.5, 3))
    dense = Dense(frozen_array(np.ones((2, 1), dtype=int)), frozen_array([0]))
    builder.output("y", builder.add(dense, (x,), Affine(0.25, 0), "dense"))
    assert facts(explain_layer(builder.finish(), "dense", {}))["unit"] == "one step = 0.25, zero at 0"
