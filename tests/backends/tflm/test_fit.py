"""Requants with a bias, another factor or another sign: where a kernel's steps come to lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.backends.tflm.adapt import adapt
from edgeflow.backends.tflm.fit import Scales, fit
from edgeflow.backends.tflm.widths import INT8, INT16, Width
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import SumBounds
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret

REACH = 3000


def normalization(
    rng: np.random.Generator, channels: int, shift: int = 16, rounding: Rounding = Rounding.FLOOR, hi: int = 63
) -> Requant:
    """What a batch normalization and a quantizer behind it become: any factor, sign and bias a channel."""
    multiplier = rng.integers(1 << (shift - 7), 1 << (shift - 4), channels)
    multiplier[::3] *= -1
    return Requant(
        frozen_array([0]),
        frozen_array(multiplier),
        (Stage(frozen_array([shift]), rounding),),
        frozen_array([3]),
        frozen_array([0]),
        frozen_array([hi]),
        frozen_array(rng.integers(-40 << shift, 40 << shift, channels)),
    )


def sums(channels: int, reach: int = REACH) -> SumBounds:
    ends = frozen_array([-reach] * channels), frozen_array([reach] * channels)
    return SumBounds(*ends, *ends)


def misplaced(requant: Requant, most: int, width: Width = INT8) -> tuple[int, int]:
    """The steps that the fit says lie elsewhere, and the sums on which kernel and Requant differ."""
    channels = requant.multiplier.size
    weight = frozen_array(np.full((2, channels), most))
    found = fit(requant, 1, sums(channels), weight, Scales(2.0**-4, 2.0**-3, 0, width))
    assert found is not None
    values = np.arange(-REACH, REACH + 1, dtype=np.int64)[:, None]
    kernel = width.requant(found.multipliers, 0, 0, int(requant.hi.flat[0]))
    given = kernel.evaluate((values * found.times + found.bias,), ())
    return found.misplaced, int((given != requant.evaluate((values,), ())).sum())


@pytest.mark.parametrize(("most", "few"), [(1, 1), (7, 10), (31, 40), (127, 220)])
@pytest.mark.parametrize("seed", range(8))
def test_only_sums_beside_a_step_round_otherwise_and_the_fewer_the_narrower_the_weights(
    seed: int, most: int, few: int
) -> None:
    said, found = misplaced(normalization(np.random.default_rng(seed), 12), most)
    assert said == found
    assert found <= few, "of 72012 sums"


@given(st.integers(0, 1 << 32), st.sampled_from(list(Rounding)), st.sampled_from([1, 5, 31, 100]))
def test_the_misplaced_steps_are_all_that_differs(seed: int, rounding: Rounding, most: int) -> None:
    said, found = misplaced(normalization(np.random.default_rng(seed), 4, rounding=rounding), most)
    assert said == found


def test_16_bit_results_are_placed_as_well_as_16_bits_of_a_factor_allow() -> None:
    requant = normalization(np.random.default_rng(1), 6, shift=12, hi=4095)
    said, found = misplaced(requant, 7, INT16)
    assert said == found
    assert found < 0.15 * 6 * 2 * REACH


def test_a_weight_whose_sign_cannot_change_has_no_kernel() -> None:
    requant = normalization(np.random.default_rng(0), 3)
    assert fit(requant, 1, sums(3), frozen_array(np.full((2, 3), -128)), Scales(1.0, 1.0, 0, INT8)) is None


def test_results_of_more_than_a_byte_have_no_kernel() -> None:
    requant = normalization(np.random.default_rng(0), 3, hi=4000)
    assert (
        fit(requant, 1, sums(3, 1 << 20), frozen_array(np.ones((2, 3), dtype=np.int64)), Scales(1.0, 1.0, 0, INT8))
        is None
    )


def test_a_parameter_that_differs_between_positions_has_no_kernel() -> None:
    requant = replace(normalization(np.random.default_rng(0), 3), multiplier=frozen_array([[1], [2]]))
    assert fit(requant, 2, sums(3), frozen_array(np.ones((2, 3), dtype=np.int64)), Scales(1.0, 1.0, 0, INT8)) is None


def layer(requant: Requant, weight: IntArray) -> Graph:
    """A dense layer of two inputs with this Requant behind it."""
    builder = GraphBuilder("normalized")
    x = builder.input("x", TensorType((2,), -32, 31), Dyadic(4))
    bias = frozen_array([5] * weight.shape[1])
    at = builder.add(Dense(frozen_array(weight), bias), (x,), Dyadic(9), "dense")
    builder.output("y", builder.add(requant, (at,), Dyadic(2), "act"))
    return builder.finish()


PAIRS = np.stack(np.meshgrid(np.arange(-32, 32), np.arange(-32, 32)), axis=-1).reshape(-1, 2)


@given(st.integers(0, 1 << 32), st.sampled_from(list(Rounding)))
def test_a_normalized_layer_moves_few_outputs_and_by_one(seed: int, rounding: Rounding) -> None:
    rng = np.random.default_rng(seed)
    graph = layer(normalization(rng, 4, rounding=rounding), rng.integers(-31, 32, (2, 4)))
    before, after = (interpret(one, {"x": PAIRS})[0]["y"] for one in (graph, adapt(graph)))
    assert np.abs(before - after).max() <= 1
    assert int((before != after).sum()) <= 0.01 * before.size


def test_a_channel_that_its_sums_do_not_reach_stays_constant() -> None:
    requant = replace(normalization(np.random.default_rng(2), 2), multiplier=frozen_array([0, 700]))
    graph = layer(requant, np.array([[9, 9], [-3, 4]]))
    before, after = (interpret(one, {"x": PAIRS})[0]["y"] for one in (graph, adapt(graph)))
    np.testing.assert_array_equal(before, after)
