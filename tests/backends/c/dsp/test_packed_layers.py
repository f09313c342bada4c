"""Networks of few bits: exact with packed weights, and packed where that takes less flash under the aim."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.dense import DspDenseKernel
from edgeflow.backends.c.dsp.layers import DepthwiseKernel, Product, TileKernel
from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.estimate import FLASH_BAND, WORK_BAND, estimate
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.optimize import Optimize
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

_SAME, _NONE = ((1, 1), (1, 1)), ((0, 0), (0, 0))


def _requant(weight: IntArray, channels: int, rng: np.random.Generator, *, power: bool) -> Requant:
    """Spreads the sums of bytes over bytes: by a power of two, half to even, or as TFLite-Micro does."""
    zero = frozen_array(0)
    largest = int(255 * np.abs(weight).reshape(-1, channels).sum(axis=0).max())
    shift = max(largest.bit_length() - 9, 1)
    if power:
        stage = Stage(frozen_array(shift), Rounding.HALF_EVEN)
        return Requant(zero, frozen_array(1), (stage,), zero, zero, frozen_array(255))
    stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(shift), Rounding.HALF_AWAY))
    multiplier = frozen_array(rng.integers(1 << 30, 1 << 31, channels))
    return Requant(zero, multiplier, stages, frozen_array(-128), frozen_array(-128), frozen_array(127))


def network(bits: int, seed: int, *, power: bool = False, channels: int = 32) -> Graph:
    """3x3, depthwise, pointwise and fully connected, with weights of so many bits; 1 stands for -1 and 1."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder("narrow")
    lo = 0 if power else -128
    at = builder.input("x", TensorType((8, 6, 8), lo, lo + 255), UNIT)

    def weights(*shape: int) -> IntArray:
        half = 1 << (bits - 1)
        return rng.choice([-1, 1], shape) if bits == 1 else rng.integers(-half, half, shape)

    def conv(window: int, outputs: int, pads: tuple[tuple[int, int], ...], groups: int = 1) -> None:
        nonlocal at
        weight = weights(window, window, builder.type(at).shape[-1] // groups, outputs)
        bias = frozen_array(rng.integers(-200, 200, outputs))
        op = Conv(frozen_array(weight), bias, (1, 1), pads, (1, 1), groups, 0 if power else -128)
        at = builder.add(op, (at,), UNIT, f"conv{window}x{groups}")
        at = builder.add(_requant(weight, outputs, rng, power=power), (at,), UNIT, f"conv{window}x{groups}")

    conv(3, channels, _SAME)
    conv(3, channels, _SAME, channels)
    conv(1, channels, _NONE)
    size = builder.type(at).size
    at = builder.add(Reshape((size,)), (at,), UNIT, "flatten")
    weight = weights(size, 8)
    at = builder.add(Dense(frozen_array(weight), frozen_array([3] * 8)), (at,), UNIT, "dense")
    at = builder.add(_requant(weight, 8, rng, power=power), (at,), UNIT, "dense")
    builder.output("y", at)
    return builder.finish()


@pytest.mark.parametrize(
    ("bits", "power"), [(1, False), (2, True), (3, False), (4, True), (4, False), (5, True), (6, False)]
)
def test_networks_are_exact_and_clean_under_the_sanitizers(
    bits: int, power: bool, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    graph = network(bits, bits, power=power)
    packed = emit_model(graph, core=Core.CORTEX_M4F, optimize=Optimize.SIZE).kernels
    assert any(_packings(packed))
    assert any(isinstance(one, DepthwiseKernel) and one.packed for one in packed)
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized", optimize="size"))


@pytest.mark.parametrize(
    ("bits", "power", "optimize"),
    [
        (1, True, "balanced"),
        (2, False, "size"),
        (3, True, "size"),
        (4, True, "balanced"),
        (4, False, "size"),
        (5, False, "size"),
        (6, True, "size"),
        (8, False, "size"),
        (4, False, "speed"),
    ],
)
def test_networks_are_exact_in_assembly(
    bits: int, power: bool, optimize: str, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = network(bits, bits, power=power)
    inputs = extreme_inputs(graph, 4)
    run = run_c(graph, inputs, tmp_path, "qemu", optimize=optimize)
    assert_exact(graph, inputs, run)
    board = load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    guess = next(one.value for one in estimate(graph, board, 512, Optimize(optimize)) if one.name == "instructions")
    counted = next(one.value for one in run.resources if one.name == "instructions")
    assert abs(guess / counted - 1) < WORK_BAND


def _packings(kernels: Sequence[Kernel]) -> list[Packing | None]:
    """Of the products of matrices."""
    products = [one.product if isinstance(one, TileKernel) else one for one in kernels]
    return [one.packing for one in products if isinstance(one, Product | DspDenseKernel)]


def _sizes(graph: Graph, optimize: Optimize) -> dict[str, int]:
    kernels = emit_model(graph, core=Core.CORTEX_M4F, optimize=optimize).kernels
    return {one.layer: sum(table.size for table in one.tables) for one in kernels}


@pytest.mark.parametrize(("bits", "most"), [(4, 0.53), (2, 0.28)])
def test_weights_shrink_with_their_bits(bits: int, most: float) -> None:
    """Tables but for the constants of outputs: 5 words for two of a product, 2 for a depthwise channel."""
    graph = network(bits, 1, channels=64)
    speed, balanced = _sizes(graph, Optimize.SPEED), _sizes(graph, Optimize.BALANCED)
    constants = {"conv3x1": 640, "conv3x64": 512, "conv1x1": 640, "dense": 80}
    assert speed["dense"] - constants["dense"] == 8 * 6 * 64 * 8
    weights = [sum(sizes[layer] - constants[layer] for layer in constants) for sizes in (balanced, speed)]
    assert weights[0] <= most * weights[1]


def test_nothing_is_packed_for_speed_and_wide_weights_for_size_alone() -> None:
    for bits, optimize in ((4, Optimize.SPEED), (6, Optimize.BALANCED)):
        kernels = emit_model(network(bits, 1), core=Core.CORTEX_M4F, optimize=optimize).kernels
        assert _packings(kernels) == [None] * 3
        assert [one.packed for one in kernels if isinstance(one, DepthwiseKernel)] == [False]


def test_one_width_serves_layers_that_a_narrower_one_would_hold() -> None:
    """Functions for 3 bits would take more flash than they save in a layer that they alone serve."""
    kernels = emit_model(network(4, 1), core=Core.CORTEX_M4F).kernels
    assert _packings(kernels) == [Packing(4, -8)] * 3


def test_the_estimate_of_flash_knows_packed_tables() -> None:
    graph, board = network(4, 1, channels=64), load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    flash = {
        optimize: next(one.value for one in estimate(graph, board, 512, optimize) if one.name == "flash")
        for optimize in (Optimize.SPEED, Optimize.BALANCED)
    }
    saved = sum(_sizes(graph, Optimize.SPEED).values()) - sum(_sizes(graph, Optimize.BALANCED).values())
    assert saved > 16_000
    assert abs(flash[Optimize.SPEED] - flash[Optimize.BALANCED] - saved) < FLASH_BAND * saved
