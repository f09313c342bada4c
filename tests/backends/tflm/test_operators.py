"""Every operator beyond sums and pools: the wheel gives the adapted graph's integers, with the operator it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.tflm.adapt import adapt
from edgeflow.backends.tflm.arithmetic import (
    averaging,
    effective,
    kernel_requant,
    quantize_multiplier,
    shifted,
    sum_input,
)
from edgeflow.backends.tflm.backend import TflmOptions
from edgeflow.backends.tflm.curves import CURVES, byte_curve
from edgeflow.backends.tflm.lower import lower
from edgeflow.backends.tflm.model import (
    Activation,
    Kernel,
    PoolOptions,
    ResizeOptions,
    TensorKind,
    TransposeConvOptions,
)
from edgeflow.backends.tflm.nibbles import packed
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, Dyadic, Label, Shape, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.slicing import Slice
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.passes import simplify
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.serialize import graph_digest
from tests.backends.tflm.conftest import BOARD, TFLM, run_wheel
from tests.graphs import extreme_inputs

SHAPE, UNIT = (4, 5, 3), Dyadic(4)
Make = Callable[[GraphBuilder], str]


def source(
    builder: GraphBuilder, shape: Shape = SHAPE, label: Label | None = None, lo: int = -128, hi: int = 127
) -> str:
    return builder.input("x", TensorType(shape, lo, hi), label or Dyadic(4))


def requant(
    shift: int | list[int] = 0, lo: int = -128, hi: int = 127, rounding: Rounding = Rounding.HALF_EVEN, **more: object
) -> Requant:
    plain = shifted(0)
    ends = {"lo": frozen_array([lo]), "hi": frozen_array([hi])}
    arrays = {name: frozen_array(np.atleast_1d(np.asarray(value))) for name, value in more.items()}
    return replace(plain, stages=(Stage(frozen_array(np.atleast_1d(shift)), rounding),), **ends, **arrays)


def kernel(factor: float, label: Affine, lo: int = -128, hi: int = 127) -> Requant:
    return kernel_requant([quantize_multiplier(factor)], label.zero_point, lo, hi)


LEFT, RIGHT, RESULT = (
    Affine(float(np.float32(scale)), zero) for scale, zero in ((0.043, -17), (0.0121, 90), (0.051, 5))
)


def calibrated_sum(sign: int) -> Make:
    """ADD or SUB of two inputs with zero points, as a calibrated model and the TFLite door have them."""

    def make(builder: GraphBuilder) -> str:
        twice = 2 * LEFT.scale
        unit = Affine(twice / (1 << 20), 0)
        parts: list[str] = []
        for name, label in (("x", LEFT), ("z", RIGHT)):
            at = builder.input(name, TensorType(SHAPE, -128, 127), label)
            op = sum_input(quantize_multiplier(label.scale / twice), label.zero_point)
            parts.append(builder.add(op, (at,), unit, "add", f"add_{name}"))
        total = builder.add(Add((1, sign)), tuple(parts), unit, "add", "add_sums")
        return builder.add(kernel(twice / ((1 << 20) * RESULT.scale), RESULT), (total,), RESULT, "add")

    return make


def calibrated_product(builder: GraphBuilder) -> str:
    """MUL of a tensor and a gate, both with zero points."""
    parts: list[str] = []
    for name, shape, label in (("x", SHAPE, LEFT), ("z", (1, 1, 3), RIGHT)):
        at = builder.input(name, TensorType(shape, -128, 127), label)
        parts.append(builder.add(shifted(-label.zero_point), (at,), Affine(label.scale, 0), "gate", f"gate_{name}"))
    unit = LEFT.scale * RIGHT.scale
    products = builder.add(Multiply(), tuple(parts), Affine(unit, 0), "gate", "gate_products")
    return builder.add(kernel(unit / RESULT.scale, RESULT), (products,), RESULT, "gate")


def quantized(builder: GraphBuilder) -> str:
    """QUANTIZE, as the TFLite door has it."""
    at = source(builder, label=LEFT)
    op = kernel(LEFT.scale / RESULT.scale, RESULT)
    bias = frozen_array(-LEFT.zero_point * (op.multiplier << op.pre))
    return builder.add(replace(op, bias=bias), (at,), RESULT, "quantize")


def residual(builder: GraphBuilder) -> str:
    """Two branches of different units, 6 bits each, added and quantized as QKeras does."""
    at = source(builder)
    left = builder.add(requant(2, 0, 63), (at,), Dyadic(2), "left")
    right = builder.add(requant(1, -32, 31), (at,), Dyadic(3), "right")
    up = builder.add(requant(0, 0, 126, pre=1), (left,), Dyadic(3), "add", "left_aligned")
    total = builder.add(Add((1, 1)), (up, right), Dyadic(3), "add")
    return builder.add(requant(2, 0, 31), (total,), Dyadic(1), "act")


def normalized_sum(builder: GraphBuilder) -> str:
    """Three narrow tensors, added whole; then a batch normalization."""
    at = source(builder)
    parts = tuple(builder.add(requant(n, -16, 15), (at,), Dyadic(4), f"part{n}") for n in (3, 4, 5))
    total = builder.add(Add((1, -1, 1)), parts, Dyadic(4), "add")
    op = requant(9, 0, 63, Rounding.FLOOR, multiplier=[300, -421, 555], bias=[9000, 77, -2000])
    return builder.add(op, (total,), Dyadic(4), "norm")


def calibrated_average(builder: GraphBuilder) -> str:
    """AVERAGE_POOL_2D with SAME padding: it divides by the number of real elements."""
    pool = SumPool((3, 3), (2, 2), ((1, 1), (1, 1)))
    at = builder.add(pool, (source(builder, (5, 5, 2), LEFT),), LEFT, "pool", "pool_sums")
    counts = frozen_array(np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]])[..., None])
    return builder.add(averaging(counts, 128, -128, 127), (at,), LEFT, "pool")


def odd_average(builder: GraphBuilder) -> str:
    """Nine elements have no ties: shifted bytes are as good as values."""
    at = builder.add(
        SumPool((3, 3), (3, 3), ((0, 0),) * 2), (source(builder, (6, 6, 2), lo=0, hi=255),), Dyadic(4), "s"
    )
    return builder.add(averaging(frozen_array([9]), 255, 0, 255), (at,), Dyadic(4), "pool")


def joined(builder: GraphBuilder) -> str:
    """Inputs whose bytes are shifted by different amounts."""
    at = source(builder)
    relu = builder.add(requant(1, 0, 63), (at,), Dyadic(4), "relu")
    return builder.add(Concat(2), (at, relu), Dyadic(4), "join")


def joined_units(*, quantized_behind: bool) -> Make:
    """Inputs of different units, brought to one behind the Concat, or read by a convolution as they are."""

    def make(builder: GraphBuilder) -> str:
        at = source(builder)
        parts = tuple(builder.add(requant(n, 0, 15), (at,), Dyadic(n), f"part{n}") for n in (3, 2))
        both = builder.add(Concat(2), parts, Dyadic((3, 3, 3, 2, 2, 2)), "join")
        if quantized_behind:
            return builder.add(requant(0, 0, 31, pre=[0, 0, 0, 1, 1, 1]), (both,), Dyadic(3), "aligned")
        op = Dense(frozen_array(np.arange(-6, 6).reshape(6, 2)), frozen_array([3, -3]))
        sums = builder.add(op, (both,), Dyadic(5), "dense")
        return builder.add(requant(3, 0, 63), (sums,), Dyadic(2), "act")

    return make


def transposed(size: Shape, strides: Shape, pads: tuple[tuple[int, int], ...], lo: int = -128, zero: int = 0) -> Make:
    """Zeros between positions, a convolution and what quantizes it."""

    def make(builder: GraphBuilder) -> str:
        label: Label = Affine(2.0**-4, zero) if zero else Dyadic(4)
        at = source(builder, (*(4,) * len(size), 3), label)
        if zero:
            at = builder.add(shifted(-zero), (at,), Affine(2.0**-4, 0), "spread", "spread_input")
        at = builder.add(Upsample(strides, zeros=True), (at,), builder.label(at), "spread")
        weight = np.random.default_rng(7).integers(-31, 32, (*size, 3, 2))
        ones = (1,) * len(size)
        conv = Conv(frozen_array(weight), frozen_array([70, -300]), ones, pads, ones)
        sums = builder.add(conv, (at,), Dyadic(9), "conv")
        return builder.add(requant(5, lo, 127, Rounding.HALF_AWAY), (sums,), Dyadic(4), "act")

    return make


def curve(name: str, scale: float, zero: int, *, off: bool = False) -> Make:
    """A table that is TFLite-Micro's own, or off by one in one place."""

    def make(builder: GraphBuilder) -> str:
        found = CURVES[name]
        table = byte_curve(found, scale, zero)
        assert table is not None
        table = table - (np.arange(256) == 140) * off
        at = source(builder, label=Affine(scale, zero))
        return builder.add(Lut(frozen_array(table), -128, name), (at,), Affine(2.0**-found.bits, found.zero), name)

    return make


