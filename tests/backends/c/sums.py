"""Sums and products of bytes, with what the doors put before and behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeflow.backends.tflm.arithmetic import kernel_requant, sum_input
from edgeflow.frontends.tflite.scaling import flushed
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT

Shape = tuple[int, ...]


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
