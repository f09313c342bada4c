"""Requants of a calibration against TFLite-Micro's own arithmetic, written here once more in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from edgeflow.ir.graph import Bounds, Graph, Output
from edgeflow.ir.types import IntArray
from edgeflow.semantics.interpret import interpret
from edgeflow.train.calibrate.floats import FloatGraph, FloatNode, FloatOp, Product, Sum
from edgeflow.train.calibrate.grids import Grid
from edgeflow.train.calibrate.lower import lower
from edgeflow.train.calibrate.options import Options
from edgeflow.train.calibrate.rescale import averages, rescale
from edgeflow.train.calibrate.twin import Twin

BYTES = np.arange(-128, 128, dtype=np.int64)


def quantize_multiplier(factor: float) -> tuple[int, int]:
    """QuantizeMultiplier: significand and shift."""
    fraction, shift = math.frexp(factor)
    significand = math.floor(fraction * 2**31 + 0.5)
    return (significand // 2, shift + 1) if significand == 2**31 else (significand, shift)


def multiply(value: int, significand: int, shift: int) -> int:
    """MultiplyByQuantizedMultiplier: SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT."""
    product = (value << max(shift, 0)) * significand
    nudged = product + (1 << 30 if product >= 0 else 1 - (1 << 30))
    high = abs(nudged) // (1 << 31) * (1 if nudged >= 0 else -1)
    right = max(-shift, 0)
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def clamp(value: int) -> int:
    return max(-128, min(127, value))


@pytest.mark.parametrize("factor", [0.0037, 0.5, 0.25, 1.0, 1.9, 2.0**-12, 3e-5])
def test_sums_are_rescaled_as_tflite_micro_does(factor: float) -> None:
    grid = Grid(0.1, -3, -128, 127)
    op = rescale(np.array([factor]), grid, 60_000)
    sums = np.unique(np.concatenate([np.arange(-600, 600), np.linspace(-60_000, 60_000, 501).astype(np.int64)]))
    expected = [clamp(multiply(int(one), *quantize_multiplier(factor)) - 3) for one in sums]
    assert op.evaluate((sums[:, None],), ())[:, 0].tolist() == expected


def network(op: FloatOp, grids: Sequence[Grid]) -> Graph:
    """a op b, with the grids of a, b and the result."""
    graph = FloatGraph("two", {"a": (1,), "b": (1,)}, (FloatNode("y", op, ("a", "b"), "y"),), (Output("y", "y"),))
    one = np.ones((1, 1), np.float32)
    return lower(Twin(graph, dict(zip(("a", "b", "y"), grids, strict=True)), Options(), {"a": one, "b": one}))


def all_pairs(graph: Graph) -> IntArray:
    a, b = (one.reshape(-1, 1) for one in np.meshgrid(BYTES, BYTES, indexing="ij"))
    return interpret(graph, {"a": a, "b": b})[0]["y"].reshape(256, 256)


GRIDS = [
    (Grid(0.02, -128, -128, 127), Grid(0.05, 7, -128, 127), Grid(0.06, -20, -128, 127)),
    (Grid(0.5, 3, -128, 127), Grid(0.5, -3, -128, 127), Grid(0.25, 0, -128, 127)),
]


@pytest.mark.parametrize("grids", GRIDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_add_and_sub_give_tflite_micros_bytes(grids: tuple[Grid, Grid, Grid], sign: int) -> None:
    first, second, target = grids
    twice = 2 * max(first.scale, second.scale)
    factors = [quantize_multiplier(one.scale / twice) for one in (first, second)]
    last = quantize_multiplier(twice / ((1 << 20) * target.scale))
    parts = [
        [multiply((int(one) - grid.zero) << 20, *factor) for one in BYTES]
        for grid, factor in zip((first, second), factors, strict=True)
    ]
    got = all_pairs(network(Sum((1, sign)), grids))
    for row in range(0, 256, 17):
        expected = [clamp(multiply(parts[0][row] + sign * one, *last) + target.zero) for one in parts[1]]
        assert got[row].tolist() == expected


@pytest.mark.parametrize("grids", GRIDS)
def test_mul_gives_tflite_micros_bytes(grids: tuple[Grid, Grid, Grid]) -> None:
    first, second, target = grids
    factor = quantize_multiplier(first.scale * second.scale / target.scale)
    got = all_pairs(network(Product(), grids))
    for row in range(0, 256, 17):
        left = int(BYTES[row]) - first.zero
        expected = [clamp(multiply(left * (int(one) - second.zero), *factor) + target.zero) for one in BYTES]
        assert got[row].tolist() == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_powers_of_two_add_exactly_and_round_once(sign: int) -> None:
    grids = [Grid(2.0**-4, 0, -128, 127, True), Grid(2.0**-6, 0, 0, 255, True), Grid(2.0**-3, 0, -128, 127, True)]
    graph = network(Sum((1, sign)), grids)
    a, b = np.meshgrid(BYTES, np.arange(256), indexing="ij")
    got = interpret(graph, {"a": a.reshape(-1, 1), "b": b.reshape(-1, 1)})[0]["y"].reshape(256, 256)
    assert np.array_equal(got, np.clip((a * 4 + sign * b + 4) >> 3, -128, 127))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7, 9, 16, 25, 49, 64, 144, 1024])
def test_averages_divide_every_sum_as_c_does(count: int) -> None:
    op = averages(np.array([count]), Grid(0.1, -5, -128, 127))
    sums = np.arange(-128 * count, 127 * count + 1, dtype=np.int64)
    expected = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    assert np.array_equal(op.evaluate((sums[:, None],), ())[:, 0], expected)


def test_an_average_over_a_power_of_two_is_one_shift() -> None:
    op = averages(np.array([8]), Grid(0.5, 0, 0, 255, True))
    assert [op.multiplier.tolist(), op.stages[0].shift.tolist()] == [[1], [3]]


@pytest.mark.parametrize("dyadic", [False, True])
@pytest.mark.parametrize("factor", [2.0**-60, 2.0**40])
def test_factors_out_of_all_proportion_neither_overflow_nor_vanish(factor: float, dyadic: bool) -> None:
    grid = Grid(1.0, 0, -128, 127, dyadic)
    reach = 1 << 25
    op = rescale(np.array([factor]), grid, reach)
    ends = np.array([[-reach]]), np.array([[reach]])
    bounds = op.bounds((Bounds(*ends),), ((1,),))
    saturated = (-128, 127) if factor > 1 else (0, 0)
    assert (int(bounds.lo.min()), int(bounds.hi.max())) == saturated