def signs(builder: GraphBuilder) -> str:
    """A binary quantizer behind sums, a threshold a channel."""
    op = Dense(frozen_array(np.random.default_rng(3).integers(-31, 32, (3, 4))), frozen_array([0, 9, -60, 1]))
    sums = builder.add(op, (source(builder),), Dyadic(9), "dense")
    rows, step = frozen_array([[-700], [0], [33], [9999]]), frozen_array([1, -1, 1, 1])
    return builder.add(Threshold(rows, frozen_array([0, 1, -1, 0]), step), (sums,), Dyadic(0), "sign")


def narrow_threshold(builder: GraphBuilder) -> str:
    """Thresholds of values that 8 bits hold: a table."""
    op = Threshold(frozen_array([[-90, -7, 3, 4, 100]]), frozen_array([-2]), frozen_array([1]))
    return builder.add(op, (source(builder),), Dyadic(0), "levels")


def relu6(builder: GraphBuilder) -> str:
    """A fused activation that saturation does not do."""
    label = Affine(0.0625, -100)
    op = Dense(frozen_array(np.random.default_rng(3).integers(-99, 99, (3, 4))), frozen_array([0, 9, -60, 1]))
    sums = builder.add(op, (source(builder, label=Affine(0.0625, 0)),), Affine(0.001, 0), "dense")
    factor = effective(0.0625, float(np.float32(0.004)), 0.0625)
    return builder.add(kernel_requant([factor], -100, -100, -4), (sums,), label, "relu6")


