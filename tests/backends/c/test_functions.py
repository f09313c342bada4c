"""Layers that differ in their tables alone share a function; it computes each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.emit import emit_model
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs


def chain(channels: tuple[int, ...], rows: int = 9) -> Graph:
    """3x3 convolutions one behind the other, from 4 channels on, each with weights of its own."""
    random = np.random.default_rng(5)
    builder = GraphBuilder("chain")
    at = builder.input("x", TensorType((rows, 5, 4), 0, 255), UNIT)
    for number, outputs in enumerate(channels):
        inputs = builder.type(at).shape[-1]
        weight = frozen_array(random.integers(-127, 128, (3, 3, inputs, outputs)))
        bias = frozen_array(random.integers(-3000, 3000, outputs))
        pads = ((1, 1), (1, 1))
        at = builder.add(Conv(weight, bias, (1, 1), pads, (1, 1), 1), (at,), UNIT, f"layer {number}")
        multiplier = frozen_array(random.integers(1 << 30, 1 << 31, outputs))
        stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(9), Rounding.HALF_AWAY))
        zero = frozen_array(0)
        op = Requant(zero, multiplier, stages, zero, zero, frozen_array(255))
        at = builder.add(op, (at,), UNIT, f"layer {number}")
    builder.output("y", at)
    return builder.finish()


@pytest.mark.parametrize("core", [Core.CORTEX_M0PLUS, Core.CORTEX_M3, Core.CORTEX_M4F])
def test_equal_layers_share_a_function_under_the_first_name(core: Core) -> None:
    emitted = emit_model(chain((4, 4, 4, 6, 4)), core=core)
    shared = emitted.functions[emitted.kernels[0].name]
    assert [one.layer for one in shared.kernels] == ["layer 0", "layer 1", "layer 2"]
    assert len({one.name for one in emitted.functions.values()}) == 3
    for kernel in emitted.kernels:
        own = emitted.functions[kernel.name].name == kernel.name
        assert (f"LAYER {kernel.name}(" in emitted.source) is own
    assert "/* Layer layer 1: conv 3x3" in emitted.source
    assert ", as layer layer 0. Tables: " in emitted.source


def test_a_layer_alone_takes_no_tables() -> None:
    emitted = emit_model(chain((4, 6)), core=Core.CORTEX_M4F)
    for function in emitted.functions.values():
        assert function.parameters == ()
        assert function.tables(function.kernels[0]) == ()


@pytest.mark.parametrize("channels", [(4, 4, 4, 6, 4), (4, 4)])
@pytest.mark.parametrize("runner", ["host-sanitized", "qemu"])
def test_shared_functions_compute_every_layer(
    channels: tuple[int, ...], runner: str, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc" if runner == "host-sanitized" else "arm-none-eabi-gcc")
    if runner == "qemu":
        need_tool("qemu-system-arm")
    graph = chain(channels)
    inputs = extreme_inputs(graph, 3)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, runner))
