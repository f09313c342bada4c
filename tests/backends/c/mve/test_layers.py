"""Layers on MVE compute the graph: their twins under the sanitizers, their assembly under QEMU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.mve.layers import ColumnsKernel, ProductKernel
from edgeflow.backends.c.mve.total import TotalKernel
from edgeflow.backends.c.simulate import simulate
from edgeflow.backends.protocol import Artefact, Run
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

C = CBackend()
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A convolution over `shape`, with one or two spatial axes, then a fully connected layer."""

    shape: Sizes
    outputs: int
    window: Sizes
    strides: Sizes
    pads: tuple[tuple[int, int], ...]
    pad_value: int = -128
    depthwise: bool = False
    lo: int = -128
    form: str = "relu"
    dilation: int = 1
    least: int = -127


CASES = {
    "pointwise": Case((5, 5, 16), 8, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "pointwise of 8 vectors that narrows": Case((5, 5, 128), 4, (1, 1), (1, 1), ((0, 0), (0, 0)), form="zero point"),
    "pointwise with stride, odd sizes": Case((6, 7, 5), 7, (1, 1), (2, 2), ((0, 0), (0, 0)), form="narrow"),
    "3x3 same": Case((6, 5, 4), 6, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "3x3 same, unsigned input": Case((6, 5, 3), 5, (3, 3), (1, 1), ((1, 1), (1, 1)), 7, lo=0, form="zero point"),
    "3x3 valid, one output": Case((7, 13, 3), 1, (3, 3), (2, 2), ((0, 0), (0, 0)), form="power of two"),
    "10x4 first layer": Case((20, 10, 1), 8, (10, 4), (2, 2), ((4, 5), (1, 1)), 83),
    "half to even": Case((5, 9, 4), 4, (2, 2), (1, 1), ((0, 1), (1, 0)), form="half even"),
    "one stage with a multiplier": Case((5, 5, 8), 8, (1, 1), (1, 1), ((0, 0), (0, 0)), form="one stage"),
    "no shift in some channels": Case((5, 5, 3), 9, (1, 1), (1, 1), ((0, 0), (0, 0)), form="no shift"),
    "one axis": Case((24, 6), 5, (5,), (2,), ((2, 2),), form="relu"),
    "one axis, one column": Case((9, 1), 3, (3,), (1,), ((0, 0),), form="zero point"),
    "9 vectors": Case((4, 4, 15), 3, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "17 vectors": Case((4, 4, 30), 5, (3, 3), (1, 1), ((1, 1), (1, 1)), form="zero point"),
    "12 vectors, bounded": Case((3, 3, 180), 5, (1, 1), (1, 1), ((0, 0), (0, 0)), form="narrow"),
    "outputs far apart": Case((2, 4, 4), 4200, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "depthwise 3x3": Case((7, 5, 16), 16, (3, 3), (1, 1), ((1, 1), (1, 1)), depthwise=True),
    "depthwise 3x3, stride 2": Case((9, 8, 35), 35, (3, 3), (2, 2), ((0, 1), (0, 1)), depthwise=True),
    "depthwise, pad value, zero point": Case(
        (5, 6, 6), 6, (3, 3), (1, 1), ((1, 1), (1, 1)), 3, depthwise=True, form="zero point"
    ),
    "depthwise, narrow": Case((5, 6, 20), 20, (3, 3), (1, 1), ((1, 1), (1, 1)), depthwise=True, form="narrow"),
    "depthwise, weights of -128": Case(
        (5, 6, 16), 16, (3, 3), (1, 1), ((1, 1), (1, 1)), depthwise=True, form="zero point", least=-128
    ),
    "depthwise 5x5": Case((6, 20, 5), 5, (5, 5), (1, 1), ((2, 2), (2, 2)), depthwise=True),
    "depthwise 4x1, 40 channels, dilated": Case(
        (9, 3, 40), 40, (4, 1), (1, 1), ((2, 1), (0, 0)), depthwise=True, form="one stage", dilation=2
    ),
    "depthwise 1x1": Case((3, 3, 33), 33, (1, 1), (1, 1), ((0, 0), (0, 0)), depthwise=True, form="half even"),
}

QUICK = {
    "pointwise",
    "3x3 same, unsigned input",
    "10x4 first layer",
    "one stage with a multiplier",
    "17 vectors",
    "12 vectors, bounded",
    "depthwise 3x3, stride 2",
    "depthwise 5x5",
}
"""Every kind of code once; the others are behind the marker."""
NAMES = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CASES]


def requant(form: str, channels: int, reach: int, rng: np.random.Generator) -> Requant:
    zero, one = frozen_array(0), frozen_array(1)
    shift = max(reach.bit_length() - 8, 1)
    lo, hi, offset = frozen_array(-128), frozen_array(127), frozen_array(0 if form in ("narrow", "one stage") else 11)
    multiplier = frozen_array(rng.integers(1 << 30, 1 << 31, channels))
    match form:
        case "power of two" | "half even":
            rounding = Rounding.HALF_EVEN if form == "half even" else Rounding.HALF_UP
            hi = frozen_array(63 if form == "half even" else 255)
            return Requant(zero, one, (Stage(frozen_array(shift), rounding),), zero, zero, hi)
        case "one stage":
            stage = Stage(frozen_array(31 + shift), Rounding.HALF_UP)
            return Requant(zero, multiplier, (stage,), offset, lo, hi, frozen_array(rng.integers(0, 1 << 30, channels)))
        case "narrow":
            lo, hi = frozen_array(-90), frozen_array(77)
        case "relu":
            offset = frozen_array(-128)
        case _:
            pass
    shifts = rng.integers(0, 2, channels) * shift if form == "no shift" else np.array(shift)
    stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(shifts), Rounding.HALF_AWAY))
    return Requant(zero, multiplier, stages, offset, lo, hi)


def graph_of(case: Case, seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    builder = GraphBuilder("net")
    at = builder.input("x", TensorType(case.shape, case.lo, case.lo + 255), UNIT)
    groups = case.shape[-1] if case.depthwise else 1
    weight = rng.integers(case.least, 128, (*case.window, case.shape[-1] // groups, case.outputs))
    weight[..., -1] = case.least
    bias = frozen_array(rng.integers(-3000, 3000, case.outputs))
    dilation = (case.dilation,) * len(case.window)
    op = Conv(frozen_array(weight), bias, case.strides, case.pads, dilation, groups, case.pad_value)
    at = builder.add(op, (at,), UNIT, "conv")
    at = builder.add(requant(case.form, case.outputs, 127 * 90 * weight[..., 0].size, rng), (at,), UNIT, "conv")
    size = builder.type(at).size
    at = builder.add(Reshape((size,)), (at,), UNIT, "flatten")
    at = builder.add(
        Dense(frozen_array(rng.integers(-127, 128, (size, 6))), frozen_array([5] * 6)), (at,), UNIT, "dense"
    )
    at = builder.add(requant("zero point", 6, 127 * 60 * size, rng), (at,), UNIT, "dense")
    builder.output("y", at)
    return builder.finish()


def run_c(graph: Graph, inputs: dict[str, IntArray], folder: Path, runner: str) -> Run:
    board = load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    board, options = replace(board, core=Core.CORTEX_M55), COptions()
    fill(folder, C.emit(graph, board, options))
    (folder / "work").mkdir()
    return C.run(C.build(Artefact(folder, "c", graph, board, options, "", graph), runner, folder / "work"), inputs)


def assert_exact(graph: Graph, inputs: dict[str, IntArray], run: Run) -> None:
    expected, _ = interpret(graph, inputs)
    for name, values in expected.items():
        np.testing.assert_array_equal(run.outputs[name], values)


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_exact_and_clean_under_the_sanitizers(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = graph_of(CASES[name], 1)
    emitted = emit_model(graph, core=Core.CORTEX_M55)
    conv = ColumnsKernel if CASES[name].depthwise else ProductKernel
    assert [type(one) for one in emitted.kernels] == [conv, ProductKernel]
    assert simulate(emitted.plan.schedule, emitted.plan.placement.offsets) == ()
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_exact_in_assembly(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = graph_of(CASES[name], 3)
    inputs = extreme_inputs(graph, 4)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "qemu"))


def totals(shape: Sizes, lo: int) -> Graph:
    """A sum over all positions of what a layer makes, or of the input itself."""
    builder = GraphBuilder("net")
    at = builder.input("x", TensorType(shape, lo, lo + 255), UNIT)
    window = shape[:-1]
    op = SumPool(window, window, ((0, 0),) * len(window))
    builder.output("y", builder.add(op, (at,), UNIT, "sum"))
    return builder.finish()


TOTALS = {
    "16 bits": ((5, 5, 19), -128),
    "32 bits": ((20, 15, 7), -128),
    "unsigned": ((4, 9, 16), 0),
    "one axis": ((30, 5), -128),
}


@pytest.mark.parametrize("runner", ["host-sanitized", "qemu"])
@pytest.mark.parametrize("name", TOTALS)
def test_sums_over_all_positions_are_exact(name: str, runner: str, tmp_path: Path, need_tool: NeedTool) -> None:
    for tool in ("gcc",) if runner != "qemu" else ("arm-none-eabi-gcc", "qemu-system-arm"):
        need_tool(tool)
    graph = totals(*TOTALS[name])
    assert [type(one) for one in emit_model(graph, core=Core.CORTEX_M55).kernels] == [TotalKernel]
    inputs = extreme_inputs(graph, 5)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, runner))


def test_only_a_core_with_the_instructions_gets_them() -> None:
    graph = graph_of(CASES["3x3 same"], 1)
    assert "__ARM_FEATURE_MVE" not in emit_model(graph, core=Core.CORTEX_M33).source


def test_layers_alike_share_their_functions() -> None:
    builder = GraphBuilder("twice")
    at = builder.input("x", TensorType((5, 5, 16), -128, 127), UNIT)
    rng = np.random.default_rng(1)
    for name in ("first", "second"):
        weight = frozen_array(rng.integers(-127, 128, (1, 1, 16, 16)))
        op = Conv(weight, frozen_array([0] * 16), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
        at = builder.add(op, (at,), UNIT, name)
        at = builder.add(requant("relu", 16, 127 * 90 * 16, rng), (at,), UNIT, name)
    builder.output("y", at)
    first, second = emit_model(builder.finish(), core=Core.CORTEX_M55).kernels
    assert isinstance(first, ProductKernel)
    assert isinstance(second, ProductKernel)
    assert first.functions == second.functions
    assert first.shared == second.shared


def test_wider_values_are_left_to_plain_c() -> None:
    builder = GraphBuilder("wide")
    at = builder.input("x", TensorType((20,), -(1 << 14), (1 << 14) - 1), UNIT)
    weight = frozen_array(np.random.default_rng(1).integers(-127, 128, (20, 4)))
    at = builder.add(Dense(weight, frozen_array([0] * 4)), (at,), UNIT, "dense")
    builder.output("y", builder.add(requant("relu", 4, 1 << 25, np.random.default_rng(2)), (at,), UNIT, "dense"))
    (kernel,) = emit_model(builder.finish(), core=Core.CORTEX_M55).kernels
    assert not isinstance(kernel, ProductKernel)


@pytest.mark.parametrize(("ends", "bias"), [((-128, 127), 1200), ((-100, 150), -1200)])
def test_a_clamp_beyond_the_bytes_of_the_result_does_nothing(
    ends: tuple[int, int], bias: int, tmp_path: Path, need_tool: NeedTool
) -> None:
    """As a byte, -128 was 128 where all results are positive, and 150 was -106 where they are signed."""
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    builder = GraphBuilder("clamp")
    at = builder.input("x", TensorType((4,), -128, 127), UNIT)
    weight = frozen_array(np.random.default_rng(1).integers(-2, 3, (4, 17)))
    at = builder.add(Dense(weight, frozen_array([bias] * 17)), (at,), UNIT, "dense")
    zero, stage = frozen_array(0), Stage(frozen_array(5), Rounding.HALF_UP)
    op = Requant(zero, frozen_array(1), (stage,), zero, frozen_array(ends[0]), frozen_array(ends[1]))
    builder.output("y", builder.add(op, (at,), UNIT, "dense"))
    graph = builder.finish()
    (kernel,) = emit_model(graph, core=Core.CORTEX_M55).kernels
    assert isinstance(kernel, ProductKernel)
    inputs = extreme_inputs(graph, 6)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "qemu"))
