"""Every value that float32 rounds otherwise is explained by its error bound, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.conformance import compare_predict, graph_inputs
from edgeflow.frontends import load_keras
from edgeflow.frontends.qkeras import Import
from edgeflow.frontends.qkeras.doubts import Doubt, magnitudes
from edgeflow.frontends.qkeras.importer import requant
from edgeflow.frontends.qkeras.quantizers import Steps
from edgeflow.frontends.qkeras.stairs import staircase
from edgeflow.frontends.qkeras.values import RealMap
from edgeflow.ir.graph import Meaning
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.requant import Rounding
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret, interpret_all
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.train.judge import answers, judge, judged
from edgeflow.vectors import NO_INTEGER, Rounded, Vectors, read_vectors, write_vectors
from tests.frontends.qkeras.against import act, bits, conv, dense, layers, q, relu

Build = Callable[[Any], Any]

AUTO: dict[str, Any] = {"bias_quantizer": None, "use_bias": False, "activation": relu(4, 2)}


def auto(*args: Any) -> Any:
    return bits(*args, alpha="auto")


def q_binary() -> Any:
    import qkeras

    return qkeras.binary(alpha="auto")


def ties(model: Any, rng: np.random.Generator) -> None:
    """Kernels whose largest weight is 1, so that a 4-bit scale is 1/7 and sums meet steps; everything else short."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            ties(layer, rng)
        for one in layer.weights:
            values = rng.integers(-7, 8, one.shape) / 7
            if "kernel" in one.path:
                values.reshape(-1, one.shape[-1])[0] = 1
            elif "variance" in one.path:
                values = np.abs(values) + 2
            one.assign(values.astype(np.float32))


def shared(x: Any) -> Any:
    """A layer and a model that are called twice each, the later one on what was made first."""
    import keras

    one, two = (conv(4, 3, name=name, kernel_quantizer=auto(4, 0), padding="same", **AUTO) for name in ("one", "two"))
    inner_in = keras.Input((6, 6, 4))
    inner = keras.Model(inner_in, two(inner_in), name="inner")
    turned = layers().Permute((2, 1, 3))(x)
    first, last = one(turned), inner(x)
    return layers().Concatenate()([one(layers().UpSampling2D(1)(x)), first, inner(turned), last])


def cancelling(x: Any) -> Any:
    normal = layers().BatchNormalization
    first = normal(name="up", epsilon=0.25)(dense(4, bias_quantizer=None)(x))
    return act(bits(8, 2))(normal(name="down", epsilon=0.25)(first))


MODELS: dict[str, Build] = {
    "convolution": lambda x: conv(4, 3, kernel_quantizer=auto(4, 0), **AUTO)(x),
    "dense": lambda x: dense(4, kernel_quantizer=auto(4, 0), **AUTO)(x),
    "depthwise": lambda x: q("QDepthwiseConv2D", 3, depthwise_quantizer=auto(4, 0), **AUTO)(x),
    "separable": lambda x: q("QSeparableConv2D", 4, 3, pointwise_quantizer=auto(4, 0), **AUTO)(x),
    "separable twice": lambda x: q(
        "QSeparableConv2D", 4, 3, depthwise_quantizer=auto(4, 0), pointwise_quantizer=auto(4, 0), **AUTO
    )(x),
    "transposed": lambda x: q("QConv2DTranspose", 4, 3, kernel_quantizer=bits(4, 0, alpha=1 / 7), **AUTO)(x),
    "binary": lambda x: conv(4, 3, kernel_quantizer=q_binary(), **AUTO)(x),
    "float bias": lambda x: conv(4, 3, bias_quantizer=None, activation=relu(4, 2))(x),
    "average": lambda x: act(relu(4, 1))(
        layers().AveragePooling2D(3)(conv(4, 1, kernel_quantizer=auto(4, 0), **{**AUTO, "activation": None})(x))
    ),
    "normalization": lambda x: act(bits(6, 2))(
        layers().BatchNormalization()(conv(4, 3, kernel_quantizer=auto(4, 0), **{**AUTO, "activation": None})(x))
    ),
    "curve": lambda x: conv(4, 3, kernel_quantizer=auto(4, 0), **{**AUTO, "activation": "quantized_po2(4, 2)"})(x),
    "shared and nested": shared,
    "cancelling": cancelling,
}


def opened(build: Build, folder: Path, fill: Callable[[Any, np.random.Generator], None] = ties) -> tuple[Any, Import]:
    import keras

    source = keras.Input((6, 6, 4), name="x")
    model = keras.Model(source, build(act(bits(6, 2))(source)))
    fill(model, np.random.default_rng(5))
    model.save(folder / "m.keras")
    return model, load_keras(folder / "m.keras")


