"""What `edgeflow inspect` says of a graph: rows, totals, notes and the text that a user sees."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Affine, Dyadic, Label, Shape, TensorType, frozen_array
from edgeflow.ops import Add, Conv, Dense, Lut, MaxPool, Requant, Reshape, SumPool, Threshold
from edgeflow.ops.requant import Rounding, Stage
from edgeflow.report.inspect import Inspection, inspect_graph
from edgeflow.report.inspect.inspection import container_bytes
from edgeflow.report.inspect.show import show_inspection
from edgeflow.report.inspect.words import label_words, real_range, shape_words, type_words
from edgeflow.report.record import to_json
from edgeflow.semantics.builder import GraphBuilder

UNIT = Dyadic(0)


def half_even(shift: int, lo: int, hi: int) -> Requant:
    return Requant(
        frozen_array([0]),
        frozen_array([1]),
        (Stage(frozen_array([shift]), Rounding.HALF_EVEN),),
        frozen_array([0]),
        frozen_array([lo]),
        frozen_array([hi]),
    )


def conv(kernel: Shape, bias: list[int], groups: int = 1, pads: int = 0) -> Conv:
    rank = len(kernel) - 2
    weight = np.ones(kernel, dtype=np.int64)
    return Conv(frozen_array(weight), frozen_array(bias), (1,) * rank, ((pads, pads),) * rank, (1,) * rank, groups)


def chain(shape: Shape, *ops: Op, lo: int = 0, hi: int = 15) -> Graph:
    builder = GraphBuilder("chain")
    at = builder.input("x", TensorType(shape, lo, hi), UNIT)
    for number, op in enumerate(ops):
        at = builder.add(op, (at,), UNIT, f"layer{number}")
    builder.output("y", at)
    return builder.finish()


def shown(found: Inspection) -> str:
    stream = io.StringIO()
    show_inspection(Console(file=stream, width=40), found, "edgeflow inspect small.keras --explain conv_1")
    return stream.getvalue()


@pytest.fixture(scope="module")
def small(root: Path) -> Graph:
    return load_model(root / "tests" / "frontends" / "qkeras" / "data" / "small.keras")


def test_the_page_of_a_small_model(small: Graph) -> None:
    assert shown(inspect_graph(small)) == SMALL


SMALL = """\
small  8 layers, equals the trained model's own predictions, bit for bit

  input    image    6x6x1   int8 [-128, 127]     one step = 2^-6   -2 to 1.98438
  output   logits   4       int12 [-982, 1154]   one step = 2^-7   -7.67188 to 9.01562

  layer      became               output   interval       bits   weights   zeros       sum   MACs   parameters
  conv_1     Conv 3x3 + Requant   6x6x3    [0, 15]           4    4 bits    15 %   13 bits    972           30
  conv_2     Conv 1x1             6x6x3    [-262, 218]      10    4 bits    11 %   10 bits    324           12
  add        Requant + Add        6x6x3    [-262, 458]      10                     10 bits
  relu_1     Requant              6x6x3    [0, 29]           5
  pool       SumPool 3x3          2x2x3    [0, 261]          9                      9 bits
  pool_act   Requant              2x2x3    [0, 58]           6
  flat       Reshape              12       [0, 58]           6
  logits     Dense                4        [-982, 1154]     12    4 bits    15 %   12 bits     48           52

  parameters    94        14 % of the weights are zero
  weight bits   407       94 B as integers of 8, 16 or 32 bits
  MACs          1,344     one sample, padding taps counted
  widest sum    13 bits   at every step, in any order
  activations   432 B     at most alive together: 'conv_1_act' + 'conv_2' + 'conv_1_act_aligned'

  next: edgeflow inspect small.keras --explain conv_1
