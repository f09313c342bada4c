"""Layers on the DSP instructions compute the graph: their twins under the sanitizers, their assembly under QEMU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.dense import DspDenseKernel
from edgeflow.backends.c.dsp.layers import DepthwiseKernel, RowTileKernel, TileKernel
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.simulate import simulate
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A convolution over `shape`, with one or two spatial axes, then a fully connected layer.

    `in_rows`: it is one of long rows, four positions of which are gathered at a time.
    """

    shape: Sizes
    outputs: int
    window: Sizes
    strides: Sizes
    pads: tuple[tuple[int, int], ...]
    pad_value: int = 0
    depthwise: bool = False
    lo: int = 0
    form: str = "relu"
    dilation: Sizes = ()
    in_rows: bool = False


CASES = {
    "pointwise": Case((5, 5, 8), 8, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "pointwise that narrows": Case((5, 5, 12), 4, (1, 1), (1, 1), ((0, 0), (0, 0)), form="zero point"),
    "pointwise with stride": Case((6, 7, 5), 7, (1, 1), (2, 2), ((0, 0), (0, 0))),
    "3x3 same": Case((6, 5, 4), 6, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "3x3 same, signed input": Case((6, 5, 3), 5, (3, 3), (1, 1), ((1, 1), (1, 1)), -7, lo=-128, form="zero point"),
    "3x3 valid, one output": Case((7, 13, 3), 1, (3, 3), (2, 2), ((0, 0), (0, 0)), form="power of two"),
    "10x4 first layer": Case((20, 10, 1), 8, (10, 4), (2, 2), ((4, 5), (1, 1)), 83, lo=-128),
    "3x3 valid, whole words": Case((7, 6, 4), 6, (3, 3), (1, 1), ((0, 0), (0, 0))),
    "3x3 same, rows too long to be copied": Case((5, 20, 8), 5, (3, 3), (1, 1), ((1, 1), (1, 1)), 7, in_rows=True),
    "3x3 same, long rows, no whole words": Case((4, 25, 3), 4, (3, 3), (2, 2), ((1, 1), (0, 1)), in_rows=True),
    "padded above alone": Case((6, 20, 4), 4, (3, 2), (1, 1), ((1, 1), (0, 0)), 9, in_rows=True),
    "padded above alone, no whole words": Case((6, 23, 3), 4, (3, 1), (2, 1), ((2, 1), (0, 0)), 9, in_rows=True),
    "rows apart": Case((9, 7, 1), 4, (3, 4), (1, 1), ((2, 2), (1, 2)), 3, dilation=(2, 1)),
    "long rows apart": Case((9, 20, 4), 4, (3, 2), (1, 1), ((2, 1), (1, 0)), 3, dilation=(2, 1), in_rows=True),
    "half to even": Case((5, 9, 4), 4, (2, 2), (1, 1), ((0, 1), (1, 0)), form="half even"),
    "one axis": Case((24, 6), 5, (5,), (2,), ((2, 2),), form="relu"),
    "one axis, one column": Case((9, 1), 3, (3,), (1,), ((0, 0),), form="zero point"),
    "long rows": Case((3, 30, 2), 3, (3, 3), (1, 1), ((1, 1), (1, 1)), in_rows=True),
    "pointwise, long rows": Case((3, 15, 8), 12, (1, 1), (1, 1), ((0, 0), (0, 0)), in_rows=True),
    "pointwise, long rows that narrow": Case((3, 14, 8), 4, (1, 1), (1, 1), ((0, 0), (0, 0)), in_rows=True),
    "pointwise, long rows, stride": Case((4, 27, 4), 5, (1, 1), (2, 2), ((0, 0), (0, 0)), lo=-128, in_rows=True),
    "pointwise, long rows, no whole words": Case((2, 18, 5), 2, (1, 1), (1, 1), ((0, 0), (0, 0)), form="half even"),
    "pointwise, long rows, fours, no whole words": Case((2, 16, 5), 7, (1, 1), (1, 1), ((0, 0), (0, 0)), in_rows=True),
    "one row, padded": Case((3, 40, 1), 6, (1, 4), (1, 2), ((0, 0), (1, 2)), 25, in_rows=True),
    "3x3 same, long rows, stride": Case((5, 27, 4), 5, (3, 3), (2, 2), ((1, 1), (1, 1)), -9, lo=-128, in_rows=True),
    "3x3 same, few channels": Case((4, 32, 3), 5, (3, 3), (2, 2), ((0, 1), (0, 1)), -9, lo=-128, in_rows=True),
    "5x5 same, one channel": Case((6, 21, 1), 4, (5, 5), (1, 1), ((2, 2), (2, 2)), 3, in_rows=True),
    "4x7 same, rows apart": Case((9, 70, 1), 4, (4, 7), (1, 1), ((3, 3), (3, 3)), 3, dilation=(2, 1), in_rows=True),
    "pad wider than the window": Case((2, 66, 1), 3, (2, 3), (1, 1), ((3, 3), (8, 9)), 7, in_rows=True),
    "7x7 same, no whole words, too large to be written out": Case((7, 15, 1), 4, (7, 7), (1, 1), ((3, 3), (3, 3))),
    "more words than a bank": Case((4, 4, 30), 3, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "17 words": Case((4, 4, 34), 3, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "outputs too far apart for four positions": Case((2, 4, 4), 1400, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "depthwise 3x3": Case((7, 5, 8), 8, (3, 3), (1, 1), ((1, 1), (1, 1)), depthwise=True),
    "depthwise 3x3, stride 2": Case((9, 8, 4), 4, (3, 3), (2, 2), ((0, 1), (0, 1)), depthwise=True),
    "depthwise 3x3 valid, odd rows": Case((7, 6, 4), 4, (3, 3), (1, 1), ((0, 0), (0, 0)), depthwise=True),
    "depthwise, one row": Case((3, 6, 4), 4, (3, 3), (1, 1), ((0, 0), (1, 1)), depthwise=True),
    "depthwise, pad value": Case((5, 6, 6), 6, (3, 3), (1, 1), ((1, 1), (1, 1)), 131, depthwise=True),
    "depthwise 5x5, long rows": Case((6, 20, 5), 5, (5, 5), (1, 1), ((2, 2), (2, 2)), depthwise=True),
}


def requant(form: str, channels: int, reach: int, rng: np.random.Generator) -> Requant:
    zero = frozen_array(0)
    shift = max(reach.bit_length() - 8, 1)
    if form in ("power of two", "half even"):
        rounding = Rounding.HALF_EVEN if form == "half even" else Rounding.HALF_UP
        stage = Stage(frozen_array(shift), rounding)
        return Requant(zero, frozen_array(1), (stage,), zero, zero, frozen_array(63 if form == "half even" else 255))
    multiplier = frozen_array(rng.integers(1 << 30, 1 << 31, channels))
    stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(shift), Rounding.HALF_AWAY))
    offset = -128 if form == "relu" else 11
    return Requant(zero, multiplier, stages, frozen_array(offset), frozen_array(-128), frozen_array(127))


def graph_of(case: Case, seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    builder = GraphBuilder("net")
    at = builder.input("x", TensorType(case.shape, case.lo, case.lo + 255), UNIT)
    groups = case.shape[-1] if case.depthwise else 1
    weight = rng.integers(-127, 128, (*case.window, case.shape[-1] // groups, case.outputs))
    bias = frozen_array(rng.integers(-3000, 3000, case.outputs))
    dilation = case.dilation or (1,) * len(case.window)
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


@pytest.mark.parametrize("name", CASES)
def test_layers_are_exact_and_clean_under_the_sanitizers(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = graph_of(CASES[name], 1)
    emitted = emit_model(graph, core=Core.CORTEX_M4F)
    conv = DepthwiseKernel if CASES[name].depthwise else TileKernel
    first, second = emitted.kernels
    assert isinstance(first, conv)
    assert isinstance(first, RowTileKernel) is CASES[name].in_rows
    assert type(second) is DspDenseKernel
    assert simulate(emitted.plan.schedule, emitted.plan.placement.offsets) == ()
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.parametrize("name", CASES)
def test_layers_are_exact_in_assembly(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = graph_of(CASES[name], 3)
    inputs = extreme_inputs(graph, 4)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "qemu"))


def test_a_core_without_the_instructions_gets_none_of_them() -> None:
    source = emit_model(graph_of(CASES["3x3 same"], 1), core=Core.CORTEX_M3).source
    assert "__ARM_FEATURE_DSP" not in source
