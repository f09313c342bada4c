"""Sparse tiles: exact on this machine and under QEMU, whatever is zero; within their instructions and bytes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.dense_sparse import lanes_of
from edgeflow.backends.c.dsp.sparse_stream import MOST_VALUES, Stream, block_stream, blocks_used, scattered_stream
from edgeflow.backends.c.dsp.sparse_tile import SPAN, Kind, SparseTile, source
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue, HighProduct, LiftedProduct, ShiftDown, Sums, TwoStage
from edgeflow.backends.c.dsp.tile_weights import Constants
from edgeflow.ir.types import IntArray
from tests.backends.c.dsp.bare import PATTERN, Call, on_host, under_qemu
from tests.conftest import NeedTool

FACTOR, MULTIPLIER, OFFSET = 1 << 20, 1_500_000_000, 3 << 8


@dataclass(frozen=True)
class Product:
    """A tile with weights (outputs, values) and one x (values,)."""

    tile: SparseTile
    weights: IntArray
    x: IntArray

    @property
    def stream(self) -> Stream:
        if self.tile.kind is Kind.SCATTERED:
            return scattered_stream(self.tile, self.weights, self.constants)
        return block_stream(self.tile, self.weights, lanes_of(len(self.x), True), self.constants)

    @property
    def bias(self) -> IntArray:
        return np.arange(len(self.weights), dtype=np.int64) * 97 - 300

    def constants(self, output: int, scale: int) -> Constants:
        addend = scale * int(self.bias[output])
        match self.tile.epilogue:
            case HighProduct():
                return Constants(addend, (256 * FACTOR // scale,))
            case LiftedProduct():
                return Constants(addend, (FACTOR,)) if scale == 256 else Constants(0, (256 * addend, FACTOR))
            case TwoStage() as epilogue:
                return Constants(addend, (2 * MULTIPLIER, OFFSET + output, 9)[: epilogue.count(scale)])
            case _:
                return Constants(addend)


def expected(one: Product) -> IntArray:
    """(outputs,) as the epilogues' formulas say."""
    sums, epilogue = one.weights @ one.x + one.bias, one.tile.epilogue
    if isinstance(epilogue, Sums):
        return sums
    if isinstance(epilogue, HighProduct | LiftedProduct):
        found = (sums * 256 * FACTOR >> 32) >> epilogue.shift
    elif isinstance(epilogue, TwoStage):
        whole = (sums * MULTIPLIER + (1 << 30)) >> 31
        found = (whole + (whole >> 63) + OFFSET + np.arange(len(sums))) >> 9
    else:
        assert isinstance(epilogue, ShiftDown)
        found = sums >> epilogue.shift
    return (np.clip(found, -128, 127) if epilogue.signed else np.clip(found, 0, 255)) & 0xFF


EPILOGUES: tuple[Epilogue, ...] = (
    HighProduct(5),
    HighProduct(5, signed=True),
    TwoStage(9),
    TwoStage(None),
    ShiftDown(9),
    ShiftDown(9, signed=True),
    Sums(),
)


def kept(shape: tuple[int, int], part: float) -> IntArray:
    """1 where a weight is left."""
    return (np.random.default_rng(round(part * 1000)).random(shape) < part).astype(np.int64)


def product(tile: SparseTile, mask: IntArray, seed: int) -> Product:
    rng = np.random.default_rng(seed)
    lo = -128 if tile.signed else 0
    weights = rng.integers(-127, 128, mask.shape, dtype=np.int64) * mask
    x = rng.integers(lo, lo + 256, mask.shape[1], dtype=np.int64)
    return Product(replace(tile, name=f"sparse_{seed}"), weights, x)


def products() -> list[Product]:
    """Both kinds with every epilogue; all densities, whole and empty stretches, runs of zeros longer than a span."""
    found: list[Product] = []
    for kind, signed in itertools.product(Kind, (False, True)):
        for epilogue in (*EPILOGUES, *([LiftedProduct(5)] if kind is Kind.BLOCKS else [])):
            found.append(product(SparseTile("", kind, epilogue, signed), kept((6, 40), 0.3), len(found)))
        for values, part in itertools.product((8, 512, 520, 1400), (0.0, 0.004, 0.1, 0.5, 1.0)):
            found.append(product(SparseTile("", kind, Sums(), signed), kept((4, values), part), len(found)))
    for kind in Kind:
        for places in ((0, 1399), (255, 256, 257), (0, 255, 256, 511, 512), (1398,), tuple(range(0, 1400, 2))):
            mask = np.zeros((2, 1400), dtype=np.int64)
            mask[:, list(places)] = 1
            found.append(product(SparseTile("", kind, Sums()), mask, len(found)))
    tile = SparseTile("last", Kind.SCATTERED, Sums(), signed=True)
    lowest = np.full((1, 1024), -128, dtype=np.int64)
    found.append(Product(tile, lowest, lowest[0]))
    return found


