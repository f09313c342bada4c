"""Sums without ties keep every output: TFLite-Micro's two roundings then agree with any rounding to the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.tflm.adapt import adapt
from edgeflow.backends.tflm.arithmetic import JUST_BELOW_ONE, quantize_multiplier
from edgeflow.backends.tflm.offties import ODD_LIMIT
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Rounding, round_shift
from edgeflow.passes import simplify
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.semantics.tiefree import ties
from tests.backends.tflm.conftest import run_wheel
from tests.graphs import UNIT, extreme_inputs
from tests.passes.graphs import chain, requant

FIRST, HALF = np.array(31), quantize_multiplier(JUST_BELOW_ONE)


def kernel(x: IntArray, shift: int) -> IntArray:
    """What a kernel makes of sums with a factor just below 2**-shift."""
    first = round_shift(x * HALF.significand, FIRST, Rounding.HALF_UP)
    return round_shift(first, np.array(shift), Rounding.HALF_AWAY)


def near(*ends: int) -> IntArray:
    """All integers close to some."""
    return np.concatenate([np.arange(end - (1 << 16), end + (1 << 16), dtype=np.int64) for end in ends])


def test_the_first_stage_loses_one_from_2_to_the_23_on_and_two_from_3_times_that() -> None:
    def lost(x: int) -> int:
        return x - int(kernel(np.array([x]), 0)[0])

    # x - kernel(x, 0) rises with x, so its values at the ends hold between them.
    values = near(-ODD_LIMIT, -(1 << 23), 0, 1 << 23, ODD_LIMIT)
    assert (np.diff(np.sort(values) - kernel(np.sort(values), 0)) >= 0).all()
    assert [lost(x) for x in (-(1 << 23) + 1, 1 << 23)] == [0, 0]
    assert [lost(x) for x in (-(1 << 23), (1 << 23) + 1)] == [-1, 1]
    assert [lost(x) for x in (-ODD_LIMIT + 1, ODD_LIMIT)] == [-1, 1]
    assert [lost(x) for x in (-ODD_LIMIT, ODD_LIMIT + 1)] == [-2, 2]


@pytest.mark.parametrize("shift", range(2, 13))
def test_odd_sums_round_to_the_nearest_within_the_limit(shift: int) -> None:
    odd = near(-ODD_LIMIT + (1 << 16) + 1, -(1 << 23), 0, 1 << 23, ODD_LIMIT - (1 << 16) - 1) | 1
    assert np.abs(odd).max() < ODD_LIMIT
    np.testing.assert_array_equal(kernel(odd, shift), round_shift(odd, np.array(shift), Rounding.HALF_EVEN))


def test_beyond_the_limit_an_odd_sum_can_round_otherwise() -> None:
    x = ODD_LIMIT + np.arange(1, 1 << 12, 2, dtype=np.int64)
    assert (kernel(x, 4) != round_shift(x, np.array(4), Rounding.HALF_EVEN)).any()


@pytest.mark.slow
@pytest.mark.parametrize("shift", [2, 3, 7])
def test_every_odd_sum_rounds_to_the_nearest(shift: int) -> None:
    for start in range(-ODD_LIMIT, ODD_LIMIT, 1 << 20):
        odd = np.arange(start + 1, start + (1 << 20), 2, dtype=np.int64)
        np.testing.assert_array_equal(kernel(odd, shift), round_shift(odd, np.array(shift), Rounding.HALF_EVEN))


def test_half_up_is_any_rounding_of_twice_the_sum_plus_one() -> None:
    x = np.arange(-5000, 5000, dtype=np.int64)
    for shift in range(1, 9):
        wanted = round_shift(x, np.array(shift), Rounding.HALF_UP)
        for rounding in (Rounding.HALF_UP, Rounding.HALF_EVEN, Rounding.HALF_AWAY):
            np.testing.assert_array_equal(round_shift(2 * x + 1, np.array(shift + 1), rounding), wanted)


def signed(rounding: Rounding, shift: int, bits: int) -> Graph:
    """A dense layer without ReLU whose weights fill their bits."""
    most = (1 << (bits - 1)) - 1
    dense = Dense(frozen_array([[most, -most - 1], [16, 1]]), frozen_array([5, -4]))
    return chain(TensorType((2,), -64, 63), dense, requant(shift, rounding, lo=-128, hi=127))


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.FLOOR])
@pytest.mark.parametrize("shift", [0, 1, 4, 7])
def test_results_below_zero_are_exact_for_weights_of_7_bits(rounding: Rounding, shift: int) -> None:
    graph = signed(rounding, shift, 7)
    pairs = np.stack(np.meshgrid(np.arange(-64, 64), np.arange(-64, 64)), axis=-1).reshape(-1, 2)
    before, after = (interpret(one, {"x": pairs})[0]["y"] for one in (graph, adapt(graph)))
    np.testing.assert_array_equal(before, after)


def test_weights_of_8_bits_move_ties_below_zero() -> None:
    graph = signed(Rounding.HALF_UP, 4, 8)
    inputs = extreme_inputs(graph, 0, 4000)
    assert (interpret(graph, inputs)[0]["y"] != interpret(adapt(graph), inputs)[0]["y"]).any()


def test_the_doubled_sums_have_half_the_unit() -> None:
    builder = GraphBuilder("labels")
    x = builder.input("x", TensorType((2,), -8, 7), Dyadic(3))
    sums = builder.add(Dense(frozen_array([[5, 1], [2, 7]]), frozen_array([1, 1])), (x,), Dyadic((8, 9)), "dense")
    act = requant([3, 4], Rounding.HALF_UP, lo=-128, hi=127)
    builder.output("y", builder.add(act, (sums,), Dyadic(5), "act"))
    assert adapt(builder.finish()).tensor("dense").label == Dyadic((9, 10))


def tie_free_net(seed: int, bits: int = 6) -> Graph:
    """Two convolutions, one of them without a ReLU, and logits: every bias odd in half a unit of the products."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder("tie-free")
    at = builder.input("x", TensorType((5, 5, 2), -16, 15), Dyadic(4))
    most = (1 << (bits - 1)) - 1
    for name, inputs, outputs, clamp in (("conv1", 2, 6, (0, 63)), ("conv2", 6, 5, (-32, 31))):
        weight = 2 * rng.integers(-most, most + 1, (3, 3, inputs, outputs))
        bias = 2 * rng.integers(-40, 40, outputs) + 1
        conv = Conv(frozen_array(weight), frozen_array(bias), (1, 1), ((1, 1), (1, 1)), (1, 1))
        at = builder.add(conv, (at,), Dyadic(10), name)
        shift = builder.type(at).bits - 7
        act = requant(shift, Rounding.HALF_EVEN, lo=clamp[0], hi=clamp[1])
        at = builder.add(act, (at,), Dyadic(4), f"{name}_act")
    builder.output("y", at)
    return builder.finish()


