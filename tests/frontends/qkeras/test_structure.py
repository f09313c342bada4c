"""What each layer becomes in the graph: nodes, parameters and integers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph, Meaning
from edgeflow.ir.types import Dyadic
from edgeflow.ops.conv import Conv
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.interpret import interpret
from tests.frontends.qkeras.against import (
    act,
    assert_equal,
    bits,
    dense,
    layers,
    q,
    relu,
)


def graph_of(folder: Path, size: tuple[int, ...], build: Any, *weights: Any) -> Graph:
    """The graph behind an input of 8 bits, 4 of them whole (unit 2**-4); `weights` go to the last layer."""
    import keras

    source = keras.Input(size, name="x")
    model = keras.Model(source, build(act(bits(8, 3), "first")(source)))
    if weights:
        model.layers[-1].set_weights([np.array(one, dtype=np.float32) for one in weights])
    model.save(folder / "model.keras")
    return load_model(folder / "model.keras")


def ops(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes]


def run(graph: Graph, *values: Any) -> list[Any]:
    result, _ = interpret(graph, {"x": np.array([values[0]], dtype=np.int64)})
    return next(iter(result.values()))[0].tolist()


def test_a_depthwise_channel_reads_its_own_input(tmp_path: Path) -> None:
    kernel = np.array([[1, 2, 4], [-1, -2, -4]], dtype=np.float32)[None, None] / 8
    graph = graph_of(
        tmp_path,
        (1, 1, 2),
        lambda x: q("QDepthwiseConv2D", 1, depth_multiplier=3, use_bias=False)(x),
        kernel,
    )
    assert ops(graph) == ["Conv"]
    op = graph.nodes[0].op
    assert isinstance(op, Conv)
    assert (op.groups, op.weight.shape) == (2, (1, 1, 1, 6))
    assert (graph.nodes[0].label, run(graph, [[[3, 10]]])) == (
        Dyadic(7),
        [[[3, 6, 12, -10, -20, -40]]],
    )


def test_a_separable_layer_is_two_convolutions(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        (2, 2, 1),
        lambda x: q("QSeparableConv2D", 2, 2, depth_multiplier=2, name="s")(x),
        np.array([[1, -1], [1, 1], [0, 0], [0, 2]]).reshape(2, 2, 1, 2) / 8,
        np.array([[4, 0], [0, 4]]).reshape(1, 1, 2, 2) / 8,
        [0.5, -0.5],
    )
    assert [(node.name, type(node.op).__name__) for node in graph.nodes] == [
        ("s", "Conv"),
        ("s_2", "Conv"),
    ]
    assert graph.nodes[1].label == Dyadic(10)
    assert run(graph, [[[1], [2]], [[3], [4]]]) == [[[4 * (1 + 2) + 512, 4 * (-1 + 2 + 8) - 512]]]


def test_a_transposed_convolution_spreads_and_turns(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        (1, 2, 1),
        lambda x: q("QConv2DTranspose", 1, (1, 3), strides=(1, 2), use_bias=False)(x),
        np.array([1, 2, 3]).reshape(1, 3, 1, 1) / 8,
    )
    assert ops(graph) == ["Upsample", "Conv"]
    assert graph.nodes[0].op == Upsample((1, 2), zeros=True)
    assert run(graph, [[[1], [10]]]) == [[[1], [2], [13], [20], [30]]]


def test_a_transposed_convolution_of_stride_1_needs_no_upsample(tmp_path: Path) -> None:
    assert ops(graph_of(tmp_path, (3, 3, 1), lambda x: q("QConv2DTranspose", 1, 2)(x))) == ["Conv"]


def test_causal_padding_stands_before_the_first_step(tmp_path: Path) -> None:
    """Qkeras-v3 cannot run 'causal'; QKeras 0.9 does: the layer never sees a later step."""
    graph = graph_of(
        tmp_path,
        (4, 1),
        lambda x: q("QConv1D", 1, 2, dilation_rate=2, padding="causal", use_bias=False)(x),
        np.array([1, 4]).reshape(2, 1, 1) / 8,
    )
    assert run(graph, [[1], [2], [3], [4]]) == [[4], [8], [1 + 12], [2 + 16]]


def test_channels_joined_keep_their_units(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, (2,), lambda x: layers().Concatenate()([act(relu(4, 3))(x), x]))
    assert ops(graph)[:2] == ["Requant", "Concat"]
    assert graph.nodes[1].label == Dyadic((1, 1, 4, 4))


def test_joined_along_another_axis_all_take_the_finest_unit(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        (2, 2),
        lambda x: layers().Concatenate(axis=1)([act(relu(4, 3))(x), x]),
    )
    assert (ops(graph), graph.nodes[-1].label) == (
        ["Requant", "Requant", "Concat"],
        Dyadic(4),
    )


def test_an_average_of_two_costs_no_rounding(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        (2,),
        lambda x: layers().Average()([act(relu(6, 3))(x), act(bits(8, 3))(x)]),
    )
    assert (ops(graph)[-1], graph.nodes[-1].label) == ("Add", Dyadic(5))


def test_minimum_turns_maximum_round(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, (3,), lambda x: layers().Minimum()([x, layers().RepeatVector(1)(x)]))
    assert run(graph, [-7, 0, 90]) == [[-7, 0, 90]]


def test_scale_and_shift_is_one_requant(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        (2,),
        lambda x: q("QScaleShift", weight_quantizer=bits(4, 0))(x),
        [[0.375]],
        [[-0.25]],
    )
    assert (ops(graph), graph.nodes[0].label) == (["Requant"], Dyadic(7))
    assert run(graph, [5, -1]) == [15 - 32, -3 - 32]


def test_a_quantized_average_is_a_sum_and_one_factor(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        (3, 3, 1),
        lambda x: q("QAveragePooling2D", 3, average_quantizer=bits(6, 0))(x),
    )
    assert (ops(graph), graph.nodes[-1].label) == (["SumPool", "Requant"], Dyadic(9))
    assert run(graph, [[[1], [2], [3]], [[4], [5], [6]], [[7], [8], [9]]]) == [[[45 * 4]]]  # 1/9 is 4/32


def test_a_float_bias_waits_for_the_next_quantizer(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path,
        (1,),
        lambda x: act(bits(6, 3))(dense(1, bias_quantizer=None, name="d")(x)),
    )
    assert ops(graph) == ["Dense", "Requant"]


@pytest.mark.parametrize(
    ("settings", "meaning"),
    [("alpha", Meaning.REAL), ("bias", Meaning.REAL), ("dyadic", Meaning.EXACT)],
)
def test_real_factors_say_so(settings: str, meaning: Meaning, tmp_path: Path) -> None:
    import keras

    chosen: dict[str, Any] = {
        "alpha": {"kernel_quantizer": bits(4, 0, alpha=0.3)},
        "bias": {"bias_quantizer": None},
        "dyadic": {"kernel_quantizer": bits(4, 0, alpha=0.25)},
    }[settings]
    source = keras.Input((4,), name="x")
    model = keras.Model(source, act(bits(6, 3))(dense(3, **chosen)(act(bits(8, 3))(source))))
    assert assert_equal(model, tmp_path / "model.keras").meaning is meaning


def mobile(x: Any) -> Any:
    import qkeras

    return qkeras.QMobileNetSeparableConv2D(
        4,
        3,
        activation=bits(5, 1),
        depthwise_quantizer=bits(4, 0),
        pointwise_quantizer=bits(4, 0),
        bias_quantizer=bits(5, 1),
        depthwise_activation=relu(6, 2),
        depthwise_dropout_rate=0.2,
        name="m",
    )(x)


def octave(x: Any) -> Any:
    import qkeras

    roles = ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer", "bias_quantizer", "acc_quantizer")
    quantizers = dict.fromkeys((*roles, "activation"), "quantized_bits(4, 0, alpha=1)")
    return qkeras.QOctaveConv2D(4, 3, 0.5, name="o", **quantizers)([x, None])[0]


@pytest.mark.parametrize("build", [mobile, octave])
def test_functions_that_expand_into_layers(build: Any, tmp_path: Path) -> None:
    import keras

    source = keras.Input((8, 8, 3), name="x")
    graph = assert_equal(
        keras.Model(source, build(act(bits(6, 1), "first")(source))),
        tmp_path / "model.keras",
    )
    assert graph.meaning is Meaning.EXACT


def ending(kind: str) -> Any:
    """A softmax as the model's end, in each of its forms."""
    forms = {
        "layer": lambda x: layers().Softmax(name="end")(dense(4, name="logits")(x)),
        "activation": lambda x: layers().Activation("softmax", name="end")(dense(4, name="logits")(x)),
        "quantizer": lambda x: act("softmax", "end")(dense(4, name="logits")(x)),
        "of the layer": lambda x: dense(4, name="end", activation="softmax")(x),
    }
    return forms[kind]


@pytest.mark.parametrize("kind", ["layer", "activation", "quantizer", "of the layer"])
def test_a_last_softmax_is_dropped_and_said(kind: str, tmp_path: Path) -> None:
    import keras

    source = keras.Input((5,), name="x")
    model = keras.Model(source, ending(kind)(act(bits(8, 3))(source)))
    model.save(tmp_path / "model.keras")
    graph = load_model(tmp_path / "model.keras")
    assert (ops(graph), [(one.name, one.logits) for one in graph.outputs]) == (["Dense"], [("end", True)])
    x = np.random.default_rng(0).normal(0, 2, (64, 5)).astype(np.float32)
    integers = np.clip(np.rint(x * 16), -128, 127).astype(np.int64)
    logits, _ = interpret(graph, {"x": integers})
    assert (logits["end"].argmax(axis=1) == model.predict(x).argmax(axis=1)).all()