def moved(*ops: Pad | Slice | Transpose | Upsample | MaxPool) -> Make:
    def make(builder: GraphBuilder) -> str:
        at = source(builder, label=LEFT)
        for number, op in enumerate(ops):
            at = builder.add(op, (at,), LEFT, f"move{number}")
        return at

    return make


def zero_point_changed(builder: GraphBuilder) -> str:
    """A clamp whose result reads another zero point into the same integers, in front of an ADD that goes by it."""
    before, unit = Affine(LEFT.scale, 30), Affine(2 * LEFT.scale / (1 << 20), 0)
    part = sum_input(quantize_multiplier(0.5), LEFT.zero_point)
    x = builder.add(requant(0, -100, 100), (source(builder, label=before),), LEFT, "clamp")
    z = builder.input("z", TensorType(SHAPE, -128, 127), LEFT)
    parts = tuple(builder.add(part, (one,), unit, "add", f"add_{one}") for one in (x, z))
    total = builder.add(Add((1, 1)), parts, unit, "add", "add_sums")
    return builder.add(kernel(unit.scale / RESULT.scale, RESULT), (total,), RESULT, "add")


CASES: dict[str, tuple[Make, tuple[str, ...]]] = {
    "ADD of a calibrated model": (calibrated_sum(1), ("ADD",)),
    "SUB of a calibrated model": (calibrated_sum(-1), ("SUB",)),
    "MUL with a gate": (calibrated_product, ("MUL",)),
    "QUANTIZE": (quantized, ("QUANTIZE",)),
    "a residual": (residual, (*["DEPTHWISE_CONV_2D"] * 2, "MAXIMUM", "ADD")),
    "sums kept whole": (normalized_sum, (*["DEPTHWISE_CONV_2D"] * 3, "ADD", "SUB", "DEPTHWISE_CONV_2D")),
    "an average with padding": (calibrated_average, ("AVERAGE_POOL_2D",)),
    "an average of odd counts": (odd_average, ("AVERAGE_POOL_2D",)),
    "bytes of two shifts": (joined, ("DEPTHWISE_CONV_2D", "QUANTIZE", "CONCATENATION")),
    "two units, one behind": (
        joined_units(quantized_behind=True),
        (*["DEPTHWISE_CONV_2D"] * 2, "QUANTIZE", "QUANTIZE", "CONCATENATION"),
    ),
    "two units, read as they are": (
        joined_units(quantized_behind=False),
        (*["DEPTHWISE_CONV_2D"] * 2, "CONCATENATION", "FULLY_CONNECTED"),
    ),
    "padding with the zero point": (moved(Pad(((1, 2), (0, 1), (0, 0)), -17)), ("PAD",)),
    "padding with another value": (moved(Pad(((1, 2), (0, 1), (1, 0)), 44)), ("PADV2",)),
    "a slice and a turn": (
        moved(Slice((1, 0, 1), (2, 3, 2), (2, 2, 1)), Transpose((2, 0, 1))),
        ("STRIDED_SLICE", "TRANSPOSE"),
    ),
    "positions repeated": (moved(Upsample((2, 3), zeros=False)), ("RESIZE_NEAREST_NEIGHBOR",)),
    "transposed, SAME": (transposed((5, 5), (2, 2), ((3, 2), (3, 2))), ("TRANSPOSE_CONV",)),
    "transposed, VALID": (transposed((3, 3), (2, 2), ((2, 2), (2, 2))), ("TRANSPOSE_CONV",)),
    "transposed, cut in front": (transposed((3, 3), (2, 2), ((1, 2), (0, 1))), ("TRANSPOSE_CONV", "STRIDED_SLICE")),
    "transposed, one axis": (transposed((5,), (3,), ((4, 2),)), ("TRANSPOSE_CONV",)),
    "transposed, a ReLU": (transposed((2, 3), (2, 1), ((1, 1), (2, 2)), lo=0), ("TRANSPOSE_CONV", "MAXIMUM")),
    "transposed, a zero point": (transposed((3, 3), (2, 2), ((2, 1), (2, 1)), zero=-9), ("TRANSPOSE_CONV",)),
    "LOGISTIC": (curve("logistic", 0.047, 3), ("LOGISTIC",)),
    "TANH": (curve("tanh", 0.02, -50), ("TANH",)),
    "another logistic": (curve("logistic", 0.047, 3, off=True), ("QUANTIZE", "GATHER")),
    "a threshold a channel": (signs, ("FULLY_CONNECTED",)),
    "thresholds of bytes": (narrow_threshold, ("QUANTIZE", "GATHER")),
    "RELU6": (relu6, ("FULLY_CONNECTED",)),
}


