"""Whole layers through a tile product: the bytes of their Requant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.tile import Tile, calls, source, split
from edgeflow.backends.c.dsp.tile_epilogue import AccumulatedProduct, Epilogue, LiftedProduct, ShiftDown, TwoStage
from edgeflow.backends.c.dsp.tile_forms import requantization
from edgeflow.backends.c.dsp.tile_weights import order, pack
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage
from tests.backends.c.dsp.bare import Call, Outcome, on_host, under_qemu
from tests.conftest import NeedTool

VALUES, OUTPUTS, POSITIONS = 24, 7, 4
TFLITE = (Rounding.HALF_UP, Rounding.HALF_AWAY)


def layer(seed: int) -> tuple[IntArray, IntArray, IntArray]:
    """Weights (outputs, values), bias (outputs,), x (positions, values)."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (OUTPUTS, VALUES), dtype=np.int64)
    bias = rng.integers(-3000, 3001, OUTPUTS, dtype=np.int64)
    return weights, bias, rng.integers(0, 256, (POSITIONS, VALUES), dtype=np.int64)


def tflite(shifts: list[int], zero_point: int, lo: int, hi: int) -> Requant:
    m = np.random.default_rng(1).integers(2**30, 2**31, OUTPUTS, dtype=np.int64)
    stages = (Stage(frozen_array(31), TFLITE[0]), Stage(frozen_array(shifts), TFLITE[1]))
    return requant(frozen_array(m), stages, zero_point, lo, hi)


def dyadic(shift: int, rounding: Rounding, hi: int) -> Requant:
    return requant(frozen_array(1), (Stage(frozen_array(shift), rounding),), 0, 0, hi)


def requant(multiplier: IntArray, stages: tuple[Stage, ...], offset: int, lo: int, hi: int) -> Requant:
    return Requant(frozen_array(0), multiplier, stages, *(frozen_array(one) for one in (offset, lo, hi)))


CASES = [
    (tflite([8, 9, 8, 9, 8, 9, 8], 0, 0, 255), AccumulatedProduct),
    (tflite([8] * 7, -5, -128, 127), TwoStage(8, signed=True)),
    (tflite([8, 9, 8, 9, 8, 9, 8], 3, -128, 127), TwoStage(None, signed=True)),
    (dyadic(9, Rounding.HALF_UP, 255), ShiftDown(9)),
    (dyadic(12, Rounding.HALF_EVEN, 15), ShiftDown(12, half_even=True, bits=4)),
    (dyadic(11, Rounding.FLOOR, 63), ShiftDown(11, bits=6)),
]
"""A Requant, and the epilogue that it gets, or its class."""


def chosen(op: Requant, seed: int, shape: tuple[int, int]) -> tuple[Tile, Call]:
    weights, bias, x = layer(seed)
    found = requantization(op, weights, bias, (0, 255), shape[1])
    assert found is not None
    epilogue, constants = found
    tile = Tile(f"layer_{seed}", shape[0], OUTPUTS, epilogue, *split(VALUES), together=shape[1])
    lanes = x[: shape[0], order(VALUES)]
    words = (lanes[:, ::2] | lanes[:, 1::2] << 16).T.reshape(-1)
    arrays = {"x": words.astype(np.uint32), "w": pack(weights, order(VALUES), constants, shape[1])}
    statements = calls(tile, OUTPUTS, ("x", "w", "y"))
    return tile, Call(tile.name, arrays, statements, epilogue.ctype, shape[0] * OUTPUTS)


@pytest.mark.parametrize(("op", "epilogue"), CASES)
def test_the_cheapest_epilogue_is_chosen(op: Requant, epilogue: Epilogue | type[Epilogue]) -> None:
    weights, bias, _ = layer(0)
    found = requantization(op, weights, bias, (0, 255))
    assert found is not None
    assert epilogue in (found[0], type(found[0]))


def test_layers_can_share_a_shift() -> None:
    weights, bias, _ = layer(0)
    found = requantization(CASES[0][0], weights, bias, (0, 255), shifts=(9,))
    assert found is not None
    assert found[0] == AccumulatedProduct(9)


def test_a_small_shift_leaves_the_sums_to_be_lifted() -> None:
    weights, bias, _ = layer(0)
    found = requantization(tflite([1] * OUTPUTS, 0, 0, 255), weights, bias, (0, 255), shifts=(7,))
    assert found is not None
    assert found[0] == LiftedProduct(7)


def test_sums_beyond_24_bits_are_refused() -> None:
    weights = np.full((2, 300), 127, dtype=np.int64)
    assert requantization(dyadic(16, Rounding.HALF_UP, 255), weights, np.zeros(2, dtype=np.int64), (0, 255)) is None


@pytest.mark.parametrize("run", [on_host, under_qemu])
def test_layers_give_their_requants_bytes(
    run: Callable[[list[str], list[Call], Path], list[Outcome]], tmp_path: Path, need_tool: NeedTool
) -> None:
    for tool in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_tool(tool)
    shapes = ((4, 1), (2, 1), (1, 1), (2, 2), (1, 2))
    wanted = [(op, at, shape) for at, (op, shape) in enumerate((op, shape) for op, _ in CASES for shape in shapes)]
    made = [chosen(*one) for one in wanted]
    outcomes = run([source(tile) for tile, _ in made], [call for _, call in made], tmp_path)
    for (op, seed, (positions, _)), outcome in zip(wanted, outcomes, strict=True):
        weights, bias, x = layer(seed)
        results = op.finish((x[:positions] @ weights.T + bias) * op.multiplier)
        np.testing.assert_array_equal(outcome.y[:-1], (results & 0xFF).reshape(-1))
