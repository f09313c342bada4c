"""Tile products: exact on this machine and under QEMU, within their instructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.tile import Tile, calls, source, split
from edgeflow.backends.c.dsp.tile_epilogue import (
    AccumulatedProduct,
    Epilogue,
    HighProduct,
    LiftedProduct,
    ShiftDown,
    Sums,
    TwoStage,
)
from edgeflow.backends.c.dsp.tile_weights import NOTHING, Constants, fits, groups, order, pack
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage
from tests.backends.c.dsp.bare import PATTERN, Call, on_host, under_qemu
from tests.conftest import NeedTool


@dataclass(frozen=True)
class Product:
    """A tile with weights (outputs, values), x (positions, values) in [lo, hi], and what each output adds."""

    tile: Tile
    weights: IntArray
    x: IntArray
    bounds: tuple[int, int]
    bias: IntArray
    seed: int

    @property
    def outputs(self) -> int:
        return len(self.weights)


SHIFT, TWO_STAGE_SHIFTS = 6, (8, 13)


def factors(product: Product) -> IntArray:
    """About 256 results over the range of the sums: the factor of an unscaled sum, below 2**31."""
    rng = np.random.default_rng(product.seed)
    reach = np.abs(product.weights @ product.x.T + product.bias[:, None]).max()
    whole = int(min(180 / max(int(reach), 1) * 2 ** (32 + SHIFT), 2**31 - 1))
    return rng.integers(max(whole // 2, 256), whole + 256, product.outputs, dtype=np.int64) & ~255


def high(product: Product, output: int, scale: int) -> Constants:
    return Constants(scale * int(product.bias[output]) + output * 37 % 256, (int(factors(product)[output]) // scale,))


def lifted(product: Product, output: int, scale: int) -> Constants:
    addend = 256 * int(product.bias[output]) + output * 37 % 256
    factor = int(factors(product)[output]) // 256
    return Constants(addend, (factor,)) if scale == 256 else Constants(0, (addend, factor))


def accumulated(product: Product, output: int, scale: int) -> Constants:
    """At scale 1 the shift is less by 8; the addend behind the product is in units of 2**-shift."""
    whole = int(factors(product)[output])
    if scale == 256:
        return Constants(256 * int(product.bias[output]) + output * 37 % 256, (whole,))
    return Constants(int(product.bias[output]) + output, (whole, output * 3 - 9))


def multipliers(product: Product) -> tuple[IntArray, IntArray]:
    """TFLite-Micro's multiplier in [2**30, 2**31) and right shift of each output."""
    rng = np.random.default_rng(product.seed)
    epilogue = product.tile.epilogue
    assert isinstance(epilogue, TwoStage)
    shifts = rng.integers(*TWO_STAGE_SHIFTS, product.outputs, dtype=np.int64)
    if epilogue.shift is not None:
        shifts[:] = epilogue.shift
    return rng.integers(2**30, 2**31, product.outputs, dtype=np.int64), shifts


def zero_point(product: Product) -> int:
    return product.seed * 41 % 64 - 32


def two_stage(product: Product, output: int, scale: int) -> Constants:
    m, e = (int(one[output]) for one in multipliers(product))
    words = (2 * m, (1 << (e - 1)) + (zero_point(product) << e))
    epilogue = product.tile.epilogue
    assert isinstance(epilogue, TwoStage)
    return Constants(scale * int(product.bias[output]), (*words, e) if epilogue.shift is None else words)


def shift_down(product: Product, output: int, scale: int) -> Constants:
    epilogue = product.tile.epilogue
    assert isinstance(epilogue, ShiftDown)
    return Constants(scale * (int(product.bias[output]) + (1 << epilogue.shift >> 1)))


def plain(product: Product, output: int, scale: int) -> Constants:
    return Constants(scale * int(product.bias[output]))


CONSTANTS: dict[type, Callable[[Product, int, int], Constants]] = {
    HighProduct: high,
    LiftedProduct: lifted,
    AccumulatedProduct: accumulated,
    TwoStage: two_stage,
    ShiftDown: shift_down,
    Sums: plain,
}


