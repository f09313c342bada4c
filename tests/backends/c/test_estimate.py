"""What `estimate` says of the generated C holds within its band of what QEMU counts, by the forms of its Requants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.cost import core_cost
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.epilogue import Piece
from edgeflow.backends.c.estimate import FLASH_BAND, RAM_BAND, WORK_BAND
from edgeflow.backends.protocol import Artefact
from edgeflow.board import Core, McuBoard, all_boards
from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph, Output
from edgeflow.ir.types import Shape, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.passes import simplify
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.toolchain.qemu import MACHINES
from edgeflow.train.calibrate.data import Samples
from edgeflow.train.calibrate.floats import (
    Average,
    Clip,
    FloatArray,
    FloatConv,
    FloatDense,
    FloatGraph,
    FloatNode,
    FloatOp,
    Move,
    Sum,
)
from edgeflow.train.calibrate.options import Options
from edgeflow.train.calibrate.run import quantize_network
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

C = CBackend()
TESTS = Path(__file__).resolve().parents[2]
PLAIN = Options()
RELU = Clip(0.0, math.inf)


def numbers(*shape: int) -> FloatArray:
    return np.random.default_rng(math.prod(shape)).normal(size=shape).astype(np.float32)


def conv(inputs: int, outputs: int, size: int, groups: int = 1) -> FloatConv:
    pads = (((size - 1) // 2, size // 2),) * 2
    return FloatConv(numbers(size, size, inputs // groups, outputs), numbers(outputs), (1, 1), pads, (1, 1), groups)


def dense(inputs: int, outputs: int) -> FloatDense:
    return FloatDense(numbers(inputs, outputs), numbers(outputs))


def calibrated(shape: Shape, *ops: tuple[FloatOp, str] | FloatOp, options: Options = PLAIN) -> Graph:
    """A float network as `edgeflow quantize` makes it: one op after the other; a pair also names what a Sum adds."""
    nodes: list[FloatNode] = []
    for number, one in enumerate(ops):
        op, other = one if isinstance(one, tuple) else (one, "")
        before = nodes[-1].name if nodes else "x"
        nodes.append(FloatNode(f"t{number}", op, (before, other) if other else (before,), f"layer{number}"))
    network = FloatGraph("net", {"x": shape}, tuple(nodes), (Output("y", nodes[-1].name),))
    given = {"x": numbers(24, *shape)}
    return quantize_network(network, Samples(given, given, None, False), options).graph


def mlp() -> Graph:
    return calibrated((48,), dense(48, 40), RELU, dense(40, 24), RELU, dense(24, 10))


def cnn(options: Options = PLAIN) -> Graph:
    pool, flat = Move(MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)))), Move(Reshape((128,)))
    sums = (conv(1, 6, 3), RELU, pool, conv(6, 8, 3), RELU)
    return calibrated((8, 8, 1), *sums, flat, dense(128, 10), options=options)


def mobile() -> Graph:
    """Depthwise and pointwise convolutions, a residual sum and an average: every kind of Requant that 64 bits need."""
    block = (conv(8, 16, 1), RELU, conv(16, 16, 3, 16), RELU, conv(16, 8, 1), (Sum(), "t1"))
    average = Average((6, 6), (6, 6), ((0, 0), (0, 0)), whole=True)
    return calibrated((6, 6, 3), conv(3, 8, 3), RELU, *block, average, Move(Reshape((8,))), dense(8, 4))


def normalized() -> Graph:
    """A batch normalization behind each layer, as import writes it: multiplier, bias and shift of each channel."""
    random = np.random.default_rng(3)
    builder = GraphBuilder("normalized")
    at = builder.input("x", TensorType((8, 8, 2), -128, 127), UNIT)
    for number, channels in enumerate((8, 8, 12)):
        inputs, outputs = builder.type(at).shape[-1], frozen_array([0] * channels)
        weight = frozen_array(random.integers(-7, 8, (3, 3, inputs, channels)))
        at = builder.add(Conv(weight, outputs, (1, 1), ((0, 0), (0, 0)), (1, 1), 1), (at,), UNIT, f"conv{number}")
        multiplier, bias = (frozen_array(random.integers(1 << 18, 1 << top, channels)) for top in (20, 30))
        stage, zero = Stage(frozen_array(random.integers(24, 28, channels)), Rounding.FLOOR), frozen_array([0])
        op = Requant(zero, multiplier, (stage,), zero, zero, frozen_array([63]), bias)
        at = builder.add(op, (at,), UNIT, f"normalize{number}")
    at = builder.add(Reshape((48,)), (at,), UNIT, "flat")
    weight = frozen_array(random.integers(-7, 8, (48, 5)))
    builder.output("y", builder.add(Dense(weight, frozen_array([0] * 5)), (at,), UNIT, "logits"))
    return builder.finish()


def rescaled() -> Graph:
    """Sums that stay wide behind their multipliers, two roundings of each channel: 64 bits all the way."""
    random = np.random.default_rng(4)
    builder = GraphBuilder("rescaled")
    at = builder.input("x", TensorType((8, 8, 4), -128, 127), UNIT)
    weight = frozen_array(random.integers(-127, 128, (3, 3, 4, 8)))
    op = Conv(weight, frozen_array([0] * 8), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    sums = builder.add(op, (at,), UNIT, "conv")
    zero, reach = frozen_array([0]), (1 << 31) - 1
    first = Stage(frozen_array(random.integers(22, 26, 8)), Rounding.HALF_UP)
    last = Stage(frozen_array(random.integers(0, 3, 8)), Rounding.HALF_AWAY)
    multiplier = frozen_array(random.integers(1 << 30, 1 << 31, 8))
    op = Requant(zero, multiplier, (first, last), zero, frozen_array([-reach]), frozen_array([reach]))
    builder.output("y", builder.add(op, (sums,), UNIT, "conv"))
    return builder.finish()


def imported(*parts: str) -> Graph:
    return load_model(TESTS.joinpath(*parts))


GRAPHS: dict[str, Callable[[], Graph]] = {
    "QKeras CNN": lambda: imported("data", "digits", "student.keras"),
    "QKeras MLP": lambda: imported("frontends", "qkeras", "data", "hls4ml", "qkeras_mnist_dense.json"),
    "batch normalization": normalized,
    "quantized MLP": mlp,
    "quantized CNN": cnn,
    "quantized CNN, one scale a layer": lambda: cnn(Options(per_tensor=True)),
    "quantized CNN, powers of two": lambda: cnn(Options(power_of_two=True)),
    "quantized mobile": mobile,
    "wide sums": rescaled,
    "TFLite autoencoder": lambda: imported("data", "models", "ad01_int8.tflite"),
}


def counted(graph: Graph, board: McuBoard, folder: Path) -> dict[str, float]:
    options, work = COptions(stack=0), folder / "work"
    fill(folder, C.emit(graph, board, options))
    work.mkdir()
    program = C.build(Artefact(folder, "c", graph, board, options, "", graph), "qemu", work)
    run = C.run(program, extreme_inputs(graph, 1, 4))
    return {one.name: one.value for one in (*C.measure(program), *run.resources)}


@pytest.mark.parametrize("core", [Core.CORTEX_M0PLUS, Core.CORTEX_M3, Core.CORTEX_M4F, Core.RV32IMAC])
@pytest.mark.parametrize("name", GRAPHS)
def test_instructions_flash_and_ram_hold_within_their_bands(
    name: str, core: Core, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool(f"{core.architecture.value}-gcc")
    need_tool(MACHINES[core.qemu_machine].emulator.name)
    graph, chosen = simplify(GRAPHS[name]()), replace(load_mcu("nucleo-f446re"), core=core)
    found = counted(graph, chosen, tmp_path)
    guess = {one.name: one.value for one in C.estimate(graph, chosen, COptions(stack=0)) if not one.layer}
    assert guess["instructions"] == pytest.approx(found["instructions"], rel=WORK_BAND)
    assert guess["flash"] == pytest.approx(found["flash"], rel=FLASH_BAND)
    assert guess["RAM"] == pytest.approx(found["static RAM"] + found["stack"], rel=RAM_BAND)


def pieces(graph: Graph) -> set[tuple[Piece, bool]]:
    return {one for kernel in emit_model(graph).kernels for done in kernel.epilogues for one in done.pieces}


def test_the_graphs_have_every_piece_in_64_bits() -> None:
    found = frozenset[tuple[Piece, bool]]().union(*(pieces(simplify(make())) for make in GRAPHS.values()))
    assert {piece for piece in Piece if (piece, True) not in found} == {Piece.HALF_EVEN, Piece.HIGH_PRODUCT}
    assert (Piece.HIGH_PRODUCT, False) in found, "its result has 32 bits"


def test_every_core_has_a_cost_for_every_piece() -> None:
    for core in Core:
        assert set(core_cost(core).pieces) == set(Piece)


def test_a_product_of_64_bits_costs_a_cortex_m0plus_most() -> None:
    pico, nucleo = (core_cost(load_mcu(name).core).pieces for name in ("rpi-pico", "nucleo-f446re"))
    narrow, wide = pico[Piece.MULTIPLY]
    assert wide > 10 * narrow
    assert wide > 10 * nucleo[Piece.MULTIPLY][1]


def load_mcu(name: str) -> McuBoard:
    return next(one for one in all_boards(McuBoard) if one.name == name)


def two_requants(multiplier: int, shift: int) -> tuple[float, float]:
    """Instructions that the estimate gives a Requant of 100 values on each core."""
    builder = GraphBuilder("one")
    at = builder.input("x", TensorType((100,), -(1 << 19), (1 << 19) - 1), UNIT)
    stage, zero = Stage(frozen_array([shift]), Rounding.HALF_UP), frozen_array([0])
    op = Requant(zero, frozen_array([multiplier]), (stage,), zero, frozen_array([-128]), frozen_array([127]))
    builder.output("y", builder.add(op, (at,), UNIT, "r"))
    graph = builder.finish()
    found = [C.estimate(graph, load_mcu(name), COptions()) for name in ("rpi-pico", "nucleo-f446re")]
    first, second = (next(one.value for one in made if one.name == "instructions") for made in found)
    return first, second


def test_the_width_of_the_product_decides() -> None:
    (narrow_m0, narrow_m4), (wide_m0, wide_m4) = two_requants(3, 12), two_requants(3 << 20, 32)
    assert wide_m0 > 3 * narrow_m0
    assert wide_m4 < 2 * narrow_m4
