"""Packed weights of a fully connected layer that reads its bytes where they lie: exact, and without scratch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.byte_words import split_bytes
from edgeflow.backends.c.dsp.dense import DspDenseKernel
from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.dsp.tile import MOST_WORDS, Tile
from edgeflow.backends.c.dsp.tile_epilogue import Sums
from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.estimate import WORK_BAND, estimate
from edgeflow.backends.c.optimize import Optimize
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.dsp.test_layers import requant
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs


def layer(bits: int, values: int, outputs: int, *, lo: int = 0, rows: int = 1) -> Graph:
    """One layer, whose sums are the outputs; its input alone is what the model holds."""
    rng = np.random.default_rng(bits * values)
    builder = GraphBuilder("one")
    at = builder.input("x", TensorType((rows, values), lo, lo + 255), UNIT)
    half = 1 << (bits - 1)
    weight = rng.choice([-1, 1], (values, outputs)) if bits == 1 else rng.integers(-half, half, (values, outputs))
    bias = frozen_array(rng.integers(-500, 500, outputs))
    builder.output("y", builder.add(Dense(frozen_array(weight), bias), (at,), UNIT, "dense"))
    return builder.finish()


LAYERS = {
    "1 bit": (Optimize.BALANCED, layer(1, 512, 17)),
    "2 bits, one output": (Optimize.BALANCED, layer(2, 8192, 1)),
    "3 bits, odd, signed": (Optimize.BALANCED, layer(3, 1501, 10, lo=-128)),
    "4 bits": (Optimize.BALANCED, layer(4, 2048, 10)),
    "4 bits, copied, rows": (Optimize.BALANCED, layer(4, 1004, 7, lo=-128, rows=2)),
    "4 bits, three outputs": (Optimize.BALANCED, layer(4, 1360, 3)),
    "5 bits, two outputs": (Optimize.SIZE, layer(5, 1600, 2, lo=-128)),
    "6 bits": (Optimize.SIZE, layer(6, 1024, 12)),
}


def made(name: str) -> tuple[Emitted, DspDenseKernel | None]:
    """The model and its kernel on the DSP instructions."""
    optimize, graph = LAYERS[name]
    emitted = emit_model(graph, core=Core.CORTEX_M4F, optimize=optimize)
    return emitted, next((one for one in emitted.kernels if isinstance(one, DspDenseKernel)), None)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_exact_on_this_machine_and_in_assembly(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    optimize, graph = LAYERS[name]
    inputs = extreme_inputs(graph, 2)
    for runner in ("host-sanitized", "qemu"):
        (tmp_path / runner).mkdir()
        run = run_c(graph, inputs, tmp_path / runner, runner, optimize=optimize.value)
        assert_exact(graph, inputs, run)
    board = load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    guess = next(one.value for one in estimate(graph, board, 512, optimize) if one.name == "instructions")
    counted = next(one.value for one in run.resources if one.name == "instructions")
    assert abs(guess / counted - 1) < WORK_BAND, (guess, counted)


def test_only_bytes_that_are_no_whole_chunks_are_copied() -> None:
    found = {name: one for name in LAYERS if (one := made(name)[1])}
    assert [one.spread for one in found.values()] == [0] * len(found)
    assert {name: 4 * one.scratch for name, one in found.items() if one.packing and one.scratch} == {
        "3 bits, odd, signed": 1536,
        "4 bits, copied, rows": 1024,
    }


def student() -> Graph:
    """A convolution, whose rows stream, and 8192 bytes into a fully connected layer."""
    rng = np.random.default_rng(1)
    builder = GraphBuilder("wide")
    at = builder.input("x", TensorType((32, 32, 3), 0, 255), UNIT)
    weight = frozen_array(rng.integers(-7, 8, (3, 3, 3, 32)))
    op = Conv(weight, frozen_array([0] * 32), (2, 2), ((0, 1), (0, 1)), (1, 1), 1)
    at = builder.add(op, (at,), UNIT, "conv")
    at = builder.add(requant("relu", 32, 127 * 100, rng), (at,), UNIT, "conv")
    at = builder.add(Reshape((8192,)), (at,), UNIT, "flatten")
    dense = Dense(frozen_array(rng.integers(-8, 8, (8192, 10))), frozen_array([0] * 10))
    builder.output("y", builder.add(dense, (at,), UNIT, "dense"))
    return builder.finish()


def test_few_bits_cost_no_ram_over_speed() -> None:
    sizes = {one: emit_model(student(), core=Core.CORTEX_M4F, optimize=one).plan.size for one in Optimize}
    assert sizes[Optimize.BALANCED] == sizes[Optimize.SPEED] < 12_000


@pytest.mark.parametrize("values", [4, 8, 62, 124, 1004, 1501, 1600, 8192])
def test_chunks_are_even_and_hold_all_values(values: int) -> None:
    chunk, chunks = split_bytes(values, MOST_WORDS)
    assert chunk % 2 == 0
    assert 0 < chunk <= MOST_WORDS
    assert 2 * chunk * (chunks - 1) < values <= 2 * chunk * chunks


def test_words_of_several_positions_are_not_spread_by_a_tile() -> None:
    with pytest.raises(ValueError, match="no tile spreads 2 positions of 8 words"):
        Tile("", 2, 1, Sums(), 8, packing=Packing(4, -8), signed=False)
