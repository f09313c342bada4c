"""Every float op as integers: one layer alone stays within its rounding, whole random networks within a few steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow.errors import Unsupported
from edgeflow.ir.graph import Graph, Meaning, Op, Output
from edgeflow.ir.types import Shape
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.interpret import interpret_all
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.train.calibrate.equalize import equalize
from edgeflow.train.calibrate.floats import (
    Average,
    Clip,
    FloatArray,
    FloatConv,
    FloatDense,
    FloatGraph,
    FloatNode,
    FloatOp,
    Function,
    Move,
    Product,
    Scale,
    Sum,
    as_float,
    forward,
)
from edgeflow.train.calibrate.functions import FUNCTIONS
from edgeflow.train.calibrate.lower import lower
from edgeflow.train.calibrate.observe import choose_grids, observe
from edgeflow.train.calibrate.options import Options
from edgeflow.train.calibrate.simplify import simplify
from edgeflow.train.calibrate.twin import Twin

SQUARE = (6, 5, 4)


def numbers(*shape: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def exact_weights(*shape: int) -> FloatArray:
    """Weights that 8 bits hold exactly: integers of 128ths, the largest 127."""
    random = np.random.default_rng(1)
    codes = random.integers(-127, 128, size=shape)
    codes.reshape(-1, shape[-1])[0] = 127
    return (codes / 128).astype(np.float32)


def chain(shape: Shape, *ops: FloatOp | Op) -> FloatGraph:
    """input x, then one op after the other; the last is y."""
    nodes: list[FloatNode] = []
    for number, op in enumerate(ops):
        name = "y" if number == len(ops) - 1 else f"t{number}"
        before = nodes[-1].name if nodes else "x"
        nodes.append(FloatNode(name, as_float(op), (before,), name))
    return FloatGraph("chain", {"x": shape}, tuple(nodes), (Output("y", "y"),))


def quantized(graph: FloatGraph, samples: dict[str, FloatArray], options: Options) -> Graph:
    grids = choose_grids(graph, observe(graph, samples), options)
    return lower(Twin(graph, grids, options, samples))


def steps_off(graph: FloatGraph, options: Options, samples: dict[str, FloatArray] | None = None) -> float:
    """The largest distance between the integers and the float network on the same (rounded) inputs, in steps."""
    given = samples or {name: numbers(40, *shape) for name, shape in graph.inputs.items()}
    made = quantized(graph, given, options)
    assert made.meaning is Meaning.OWN
    inputs = {one.name: to_integers(given[one.name], one.type, one.label) for one in made.inputs}
    rounded = {one.name: to_reals(inputs[one.name], one.label).astype(np.float32) for one in made.inputs}
    tensor = made.tensor(made.outputs[0].tensor)
    got = to_reals(interpret_all(made, inputs)[tensor.name], tensor.label)
    wanted = forward(graph, rounded)["y"]
    ends = to_reals(np.array([tensor.type.lo, tensor.type.hi]), tensor.label)
    step = float(np.diff(to_reals(np.array([0, 1]), tensor.label))[0])
    return float(np.abs(got - np.clip(wanted, ends[0], ends[1])).max() / step)


# A kernel rounds twice: with a factor of a quarter its second rounding adds a quarter of a step.
ONE_OP: dict[str, tuple[Shape, Callable[[], FloatOp | Op], float]] = {
    "dense": ((12,), lambda: FloatDense(exact_weights(12, 5), numbers(5)), 0.52),
    "dense on rows": ((3, 12), lambda: FloatDense(exact_weights(12, 5), numbers(5)), 0.52),
    "conv": (
        SQUARE,
        lambda: FloatConv(exact_weights(3, 2, 4, 6), numbers(6), (2, 1), ((1, 1), (0, 1)), (1, 2)),
        0.52,
    ),
    "conv of groups": (
        SQUARE,
        lambda: FloatConv(exact_weights(3, 3, 2, 6), numbers(6), (1, 1), ((0, 0), (0, 0)), (1, 1), 2),
        0.52,
    ),
    "depthwise": (
        SQUARE,
        lambda: FloatConv(exact_weights(3, 3, 1, 8), numbers(8), (1, 1), ((1, 1), (1, 1)), (1, 1), 4),
        0.52,
    ),
    "conv that pads with a value": (
        (9, 2),
        lambda: FloatConv(exact_weights(3, 2, 3), numbers(3), (1,), ((1, 1),), (1,), 1, 0.0),
        0.52,
    ),
    "clip": (SQUARE, lambda: Clip(0.0, 1.5), 0.52),
    "average": (SQUARE, lambda: Average((2, 2), (2, 2), ((0, 0), (0, 1))), 0.51),
    "whole average": (SQUARE, lambda: Average((6, 5), (6, 5), ((0, 0), (0, 0)), whole=True), 0.76),
    "max pool": (SQUARE, lambda: MaxPool((2, 2), (1, 1), ((0, 1), (0, 1))), 1e-4),
    "reshape": (SQUARE, lambda: Reshape((5, 24)), 1e-4),
    "transpose": (SQUARE, lambda: Transpose((2, 0, 1)), 1e-4),
    "pad": (SQUARE, lambda: Pad(((1, 0), (2, 1), (0, 0)), 0), 1e-4),
    "slice": (SQUARE, lambda: Slice((1, 0, 0), (3, 5, 4), (1, 1, 1)), 1e-4),
    "upsample": (SQUARE, lambda: Upsample((2, 3), zeros=False), 1e-4),
    **{name: (SQUARE, lambda n=name: Function(n, FUNCTIONS[n].defaults), 0.51) for name in FUNCTIONS},
}
PLAIN = Options(equalize=False, correct_bias=False, method="minmax")


@pytest.mark.parametrize("power_of_two", [False, True], ids=["affine", "powers of two"])
@pytest.mark.parametrize("name", ONE_OP)
def test_one_layer_only_rounds_its_result(name: str, power_of_two: bool) -> None:
    shape, make, most = ONE_OP[name]
    assert steps_off(chain(shape, make()), replace(PLAIN, power_of_two=power_of_two)) <= most


@pytest.mark.parametrize("power_of_two", [False, True], ids=["affine", "powers of two"])
@pytest.mark.parametrize("op", [Sum(), Sum((1, -1)), Product(), Move(Concat(0)), Move(Concat(2))], ids=str)
def test_two_tensors_become_one(op: FloatOp, power_of_two: bool) -> None:
    graph = FloatGraph("join", {"a": SQUARE, "b": SQUARE}, (FloatNode("y", op, ("a", "b"), "y"),), (Output("y", "y"),))
    samples = {"a": numbers(30, *SQUARE), "b": 3 * numbers(30, *SQUARE, seed=1) + 1}
    assert steps_off(graph, replace(PLAIN, power_of_two=power_of_two), samples) <= 0.52


def test_a_gate_broadcasts() -> None:
    gate = FloatNode("gate", Function("sigmoid"), ("b",), "gate")
    graph = FloatGraph(
        "gated",
        {"a": SQUARE, "b": (1, 1, 4)},
        (gate, FloatNode("y", Product(), ("a", "gate"), "y")),
        (Output("y", "y"),),
    )
    assert steps_off(graph, PLAIN) <= 1.5


def test_a_concat_of_unlike_grids_brings_its_parts_to_one() -> None:
    nodes = (
        FloatNode("gate", Function("sigmoid"), ("x",), "gate"),
        FloatNode("y", Move(Concat(0)), ("x", "gate"), "y"),
    )
    graph = FloatGraph("parts", {"x": (5,)}, nodes, (Output("y", "y"),))
    made = quantized(graph, {"x": numbers(40, 5)}, PLAIN)
    assert [type(node.op).__name__ for node in made.nodes] == ["Lut", "Requant", "Concat"]
    assert steps_off(graph, PLAIN) <= 1.1


def test_a_relu_is_the_clamp_of_the_layer_before() -> None:
    conv = FloatConv(numbers(3, 3, 4, 6), numbers(6), (1, 1), ((0, 0), (0, 0)), (1, 1))
    made = quantized(chain(SQUARE, conv, Clip(0.0, math.inf)), {"x": numbers(20, *SQUARE)}, Options())
    assert [type(node.op).__name__ for node in made.nodes] == ["Conv", "Requant"]
    op = made.nodes[1].op
    assert isinstance(op, Requant)
    assert (op.offset.tolist(), op.lo.tolist(), op.hi.tolist()) == ([-128], [-128], [127])


def test_zeros_between_elements_are_zero_points() -> None:
    conv = FloatConv(exact_weights(3, 3, 4, 2), numbers(2), (1, 1), ((2, 1), (2, 1)), (1, 1))
    graph = chain(SQUARE, Clip(0.0, math.inf), Upsample((2, 2), zeros=True), conv)
    made = quantized(graph, {"x": numbers(20, *SQUARE)}, PLAIN)
    assert [type(node.op).__name__ for node in made.nodes] == ["Requant", "Requant", "Upsample", "Conv", "Requant"]
    assert steps_off(graph, PLAIN) <= 3.0


def test_padding_behind_a_normalization_is_the_value_that_becomes_zero() -> None:
    scale = Scale(np.full(4, 2.0, np.float32), np.full(4, -1.0, np.float32))
    conv = FloatConv(exact_weights(3, 3, 4, 2), numbers(2), (1, 1), ((1, 1), (1, 1)), (1, 1))
    graph = simplify(chain(SQUARE, scale, conv))
    assert [type(node.op) for node in graph.nodes] == [FloatConv]
    samples = {"x": (np.round(numbers(30, *SQUARE).clip(0, 1) * 255) / 255).astype(np.float32)}
    made = quantized(graph, samples, PLAIN)
    op = made.nodes[0].op
    assert isinstance(op, Conv)
    assert op.pad_value in (-1, 0), "0.5 between 0 and 1"


def test_a_dead_channel_keeps_its_bias_and_a_huge_bias_stays_within_32_bits() -> None:
    kernel = exact_weights(8, 3)
    kernel[:, 1] = 0.0
    kernel[:, 2] *= 1e-12
    graph = chain((8,), FloatDense(kernel, np.array([0.0, 2.5, -1.25], np.float32)))
    assert steps_off(graph, PLAIN) <= 0.6
    graph = chain((8,), FloatDense(exact_weights(8, 2), np.array([1e9, -3.0], np.float32)))
    made = quantized(graph, {"x": numbers(20, 8)}, PLAIN)
    assert max(-made.nodes[0].type.lo, made.nodes[0].type.hi) < 1 << 31


def test_sums_beyond_32_bits_are_refused() -> None:
    graph = chain((140_000,), FloatDense(np.ones((140_000, 1), np.float32), np.zeros(1, np.float32)))
    with pytest.raises(Unsupported) as caught:
        quantized(graph, {"x": numbers(2, 140_000)}, PLAIN)
    assert str(caught.value) == (
        "layer 'y': its sums reach 2^31.1, beyond 32 bits\n  fix: give it fewer inputs, or choose fewer --bits"
    )


def test_bias_correction_removes_the_mean_error_of_each_channel() -> None:
    graph = chain((16,), FloatDense(numbers(16, 6), numbers(6)))
    samples = {"x": np.abs(numbers(400, 16))}
    errors: list[float] = []
    for correct in (False, True):
        made = quantized(graph, samples, Options(bits=3, correct_bias=correct, method="minmax"))
        tensor = made.tensor("y")
        inputs = {"x": to_integers(samples["x"], made.inputs[0].type, made.inputs[0].label)}
        got = to_reals(interpret_all(made, inputs)["y"], tensor.label)
        errors.append(float(np.abs((got - forward(graph, samples)["y"]).mean(axis=0)).max()))
    assert errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize("per_tensor", [False, True])
def test_equalization_changes_no_result_and_brings_channels_together(per_tensor: bool) -> None:
    first, second = numbers(3, 3, 4, 6), numbers(36, 5)
    first *= np.array([1, 50, 0.01, 3, 1, 0.2], np.float32)
    conv = FloatConv(first, numbers(6), (1, 1), ((0, 0), (0, 0)), (1, 1))
    pool = MaxPool((2, 1), (2, 1), ((0, 0), (0, 0)))
    graph = chain(SQUARE, conv, Clip(0.0, math.inf), pool, Reshape((36,)), FloatDense(second, numbers(5)))
    samples = {"x": numbers(50, *SQUARE)}
    reach = None if per_tensor else {name: one.reach for name, one in observe(graph, samples).items()}
    equal = equalize(graph, reach)
    wanted, got = forward(graph, samples)["y"], forward(equal, samples)["y"]
    assert np.abs(wanted - got).max() <= 1e-5 * np.abs(wanted).max()
    spread = [np.ptp(np.log2(observe(one, samples)["t1"].reach)) for one in (graph, equal)]
    assert spread[1] < 0.7 * spread[0]


@st.composite
def networks(draw: st.DrawFn) -> FloatGraph:
    """A few layers of small random convolutions, joins and functions on one input, then a Dense."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def normal(*shape: int) -> FloatArray:
        return (random.normal(size=shape) / math.sqrt(max(1, math.prod(shape[:-1])))).astype(np.float32)

    nodes: list[FloatNode] = []
    at, channels = "x", 3
    for number in range(draw(st.integers(1, 4))):
        name = f"n{number}"
        match draw(st.sampled_from(["conv", "depthwise", "scale", "residual", "function", "pool", "concat"])):
            case "conv":
                outputs = draw(st.integers(2, 5))
                conv = FloatConv(normal(3, 3, channels, outputs), normal(outputs), (1, 1), ((1, 1), (1, 1)), (1, 1))
                nodes += [FloatNode(name, conv, (at,), name), FloatNode(f"{name}r", Clip(0, math.inf), (name,), name)]
                name, channels = f"{name}r", outputs
            case "depthwise":
                conv = FloatConv(
                    normal(3, 3, 1, channels), normal(channels), (1, 1), ((1, 1), (1, 1)), (1, 1), channels
                )
                nodes.append(FloatNode(name, conv, (at,), name))
            case "scale":
                factor = random.uniform(0.5, 2, channels).astype(np.float32)
                nodes.append(FloatNode(name, Scale(factor, normal(channels)), (at,), name))
            case "residual":
                nodes += [FloatNode(f"{name}f", Function("tanh"), (at,), name)]
                nodes += [FloatNode(name, Sum(), (at, f"{name}f"), name)]
            case "function":
                function = Function(draw(st.sampled_from(["swish", "sigmoid", "mish"])))
                nodes.append(FloatNode(name, function, (at,), name))
            case "pool":
                nodes.append(FloatNode(name, Average((2, 2), (1, 1), ((0, 1), (0, 1))), (at,), name))
            case _:
                nodes.append(FloatNode(name, Move(Concat(2)), (at, at), name))
                channels *= 2
        at = name
    nodes.append(FloatNode("flat", Move(Reshape((20 * channels,))), (at,), "flat"))
    nodes.append(FloatNode("y", FloatDense(normal(20 * channels, 4), normal(4)), ("flat",), "y"))
    return FloatGraph("random", {"x": (5, 4, 3)}, tuple(nodes), (Output("y", "y"),))


def check_random(graph: FloatGraph, options: Options) -> None:
    assert steps_off(simplify(graph), options, {"x": numbers(64, 5, 4, 3)}) <= 16


ANY = st.builds(
    Options,
    method=st.sampled_from(["minmax", "mse"]),
    per_tensor=st.booleans(),
    power_of_two=st.booleans(),
    equalize=st.booleans(),
    correct_bias=st.booleans(),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), ANY)
def test_random_networks_stay_within_a_few_steps(graph: FloatGraph, options: Options) -> None:
    check_random(graph, options)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), ANY)
def test_many_random_networks_stay_within_a_few_steps(graph: FloatGraph, options: Options) -> None:
    check_random(graph, options)
