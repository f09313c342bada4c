"""Sums of two bytes: the plane that stands for three roundings, and the C that computes it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.dsp.layers import TileKernel
from edgeflow.backends.c.elements import ElementKernel
from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.planes import Plane, PlaneKernel, Table, find_plane
from edgeflow.backends.c.simulate import simulate
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType
from edgeflow.ops.add import Add
from edgeflow.ops.requant import Rounding
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.mve import test_layers as mve
from tests.backends.c.sums import by_channel, half_even, product, rescaled, residual, total
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

FEW = np.array([[0, 0, 1], [0, 1, 1]])


CASES: dict[str, tuple[Graph, type]] = {
    "rows": (total((4, 3, 5)), PlaneKernel),
    "one row": (total((11,)), PlaneKernel),
    "one value": (total((1,)), PlaneKernel),
    "unsigned and signed": (total((3, 4), lo=(0, -128)), PlaneKernel),
    "a difference": (total((3, 2, 2), sign=-1), PlaneKernel),
    "one tensor twice": (total((2, 9), same=True), PlaneKernel),
    "relu": (total((4, 3, 5), zeros=(-128, 7, -128)), PlaneKernel),
    "half to even": (half_even(2), PlaneKernel),
    "half up": (half_even(1, Rounding.HALF_UP), PlaneKernel),
    "parameters of channels": (by_channel(), ElementKernel),
    "a product": (product(), ElementKernel),
    "a product that broadcasts": (product((1, 1, 2)), ElementKernel),
}


def emitted(graph: Graph, core: Core = Core.CORTEX_M4F) -> Emitted:
    return emit_model(graph, core=core)


@pytest.mark.parametrize("name", CASES)
def test_a_sum_is_one_kernel_that_reads_bytes(name: str) -> None:
    graph, kind = CASES[name]
    made = emitted(graph)
    assert [type(one) for one in made.kernels] == [kind]
    assert all(one.ctype.size == 1 for one in made.kernels[0].inputs)
    assert simulate(made.plan.schedule, made.plan.placement.offsets) == ()


@pytest.mark.parametrize("name", CASES)
def test_sums_are_exact_under_the_sanitizers(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph, _ = CASES[name]
    inputs = extreme_inputs(graph, 3, 40)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.parametrize("board", ["nucleo-f446re", "rpi-pico"])
@pytest.mark.parametrize("name", ["relu", "half to even", "a product that broadcasts"])
def test_sums_are_exact_under_qemu(name: str, board: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph, _ = CASES[name]
    inputs = extreme_inputs(graph, 3, 40)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "qemu", board))


@pytest.mark.parametrize("runner", ["host-sanitized", "qemu"])
@pytest.mark.parametrize("name", ["rows", "one row", "unsigned and signed", "half to even", "one tensor twice"])
def test_sums_are_exact_in_vectors(name: str, runner: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph, _ = CASES[name]
    (made,) = emitted(graph, Core.CORTEX_M55).kernels
    assert [one.name for one in made.shared] == ["add_plane_1"]
    inputs = extreme_inputs(graph, 3, 40)
    assert_exact(graph, inputs, mve.run_c(graph, inputs, tmp_path, runner))


def test_the_layer_before_a_sum_keeps_its_kernel_and_its_bytes(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = residual()
    made = emitted(graph)
    assert [type(one) for one in made.kernels] == [TileKernel, PlaneKernel]
    assert {one.ctype.size for one in made.lowered.buffers.values()} == {1}
    inputs = extreme_inputs(graph, 3)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_a_sum_that_is_an_output_before_it_is_rescaled_stays_apart() -> None:
    builder = GraphBuilder("kept")
    a, b = (builder.input(name, TensorType((4,), -128, 127), UNIT) for name in ("a", "b"))
    left, right, last = rescaled((0.05, 0.031, 0.06), (1, 2, 3))
    parts = builder.add(left, (a,), UNIT, "add"), builder.add(right, (b,), UNIT, "add")
    builder.output("part", parts[0])
    builder.output("y", builder.add(last, (builder.add(Add((1, 1)), parts, UNIT, "add"),), UNIT, "add"))
    steps = emitted(builder.finish()).lowered.steps
    assert [[one.name for one in step.before] for step in steps] == [[], [parts[1]]]


SCALES = st.floats(0.003, 0.3)
ZEROS = st.integers(-128, 127)


@settings(max_examples=60, deadline=None)
@given(st.tuples(SCALES, SCALES, st.floats(0.7, 3.0)), st.tuples(ZEROS, ZEROS, ZEROS))
def test_a_plane_gives_the_bytes_of_every_pair(scales: tuple[float, float, float], zeros: tuple[int, int, int]) -> None:
    span = np.arange(-128, 128)
    scales = (*scales[:2], scales[2] * max(scales[:2]))
    left, right, last = rescaled(scales, zeros)
    sums = left.evaluate((span,), ())[:, None] + right.evaluate((span,), ())
    values = last.evaluate((sums,), ())
    (made,) = emitted(total((1,), scales=scales, zeros=zeros)).kernels
    if isinstance(made, PlaneKernel):
        np.testing.assert_array_equal(made.plane.evaluate(span[:, None], span), values)
    else:
        assert isinstance(made, ElementKernel)


@pytest.mark.parametrize("relu", [False, True])
def test_sums_of_usual_scales_have_a_plane(relu: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        first, second = np.exp(rng.uniform(-5, -2, 2)).tolist()
        scales = (first, second, max(first, second) * float(rng.uniform(0.75, 2.2)))
        a, b, c = (-128, -128, -128) if relu else rng.integers(-128, 128, 3).tolist()
        assert [type(one) for one in emitted(total((1,), scales=scales, zeros=(a, b, c))).kernels] == [PlaneKernel]


@pytest.mark.parametrize(
    ("values", "slopes"),
    [
        (FEW, (Fraction(0), Fraction(0))),
        (FEW[::-1], (Fraction(1, 2), Fraction(1, 2))),
        (FEW, (Fraction(1 << 31), Fraction(1))),
    ],
)
def test_what_is_no_plane_near_the_ideal_one_has_none(
    values: np.typing.NDArray[np.int64], slopes: tuple[Fraction, Fraction]
) -> None:
    assert find_plane(Table(values, 0, 0, 0, 1, (*slopes, Fraction(0)))) is None


def test_a_plane_is_found_from_a_table() -> None:
    table = Table(FEW, -1, 5, 0, 1, (Fraction(1, 2), Fraction(1, 2), Fraction(-5, 2)))
    found = find_plane(table)
    assert isinstance(found, Plane)
    np.testing.assert_array_equal(found.evaluate(table.a, table.b), FEW)
