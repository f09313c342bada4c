"""Tile products of packed weights: exact on this machine and under QEMU at every width, within their instructions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.dsp.tile import Tile, calls, source, split
from edgeflow.backends.c.dsp.tile_epilogue import HighProduct, LiftedProduct, ShiftDown, Sums, TwoStage
from edgeflow.backends.c.dsp.tile_weights import NOTHING, Constants, fits, pack
from tests.backends.c.dsp.bare import Call, on_host, under_qemu
from tests.backends.c.dsp.test_tile import CONSTANTS, FORMS, SHIFT, Product, assert_exact, lanes
from tests.conftest import NeedTool

BINARY = Packing(1, -1, 2)
PACKINGS = (BINARY, *(Packing(bits, -(1 << (bits - 1))) for bits in range(2, 7)), Packing(2, 0))


def product(tile: Tile, values: int, outputs: int, seed: int, *, ends: bool = False) -> Product:
    """Random codes and positions; with `ends` all of them at one end or the other."""
    rng = np.random.default_rng(seed)
    packing = tile.packing
    assert packing is not None
    top = (1 << packing.bits) - 1
    codes = rng.choice([0, top], (outputs, values)) if ends else rng.integers(0, top + 1, (outputs, values))
    lo, hi = (0, 255) if seed % 3 else (-128, 127)
    x = np.full((tile.positions, values), hi) if ends else rng.integers(lo, hi + 1, (tile.positions, values))
    bias = rng.integers(-5 * values, 5 * values + 1, outputs)
    named = replace(tile, name=f"packed_{seed}")
    return Product(named, packing.step * codes + packing.low, x, (lo, hi), bias, seed)


def products() -> list[Product]:
    """Every form at every width: even, odd and many words, outputs that reach back, single ones, and both ends."""
    found: list[Product] = []
    epilogues = (HighProduct(SHIFT), TwoStage(7), LiftedProduct(SHIFT), ShiftDown(5, half_even=True), Sums())
    for positions, together in FORMS:
        for packing in PACKINGS:
            for values, outputs in ((64, 8), (40, 6), (130, 5), (4, 4)):
                chunk, chunks = split(values)
                holes = 2 * chunk * chunks > values
                chosen = Packing(2, -2) if packing == BINARY and holes else packing
                epilogue = epilogues[len(found) % len(epilogues)]
                tile = Tile("", positions, 16, epilogue, chunk, chunks, together, packing=chosen)
                found.append(product(tile, values, outputs, len(found), ends=outputs == 4))
            if together == 1:
                single = Tile("", positions, 1, HighProduct(SHIFT), 10, 1, single=True, packing=packing)
                found.append(product(single, 20, 1, len(found)))
    return found


PRODUCTS = products()


def call(one: Product) -> Call:
    """Lanes that belong to no value hold rubbish, except where no code is worth nothing."""
    packing, places = one.tile.packing, lanes(one)
    kind = CONSTANTS[type(one.tile.epilogue)]

    def constants(output: int, scale: int) -> Constants:
        return kind(one, output, scale)

    assert packing is not None
    assert fits(one.weights, *one.bounds, constants, one.tile.together)
    rubbish = np.random.default_rng(one.seed).integers(-(2**15), 2**15, (one.tile.positions, len(places)))
    halves = np.where(places == NOTHING, rubbish, one.x[:, places]) & 0xFFFF
    words = (halves[:, ::2] | halves[:, 1::2] << 16).T.reshape(-1)
    packer = partial(packing.pack_chunks, chunk=one.tile.chunk)
    return Call(
        one.tile.name,
        {"x": words.astype(np.uint32), "w": pack(one.weights, places, constants, one.tile.together, packer)},
        calls(one.tile, one.outputs, ("x", "w", "y")),
        one.tile.epilogue.ctype,
        (one.tile.positions - 1) * one.tile.distance + one.outputs,
    )


def test_the_twin_is_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    some = PRODUCTS[::3]
    outcomes = on_host([source(one.tile) for one in some], [call(one) for one in some], tmp_path)
    for one, outcome in zip(some, outcomes, strict=True):
        assert_exact(one, outcome.y)


def test_the_assembly_is_exact_under_interrupts_and_keeps_registers(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    outcomes = under_qemu([source(one.tile) for one in PRODUCTS], [call(one) for one in PRODUCTS], tmp_path)
    for one, outcome in zip(PRODUCTS, outcomes, strict=True):
        assert_exact(one, outcome.y)
        assert outcome.instructions > 0


COUNTED = (
    (Packing(1, -1, 2), 4, 64, 0.94),
    (Packing(2, -2), 4, 64, 0.92),
    (Packing(3, -4), 4, 64, 0.97),
    (Packing(4, -8), 4, 64, 0.91),
    (Packing(5, -16), 4, 64, 1.0),
    (Packing(6, -32), 4, 64, 0.98),
    (Packing(4, -8), 2, 64, 1.08),
    (Packing(4, -8), 4, 576, 0.83),
    (Packing(2, 0), 4, 64, 0.9),
)
"""Packing, positions, values, and the instructions for one multiplication with 64 outputs, requantization included."""


def test_instructions_stay_in_their_budget(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    tiles = [
        Tile("", positions, 64, LiftedProduct(12), *split(values), packing=packing)
        for packing, positions, values, _ in COUNTED
    ]
    chosen = [
        product(tile, values, 64, at + 1) for at, (tile, (*_, values, _)) in enumerate(zip(tiles, COUNTED, strict=True))
    ]
    outcomes = under_qemu([source(one.tile) for one in chosen], [call(one) for one in chosen], tmp_path)
    for one, outcome, (packing, positions, values, most) in zip(chosen, outcomes, COUNTED, strict=True):
        assert_exact(one, outcome.y)
        assert most - 0.04 < outcome.instructions / (positions * values * 64) < most, packing
