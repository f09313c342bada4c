"""Each op's C at its edges: every value of a narrow input, every pattern of shapes, and the text where it matters."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.backend import COptions
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.lower import lower
from edgeflow.board import load_board
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import IntArray, TensorType, frozen_array
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.test_emit import STRICT
from tests.backends.c.test_exact import C, assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs

INT8 = TensorType((), -128, 127)


def kind(*shape: int, of: TensorType = INT8) -> TensorType:
    return TensorType(shape, of.lo, of.hi)


def fan(source: TensorType, chains: dict[str, Sequence[Op]]) -> Graph:
    """One input, and chains of ops that each end in an output."""
    builder = GraphBuilder("fan")
    x = builder.input("x", source, UNIT)
    for name, ops in chains.items():
        at = x
        for op in ops:
            at = builder.add(op, (at,), UNIT, name)
        builder.output(name, at)
    return builder.finish()


def every_value(channels: int) -> dict[str, IntArray]:
    """All of int8 in every channel."""
    return {"x": np.stack([np.roll(np.arange(-128, 128), channel * 7) for channel in range(channels)], axis=1)}


def source_of(graph: Graph) -> str:
    return emit_model(graph).source


def requant(rounding: Rounding, bias: int | list[int], shift: int | list[int] = 3, multiplier: int = 1) -> Requant:
    zero, stage = frozen_array(0), Stage(frozen_array(shift), rounding)
    ends = frozen_array(-(1 << 20)), frozen_array(1 << 20)
    return Requant(zero, frozen_array(multiplier), (stage,), zero, *ends, bias=frozen_array(bias))


def test_a_bias_is_exact_with_every_rounding(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    chains: dict[str, Sequence[Op]] = {}
    for rounding in Rounding:
        chains[f"{rounding.value} one"] = [requant(rounding, -5)]
        chains[f"{rounding.value} each"] = [requant(rounding, [3, -4, 20, 0], multiplier=3)]
        chains[f"{rounding.value} shifts"] = [requant(rounding, [3, -4, 20, 0], [0, 1, 2, 5])]
        chains[f"{rounding.value} none"] = [requant(rounding, [3, -4, 20, 0], 0)]
        second = Stage(frozen_array(2), Rounding.HALF_UP)
        both = (Stage(frozen_array(0), Rounding.FLOOR), second), (Stage(frozen_array(1), rounding), second)
        for name, stages in zip(("late", "two"), both, strict=True):
            op = requant(rounding, [1, 2, 3, -7])
            chains[f"{rounding.value} {name}"] = [
                Requant(op.pre, op.multiplier, stages, op.offset, op.lo, op.hi, op.bias)
            ]
    graph = fan(kind(4), chains)
    assert_exact(graph, every_value(4), run_c(graph, every_value(4), tmp_path, "host-sanitized"))


def test_a_bias_costs_nothing_where_half_is_added_anyway() -> None:
    text = source_of(fan(kind(4), {"y": [requant(Rounding.HALF_UP, [3, -4, 20, 0], multiplier=3)]}))
    assert "v = (v + l1_y_addend[i]) >> 3;" in text
    assert "l1_y_addend[4] = {\n    7, 0, 24, 4,\n}" in text
    assert "shift_half_up" not in text


@pytest.mark.parametrize("bias", [(1 << 31) - 1 - 127, (1 << 31) - 127, -(1 << 31) + 128, -(1 << 31) + 126, 1 << 40])
@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.HALF_EVEN])
def test_a_bias_at_the_ends_of_32_bits(bias: int, rounding: Rounding, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    op = requant(rounding, bias, 20)
    wide = Requant(
        op.pre, op.multiplier, op.stages, op.offset, frozen_array(-(1 << 40)), frozen_array(1 << 40), op.bias
    )
    graph = fan(kind(2), {"y": [wide]})
    assert_exact(graph, every_value(2), run_c(graph, every_value(2), tmp_path, "host-sanitized"))


def test_a_product_that_fits_only_with_its_bias_is_computed_in_64_bits(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    op = requant(Rounding.FLOOR, -(1 << 31), multiplier=1 << 24)
    graph = fan(TensorType((1,), 100, 200), {"y": [op]})
    inputs = extreme_inputs(graph, 1)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def threshold(rows: Sequence[Sequence[int]], first: Sequence[int] = (0,), step: Sequence[int] = (1,)) -> Threshold:
    return Threshold(frozen_array(np.sort(rows, axis=1)), frozen_array(first), frozen_array(step))


def test_thresholds_are_exact_for_every_value(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    rng = np.random.default_rng(3)
    chains: dict[str, Sequence[Op]] = {
        "never": [threshold([[128, 999]], first=[7])],
        "always": [threshold([[-128, -999]], first=[7], step=[-1])],
        "never, each": [threshold([[500]], first=[7, 8, 9])],
        "some never": [threshold([[-500, 0, 500], [-600, 130, 999], [-600, -600, 999]], first=[1, 2, 3])],
        "ends": [threshold([[-128, -127, 126, 127, 128]])],
        "equal": [threshold([[5] * 30])],
        "directions": [threshold([[5, 9]], step=[1, -1, 1])],
        "one level each": [threshold([[5], [9], [-100]], first=[100, 200, -70000])],
        "huge start": [threshold([[5]], first=[(1 << 40)])],
        "twice": [threshold(rng.integers(-128, 128, (3, 40)).tolist()), threshold([[3, 20, 22, 38, 39]])],
    }
    for levels in (1, 2, 7, 8, 9, 31, 32, 255, 300):
        chains[f"{levels} shared"] = [threshold(rng.integers(-140, 141, (1, levels)).tolist())]
        chains[f"{levels} each"] = [threshold(rng.integers(-140, 141, (3, levels)).tolist(), [-4, 5, 0], [1, -1, -1])]
    graph = fan(kind(3), chains)
    assert_exact(graph, every_value(3), run_c(graph, every_value(3), tmp_path, "host-sanitized"))


def test_thresholds_are_stored_as_narrow_as_their_input_needs() -> None:
    op = threshold([[-(1 << 40), -100, -7, 0, 99, 120, 1 << 40, (1 << 40) + 1]])
    text = source_of(fan(kind(1), {"y": [op]}))
    assert "static const int8_t l1_y_thresholds[5] = {\n    -100, -7, 0, 99, 120,\n};" in text
    assert "v += 1;" in text, "the first is always reached, the last two never"


def test_thresholds_join_the_loop_that_makes_their_sums() -> None:
    weight = frozen_array(np.full((4, 3), 100))
    dense = Dense(weight, frozen_array([0, 1, 2]))
    graph = fan(kind(4), {"y": [dense, threshold([[-900, 5], [6, 7], [8, 9]])]})
    (step,) = lower(graph).steps
    assert [type(one.op).__name__ for one in (step.node, *step.fused) if one] == ["Dense", "Threshold"]
    assert "int32_t *y" not in source_of(graph)


def test_tables_are_exact_for_every_value_and_hold_only_what_is_reached(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    rng = np.random.default_rng(5)
    step = frozen_array(np.arange(-128, 128) >> 4)
    chains: dict[str, Sequence[Op]] = {
        "narrow": [Lut(frozen_array(rng.integers(-9, 9, 256)), -128)],
        "longer": [Lut(frozen_array(rng.integers(-9, 900, 400)), -200, "tanh")],
        "unsigned": [Lut(frozen_array(rng.integers(0, 1 << 32, 256)), -128)],
        "wide": [Lut(frozen_array(rng.integers(-(1 << 60), 1 << 60, 256)), -128)],
        "chain": [Lut(step, -128), Lut(frozen_array([5, 1, 2, 9, 6, 4, 3, 2, -8, 3, 2, 1, 8, 8, 8, 7]), -8)],
        "far": [requant(Rounding.FLOOR, 1 << 35, 0), Lut(step, (1 << 35) - 128)],
    }
    wide = chains["far"][0]
    assert isinstance(wide, Requant)
    ends = frozen_array(-(1 << 40)), frozen_array(1 << 40)
    chains["far"] = [Requant(wide.pre, wide.multiplier, wide.stages, wide.offset, *ends, wide.bias), chains["far"][1]]
    graph = fan(kind(3), chains)
    assert_exact(graph, every_value(3), run_c(graph, every_value(3), tmp_path, "host-sanitized"))
    text = source_of(graph)
    assert "l2_longer_table[256]" in text
    assert "static const int8_t l1_narrow_table[256]" in text


def multiplied(shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Graph:
    builder = GraphBuilder("products")
    for number, pair in enumerate(shapes):
        names = [builder.input(f"x{number}{side}", kind(*shape), UNIT) for side, shape in zip("ab", pair, strict=True)]
        product = builder.add(Multiply(), (names[0], names[1]), UNIT, f"m{number}")
        builder.output(f"plain{number}", product)
        result = np.broadcast_shapes(*pair)
        bias = frozen_array(np.arange(result[-1]) * 100)
        op = requant(Rounding.HALF_UP, bias.tolist(), 5)
        builder.output(f"y{number}", builder.add(op, (product,), UNIT, f"r{number}"))
        square = builder.add(Multiply(), (names[0], names[0]), UNIT, f"s{number}")
        fused = builder.add(op, (square,), UNIT, f"s{number}") if pair[0] == result else square
        builder.output(f"square{number}", fused)
    return builder.finish()


def test_products_broadcast_along_any_axes(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    choices = list(itertools.product((1, 2), (1, 3), (1, 4)))
    pairs = [pair for pair in itertools.product(choices, choices) if 1 not in np.broadcast_shapes(*pair)]
    graph = multiplied([*pairs, ((1, 1, 1), (1, 1, 1)), ((5,), (1,)), ((2, 1, 3, 1, 2), (2, 4, 1, 1, 2))])
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_products_at_the_ends_of_32_and_62_bits(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    builder = GraphBuilder("wide products")
    for number, (one, two) in enumerate(
        [
            (TensorType((2,), -(1 << 15), 1 << 15), TensorType((2,), 0, (1 << 16) - 1)),
            (TensorType((2,), -(1 << 15), 1 << 15), TensorType((2,), -(1 << 16), 0)),
            (TensorType((2,), 0, (1 << 32) - 1), TensorType((2,), -1, 1)),
            (TensorType((2,), 0, (1 << 32) - 1), TensorType((2,), -(1 << 29), 1 << 29)),
        ]
    ):
        pair = builder.input(f"a{number}", one, UNIT), builder.input(f"b{number}", two, UNIT)
        builder.output(f"y{number}", builder.add(Multiply(), pair, UNIT, "product"))
    graph = builder.finish()
    inputs = extreme_inputs(graph, 3)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_moves_of_every_form_are_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    chains: dict[str, Sequence[Op]] = {
        f"transpose {''.join(map(str, order))}": [Transpose(order)] for order in itertools.permutations(range(4))
    }
    for axis in range(4):
        both = [(0, 0)] * 4
        both[axis] = (2, 1)
        chains[f"pad {axis}"] = [Pad(tuple(both), -100 * axis)]
        begin, size, strides = [0] * 4, [3, 2, 4, 5], [1] * 4
        begin[axis], size[axis], strides[axis] = 1, 1, 3
        chains[f"pick {axis}"] = [Slice(tuple(begin), tuple(size), tuple(strides))]
        begin[axis], size[axis], strides[axis] = 0, (size[axis] + [3, 2, 4, 5][axis]) // 2, 1
        chains[f"part {axis}"] = [Slice(tuple(begin), tuple(size), tuple(strides))]
    chains["every second"] = [Slice((0, 1, 1, 0), (2, 1, 2, 3), (2, 1, 2, 2))]
    chains["pad all"] = [Pad(((1, 0), (0, 1), (1, 1), (0, 2)), 300)]
    for factors in itertools.product((1, 2), (1, 3), (1, 2)):
        chains[f"nearest {factors}"] = [Upsample(factors, False)]
        chains[f"zeros {factors}"] = [Upsample(factors, True)]
    graph = fan(kind(3, 2, 4, 5), chains)
    inputs = extreme_inputs(graph, 4)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_joined_tensors_of_different_types(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    builder = GraphBuilder("joined")
    parts = [
        builder.input("a", kind(2, 3, 4), UNIT),
        builder.input("b", TensorType((2, 3, 4), 0, 100), UNIT),
        builder.input("c", TensorType((2, 3, 4), -3000, 30000), UNIT),
    ]
    for axis in range(3):
        builder.output(f"two {axis}", builder.add(Concat(axis), (parts[0], parts[1]), UNIT, "two"))
        builder.output(f"three {axis}", builder.add(Concat(axis), (*parts, parts[0]), UNIT, "three"))
    graph = builder.finish()
    inputs = extreme_inputs(graph, 5)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_contiguous_runs_are_copied_whole() -> None:
    chains: dict[str, Sequence[Op]] = {
        "rows": [Slice((1, 0, 0), (3, 6, 2), (1, 1, 1))],
        "columns": [Slice((0, 1, 0), (5, 4, 2), (1, 1, 1))],
        "border": [Pad(((1, 1), (1, 1), (0, 0)), -7)],
        "turned": [Transpose((1, 0, 2))],
    }
    text = source_of(fan(kind(5, 6, 2), chains))
    assert "    memcpy(&y[0], &x[12], 36);" in text
    assert "        memcpy(&y[a0 * 8], &x[a0 * 12 + 2], 8);" in text
    assert "    memset(y, 249, 112);" in text
    assert "        memcpy(&y[a0 * 16 + 18], &x[a0 * 12], 12);" in text
    assert "                y[a0 * 10 + a1 * 2 + i] = (int8_t)x[a0 * 2 + a1 * 12 + i];" in text


@pytest.mark.parametrize(
    "op",
    [
        Reshape((12,)),
        Transpose((1, 0, 2)),
        Pad(((0, 0),) * 3, 5),
        Slice((0, 0, 0), (1, 3, 4), (2, 1, 1)),
        Upsample((3, 1), True),
        Concat(1),
    ],
    ids=lambda op: type(op).__name__,
)
def test_what_moves_nothing_costs_nothing(op: Op) -> None:
    double = Multiply()
    builder = GraphBuilder("views")
    x = builder.input("x", kind(1, 3, 4), UNIT)
    view = builder.add(op, (builder.add(double, (x, x), UNIT, "first"),), UNIT, "view")
    builder.output("y", builder.add(double, (view, view), UNIT, "second"))
    assert [step.layer for step in lower(builder.finish()).steps] == ["first", "second"]


def test_a_view_of_an_input_can_be_an_output(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = fan(kind(1, 3, 4), {"y": [Transpose((1, 0, 2)), Reshape((12,))], "z": [Concat(0)]})
    inputs = extreme_inputs(graph, 6)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_the_first_of_equals_is_the_largest(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    builder = GraphBuilder("largest")
    for number, one in enumerate([kind(4), kind(3, 4), kind(2, 300, of=TensorType((), 0, 1)), kind(2, 1)]):
        builder.output(f"y{number}", builder.add(ArgMax(), (builder.input(f"x{number}", one, UNIT),), UNIT, "largest"))
    graph = builder.finish()
    inputs = extreme_inputs(graph, 7, 60)
    inputs["x1"] = np.random.default_rng(8).integers(-1, 2, inputs["x1"].shape)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def softmax(shift: int, bits: int, multiplier: int = 1_500_000_001) -> Softmax:
    return Softmax(multiplier, shift, -((31 << 26) >> shift), bits)


@pytest.mark.parametrize(
    "source", [INT8, TensorType((), -90_000, 90_000), TensorType((), -(1 << 40), 1 << 40)], ids=str
)
def test_softmax_is_exact(source: TensorType, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    chains: dict[str, Sequence[Op]] = {
        f"{shift} {bits}": [softmax(shift, bits)] for shift in (3, 12, 15, 17, 19, 22, 25, 31) for bits in (8, 16)
    }
    graph = fan(kind(3, 7, of=source), chains)
    inputs = extreme_inputs(graph, 9, 60)
    near = np.random.default_rng(9).integers(-300, 301, inputs["x"].shape) + 50
    inputs["x"][30:] = np.clip(near, source.lo, source.hi)[30:]
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.parametrize(
    "source", [TensorType((), -(1 << 15), (1 << 15) - 1), TensorType((), 1 << 40, (1 << 40) + 65_535)], ids=str
)
def test_softmax_of_16_bits_is_exact(source: TensorType, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    shifts = (-31, -9, -1, 0, 1, 3, 6, 9, 15)
    chains: dict[str, Sequence[Op]] = {f"{shift}": [Softmax(1_500_000_001, shift, 0, 15)] for shift in shifts}
    graph = fan(kind(3, 7, of=source), chains)
    inputs = extreme_inputs(graph, 9, 60)
    reach = np.random.default_rng(9).integers(1, 30_000, (60, 1, 1))
    near = np.random.default_rng(8).integers(-reach, reach + 1, inputs["x"].shape) + (source.lo + source.hi) // 2
    inputs["x"][30:] = near[30:]
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.parametrize("channels", [1, 511, 512, 4095])
def test_softmax_of_many_channels(channels: int, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    forms: dict[str, Sequence[Op]] = {f"{bits}": [softmax(23, bits)] for bits in (8, 16)}
    graph = fan(kind(channels), {**forms, "15": [Softmax(1_500_000_001, 7, 0, 15)]})
    inputs = extreme_inputs(graph, 10)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_a_short_range_of_exponentials_is_a_table() -> None:
    table = source_of(fan(kind(9), {"y": [softmax(24, 8)]}))
    assert "static const int32_t l1_y_exponential[80]" in table
    assert "static int32_t exponential(" not in table
    computed = source_of(fan(kind(9, of=TensorType((), -9000, 9000)), {"y": [softmax(14, 8)]}))
    assert "static int32_t exponential(" in computed
    assert "l1_y_exponential" not in computed


def test_a_softmax_of_16_bits_brings_its_tables_and_nothing_else() -> None:
    source = source_of(fan(kind(9), {"y": [Softmax(1 << 30, 3, 0, 15)]}))
    assert "static const uint16_t l1_y_exponential[513]" in source
    assert "static const uint16_t l1_y_reciprocal[513]" in source
    assert "static int32_t reciprocal(" not in source


def test_a_chain_of_pointwise_ops_is_one_loop_until_something_else_reads_it() -> None:
    builder = GraphBuilder("chain")
    x = builder.input("x", kind(2, 3), UNIT)
    at = builder.add(Multiply(), (x, x), UNIT, "product")
    narrow = builder.add(requant(Rounding.HALF_UP, 3, 7), (at,), UNIT, "requant")
    table = Lut(frozen_array(np.arange(300)), -130)
    looked = builder.add(table, (narrow,), UNIT, "lut")
    counted = builder.add(threshold([[3, 5, 9]]), (looked,), UNIT, "count")
    builder.output("y", builder.add(Multiply(), (counted, looked), UNIT, "last"))
    steps = lower(builder.finish()).steps
    assert [(step.layer, [one.layer for one in step.fused]) for step in steps] == [
        ("product", ["requant", "lut"]),
        ("count", []),
        ("last", []),
    ]


@pytest.mark.parametrize("most", [(1 << 31) - 1, (1 << 32) - 1])
def test_inputs_of_32_unsigned_bits_compile_without_a_warning(most: int, tmp_path: Path, need_tool: NeedTool) -> None:
    gcc = need_tool("gcc")
    source, none = TensorType((2, 2, 3), 0, most), ((0, 0), (0, 0))
    chains: dict[str, Sequence[Op]] = {
        "max": [MaxPool((2, 1), (1, 1), none)],
        "sum": [SumPool((1, 1), (1, 1), none)],
        "count": [threshold([[5, 9], [-8, most], [1, 1 << 31]])],
        "largest": [ArgMax()],
        "softmax": [softmax(8, 8)],
        "near": [requant(Rounding.FLOOR, 3, 17), Softmax(1 << 30, 3, 0, 15)],
        "table": [requant(Rounding.FLOOR, 3, 26), Lut(frozen_array(np.arange(70)), 0)],
        "slice": [Slice((0, 0, 1), (2, 1, 2), (1, 1, 1))],
        "pad": [Pad(((1, 0), (0, 0), (0, 0)), 5)],
        "square": [requant(Rounding.FLOOR, 3, 4), MaxPool((1, 1), (1, 1), none)],
    }
    graph = fan(source, chains)
    inputs = extreme_inputs(graph, 11)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))
    (path,) = (tmp_path / "model").glob("*.c")
    subprocess.run([gcc, *STRICT, "-c", path, "-o", tmp_path / "c.o"], check=True)


def test_a_layer_named_like_another_ones_table(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    weight, bias = frozen_array([[1, 2], [3, 4]]), frozen_array([5, 6])
    builder = GraphBuilder("names")
    at = builder.input("x", kind(2), UNIT)
    for name in ("a", "a_weight", "a_2", "a"):
        at = builder.add(Dense(weight, bias), (at,), UNIT, name)
    builder.output("y", at)
    graph = builder.finish()
    inputs = extreme_inputs(graph, 12)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_outputs_whose_names_differ_in_no_letter_of_c(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    ops: list[Op] = [requant(Rounding.FLOOR, number) for number in range(6)]
    names = ("1", "-1", "n_1", "A", "a", "a_2")
    graph = fan(kind(3), {name: [op] for name, op in zip(names, ops, strict=True)})
    inputs = extreme_inputs(graph, 13)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_windows_over_three_axes_are_refused() -> None:
    weight = frozen_array(np.ones((1, 1, 1, 2, 3), dtype=np.int64))
    three = ((0, 0),) * 3
    conv = Conv(weight, frozen_array([0, 0, 0]), (1, 1, 1), three, (1, 1, 1))
    graph = fan(kind(2, 2, 2, 2), {"conv": [conv], "pool": [MaxPool((2, 2, 2), (1, 1, 1), three)]})
    found = C.check(graph, load_board("rpi-pico"), COptions())
    assert [(one.layer, one.what) for one in found] == [
        ("conv", "backend c cannot slide a window over 3 axes"),
        ("pool", "backend c cannot slide a window over 3 axes"),
    ]
