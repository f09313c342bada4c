"""Plain C convolutions and fully connected layers compute the graph on every kind of core, whatever their sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.products import ProductKernel
from edgeflow.backends.protocol import Artefact, Run
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.test_exact import assert_exact
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

C = CBackend()
NONE = ((0, 0), (0, 0))
SAME = ((1, 1), (1, 1))
INPUTS = {
    "bytes": TensorType((6, 7, 4), -128, 127),
    "unsigned bytes": TensorType((6, 7, 4), 0, 255),
    "one channel": TensorType((6, 7, 1), -128, 127),
    "16 bits": TensorType((6, 7, 4), -(1 << 15), (1 << 15) - 1),
    "40 bits": TensorType((6, 7, 2), -(1 << 39), (1 << 39) - 1),
}


@dataclass(frozen=True)
class Layer:
    """A convolution; `form` names what is behind it, "" for nothing."""

    outputs: int
    window: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[tuple[int, int], tuple[int, int]] = NONE
    dilation: tuple[int, int] = (1, 1)
    pad_value: int = 0
    depthwise: bool = False
    form: str = "relu"


LAYERS = (
    *(Layer(outputs) for outputs in (1, 2, 3, 4, 5, 8)),
    Layer(4, strides=(2, 2), form="zero point"),
    Layer(6, (3, 3), pads=SAME, form="half up"),
    Layer(7, (3, 3), pads=SAME, pad_value=-3, form="half even"),
    Layer(4, (1, 3), dilation=(1, 2)),
    Layer(5, (3, 2), (2, 1), ((2, 0), (0, 1)), (2, 1), form=""),
    Layer(9, (2, 7), form="two stages"),
    *(Layer(0, (3, 3), (stride, stride), SAME, depthwise=True) for stride in (1, 2)),
    Layer(0, (3, 3), (1, 2), ((0, 2), (2, 0)), (2, 1), depthwise=True, form="half even"),
    Layer(0, (2, 5), pads=((0, 0), (4, 4)), depthwise=True, form=""),
    Layer(0, (3, 3), depthwise=True, form="zero point"),
)


def requant(form: str, channels: int, most: int, random: np.random.Generator) -> Requant:
    """To a byte, from sums of up to `most`."""
    zero, shift = frozen_array(0), max(most.bit_length() - 7, 1)
    ends = frozen_array(-128), frozen_array(127)
    if form in ("half up", "half even"):
        stage = Stage(frozen_array(shift), Rounding.HALF_EVEN if form == "half even" else Rounding.HALF_UP)
        return Requant(zero, frozen_array(1), (stage,), zero, *ends)
    if form == "two stages":
        stages = tuple(Stage(frozen_array(one), Rounding.HALF_EVEN) for one in (2, shift))
        return Requant(zero, frozen_array(random.integers(3, 9, channels)), stages, zero, *ends)
    multiplier = frozen_array(random.integers(1 << 30, 1 << 31, channels))
    two = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(shift), Rounding.HALF_AWAY))
    return Requant(zero, multiplier, two, frozen_array(-128 if form == "relu" else 11), *ends)


def graph_of(source: TensorType) -> Graph:
    """All layers on one input, and fully connected ones on all of it and on each position."""
    random = np.random.default_rng(5)
    builder = GraphBuilder("net")
    x = builder.input("x", source, UNIT)
    most = max(-source.lo, source.hi) * 127
    for number, layer in enumerate(LAYERS):
        channels = source.shape[-1]
        groups, outputs = (channels, channels) if layer.depthwise else (1, layer.outputs)
        weight = random.integers(-127, 128, (*layer.window, channels // groups, outputs))
        bias = frozen_array(random.integers(-3000, 3000, outputs))
        op = Conv(
            frozen_array(weight),
            bias,
            layer.strides,
            layer.pads,
            layer.dilation,
            groups,
            max(layer.pad_value, source.lo),
        )
        at = builder.add(op, (x,), UNIT, f"conv{number}")
        if layer.form:
            form = layer.form if most < 1 << 40 else "half up"
            at = builder.add(requant(form, outputs, most * 4, random), (at,), UNIT, f"conv{number}")
        builder.output(f"y{number}", at)
    each = Dense(frozen_array(random.integers(-127, 128, (source.shape[-1], 6))), frozen_array([5] * 6))
    builder.output("each", builder.add(each, (x,), UNIT, "each"))
    flat = builder.add(Reshape((source.size,)), (x,), UNIT, "flat")
    dense = Dense(frozen_array(random.integers(-127, 128, (source.size, 7))), frozen_array(list(range(7))))
    at = builder.add(
        requant("zero point" if most < 1 << 40 else "half up", 7, most * source.size // 4, random),
        (builder.add(dense, (flat,), UNIT, "d"),),
        UNIT,
        "d",
    )
    builder.output("all", at)
    return builder.finish()


def run_on(graph: Graph, inputs: dict[str, IntArray], core: Core, runner: str, folder: Path) -> Run:
    board = load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    board = replace(board, core=core)
    fill(folder, C.emit(graph, board, COptions()))
    (folder / "work").mkdir()
    program = C.build(Artefact(folder, "c", graph, board, COptions(), "", graph), runner, folder / "work")
    return C.run(program, inputs)


QUICK = ("bytes", "16 bits")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(one, marks=pytest.mark.slow) for one in INPUTS if one not in QUICK)]
)
def test_layers_of_all_sizes_are_exact_and_clean_under_the_sanitizers(
    name: str, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    graph = graph_of(INPUTS[name])
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_on(graph, inputs, Core.CORTEX_M3, "host-sanitized", tmp_path))


@pytest.mark.parametrize("core", [Core.CORTEX_M0PLUS, Core.CORTEX_M3, Core.RV32IMAC])
def test_layers_of_all_sizes_are_exact_on_cores_without_a_kernel_of_their_own(
    core: Core, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool(f"{core.architecture.value}-gcc")
    need_tool("qemu-system-riscv32" if core is Core.RV32IMAC else "qemu-system-arm")
    graph = graph_of(INPUTS["bytes"])
    inputs = extreme_inputs(graph, 3, 3)
    assert_exact(graph, inputs, run_on(graph, inputs, core, "qemu", tmp_path))


def kernels(name: str) -> list[Kernel]:
    return list(emit_model(graph_of(INPUTS[name]), core=Core.RV32IMAC).kernels)


def test_requantizations_to_bytes_take_no_wide_shift() -> None:
    shifted = {one.layer for one in kernels("bytes") if one.epilogue and one.epilogue.helpers}
    assert shifted == {"conv11"}, "whose two roundings are not TFLite-Micro's"


def test_only_windows_are_gathered() -> None:
    gathered = {one.layer: one.gathered for one in kernels("bytes") if isinstance(one, ProductKernel)}
    scratch = {one.layer for one in kernels("bytes") if one.scratch}
    assert scratch == {layer for layer, own in gathered.items() if own}
    assert not gathered["conv0"]
    assert not gathered["conv6"]
    assert gathered["conv7"]


@pytest.mark.parametrize("outputs", range(1, 10))
def test_weights_are_stored_once(outputs: int) -> None:
    builder = GraphBuilder("one")
    x = builder.input("x", TensorType((40,), -128, 127), UNIT)
    weight = frozen_array(np.random.default_rng(1).integers(-127, 128, (40, outputs)))
    builder.output("y", builder.add(Dense(weight, frozen_array([1] * outputs)), (x,), UNIT, "d"))
    (kernel,) = emit_model(builder.finish(), core=Core.RV32IMAC).kernels
    assert isinstance(kernel, ProductKernel)
    assert kernel.weight.size == 40 * outputs
    assert sum(one.last - one.first for one in kernel.blocks) == outputs


def test_layers_that_differ_in_their_numbers_share_a_function() -> None:
    random = np.random.default_rng(2)
    builder = GraphBuilder("alike")
    at = builder.input("x", TensorType((5, 6, 8), -128, 127), UNIT)
    for number in range(5):
        weight, bias = random.integers(-127, 128, (1, 1, 8, 8)), random.integers(-3000, 3000, 8)
        op = Conv(frozen_array(weight), frozen_array(bias), (1, 1), NONE, (1, 1), 1)
        at = builder.add(op, (at,), UNIT, f"conv{number}")
        at = builder.add(requant("half up", 8, 127 * 127 * 8, random), (at,), UNIT, f"conv{number}")
    builder.output("y", at)
    made = emit_model(builder.finish(), core=Core.RV32IMAC)
    assert [type(one) for one in made.kernels] == [ProductKernel] * 5
    first, *inner, last = (one.name for one in made.functions.values())
    assert len({*inner}) == 1
    assert len({first, *inner, last}) == 3, "input and output are signed"