@pytest.mark.parametrize("bits", [6, 7])
@pytest.mark.parametrize("simplified", [False, True])
def test_a_tie_free_model_moves_no_output_in_the_wheel(bits: int, simplified: bool, tmp_path: Path) -> None:
    graph = tie_free_net(bits, bits)
    assert ties(graph) == ()
    inputs = extreme_inputs(graph, 1, 300)
    source = simplify(graph) if simplified else graph
    _, run = run_wheel(source, inputs, tmp_path)
    np.testing.assert_array_equal(run.outputs["y"], interpret(graph, inputs)[0]["y"])


def test_tie_free_logits_round_to_8_bits_as_any_rounding_would(tmp_path: Path) -> None:
    builder = GraphBuilder("logits")
    x = builder.input("x", TensorType((6,), 0, 63), Dyadic(4))
    rng = np.random.default_rng(3)
    dense = Dense(frozen_array(2 * rng.integers(-31, 32, (6, 4))), frozen_array(2 * rng.integers(-99, 99, 4) + 1))
    builder.output("y", builder.add(dense, (x,), Dyadic(10), "logits"))
    graph = builder.finish()
    inputs = extreme_inputs(graph, 2, 2000)
    artefact, run = run_wheel(graph, inputs, tmp_path)
    end = artefact.graph.tensor(artefact.graph.outputs[0].tensor)
    meant = to_reals(interpret(graph, inputs)[0]["y"], Dyadic(10))
    np.testing.assert_array_equal(run.outputs["y"], to_integers(meant, end.type, end.label))
    assert end.label != UNIT