PRODUCTS = products()


def the_call(one: Product) -> Call:
    tile = one.tile
    if tile.kind is Kind.SCATTERED:
        x, at = np.resize(one.x & 0xFF, -(-len(one.x) // 4) * 4).astype(np.uint8).view("<u4"), "(const uint8_t *)x"
    else:
        x, at = (one.x[::2] & 0xFFFF | one.x[1::2] << 16).astype(np.uint32), "x"
    statement = f"{tile.name}({at}, w, y, {len(one.weights) // tile.outputs});"
    return Call(tile.name, {"x": x, "w": one.stream.words}, [statement], tile.epilogue.ctype, len(one.weights))


def assert_exact(one: Product, y: IntArray) -> None:
    """The outputs are right, and what lies behind them is untouched."""
    kind = np.int32 if one.tile.epilogue.size == 4 else np.uint8
    untouched = np.frombuffer(bytes([PATTERN]) * 4, kind)[:1].astype(np.int64)
    np.testing.assert_array_equal(y, np.concatenate([expected(one), untouched]), err_msg=repr(one.tile))


def test_the_twin_is_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    outcomes = on_host([source(one.tile) for one in PRODUCTS], [the_call(one) for one in PRODUCTS], tmp_path)
    for one, outcome in zip(PRODUCTS, outcomes, strict=True):
        assert_exact(one, outcome.y)


def test_the_assembly_is_exact_and_takes_what_it_says(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    outcomes = under_qemu([source(one.tile) for one in PRODUCTS], [the_call(one) for one in PRODUCTS], tmp_path)
    for one, outcome in zip(PRODUCTS, outcomes, strict=True):
        assert_exact(one, outcome.y)
        stream = one.stream
        said = one.tile.instructions(stream.passes, stream.stretches, len(stream.starts))
        assert outcome.instructions == pytest.approx(said, rel=0.15, abs=40)


def test_stretches_are_padded_at_the_end_of_a_group_alone() -> None:
    rng = np.random.default_rng(3)
    weights = (rng.random((1, 2000)) < 0.25).astype(np.int64)
    stream = Product(SparseTile("", Kind.SCATTERED, Sums()), weights, weights[0]).stream
    assert stream.passes == -(-int(weights.sum()) // 4)
    assert stream.stretches <= 2000 // SPAN + 2


def test_zero_columns_take_no_bytes_and_zero_outputs_one_pass() -> None:
    weights = np.ones((4, 64), dtype=np.int64)
    weights[:, 8:] = 0
    weights[2:] = 0
    blocks = Product(SparseTile("", Kind.BLOCKS, Sums()), weights, weights[0]).stream
    scattered = Product(SparseTile("", Kind.SCATTERED, Sums()), weights, weights[0]).stream
    assert (blocks.passes, scattered.passes) == (1 + 1, 2 + 2 + 1 + 1)


def test_the_last_place_of_the_longest_vector_is_within_a_header_s_reach() -> None:
    weights = np.zeros((2, MOST_VALUES), dtype=np.int64)
    weights[:, -2:] = 5
    for kind in Kind:
        words = Product(SparseTile("", kind, Sums()), weights, weights[0]).stream.words
        assert int(words[2 if kind is Kind.BLOCKS else 1]) >> 16 == (MOST_VALUES - 2) * (
            2 if kind is Kind.BLOCKS else 1
        )


def test_blocks_are_counted_by_neighbours_or_apart() -> None:
    weights = np.zeros((2, 8), dtype=np.int64)
    weights[:, :2] = 1
    assert blocks_used(weights, lanes_of(8, True)) == 1
    assert blocks_used(weights, lanes_of(8, False)) == 2