def samples(count: int = 64) -> dict[str, Any]:
    return {"x": np.random.default_rng(6).normal(0, 2, (count, 6, 6, 4)).astype(np.float32)}


@pytest.mark.parametrize("name", MODELS)
def test_float32_differs_only_where_its_error_reaches_a_step(name: str, tmp_path: Path) -> None:
    def fill(model: Any, rng: np.random.Generator) -> None:
        ties(model, rng)
        if name == "cancelling":
            big = np.float32(2.0**22)
            for one, values in (("up", [1, big, 0, 1]), ("down", [1, 0, big, 1.5])):
                layer = model.get_layer(one)
                layer.set_weights([np.full(4, v, np.float32) for v in values])

    model, known = opened(MODELS[name], tmp_path, fill)
    assert known.graph.meaning is Meaning.REAL
    found = judged(model, known, samples())
    assert found.judgement is not None
    assert {name: one.unexplained for name, one in found.judgement.layers.items() if one.unexplained} == {}
    differ = sum(one.differ for one in found.judgement.layers.values())
    assert differ > 0 or name in RARE
    graph, vectors = known.graph, Vectors(found.inputs, found.outputs, None, found.judgement)
    meant, _ = interpret(graph, graph_inputs(graph, vectors))
    compared = compare_predict(graph, vectors, meant)
    assert (compared.judged, compared.agrees, compared.tolerated) == (True, True, compared.mismatches)


RARE = ("transposed", "binary", "float bias", "average", "normalization")
"""Models whose sums meet no step on these samples, or hardly ever."""


@pytest.fixture(scope="module")
def one_layer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Import, dict[str, Any], dict[str, Any], Any]:
    """An import, integers for it, what its layer and its output hold in real arithmetic, and the layer's choices."""
    _, known = opened(MODELS["convolution"], tmp_path_factory.mktemp("one"))
    graph, (doubt,) = known.graph, known.doubts
    integers = {one.name: to_integers(samples()[one.name], one.type, one.label) for one in graph.inputs}
    values = interpret_all(graph, integers)
    n = values[doubt.source]
    channel = np.broadcast_to(np.arange(n.shape[-1]), n.shape)
    choices = doubt.codes(n, magnitudes(graph, doubt, values), channel)
    return known, integers, {doubt.layer: to_reals(values[doubt.tensor], graph.tensor(doubt.tensor).label)}, choices


def changed(one_layer: Any, place: int, by: float) -> dict[str, Rounded]:
    """The judgement when the model's value at a flat place is another one, in steps."""
    known, integers, seen, _ = one_layer
    (layer,) = seen
    got = seen[layer].copy()
    got.reshape(-1)[place] += by * 2.0**-2
    name = known.graph.outputs[0].name
    return judge(known, integers, {layer: [got]}, {name: got})


def test_a_value_that_no_tie_explains_is_named(one_layer: Any) -> None:
    _, _, seen, (least, most) = one_layer
    ((layer, codes),) = seen.items()
    sure = int(np.flatnonzero((least == most).reshape(-1) & (codes.reshape(-1) > 0.5))[7])
    expected = int(codes.reshape(-1)[sure] * 4)
    sample, element = divmod(sure, codes[0].size)
    for by, got in ((1, expected + 1), (-1, expected - 1), (0.25, NO_INTEGER)):
        found = changed(one_layer, sure, by)
        assert found == {layer: Rounded(codes.size, 1, 1, sample, element, expected, got)}


def test_a_tie_may_go_either_way_and_no_further(one_layer: Any) -> None:
    _, _, seen, (least, most) = one_layer
    codes = next(iter(seen.values())).reshape(-1) * 4
    wide = np.flatnonzero((least < most).reshape(-1))
    assert 0 < len(wide) < codes.size / 10
    assert (most - least).max() == 1
    for place in wide[:5].tolist():
        other = least.reshape(-1)[place] + most.reshape(-1)[place] - codes[place]
        way = other - codes[place]
        near, far = (next(iter(changed(one_layer, place, by).values())) for by in (way, 2 * way))
        assert (near.differ, near.unexplained) == (1, 0)
        assert (far.differ, far.unexplained) == (1, 1)


def test_an_output_that_its_own_inputs_do_not_give_is_named(one_layer: Any) -> None:
    known, integers, seen, _ = one_layer
    (layer,) = seen
    outputs = {known.graph.outputs[0].name: seen[layer] + 0.25}
    found = judge(known, integers, {layer: [seen[layer]]}, outputs)
    assert sum(one.unexplained for one in found.values()) == seen[layer].size


