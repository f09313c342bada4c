"""Dense tiles: exact on this machine and under QEMU, wherever x lies, however large the sums; within instructions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.dense_forms import nests, pack_groups
from edgeflow.backends.c.dsp.dense_tile import PART, UNIT, DenseTile, call, source
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue, HighProduct, LiftedProduct, ShiftDown, Sums, TwoStage
from edgeflow.backends.c.dsp.tile_weights import NOTHING, Constants, fits, groups, order
from edgeflow.ir.types import IntArray
from tests.backends.c.dsp.bare import PATTERN, Call, on_host, under_qemu
from tests.conftest import NeedTool


@dataclass(frozen=True)
class Product:
    """A tile with weights (outputs, values) and one x (values,), which lies `apart` bytes behind a word's start."""

    tile: DenseTile
    weights: IntArray
    x: IntArray
    bias: IntArray
    apart: int = 0

    @property
    def size(self) -> int:
        return -(-len(self.x) // UNIT) * UNIT


def factor(product: Product) -> int:
    return 1 << 21 if product.tile.parted else 1 << 20


MULTIPLIER, OFFSET = 1_500_000_000, 3 << 8


def high(product: Product, output: int, scale: int) -> Constants:
    return Constants(scale * int(product.bias[output]), (256 * factor(product) // scale,))


def lifted(product: Product, output: int, scale: int) -> Constants:
    addend = 256 * int(product.bias[output]) + output * 37 % 256
    return Constants(addend, (factor(product),)) if scale == 256 else Constants(0, (addend, factor(product)))


def two_stage(product: Product, output: int, scale: int) -> Constants:
    words = (2 * MULTIPLIER, OFFSET + output, 9)
    return Constants(scale * int(product.bias[output]), words[: product.tile.epilogue.count(scale)])


def plain(product: Product, output: int, scale: int) -> Constants:
    return Constants(scale * int(product.bias[output]))


CONSTANTS: dict[type, Callable[[Product, int, int], Constants]] = {
    HighProduct: high,
    LiftedProduct: lifted,
    TwoStage: two_stage,
    ShiftDown: plain,
    Sums: plain,
}


def expected(product: Product) -> IntArray:
    """(outputs,) as the epilogues' formulas say."""
    sums, epilogue = product.weights @ product.x + product.bias, product.tile.epilogue
    if isinstance(epilogue, Sums):
        return sums
    if isinstance(epilogue, HighProduct):
        found = (sums * 256 * factor(product) >> 32) >> epilogue.shift
    elif isinstance(epilogue, LiftedProduct):
        found = ((256 * sums + np.arange(len(sums)) * 37 % 256) * factor(product) >> 32) >> epilogue.shift
    elif isinstance(epilogue, TwoStage):
        whole = (sums * MULTIPLIER + (1 << 30)) >> 31
        found = (whole + (whole >> 63) + OFFSET + np.arange(len(sums))) >> 9
    else:
        assert isinstance(epilogue, ShiftDown)
        found = sums >> epilogue.shift
    return np.clip(found, -128, 127) if epilogue.signed else np.clip(found, 0, 255)


def product(tile: DenseTile, values: int, outputs: int, seed: int) -> Product:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (outputs, values), dtype=np.int64)
    x = rng.integers(-128 if tile.signed else 0, 128 if tile.signed else 256, values, dtype=np.int64)
    bias = rng.integers(-9 * values, 9 * values + 1, outputs, dtype=np.int64)
    return Product(replace(tile, name=f"dense_{seed}"), weights, x, bias, seed % 4)


def extreme(tile: DenseTile, values: int, weight: int, x: int, seed: int) -> Product:
    """All values at one end, the weights too, some of them with the other sign."""
    weights = np.full((tile.outputs, values), weight, dtype=np.int64)
    weights[1::3] *= -1
    name = f"dense_{seed}"
    return Product(replace(tile, name=name), weights, np.full(values, x), np.zeros(tile.outputs, dtype=np.int64), 1)


EPILOGUES: tuple[Epilogue, ...] = (
    HighProduct(5),
    LiftedProduct(5),
    LiftedProduct(5, signed=True),
    TwoStage(9),
    TwoStage(None),
    TwoStage(9, signed=False),
    ShiftDown(11),
    ShiftDown(11, signed=True),
    Sums(),
)


def tiles() -> list[tuple[DenseTile, int, int]]:
    """Every number of pairs with every epilogue, whole and parted; lengths around those of parts; single outputs."""
    found: list[tuple[DenseTile, int, int]] = []
    for pairs, signed in itertools.product((1, 2, 3), (False, True)):
        for epilogue in EPILOGUES:
            found.append((DenseTile("", pairs, signed, epilogue), 24, 4 * pairs))
            if not isinstance(epilogue, LiftedProduct):
                found.append((DenseTile("", pairs, signed, epilogue, parted=True), 24, 4 * pairs))
        for values in (1, 5, 8, 9, 250, 256, 257, 264, 512, 520, 1100):
            found.append((DenseTile("", pairs, signed, Sums(), parted=values > PART), values, 2 * pairs))
        for unroll in (2, 4):
            found.append((DenseTile("", pairs, signed, Sums(), unroll, 320, unroll == 4), 320, 2 * pairs))
    for parted in (False, True):
        found.append((DenseTile("", 1, False, Sums(), parted=parted, single=True), 40, 1))
        found.append((DenseTile("", 1, True, TwoStage(9), parted=parted, single=True), 40, 1))
    return found


def products() -> list[Product]:
    """All tiles with random numbers; then with both ends of x and of the weights."""
    found = [product(*one, seed) for seed, one in enumerate(tiles())]
    ends = ((False, 255), (True, -128), (True, 127))
    for pairs, (signed, x), weight in itertools.product((1, 2, 3), ends, (127, -127)):
        whole = DenseTile("", pairs, signed, Sums())
        found.append(extreme(whole, PART, weight, x, len(found)))
        found.append(extreme(replace(whole, parted=True), 2 * PART, weight, x, len(found)))
        found.append(extreme(replace(whole, parted=True, unroll=4), 5 * PART + 32, weight, x, len(found)))
    for signed, x in ends[:2]:
        lowest = DenseTile("", 1, signed, Sums(), parted=True, single=True)
        found.append(extreme(lowest, 3 * PART, -128, x, len(found)))
    return found


PRODUCTS = products()


def the_call(one: Product) -> Call:
    kind = CONSTANTS[type(one.tile.epilogue)]

    def constants(output: int, scale: int) -> Constants:
        return kind(one, output, 1 if one.tile.parted else scale)

    assert nests(one.weights)
    if not one.tile.parted:
        assert fits(one.weights, -128 if one.tile.signed else 0, 127 if one.tile.signed else 255, constants)
    lanes = np.full(one.size, NOTHING)
    lanes[: len(order(len(one.x)))] = order(len(one.x))
    rubbish = np.random.default_rng(len(one.x)).integers(0, 256, one.size + 8)
    rubbish[one.apart : one.apart + len(one.x)] = one.x & 0xFF
    count = len(groups(len(one.weights), one.tile.pairs))
    return Call(
        one.tile.name,
        {
            "x": rubbish.astype(np.uint8).view("<u4"),
            "w": pack_groups(one.weights, lanes, constants, one.tile.pairs, parted=one.tile.parted),
        },
        [call(one.tile, f"(const uint8_t *)x + {one.apart}", "w", "y", count, one.size)],
        one.tile.epilogue.ctype,
        len(one.weights),
    )


def assert_exact(one: Product, y: IntArray) -> None:
    """The outputs are right, and what lies behind them is untouched."""
    wide = one.tile.epilogue.size == 4
    untouched = np.frombuffer(bytes([PATTERN]) * 4, np.int32 if wide else np.uint8)[:1].astype(np.int64)
    wanted = expected(one) if wide else expected(one) & 0xFF
    np.testing.assert_array_equal(y, np.concatenate([wanted, untouched]), err_msg=repr(one.tile))


def test_the_twin_is_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    outcomes = on_host([source(one.tile) for one in PRODUCTS], [the_call(one) for one in PRODUCTS], tmp_path)
    for one, outcome in zip(PRODUCTS, outcomes, strict=True):
        assert_exact(one, outcome.y)


def test_the_assembly_is_exact_under_interrupts_and_keeps_registers(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    outcomes = under_qemu([source(one.tile) for one in PRODUCTS], [the_call(one) for one in PRODUCTS], tmp_path)
    for one, outcome in zip(PRODUCTS, outcomes, strict=True):
        assert_exact(one, outcome.y)
        assert outcome.instructions > 0


def test_most_results_lie_between_the_clamps() -> None:
    found = [expected(one) for one in PRODUCTS if one.tile.epilogue.size == 1]
    inside = [((one > one.min()) & (one < one.max())).any() for one in found if len(one) > 2]
    assert np.mean(inside) > 0.8


COUNTED = (
    (DenseTile("long", 3, False, LiftedProduct(14), 4, 640), 640, 126, 0.966),
    (DenseTile("short", 3, False, LiftedProduct(14), 4, 128), 128, 126, 1.02),
    (DenseTile("rest", 1, False, LiftedProduct(14), 1, 640), 640, 2, 1.42),
    (DenseTile("parted", 3, False, TwoStage(9), 4, 1024, True), 1024, 126, 0.98),
)
"""Tile, values, outputs, and the instructions for one multiplication, requantization included, as QEMU counts them."""


def test_instructions_stay_in_their_budget(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    chosen = [product(tile, values, outputs, at) for at, (tile, values, outputs, _) in enumerate(COUNTED)]
    small = [replace(one, weights=one.weights // 8) for one in chosen]
    outcomes = under_qemu([source(one.tile) for one in small], [the_call(one) for one in small], tmp_path)
    for one, outcome, (tile, values, outputs, most) in zip(small, outcomes, COUNTED, strict=True):
        assert_exact(one, outcome.y)
        assert outcome.instructions / (values * outputs) < most, tile.name


@pytest.mark.parametrize(
    ("pairs", "unroll", "size", "single", "text"),
    [
        (4, 1, None, False, "no dense tile has 4 pairs, 1 units in a row"),
        (1, 3, None, False, "no dense tile has 1 pairs, 3 units in a row"),
        (1, 2, 24, False, "24 bytes are no multiple of 16"),
        (2, 1, None, True, "a single output has no second pair"),
    ],
)
def test_a_tile_that_cannot_be_is_refused(pairs: int, unroll: int, size: int | None, single: bool, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DenseTile("tile", pairs, False, Sums(), unroll, size, False, single)