"""


@pytest.mark.parametrize(
    ("shape", "op", "words", "macs", "parameters"),
    [
        ((5, 5, 2), conv((3, 3, 2, 4), [0, 0, 0, 1], pads=1), "Conv 3x3", 25 * 18 * 4, 76),
        ((5, 5, 4), conv((3, 3, 1, 4), [0, 0, 0, 0], groups=4), "Conv 3x3 depthwise", 9 * 9 * 4, 36),
        ((5, 4), conv((3, 2, 6), [0] * 6, groups=2), "Conv 3 in 2 groups", 3 * 6 * 6, 36),
        ((12,), Dense(frozen_array(np.ones((12, 5), dtype=int)), frozen_array([1] * 5)), "Dense", 60, 65),
        ((3, 12), Dense(frozen_array(np.ones((12, 5), dtype=int)), frozen_array([0] * 5)), "Dense", 180, 60),
        ((4, 4, 2), MaxPool((2, 2), (2, 2), ((0, 0), (0, 0))), "MaxPool 2x2", 0, 0),
        ((4, 4, 2), Reshape((32,)), "Reshape", 0, 0),
        ((4,), Lut(frozen_array(range(16)), 0, "tanh"), "Lut tanh", 0, 0),
    ],
)
def test_macs_count_padding_taps_and_parameters_count_biases_that_are_not_all_zero(
    shape: Shape, op: Op, words: str, macs: int, parameters: int
) -> None:
    (row,) = inspect_graph(chain(shape, op)).rows
    assert (row.kind, row.macs, row.parameters) == (words, macs, parameters)


def test_an_accumulator_is_as_wide_as_its_partial_sums_need() -> None:
    weight = frozen_array([[100], [-100]])
    found = inspect_graph(chain((2,), Dense(weight, frozen_array([0]))))
    (row,) = found.rows
    assert (row.lo, row.hi, row.bits, row.accumulator_bits) == (-1500, 1500, 12, 12)
    found = inspect_graph(chain((2,), Dense(weight, frozen_array([2000]))))
    (row,) = found.rows
    assert (row.lo, row.hi, row.bits) == (500, 3500, 12)
    assert row.accumulator_bits == 13, "[-1500, 3500] on the way"
    assert found.totals.accumulator_bits == 13


def test_weights_are_counted_in_their_own_bits_and_in_whole_bytes() -> None:
    weight = np.array([[7, 0], [-8, 0], [0, 0]])
    found = inspect_graph(chain((3,), Dense(frozen_array(weight), frozen_array([300, 0]))))
    (row,) = found.rows
    assert (row.weight_bits, row.sparsity) == (4, 4 / 6)
    assert found.totals.weight_bits == 6 * 4 + 2 * 9
    assert found.totals.weight_bytes == 6 * 1 + 2 * 2
    assert [container_bytes(bits) for bits in (1, 8, 9, 16, 17, 32, 33, 63)] == [1, 1, 2, 2, 4, 4, 8, 8]


def test_tables_and_thresholds_are_no_parameters_but_take_bytes() -> None:
    steps = Threshold(frozen_array([[3, 5, 200]]), frozen_array([0]), frozen_array([1]))
    found = inspect_graph(chain((4,), Lut(frozen_array(range(0, 160, 10)), 0), steps))
    assert [row.table_entries for row in found.rows] == [16, 3]
    assert (found.totals.parameters, found.totals.table_entries) == (0, 19)
    assert found.totals.weight_bytes == 19
    assert "\n  table entries   19\n" in shown(found)


def test_activations_skip_sums_in_registers_and_share_memory_across_a_reshape() -> None:
    ops = (conv((1, 1, 2, 8), [0] * 8), half_even(1, 0, 7), Reshape((128,)), SumPool((1,), (1,), ((0, 0),)))
    found = inspect_graph(chain((4, 4, 2), *ops[:3]))
    assert (found.totals.activation_bytes, found.totals.activation_peak) == (32 + 128, ("x", "layer1"))
    wide = inspect_graph(chain((4, 4, 2), ops[0]))
    assert wide.totals.activation_bytes == 32 + 128, "[0, 30] fits a byte"


def test_a_tensor_lives_until_its_last_reader() -> None:
    builder = GraphBuilder("skip")
    x = builder.input("x", TensorType((100,), 0, 255), UNIT)
    one = builder.add(half_even(1, 0, 127), (x,), UNIT, "one")
    two = builder.add(half_even(2, 0, 63), (one,), UNIT, "two")
    builder.output("y", builder.add(Add((1, 1)), (x, two), UNIT, "add"))
    totals = inspect_graph(builder.finish()).totals
    assert (totals.activation_bytes, totals.activation_peak) == (400, ("x", "two", "add"))


def test_channels_that_can_only_be_one_value_are_noted() -> None:
    weight = frozen_array([[1, -1, 0]])
    found = inspect_graph(chain((1,), Dense(weight, frozen_array([0, 0, 0])), half_even(1, 0, 7)))
    assert found.notes == ("'layer1': 2 channels of 3 can only be 0: training can drop them",)
    assert "\n  note: 'layer1': 2 channels of 3 can only be 0: training can drop them\n" in shown(found)


def test_a_softmax_that_is_left_out_is_noted() -> None:
    builder = GraphBuilder("classes")
    x = builder.input("x", TensorType((4,), 0, 3), UNIT)
    builder.output(
        "scores",
        builder.add(Dense(frozen_array(np.eye(4, dtype=int)), frozen_array([0] * 4)), (x,), UNIT, "d"),
        logits=True,
    )
    assert inspect_graph(builder.finish()).notes == (
        "output 'scores': the model's softmax is left out; its largest class stays the largest",
    )


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (Dyadic(7), "one step = 2^-7"),
        (Dyadic(0), "one step = 1"),
        (Dyadic(-3), "one step = 2^3"),
        (Dyadic((2, 2)), "one step = 2^-2"),
        (Dyadic((2, 5)), "one step = 2^-5 to 2^-2, by channel"),
        (Affine(0.1, -3), "one step = 0.1, zero at -3"),
    ],
)
def test_labels_in_words(label: Label, words: str) -> None:
    assert label_words(label) == words


def test_types_and_shapes_in_words() -> None:
    assert type_words(TensorType((3,), -128, 127)) == "int8 [-128, 127]"
    assert type_words(TensorType((3,), 0, 31)) == "uint5 [0, 31]"
    assert (shape_words((8, 8, 1)), shape_words(())) == ("8x8x1", "one value")


def test_the_real_range_covers_all_channels() -> None:
    builder = GraphBuilder("range")
    name = builder.input("x", TensorType((2,), -4, 8), Dyadic((1, 3)))
    builder.output("y", name)
    graph = builder.finish()
    assert real_range(graph.tensor("x")) == (-2.0, 4.0)
    assert real_range(replace(graph.inputs[0], label=Affine(0.5, 2))) == (-3.0, 3.0)


def test_everything_is_plain_json(small: Graph) -> None:
    data = json.loads(json.dumps(to_json(inspect_graph(small))))
    assert data["totals"]["macs"] == 1344
    assert data["ports"][0]["type"] == "int8 [-128, 127]"
    assert [row["layer"] for row in data["rows"]][:2] == ["conv_1", "conv_2"]