def graph_of(make: Make) -> Graph:
    builder = GraphBuilder("case")
    builder.output("y", make(builder))
    return builder.finish()


def assert_exact(graph: Graph, folder: Path, samples: int = 60) -> tuple[str, ...]:
    inputs = extreme_inputs(graph, 5, samples)
    artefact, run = run_wheel(graph, inputs, folder)
    np.testing.assert_array_equal(run.outputs["y"], interpret(artefact.graph, inputs)[0]["y"])
    return tuple(one.kernel.value for one in lower(artefact.graph).model.operators)


@pytest.mark.parametrize("simplified", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_exact(case: str, simplified: bool, tmp_path: Path) -> None:
    make, kernels = CASES[case]
    graph = graph_of(make)
    found = assert_exact(simplify(graph) if simplified else graph, tmp_path)
    assert simplified or found == kernels


def test_a_clamp_that_changes_the_zero_point_gets_a_kernel(tmp_path: Path) -> None:
    assert assert_exact(graph_of(zero_point_changed), tmp_path) == ("DEPTHWISE_CONV_2D", "MAXIMUM", "ADD")


TFLITES_OWN = ("ADD of a calibrated model", "SUB of a calibrated model", "MUL with a gate", "QUANTIZE", "RELU6")


@pytest.mark.parametrize("case", [*TFLITES_OWN, "an average with padding", "an average of odd counts", "LOGISTIC"])
def test_what_tflite_itself_says_is_written_as_it_is(case: str) -> None:
    graph = graph_of(CASES[case][0])
    assert graph_digest(adapt(graph)) == graph_digest(graph)
    moved = interpret(adapt(simplify(graph)), inputs := extreme_inputs(graph, 2))[0]["y"]
    np.testing.assert_array_equal(moved, interpret(graph, inputs)[0]["y"])


@pytest.mark.parametrize("case", CASES)
def test_adapting_twice_changes_nothing(case: str) -> None:
    once = adapt(graph_of(CASES[case][0]))
    assert graph_digest(adapt(once)) == graph_digest(once)


def test_the_options_are_those_of_tflite() -> None:
    said = {name: lower(adapt(graph_of(CASES[name][0]))).model.operators for name in CASES}
    assert said["RELU6"][0].options.activation is Activation.RELU6  # pyright: ignore[reportAttributeAccessIssue]
    assert said["transposed, SAME"][0].options == TransposeConvOptions(True, (2, 2))
    assert said["transposed, VALID"][0].options == TransposeConvOptions(False, (2, 2))
    assert said["an average with padding"][0].options == PoolOptions(True, (2, 2), (3, 3), Activation.NONE)
    assert said["positions repeated"][0].options == ResizeOptions(half_pixel_centers=False)


def test_a_resize_whose_float32_would_read_a_neighbour_uses_half_pixel_centers(tmp_path: Path) -> None:
    graph = graph_of(lambda b: b.add(Upsample((41, 1), zeros=False), (source(b, (3, 2, 1)),), Dyadic(4), "up"))
    options = lower(adapt(graph)).model.operators[0].options
    assert isinstance(options, ResizeOptions)
    assert_exact(graph, tmp_path, 4)


def wide(builder: GraphBuilder) -> str:
    """Activations of 10 and 12 bits, a residual of wide sums, a pool, a clamp."""
    rng = np.random.default_rng(11)
    at = source(builder, (6, 6, 2))
    weight = frozen_array(rng.integers(-31, 32, (3, 3, 2, 4)))
    conv = Conv(weight, frozen_array([9, 80, -70, 0]), (1, 1), ((1, 1), (1, 1)), (1, 1))
    sums = builder.add(conv, (at,), Dyadic(9), "conv")
    first = builder.add(requant(3, 0, 1023), (sums,), Dyadic(6), "act")
    weight = frozen_array(rng.integers(-7, 8, (1, 1, 4, 4)))
    sums = builder.add(
        Conv(weight, frozen_array([1, 2, 3, 4]), (1, 1), ((0, 0),) * 2, (1, 1)), (first,), Dyadic(9), "wide"
    )
    up = builder.add(requant(0, 0, 8184, pre=3), (first,), Dyadic(9), "add", "act_aligned")
    total = builder.add(Add((1, 1)), (sums, up), Dyadic(9), "add")
    at = builder.add(requant(4, -2048, 2047, Rounding.HALF_UP), (total,), Dyadic(5), "sum")
    pool = SumPool((2, 2), (2, 2), ((0, 0),) * 2)
    at = builder.add(pool, (at,), Dyadic(7), "pool")
    op = requant(12, -999, 999, Rounding.FLOOR, multiplier=[301, -177, 45, 999], bias=[0, 999, -5, 70_000])
    return builder.add(op, (at,), Dyadic(4), "norm")


def test_activations_of_more_than_8_bits_are_int16_with_biases_of_64(tmp_path: Path) -> None:
    graph = graph_of(wide)
    kernels = assert_exact(graph, tmp_path)
    assert kernels[:2] == ("CONV_2D", "MINIMUM")
    assert {"ADD", "DEPTHWISE_CONV_2D"} <= set(kernels)
    model = lower(adapt(graph)).model
    kinds = {one.name: one.kind for one in model.tensors}
    assert (kinds["x"], kinds["conv/weight"], kinds["conv/bias"]) == (
        TensorKind.INT16,
        TensorKind.INT8,
        TensorKind.INT64,
    )
    assert {one.version for one in model.operators if one.kernel is Kernel.CONV_2D} == {4}
    assert all(one.quantization.zero_point == 0 for one in model.tensors if one.quantization)


def test_half_up_by_a_shift_is_exact_in_int16() -> None:
    def make(builder: GraphBuilder) -> str:
        op = Dense(frozen_array(np.random.default_rng(5).integers(-127, 128, (3, 4))), frozen_array([0, 1, -70, 9]))
        sums = builder.add(op, (source(builder),), Dyadic(9), "dense")
        return builder.add(requant(4, -1024, 1023, Rounding.HALF_UP), (sums,), Dyadic(5), "act")

    graph = graph_of(make)
    inputs = extreme_inputs(graph, 1, 200)
    adapted = adapt(graph)
    assert graph_digest(adapted) != graph_digest(graph)
    np.testing.assert_array_equal(interpret(adapted, inputs)[0]["y"], interpret(graph, inputs)[0]["y"])


@pytest.mark.parametrize("outputs", [4, 5])
def test_weights_of_4_bits_are_packed_when_asked(outputs: int, tmp_path: Path) -> None:
    def make(builder: GraphBuilder) -> str:
        rng = np.random.default_rng(5)
        zeros = frozen_array([0] * outputs)
        conv = Conv(frozen_array(rng.integers(-8, 8, (3, 3, 3, outputs))), zeros, (1, 1), ((1, 1), (1, 1)), (1, 1))
        at = builder.add(conv, (source(builder),), Dyadic(6), "conv")
        at = builder.add(requant(3, 0, 63), (at,), Dyadic(3), "act")
        deep = Conv(
            frozen_array(rng.integers(-7, 8, (3, 3, 1, outputs))), zeros, (1, 1), ((0, 0),) * 2, (1, 1), outputs
        )
        at = builder.add(deep, (at,), Dyadic(5), "depthwise")
        at = builder.add(requant(3, 0, 63), (at,), Dyadic(3), "act2")
        for name, most, shift in (("dense", 7, 3), ("wider", 9, 3), ("channels", 7, [3, 4, 5])):
            weight = rng.integers(-most - 1, most + 1, (builder.type(at).shape[-1], 3))
            weight[0, 0] = most
            at = builder.add(Dense(frozen_array(weight), frozen_array([0] * 3)), (at,), Dyadic(6), name)
            at = builder.add(requant(shift, 0, 63), (at,), Dyadic(3), f"{name}_act")
        return at

    graph = adapt(graph_of(make))
    model = packed(lower(graph).model)
    kinds = {one.name: (one.kind, one.size) for one in model.tensors}
    assert kinds["conv/weight"] == (TensorKind.INT4, -(-27 * outputs // 2))
    assert kinds["depthwise/weight"] == (TensorKind.INT4, -(-9 * outputs // 2))
    assert kinds["dense/weight"] == (TensorKind.INT4, -(-3 * outputs // 2))
    assert kinds["wider/weight"] == (TensorKind.INT8, 9), "9 is beyond 4 bits"
    assert kinds["channels/weight"] == (TensorKind.INT8, 9), "with a scale a channel the kernel takes none"
    assert [one.version for one in model.operators] == [7, 7, 5, 5, 5]
    options = TflmOptions(int4=True)
    content = TFLM.emit(graph, BOARD, options).files["model.tflite"]
    assert len(content) < len(TFLM.emit(graph, BOARD, TflmOptions()).files["model.tflite"])
    inputs = extreme_inputs(graph, 5, 60)
    artefact, _ = run_wheel(graph, inputs, tmp_path)
    (tmp_path / "model.tflite").write_bytes(content)
    run = TFLM.run(TFLM.build(replace(artefact, options=options), "wheel", tmp_path), inputs)
    np.testing.assert_array_equal(run.outputs["y"], interpret(graph, inputs)[0]["y"])