def requant(product: Product, signed: bool, stages: tuple[Stage, ...], m: IntArray, offset: int) -> Requant:
    lo, hi = (-128, 127) if signed else (0, 255)
    return Requant(frozen_array(0), frozen_array(m), stages, frozen_array(offset), frozen_array(lo), frozen_array(hi))


def expected(product: Product) -> IntArray:
    """(positions, outputs), from the graph's own operations."""
    sums = product.x @ product.weights.T + product.bias
    epilogue = product.tile.epilogue
    if isinstance(epilogue, HighProduct | LiftedProduct):
        places = {
            at: place % 2 for group in groups(product.outputs, product.tile.together) for place, at in enumerate(group)
        }
        whole = np.array([places[at] == 0 or isinstance(epilogue, LiftedProduct) for at in range(product.outputs)])
        scale = np.where(whole, 256, 1)
        words = scale * sums + np.arange(product.outputs) * 37 % 256
        lo, hi = (-128, 127) if epilogue.signed else (0, 255)
        return np.clip((words * (factors(product) // scale) >> 32) >> epilogue.shift, lo, hi)
    if isinstance(epilogue, Sums):
        return sums
    if isinstance(epilogue, AccumulatedProduct):
        return expected_of_two_addends(product, sums)
    if isinstance(epilogue, TwoStage):
        m, e = multipliers(product)
        stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(e), Rounding.HALF_AWAY))
        op = requant(product, epilogue.signed, stages, m, zero_point(product))
    else:
        assert isinstance(epilogue, ShiftDown)
        rounding = Rounding.HALF_EVEN if epilogue.half_even else Rounding.HALF_UP
        one = (Stage(frozen_array(epilogue.shift), rounding),)
        op = requant(product, epilogue.signed, one, np.ones(product.outputs, dtype=np.int64), 0)
    return op.finish(sums * op.multiplier)


def expected_of_two_addends(product: Product, sums: IntArray) -> IntArray:
    """(positions, outputs) of an AccumulatedProduct, by the place of each output in its pair."""
    epilogue, found = product.tile.epilogue, np.zeros_like(sums)
    assert isinstance(epilogue, AccumulatedProduct)
    lo, hi = (-128, 127) if epilogue.signed else (0, 255)
    for group in groups(product.outputs, product.tile.together):
        for place, at in enumerate(group):
            factor, extra = int(factors(product)[at]), at * 37 % 256
            high = (256 * sums[:, at] + extra) * factor >> 32 + epilogue.shift
            if place % 2:
                high = ((sums[:, at] + at) * factor >> 32) + at * 3 - 9 >> epilogue.shift - 8
            found[:, at] = np.clip(high, lo, hi)
    return found


def product(tile: Tile, values: int, outputs: int, seed: int, *, signed_x: bool = False) -> Product:
    """Weights and positions at random, the bias about as large as a sum."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (outputs, values), dtype=np.int64)
    lo, hi = (-128, 127) if signed_x else (0, 255)
    x = rng.integers(lo, hi + 1, (tile.positions, values), dtype=np.int64)
    bias = rng.integers(-50 * values, 50 * values + 1, outputs, dtype=np.int64)
    return Product(replace(tile, name=f"tile_{seed}"), weights, x, (lo, hi), bias, seed)


def extreme(tile: Tile, weight: int, x: int, seed: int) -> Product:
    """All weights at one end, all values at the other: as far as 24 bits let the sums go."""
    values = 2 * tile.chunk
    weights = np.full((4, values), weight, dtype=np.int64)
    weights[::3] *= -1
    positions = np.full((tile.positions, values), x, dtype=np.int64)
    return Product(replace(tile, name=f"tile_{seed}"), weights, positions, (0, 255), np.zeros(4, dtype=np.int64), seed)


FORMS = ((4, 1), (2, 1), (1, 1), (2, 2), (1, 2))
EPILOGUES: tuple[Epilogue, ...] = (
    HighProduct(SHIFT),
    HighProduct(SHIFT, signed=True),
    LiftedProduct(SHIFT),
    LiftedProduct(SHIFT, signed=True),
    AccumulatedProduct(SHIFT + 8),
    AccumulatedProduct(SHIFT + 8, signed=True),
    TwoStage(7),
    TwoStage(None),
    TwoStage(7, signed=False),
    ShiftDown(9),
    ShiftDown(9, signed=True, half_even=True),
    ShiftDown(0),
    Sums(),
)


def products() -> list[Product]:
    """Every form with every epilogue; every form at every length; odd and single outputs; both ends."""
    found: list[Product] = []
    for positions, together in FORMS:

        def tile(
            epilogue: Epilogue, chunk: int, chunks: int | None = 1, positions: int = positions, together: int = together
        ) -> Tile:
            return Tile("tile", positions, 16, epilogue, chunk, chunks, together)

        for epilogue in EPILOGUES:
            found.append(product(tile(epilogue, 10), 20, 8, len(found), signed_x=len(found) % 3 == 0))
        for values in (1, 2, 4, 40, 64, 130, 576, 640):
            found.append(product(tile(HighProduct(SHIFT), *split(values)), values, 6, len(found)))
        for chunk, values in ((4, 32), (16, 128), (32, 128)):
            found.append(product(tile(TwoStage(None), chunk, None), values, 4, len(found)))
        for outputs in (4, 5, 6, 7, 13):
            found.append(product(tile(HighProduct(SHIFT), 4), 8, outputs, len(found)))
        if together == 1:
            for epilogue in EPILOGUES:
                one = replace(tile(epilogue, 6), single=True, distance=1)
                found.append(product(one, 12, 1, len(found)))
                found.append(product(replace(one, single=False, distance=3), 12, 3, len(found)))
        for weight in (127, -127):
            found.append(extreme(tile(Sums(), 32), weight, 255, len(found)))
    return found


PRODUCTS = products()


def lanes(one: Product) -> IntArray:
    """The lanes of a position: the gather's order, then nothing up to the words that the tile reads."""
    words = one.tile.chunk * (one.tile.chunks or -(-one.weights.shape[1] // (2 * one.tile.chunk)))
    found = order(one.weights.shape[1])
    if len(found) > 2 * words:
        found = np.arange(one.weights.shape[1])
    return np.concatenate([found, np.full(2 * words - len(found), NOTHING)])


def call(one: Product) -> Call:
    kind = CONSTANTS[type(one.tile.epilogue)]

    def constants(output: int, scale: int) -> Constants:
        return kind(one, output, scale)

    together, places = one.tile.together, lanes(one)
    assert fits(one.weights, *one.bounds, constants, together)
    rubbish = np.random.default_rng(one.seed).integers(-(2**15), 2**15, (one.tile.positions, len(places)))
    halves = np.where(places == NOTHING, rubbish, one.x[:, places]) & 0xFFFF
    words = (halves[:, ::2] | halves[:, 1::2] << 16).T.reshape(-1)
    return Call(
        one.tile.name,
        {"x": words.astype(np.uint32), "w": pack(one.weights, places, constants, together)},
        calls(one.tile, one.outputs, ("x", "w", "y"), len(places) // 2),
        one.tile.epilogue.ctype,
        (one.tile.positions - 1) * one.tile.distance + one.outputs,
    )


def assert_exact(one: Product, y: IntArray) -> None:
    """The outputs are the graph's, and what lies between and behind them is untouched."""
    untouched = np.frombuffer(bytes([PATTERN]) * 4, np.int32 if one.tile.epilogue.size == 4 else np.uint8)[0]
    wanted = np.full(len(y), untouched, dtype=np.int64)
    results = expected(one)
    for position, row in enumerate(results):
        start = position * one.tile.distance
        wanted[start : start + one.outputs] = row if one.tile.epilogue.size == 4 else row & 0xFF
    np.testing.assert_array_equal(y, wanted, err_msg=repr(one.tile))


def test_the_twin_is_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    outcomes = on_host([source(one.tile) for one in PRODUCTS], [call(one) for one in PRODUCTS], tmp_path)
    for one, outcome in zip(PRODUCTS, outcomes, strict=True):
        assert_exact(one, outcome.y)


def test_the_assembly_is_exact_under_interrupts_and_keeps_registers(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    outcomes = under_qemu([source(one.tile) for one in PRODUCTS], [call(one) for one in PRODUCTS], tmp_path)
    for one, outcome in zip(PRODUCTS, outcomes, strict=True):
        assert_exact(one, outcome.y)
        assert outcome.instructions > 0


def test_most_results_lie_between_the_clamps() -> None:
    inside = [
        np.abs(results - results.mean()).max() > 0
        and ((results > results.min()) & (results < results.max())).mean() > 0.2
        for one in PRODUCTS
        if one.outputs > 3
        for results in (expected(one),)
    ]
    assert np.mean(inside) > 0.5


COUNTED = (
    (Tile("pointwise", 4, 64, AccumulatedProduct(14), *split(64)), 64, 64, 0.764),
    (Tile("halves", 4, 64, LiftedProduct(14), *split(64, 16)), 64, 64, 0.801),
    (Tile("ties", 4, 64, ShiftDown(9, half_even=True), *split(64)), 64, 64, 0.785),
    (Tile("two_stage", 4, 64, TwoStage(7), *split(64)), 64, 64, 0.812),
    (Tile("long", 4, 64, LiftedProduct(14), *split(576)), 576, 64, 0.71),
    (Tile("window", 4, 64, LiftedProduct(13), *split(40)), 40, 64, 0.836),
    (Tile("two", 2, 64, LiftedProduct(14), *split(64)), 64, 64, 0.818),
    (Tile("two_by_four", 2, 64, LiftedProduct(14), *split(64), together=2), 64, 64, 0.842),
    (Tile("one", 1, 64, LiftedProduct(14), *split(64)), 64, 64, 0.98),
    (Tile("dense", 1, 64, LiftedProduct(14), *split(640), together=2), 640, 128, 0.866),
    (Tile("dense_open", 1, 64, LiftedProduct(14), 16, None, together=2), 640, 128, 0.878),
    (Tile("dense_short", 1, 64, LiftedProduct(14), 16, None, together=2), 128, 128, 0.915),
)
"""Tile, values, outputs, and the instructions for one multiplication, requantization included, as QEMU counts them."""


def test_instructions_stay_in_their_budget(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    chosen = [product(tile, values, outputs, at) for at, (tile, values, outputs, _) in enumerate(COUNTED)]
    outcomes = under_qemu([source(one.tile) for one in chosen], [call(one) for one in chosen], tmp_path)
    for one, outcome, (tile, values, outputs, most) in zip(chosen, outcomes, COUNTED, strict=True):
        assert_exact(one, outcome.y)
        assert outcome.instructions / (tile.positions * values * outputs) < most, tile.name


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3, 8, 4, 1, 1, False), "no tile has 3 positions, 1 pairs, 4 words"),
        ((4, 8, 33, 1, 1, False), "no tile has 4 positions, 1 pairs, 33 words"),
        ((1, 8, 4, 1, 2, True), "a single output has no second pair"),
        ((4, 1366, 4, 1, 1, False), "4 positions lie 1366 elements apart, too far for a store"),
    ],
)
def test_a_tile_that_cannot_be_is_refused(arguments: tuple[int, int, int, int, int, bool], text: str) -> None:
    positions, distance, chunk, chunks, together, single = arguments
    with pytest.raises(ValueError, match=text):
        Tile("tile", positions, distance, HighProduct(3), chunk, chunks, together, single)


def test_calls_refuse_words_that_are_no_whole_chunks() -> None:
    with pytest.raises(ValueError, match="tile takes a multiple of 16 words"):
        calls(Tile("tile", 1, 8, Sums(), 16, None, 2), 4, ("x", "w", "y"), 20)


@pytest.mark.parametrize(
    ("values", "most", "parts"),
    [(64, 32, (32, 1)), (130, 32, (22, 3)), (640, 32, (32, 10)), (640, 16, (16, 20)), (1, 32, (1, 1))],
)
def test_words_are_split_into_equal_chunks(values: int, most: int, parts: tuple[int, int]) -> None:
    assert split(values, most) == parts
