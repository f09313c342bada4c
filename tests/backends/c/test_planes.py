"""Sums of two bytes: the plane that stands for three roundings, and the C that computes it."""

from __future__ import annotations

from dataclasses import replace
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
from edgeflow.backends.tflm.arithmetic import kernel_requant, sum_input
from edgeflow.board import Core
from edgeflow.frontends.tflite.scaling import flushed
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

Shape = tuple[int, ...]
FEW = np.array([[0, 0, 1], [0, 1, 1]])


def rescaled(scales: tuple[float, float, float], zeros: tuple[int, int, int]) -> tuple[Requant, Requant, Requant]:
    """TFLite's ADD: what is done to both inputs, and to their sum."""
    twice = 2 * max(scales[:2])
    left, right = (sum_input(flushed(one / twice), zero, 20) for one, zero in zip(scales[:2], zeros[:2], strict=True))
    return left, right, kernel_requant([flushed(twice / ((1 << 20) * scales[2]))], zeros[2], -128, 127)


def total(
    shape: Shape,
    *,
    lo: tuple[int, int] = (-128, -128),
    sign: int = 1,
    same: bool = False,
    scales: tuple[float, float, float] = (0.05, 0.031, 0.06),
    zeros: tuple[int, int, int] = (-9, 7, 3),
) -> Graph:
    """A sum of two inputs, or of one with itself."""
    builder = GraphBuilder("sum")
    a = builder.input("a", TensorType(shape, lo[0], lo[0] + 255), UNIT)
    b = a if same else builder.input("b", TensorType(shape, lo[1], lo[1] + 255), UNIT)
    left, right, last = rescaled(scales, zeros)
    at = builder.add(left, (a,), UNIT, "add"), builder.add(right, (b,), UNIT, "add")
    builder.output("y", builder.add(last, (builder.add(Add((1, sign)), at, UNIT, "add"),), UNIT, "add"))
    return builder.finish()


def half_even(first: int, rounding: Rounding = Rounding.HALF_EVEN) -> Graph:
    """A sum of two 6-bit tensors in units that are powers of two apart, and a relu, as QKeras models have them."""
    builder = GraphBuilder("relu")
    a, b = (builder.input(name, TensorType((3, 5, 2), -32, 31), UNIT) for name in ("a", "b"))
    zero = frozen_array(0)
    stages, end = (Stage(zero, Rounding.FLOOR),), frozen_array(9999)
    up = Requant(frozen_array(first), frozen_array(1), stages, zero, frozen_array(-end), end)
    at = builder.add(Add((1, 1)), (builder.add(up, (a,), UNIT, "up"), b), UNIT, "add")
    relu = Requant(zero, frozen_array(1), (Stage(frozen_array(3), rounding),), zero, zero, frozen_array(63))
    builder.output("y", builder.add(relu, (at,), UNIT, "relu"))
    return builder.finish()


def by_channel() -> Graph:
    """A sum whose inputs are rescaled channel by channel."""
    builder = GraphBuilder("channels")
    a, b = (builder.input(name, TensorType((3, 2, 3), -128, 127), UNIT) for name in ("a", "b"))
    left, right, last = rescaled((0.05, 0.031, 0.06), (1, 2, 3))
    left = replace(left, multiplier=frozen_array(left.multiplier - [5, 0, 9]))
    at = builder.add(left, (a,), UNIT, "add"), builder.add(right, (b,), UNIT, "add")
    builder.output("y", builder.add(last, (builder.add(Add((1, 1)), at, UNIT, "add"),), UNIT, "add"))
    return builder.finish()


def product(other: Shape = (3, 4, 2)) -> Graph:
    """TFLite's MUL: the zero points off, a product that may broadcast, its Requant."""
    builder = GraphBuilder("product")
    a = builder.input("a", TensorType((3, 4, 2), -128, 127), UNIT)
    b = builder.input("b", TensorType(other, -128, 127), UNIT)
    zero, end = frozen_array(0), frozen_array(255)
    off = Requant(zero, frozen_array(1), (Stage(zero, Rounding.FLOOR),), frozen_array(7), frozen_array(-end), end)
    at = builder.add(off, (a,), UNIT, "mul"), builder.add(off, (b,), UNIT, "mul")
    last = kernel_requant([flushed(0.0039)], 5, -128, 127)
    builder.output("y", builder.add(last, (builder.add(Multiply(), at, UNIT, "mul"),), UNIT, "mul"))
    return builder.finish()


def residual(channels: int = 8) -> Graph:
    """A convolution, added to what it reads."""
    rng = np.random.default_rng(3)
    builder = GraphBuilder("residual")
    x = builder.input("x", TensorType((6, 6, channels), -128, 127), UNIT)
    weight = frozen_array(rng.integers(-127, 128, (3, 3, channels, channels)))
    op = Conv(weight, frozen_array(rng.integers(-99, 99, channels)), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, -9)
    at = builder.add(op, (x,), UNIT, "conv")
    scales = [flushed(one) for one in rng.uniform(0.0005, 0.001, channels)]
    at = builder.add(kernel_requant(scales, 7, -128, 127), (at,), UNIT, "conv")
    left, right, last = rescaled((0.05, 0.031, 0.06), (-9, 7, 3))
    parts = builder.add(left, (x,), UNIT, "add"), builder.add(right, (at,), UNIT, "add")
    builder.output("y", builder.add(last, (builder.add(Add((1, 1)), parts, UNIT, "add"),), UNIT, "add"))
    return builder.finish()


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
