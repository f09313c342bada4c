"""What the backend refuses, in these words; and that nothing else is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from edgeflow.backends.artefact import package
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.backends.protocol import OTHER_BACKEND
from edgeflow.board import Board, load_board
from edgeflow.errors import Unsupported
from edgeflow.ir.graph import Graph, Meaning, Op, State
from edgeflow.ir.types import Affine, Dyadic, Shape, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.hls4ml.helpers import BOARD, HLS, shift

NONE = ((0, 0), (0, 0))
OTHER = OTHER_BACKEND
ENDS = "choose quantizers whose ends are powers of two, such as quantized_bits or quantized_relu"


def one_op(op: Op, shape: Shape = (4, 4, 2), lo: int = -128, hi: int = 127) -> Graph:
    """A graph of one op, whose layer is called 'layer'."""
    builder = GraphBuilder("refused")
    x = builder.input("x", TensorType(shape, lo, hi), Dyadic(3))
    builder.output("y", builder.add(op, (x,) * (2 if isinstance(op, Add) else 1), Dyadic(3), "layer"))
    return builder.finish()


def conv(window: Shape, pad_value: int = 0) -> Conv:
    weight = frozen_array(np.ones((*window, 2, 2), dtype=np.int64))
    pads = ((1, 1),) * len(window)
    return Conv(weight, frozen_array([0, 0]), (1,) * len(window), pads, (1,) * len(window), 1, pad_value)


def staged(rounding: Rounding, offset: int) -> Requant:
    return shift(4, rounding, -8, 7, offset=offset)


def by_position() -> Requant:
    shifts = frozen_array(np.arange(16).reshape(4, 4, 1) % 4)
    return replace(shift(0, Rounding.FLOOR, -8, 7), stages=(Stage(shifts, Rounding.FLOOR),))


def odd_clamps() -> Requant:
    return replace(shift(0, Rounding.FLOOR, 0, 0), lo=frozen_array([0, -2]), hi=frozen_array([10, 12]))


BIG = 1 << 24
CASES: dict[str, tuple[Graph, str, str | None, str]] = {
    "pad value": (
        one_op(conv((2, 2), pad_value=5)), "layer", OTHER,
        "pads with 0, not with 5",
    ),
    "three axes": (
        one_op(conv((1, 1, 1)), shape=(2, 2, 2, 2)), "layer", "reshape its input to one or two axes and channels",
        "cannot slide a window over 3 axes",
    ),
    "padded pool": (
        one_op(MaxPool((2, 2), (2, 2), ((0, 1), (0, 0)))), "layer", 'use padding="valid"',
        "cannot pad pools exactly",
    ),
    "overlapping pool": (
        one_op(MaxPool((2, 2), (1, 2), NONE)), "layer",
        "use --set io_type=io_parallel, or strides equal to the pool's window",
        "streams a pool only if its strides are its window",
    ),
    "pool over three": (
        one_op(SumPool((3, 1), (3, 1), NONE)), "layer", "choose a window of 2, 4, 8 ... elements",
        "averages, which is exact over 2, 4, 8 ... elements; this pool sums 3",
    ),
    "x + x": (
        one_op(Add((1, 1))), "layer", "double the weights of the layer before it",
        "cannot add a tensor to itself",
    ),
    "wide weight": (
        one_op(Dense(frozen_array([[BIG]]), frozen_array([0])), shape=(1,)), "layer", "use fewer bits",
        "takes numbers of at most 24 bits; this weight reaches 16777216",
    ),
    "wide bias": (
        one_op(Dense(frozen_array([[1]]), frozen_array([-BIG])), shape=(1,)), "layer", "use fewer bits",
        "takes numbers of at most 24 bits; this bias reaches 16777216",
    ),
    "wide multiplier": (
        one_op(shift(30, Rounding.HALF_UP, -8, 7, multiplier=BIG + 1)), "layer", "use fewer bits",
        "takes numbers of at most 24 bits; this scale reaches 16777217",
    ),
    "wide input": (
        one_op(Reshape((32,)), hi=BIG), "x", "use fewer bits",
        "takes numbers of at most 24 bits; this input needs 26",
    ),
    "wide result": (
        one_op(shift(0, Rounding.FLOOR, -(1 << 50), 1 << 50, multiplier=1 << 45)), "layer", "use fewer bits",
        "derives types of at most 48 bits; this result needs 52",
    ),
    "bias": (
        one_op(replace(shift(4, Rounding.HALF_UP, -8, 7), bias=frozen_array([3]))), "layer", OTHER,
        "cannot add a bias between the multiplication and the rounding yet",
    ),
    "odd clamp": (
        one_op(shift(2, Rounding.HALF_EVEN, 0, 10)), "layer", ENDS,
        "cannot clamp to [0, 10]: its types end at powers of two",
    ),
    "odd clamps": (
        one_op(odd_clamps()), "layer", ENDS,
        "cannot clamp to [-2 to 0, 10 to 12]: its types end at powers of two",
    ),
    "by position": (
        one_op(by_position()), "layer", ENDS,
        "cannot give each position its own shift 1",
    ),
    "offset after ties": (
        one_op(staged(Rounding.HALF_EVEN, 3)), "layer", ENDS,
        "cannot add an offset after rounding half_even",
    ),
    "offset after sign": (
        one_op(staged(Rounding.HALF_AWAY, 2)), "layer", ENDS,
        "cannot add an offset after rounding half_away",
    ),
    "output is input": (
        one_op(Reshape((32,))), "y", "leave that output out",
        "cannot output an input that nothing computes on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_names_the_layer_and_the_fix(case: str) -> None:
    graph, layer, fix, what = CASES[case]
    findings = HLS.check(graph, BOARD, Hls4mlOptions())
    assert [(one.what, one.layer, one.fix) for one in findings][:1] == [(f"backend hls4ml {what}", layer, fix)]
    with pytest.raises(Unsupported):
        package(HLS, graph, BOARD, Hls4mlOptions())


def refusal(graph: Graph, board: Board = BOARD) -> str:
    with pytest.raises(Unsupported) as caught:
        package(HLS, graph, board, Hls4mlOptions())
    return str(caught.value)


@pytest.mark.parametrize("case", ["pad value", "bias"])
def test_what_another_backend_can_do_names_it_and_a_board(case: str) -> None:
    assert refusal(CASES[case][0]).splitlines()[1] == "  fix: use --backend c --board longan-nano, which can"
    assert refusal(CASES[case][0], load_board("rpi-pico")).splitlines()[1] == "  fix: use --backend c, which can"


def test_what_no_backend_can_do_is_said() -> None:
    graph = one_op(Reshape((32,)))
    state = State("memory", graph.inputs[0].type, Dyadic(3), "x")
    text = refusal(replace(graph, states=(state,)))
    assert text.endswith("cannot keep states yet\n  fix: no other backend can either; change that layer")


def calibrated(pad_value: int, label: Affine | Dyadic) -> Graph:
    """A convolution as `edgeflow quantize` makes it, whose input has the zero point -3."""
    builder = GraphBuilder("own")
    x = builder.input("x", TensorType((4, 4, 2), -128, 127), label)
    builder.output("y", builder.add(conv((2, 2), pad_value), (x,), label, "layer"))
    return replace(builder.finish(), meaning=Meaning.OWN)


def test_zero_points_of_a_calibrated_model_go_with_powers_of_two() -> None:
    assert refusal(calibrated(-3, Affine(0.1, -3))) == (
        "layer 'layer': backend hls4ml pads with 0, not with -3\n"
        "  fix: quantize the model again with edgeflow quantize --power-of-two"
    )


@pytest.mark.parametrize("label", [Affine(0.1, -4), Dyadic(3)])
def test_padding_that_powers_of_two_do_not_change_is_for_another_backend(label: Affine | Dyadic) -> None:
    assert "use --backend c" in refusal(calibrated(-3, label))


def test_every_refused_layer_is_found_not_just_the_first() -> None:
    builder = GraphBuilder("two")
    x = builder.input("x", TensorType((4, 4, 2), 0, 15), Dyadic(3))
    builder.output("a", builder.add(MaxPool((2, 2), (2, 2), ((0, 1), (0, 0))), (x,), Dyadic(3), "first"))
    builder.output("b", builder.add(SumPool((3, 1), (3, 1), NONE), (x,), Dyadic(3), "second"))
    assert [one.layer for one in HLS.check(builder.finish(), BOARD, Hls4mlOptions())] == ["first", "second"]


def test_what_no_output_needs_is_not_refused() -> None:
    builder = GraphBuilder("dead")
    x = builder.input("x", TensorType((4, 4, 2), 0, 15), Dyadic(3))
    builder.add(SumPool((3, 1), (3, 1), NONE), (x,), Dyadic(3), "dead")
    builder.output("y", builder.add(MaxPool((2, 2), (2, 2), NONE), (x,), Dyadic(3), "pool"))
    assert HLS.check(builder.finish(), BOARD, Hls4mlOptions()) == ()


def test_io_parallel_takes_overlapping_pools() -> None:
    graph = CASES["overlapping pool"][0]
    assert HLS.check(graph, BOARD, Hls4mlOptions(io_type="io_parallel")) == ()


@pytest.mark.parametrize(
    ("board", "what", "fix"),
    [
        ("rpi-pico", "rpi-pico is no FPGA board", "edgeflow boards lists them"),
        (
            "icebreaker",
            "Vitis HLS makes nothing for Lattice iCE40 UltraPlus, the FPGA of icebreaker",
            "choose a board with an AMD FPGA, such as pynq-z2",
        ),
    ],
)
def test_a_board_that_cannot_be(board: str, what: str, fix: str) -> None:
    graph = one_op(MaxPool((2, 2), (2, 2), NONE))
    findings = HLS.check(graph, load_board(board), Hls4mlOptions())
    assert [(one.what, one.fix) for one in findings] == [(what, fix)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"io_type": "stream"}, 'io_type "stream" is none of: io_stream, io_parallel'),
        ({"strategy": "fast"}, 'strategy "fast" is none of: latency, resource'),
        ({"reuse_factor": 0}, "reuse_factor 0 is not between 1 and 1048576"),
    ],
)
def test_options_are_checked(options: dict[str, str | int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Hls4mlOptions(**options)  # pyright: ignore[reportArgumentType]