@pytest.mark.parametrize("by", [-2, 2])
def test_steps_of_the_graph_that_lie_two_integers_off_are_found(one_layer: Any, by: int) -> None:
    known, integers, seen, (least, most) = one_layer
    ((layer, codes),) = seen.items()
    graph, (doubt,) = known.graph, known.doubts
    node = next(one for one in graph.nodes if one.name == doubt.tensor)
    moved = replace(node.op, bias=frozen_array(node.op.bias + by * node.op.multiplier))
    other = replace(graph, nodes=tuple(replace(one, op=moved) if one is node else one for one in graph.nodes))
    expected = interpret_all(other, integers)[doubt.tensor]
    wrong = (expected < least) | (expected > most)
    found = judge(replace(known, graph=other), integers, {layer: [codes]}, {graph.outputs[0].name: codes})
    assert wrong.sum() > 20
    assert found[layer].unexplained == wrong.sum()


def test_a_quantizer_with_an_offset_is_no_shift(one_layer: Any) -> None:
    builder = GraphBuilder("offset")
    x = builder.input("x", TensorType((3,), -4, 3), Dyadic(0))
    finer = requant(pre=np.asarray(1), shift=np.asarray(0), rounding=Rounding.FLOOR, lo=-9, hi=9, offset=3)
    y = builder.add(finer, (x,), Dyadic(1), "y")
    builder.output("y", y)
    graph, values = builder.finish(), {x: np.array([[0, 1, -2]]), y: np.array([[3, 5, -1]])}
    doubt = replace(one_layer[0].doubts[0], source=y, rounded=frozenset())
    assert magnitudes(graph, doubt, values).tolist() == [[3, 5, 1]]


def test_one_weight_that_is_one_code_off_is_found(tmp_path: Path) -> None:
    model, known = opened(MODELS["convolution"], tmp_path)
    (kernel,) = model.layers[-1].get_weights()
    place = np.unravel_index(int(np.abs(kernel).argmin()), kernel.shape)
    kernel[place] += 1 / 7
    model.layers[-1].set_weights([kernel])
    found = judged(model, known, samples())
    assert found.judgement is not None
    (one,) = found.judgement.layers.values()
    assert 100 < one.unexplained <= one.differ


def test_answers_of_a_file_are_those_of_predict(tmp_path: Path) -> None:
    model, _ = opened(MODELS["convolution"], tmp_path)
    expected = model.predict(samples()["x"], verbose=0, batch_size=256)
    found = answers(tmp_path / "m.keras", samples()["x"])
    assert found.judgement is not None
    (name,) = found.outputs
    assert np.array_equal(found.outputs[name], expected)
    write_vectors(tmp_path / "v.npz", found.inputs, found.outputs, None, found.judgement)
    read = read_vectors(tmp_path / "v.npz").judgement
    assert read is not None
    assert read.layers == found.judgement.layers
    assert np.array_equal(read.reals[name], found.judgement.reals[name])


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(2, 8))
def test_the_bound_holds_for_every_order_of_a_sum(seed: int, terms: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    codes, x = rng.integers(-7, 8, terms), rng.integers(-(1 << width), 1 << width, terms)
    scale, bias = np.float32(rng.choice([1 / 7, 8 / 7, rng.uniform(0.01, 2)])), np.float32(rng.normal())
    unit = -width
    weights = (codes.astype(np.float32) * scale).astype(np.float32)
    products = (weights * np.ldexp(x.astype(np.float32), unit))[rng.permutation(terms)]
    total = np.add.accumulate(products, dtype=np.float32)[-1] + bias
    steps = Steps(frac=3, lo=-128, hi=127, unit=3, straight_through=False)
    real = RealMap((Fraction(float(scale)),), (Fraction(float(bias)),), roundings=4 + terms)
    doubt = Doubt(
        "y",
        "n",
        (Fraction(float(scale)) * Fraction(2) ** unit,),
        real.shift,
        real,
        staircase(steps, "here"),
        steps,
        frozenset(),
    )
    n, magnitude = np.array([codes @ x]), np.array([float(np.abs(codes) @ np.abs(x))])
    least, most = doubt.codes(n, magnitude, np.zeros(1, dtype=np.int64))
    got = steps.float32(np.array([total], dtype=np.float32))
    assert least[0] <= got[0] <= most[0]
    assert most[0] - least[0] <= 1
