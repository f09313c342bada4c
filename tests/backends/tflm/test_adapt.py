"""What adaption changes in a model's meaning, and what it leaves as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.tflm.adapt import adapt
from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.semantics.serialize import graph_digest
from edgeflow.semantics.text import show_graph
from edgeflow.vectors import read_vectors
from tests.backends.tflm.graphs import random_tflm_graph
from tests.graphs import UNIT

ZERO = frozen_array([0])


def clamp_to(lo: int, hi: int, shift: int | list[int], rounding: Rounding, multiplier: int = 1) -> Requant:
    stage = Stage(frozen_array(np.atleast_1d(shift)), rounding)
    return Requant(ZERO, frozen_array([multiplier]), (stage,), ZERO, frozen_array([lo]), frozen_array([hi]))


def identity_sum(requant: Requant) -> Graph:
    """x of one channel plus 16 y, requantized: every sum of an interval can be given."""
    builder = GraphBuilder("sum")
    x = builder.input("x", TensorType((2,), -128, 127), UNIT)
    weight = frozen_array([[1], [16]])
    sums = builder.add(Dense(weight, frozen_array([0])), (x,), UNIT, "dense")
    builder.output("y", builder.add(requant, (sums,), UNIT, "act"))
    return builder.finish()


def all_sums() -> dict[str, IntArray]:
    pairs = np.array([(low, high) for high in range(-100, 100) for low in range(-8, 8)], dtype=np.int64)
    return {"x": pairs}


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.HALF_AWAY, Rounding.FLOOR])
@pytest.mark.parametrize("shift", [0, 1, 2, 5])
def test_behind_a_relu_every_rounding_but_half_even_stays_exact(rounding: Rounding, shift: int) -> None:
    graph = identity_sum(clamp_to(0, 63, shift, rounding))
    inputs = all_sums()
    assert interpret(adapt(graph), inputs)[0]["y"].tolist() == interpret(graph, inputs)[0]["y"].tolist()


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("lo", [0, -128])
def test_only_ties_and_by_one_unit_can_move(rounding: Rounding, shift: int, lo: int) -> None:
    graph, inputs = identity_sum(clamp_to(lo, 127, shift, rounding)), all_sums()
    before, after = interpret(graph, inputs)[0]["y"], interpret(adapt(graph), inputs)[0]["y"]
    sums = inputs["x"] @ np.array([1, 16])
    unit = 1 << shift
    ties = sums % unit == (0 if rounding is Rounding.FLOOR else unit // 2)
    moved = (before != after)[:, 0]
    assert np.abs(before - after).max() <= 1
    assert not (moved & ~ties).any()
    assert not moved.any() or rounding is not Rounding.HALF_AWAY


def test_half_even_rounds_ties_up_and_down_by_turns() -> None:
    builder = GraphBuilder("ties")
    x = builder.input("x", TensorType((1,), 0, 127), UNIT)
    sums = builder.add(Dense(frozen_array([[1, 1, 1, 1]]), frozen_array([0] * 4)), (x,), UNIT, "dense")
    builder.output("y", builder.add(clamp_to(0, 127, 1, Rounding.HALF_EVEN), (sums,), UNIT, "act"))
    outputs, _ = interpret(adapt(builder.finish()), {"x": np.array([[1], [3]])})
    assert outputs["y"].tolist() == [[1, 0, 1, 0], [2, 1, 2, 1]]


@pytest.mark.parametrize("seed", range(60))
def test_adapting_twice_changes_nothing(seed: int) -> None:
    once = adapt(random_tflm_graph(seed))
    assert graph_digest(adapt(once)) == graph_digest(once)


def test_outputs_that_are_sums_become_8_bits_in_the_finest_unit_that_holds_them() -> None:
    builder = GraphBuilder("logits")
    x = builder.input("x", TensorType((2,), 0, 63), Dyadic(4))
    weight = frozen_array([[31, -31], [1, 2]])
    sums = builder.add(Dense(weight, frozen_array([0, 100])), (x,), Dyadic((9, 10)), "logits")
    builder.output("logits", sums)
    adapted = adapt(builder.finish())
    tensor = adapted.tensor(adapted.outputs[0].tensor)
    assert tensor.label == Dyadic(5)
    assert (tensor.type.lo, tensor.type.hi) == (-58, 126), "half of it, frac 6, would span [-116, 252]"


def test_a_requant_behind_a_pool_moves_in_front_of_it() -> None:
    builder = GraphBuilder("pool first")
    x = builder.input("x", TensorType((4, 4, 1), -8, 7), UNIT)
    conv = Conv(frozen_array(np.full((1, 1, 1, 2), 9)), frozen_array([3, -3]), (1, 1), ((0, 0),) * 2, (1, 1))
    at = builder.add(conv, (x,), UNIT, "conv")
    at = builder.add(MaxPool((2, 2), (2, 2), ((0, 0), (0, 0))), (at,), UNIT, "pool")
    at = builder.add(Reshape((8,)), (at,), UNIT, "flatten")
    builder.output("y", builder.add(clamp_to(0, 15, 2, Rounding.HALF_UP), (at,), UNIT, "act"))
    graph = builder.finish()
    adapted = adapt(graph)
    assert [type(node.op).__name__ for node in adapted.nodes] == ["Conv", "Requant", "MaxPool", "Reshape"]
    values = {"x": np.random.default_rng(0).integers(-8, 8, (50, 4, 4, 1))}
    assert interpret(adapted, values)[0]["y"].tolist() == interpret(graph, values)[0]["y"].tolist()


def test_the_digits_student_reads_as_the_kernels_compute_it(data: Path) -> None:
    folder = data / "digits"
    graph = load_model(folder / "student.keras")
    adapted = adapt(graph)
    lines = show_graph(adapted).splitlines()
    assert lines[6].strip() == (
        "%conv2_act: u6[0, 63] 4x4x32 @ 2^-4 = Requant(%conv2) pre=[0] multiplier=[2147483520] stages.0.shift=[31] "
        "stages.0.rounding=half_up stages.1.shift=[5] stages.1.rounding=half_away offset=[0] lo=[0] hi=[63]"
        "  # layer 'conv2'"
    )
    vectors = read_vectors(folder / "vectors.npz")
    image = graph.inputs[0]
    inputs = {image.name: to_integers(vectors.inputs[image.name], image.type, image.label)}
    meant, got = interpret(graph, inputs)[0]["logits"], interpret(adapted, inputs)[0]["logits"]
    tensor = adapted.tensor(adapted.outputs[0].tensor)
    assert tensor.label == Dyadic(2)
    ideal = to_integers(to_reals(meant, graph.tensor("logits").label), tensor.type, tensor.label)
    assert int((ideal != got).sum()) == 815, "of 3600: half to even, which no TFLite kernel does"
    assert int(np.abs(ideal - got).max()) <= 2
    assert int((meant.argmax(axis=1) != got.argmax(axis=1)).sum()) == 0
