"""Layers on Armv6-M functions compute the graph: their twins under the sanitizers, their assembly under QEMU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.simulate import simulate
from edgeflow.backends.c.v6m.layers import ProductKernel, ThumbDepthwiseKernel
from edgeflow.backends.c.windows import WindowKernel
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.dsp.test_layers import CASES, Case, graph_of, requant
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

MORE = {
    "depthwise, signed input": Case((5, 6, 6), 6, (3, 3), (1, 1), ((1, 1), (1, 1)), -5, True, -128),
    "depthwise, signed input, zero point": Case(
        (4, 5, 9), 9, (3, 3), (1, 1), ((1, 1), (1, 1)), 3, True, -128, "zero point"
    ),
    "depthwise, ties to even": Case((5, 13, 3), 3, (2, 3), (1, 1), ((1, 0), (1, 1)), depthwise=True, form="half even"),
    "depthwise, one column": Case((9, 4, 8), 8, (3, 4), (1, 1), ((1, 1), (0, 0)), depthwise=True),
    "depthwise, stride of many columns": Case((7, 23, 5), 5, (3, 3), (3, 3), ((0, 0), (0, 0)), depthwise=True),
    "three leftover positions": Case((1, 11, 8), 8, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "outputs in several blocks": Case((2, 4, 7), 21, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "whole blocks": Case((3, 4, 4), 16, (2, 2), (1, 1), ((0, 0), (0, 0)), form="zero point"),
}
EVERY = CASES | MORE


def kinds(graph: Graph, core: Core = Core.CORTEX_M0PLUS) -> list[type[Kernel]]:
    return [type(one) for one in emit_model(graph, core=core).kernels]


@pytest.mark.parametrize("name", EVERY)
def test_layers_are_exact_and_clean_under_the_sanitizers(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    case, graph = EVERY[name], graph_of(EVERY[name], 1)
    if case.depthwise and case.outputs >= 5:
        assert kinds(graph)[0] is ThumbDepthwiseKernel
    elif case.outputs >= 5:
        assert kinds(graph)[0] is ProductKernel
    assert kinds(graph)[1] is ProductKernel or graph.nodes[0].type.size > 500, "longer sums leave 32 bits"
    emitted = emit_model(graph)
    assert simulate(emitted.plan.schedule, emitted.plan.placement.offsets) == ()
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized", "rpi-pico"))


@pytest.mark.parametrize("name", EVERY)
def test_layers_are_exact_in_assembly(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = graph_of(EVERY[name], 3)
    inputs = extreme_inputs(graph, 4)
    board = "stm32f103c8" if EVERY[name].strides[0] == 2 else "rpi-pico"
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "qemu", board))


@pytest.mark.parametrize("core", Core)
def test_arm_cores_that_lack_a_long_product_take_them(core: Core) -> None:
    taken = core.is_plain_thumb and core.traps_unaligned
    assert (kinds(graph_of(CASES["3x3 same"], 1), core)[0] is ProductKernel) == taken


@pytest.mark.parametrize(
    ("optimize", "kind"), [(Optimize.BALANCED, WindowKernel), (Optimize.SPEED, ThumbDepthwiseKernel)]
)
def test_other_arm_cores_without_dsp_instructions_take_what_is_faster(optimize: Optimize, kind: type) -> None:
    case = Case((5, 5, 64), 64, (3, 3), (1, 1), ((1, 1), (1, 1)), depthwise=True)
    assert type(emit_model(graph_of(case, 1), core=Core.CORTEX_M3, optimize=optimize).kernels[0]) is kind


def single(weight: int, outputs: int = 8, values: int = 4, bias: int = 0) -> Graph:
    builder = GraphBuilder("net")
    at = builder.input("x", TensorType((3, 3, values), 0, 255), UNIT)
    weights = frozen_array(np.full((1, 1, values, outputs), weight))
    op = Conv(weights, frozen_array([bias] * outputs), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, 0)
    at = builder.add(op, (at,), UNIT, "conv")
    at = builder.add(requant("relu", outputs, 127 * 90 * values, np.random.default_rng(1)), (at,), UNIT, "conv")
    builder.output("y", at)
    return builder.finish()


@pytest.mark.parametrize(("weight", "kind"), [(127, True), (-127, True), (5, True), (128, False), (-129, False)])
def test_weights_must_fit_a_byte(weight: int, kind: bool) -> None:
    bias = 150_000 if weight < 0 else 0
    assert (kinds(single(weight, bias=bias))[0] is ProductKernel) == kind


@pytest.mark.parametrize(("outputs", "kind"), [(4, False), (5, True)])
def test_a_few_outputs_are_not_worth_a_block(outputs: int, kind: bool) -> None:
    assert (kinds(single(100, outputs))[0] is ProductKernel) == kind


@pytest.mark.parametrize(("values", "template"), [(400, "V6mConv"), (600, "V6mPosition"), (4200, "Product")])
def test_scratch_is_bounded(values: int, template: str) -> None:
    assert emit_model(single(20, 8, values)).kernels[0].template == template


@pytest.mark.parametrize(("weight", "together"), [(100, 2), (31, 8), (63, 4)])
def test_small_weights_are_summed_together(weight: int, together: int) -> None:
    (kernel,) = emit_model(single(weight, values=16)).kernels
    assert isinstance(kernel, ProductKernel)
    assert {tile.together for tile in kernel.tiles.values()} == {together}


@pytest.mark.parametrize("runner", ["host-sanitized", "qemu"])
@pytest.mark.parametrize("lo", [0, -128])
@pytest.mark.parametrize("values", [1, 6, 27, 64])
def test_vectors_of_bytes_are_exact(values: int, lo: int, runner: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc" if runner == "host-sanitized" else "arm-none-eabi-gcc")
    need_tool("gcc" if runner == "host-sanitized" else "qemu-system-arm")
    rng = np.random.default_rng(values)
    builder = GraphBuilder("net")
    at = builder.input("x", TensorType((2, values), lo, lo + 255), UNIT)
    for outputs, form in ((9, "relu"), (19, "zero point"), (16, "half even")):
        inputs = builder.type(at).shape[-1]
        weight = frozen_array(rng.integers(-127, 128, (inputs, outputs)))
        at = builder.add(Dense(weight, frozen_array([77] * outputs)), (at,), UNIT, "dense")
        at = builder.add(requant(form, outputs, 127 * 60 * inputs, rng), (at,), UNIT, "dense")
    builder.output("y", at)
    graph = builder.finish()
    assert kinds(graph) == [ProductKernel] * 3
    inputs = extreme_inputs(graph, 5)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, runner, "rpi-pico"))


WINDOWS = {
    "padding": Case((4, 4, 24), 8, (3, 3), (1, 1), ((1, 1), (1, 1))),
    "padding of another value, a sign": Case((4, 5, 24), 9, (3, 3), (1, 1), ((1, 1), (1, 1)), -5, False, -128),
    "stride": Case((9, 7, 13), 21, (3, 3), (2, 2), ((1, 0), (0, 1))),
    "one column": Case((9, 1, 150), 8, (2, 1), (1, 1), ((0, 0), (0, 0))),
}


@pytest.mark.parametrize(("optimize", "template"), [(Optimize.BALANCED, "V6mPosition"), (Optimize.SPEED, "V6mConv")])
@pytest.mark.parametrize("name", ["padding", "stride"])
def test_a_window_larger_than_a_small_models_tensors_is_spread_for_speed_alone(
    name: str, optimize: Optimize, template: str
) -> None:
    kernel = emit_model(graph_of(WINDOWS[name], 1), core=Core.CORTEX_M0PLUS, optimize=optimize).kernels[0]
    assert isinstance(kernel, ProductKernel)
    assert kernel.template == template
    spread = 4 * kernel.values
    assert (4 * kernel.scratch < spread) == (template == "V6mPosition")


@pytest.mark.parametrize("runner", ["host-sanitized", "qemu"])
@pytest.mark.parametrize("name", WINDOWS)
def test_positions_one_by_one_are_exact(name: str, runner: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc" if runner == "host-sanitized" else "arm-none-eabi-gcc")
    need_tool("gcc" if runner == "host-sanitized" else "qemu-system-arm")
    graph = graph_of(WINDOWS[name], 1)
    assert emit_model(graph, core=Core.CORTEX_M0PLUS).kernels[0].template == "V6mPosition"
    inputs = extreme_inputs(graph, 6)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, runner, "rpi-pico"))


@pytest.mark.parametrize(
    ("case", "template"),
    [
        (Case((4, 5, 9), 9, (3, 3), (1, 1), ((1, 1), (1, 1)), depthwise=True), "V6mDepthwiseRow"),
        (Case((4, 5, 9), 9, (3, 3), (1, 1), ((1, 1), (1, 1)), 3, True), "V6mDepthwise"),
        (Case((4, 6, 9), 9, (3, 3), (1, 1), ((1, 1), (1, 1)), depthwise=True), "V6mDepthwise"),
        (Case((4, 8, 9), 9, (1, 8), (1, 1), ((0, 0), (3, 0)), depthwise=True), "V6mDepthwise"),
    ],
)
def test_short_rows_padded_with_zeros_are_read_where_they_lie(case: Case, template: str) -> None:
    kernel = emit_model(graph_of(case, 1), core=Core.CORTEX_M0PLUS).kernels[0]
    assert isinstance(kernel, ThumbDepthwiseKernel)
    assert kernel.template == template
    assert (kernel.scratch == 0) == (template == "V6mDepthwiseRow")
