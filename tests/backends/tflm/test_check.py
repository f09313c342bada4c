"""What TFLite cannot say: a finding with the layer, the reason and a way out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow.backends.tflm.arithmetic import Multiplier, kernel_requant, shifted
from edgeflow.backends.tflm.backend import TflmOptions
from edgeflow.board import load_board
from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.ir.graph import Graph, Op, State
from edgeflow.ir.types import Affine, Dyadic, Label, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.text import show_graph
from tests.backends.tflm.conftest import BOARD, TFLM
from tests.graphs import UNIT, random_graph

ZERO, ONE = frozen_array([0]), frozen_array([1])
NARROWER = "quantize it to 8 bits or fewer, or use --backend c"
ELSEWHERE = "use --backend c, which computes it exactly"


def act(lo: int | list[int] = 0, hi: int = 127, shift: int = 4, multiplier: npt.ArrayLike = 1) -> Requant:
    stage = Stage(frozen_array([shift]), Rounding.HALF_UP)
    factors = frozen_array(np.atleast_1d(multiplier))
    return Requant(ZERO, factors, (stage,), ZERO, frozen_array(np.atleast_1d(lo)), frozen_array([hi]))


def dense(weight: int = 5, bias: int = 0) -> Dense:
    return Dense(frozen_array(np.full((4, 2), weight)), frozen_array([bias, 0]))


def chain(*ops: Op, lo: int = -8, hi: int = 7, shape: tuple[int, ...] = (4,), label: Label = UNIT) -> Graph:
    builder = GraphBuilder("chain")
    at = builder.input("x", TensorType(shape, lo, hi), UNIT)
    for number, op in enumerate(ops):
        at = builder.add(op, (at,), label if number == len(ops) - 1 else UNIT, f"op{number}")
    builder.output("y", at)
    return builder.finish()


def added() -> Graph:
    builder = GraphBuilder("residual")
    x = builder.input("x", TensorType((4,), -128, 127), UNIT)
    total = builder.add(Add((1, 1)), (x, x), UNIT, "add")
    scaled = builder.add(act(-128, shift=1, multiplier=3), (total,), UNIT, "act")
    builder.output("y", builder.add(ArgMax(), (scaled,), UNIT, "class"))
    return builder.finish()


def read_twice() -> Graph:
    builder = GraphBuilder("twice")
    x = builder.input("x", TensorType((4,), -128, 127), UNIT)
    sums = builder.add(dense(127), (x,), UNIT, "dense")
    builder.output("a", builder.add(act(), (sums,), UNIT, "relu"))
    builder.output("b", builder.add(act(-128), (sums,), UNIT, "linear"))
    return builder.finish()


def product(exponent: int) -> Graph:
    """MUL of full bytes less a zero point of 127, its result rescaled by 2**(exponent - 1)."""
    builder = GraphBuilder("product")
    parts: list[str] = []
    for name in ("x", "z"):
        at = builder.input(name, TensorType((4,), -128, 127), Affine(1.0, 127))
        parts.append(builder.add(shifted(-127), (at,), Affine(1.0, 0), "gate", f"gate_{name}"))
    products = builder.add(Multiply(), tuple(parts), Affine(1.0, 0), "gate", "gate_products")
    op, unit = kernel_requant([Multiplier(1 << 30, exponent)], 0, -128, 127), Affine(2.0 ** (1 - exponent), 0)
    builder.output("y", builder.add(op, (products,), unit, "gate"))
    return builder.finish()


def joined(parts: int) -> Graph:
    builder = GraphBuilder("joined")
    x = builder.input("x", TensorType((4,), -128, 127), UNIT)
    builder.output("y", builder.add(Concat(0), (x,) * parts, UNIT, "join"))
    return builder.finish()


PADDED = Conv(frozen_array(np.ones((3, 3, 1, 1), dtype=np.int64)), ZERO, (1, 1), ((1, 1), (1, 1)), (1, 1), 1, 70_000)
IMAGE = (3, 3, 1)
BEFORE = "TFLite keeps 8 bits between layers"
REFUSED: list[tuple[Graph, str | None, str, str]] = [
    (
        added(),
        "add",
        "add like this: its kernel rescales by the ratio of the units alone, and rounds to the nearest",
        ELSEWHERE,
    ),
    (chain(dense(300), act()), "op0", "carry weights of 10 bits: TFLite's have 8", NARROWER),
    (chain(dense(5, 1 << 50), act()), "op0", "sum in TFLite's 32 bits what can leave them", NARROWER),
    (
        chain(dense(127), Dense(frozen_array([[1], [2]]), ZERO), act(), lo=-128, hi=127),
        "op1",
        f"read the 17-bit sums of 'op0': {BEFORE}",
        "add a QActivation of 8 bits or fewer after 'op0', or use --backend c",
    ),
    (
        chain(dense(127), act(0, 90_000, 0), lo=0, hi=255),
        "op1",
        "keep values of 17 bits: TFLite keeps 8 between layers",
        NARROWER,
    ),
    (
        chain(SumPool((2, 2), (2, 2), ((0, 1), (0, 1))), act(multiplier=[[[4], [8]], [[8], [9]]]), shape=IMAGE),
        "op1",
        "scale each position by itself: TFLite has one factor a channel",
        ELSEWHERE,
    ),
    (
        chain(dense(), act([0, -5])),
        "op1",
        "clamp each element by itself: TFLite has one clamp a tensor",
        ELSEWHERE,
    ),
    (chain(PADDED, act(), shape=IMAGE), "op0", "pad with 70000: its input's bytes hold [-128, 127]", ELSEWHERE),
    (
        chain(dense(), act(), label=Dyadic((1, 2))),
        "op1",
        "say the unit 2^-1..2^-2 per channel: TFLite has one float32 scale a tensor",
        ELSEWHERE,
    ),
    (
        chain(Reshape((2, 2)), label=Affine(1.0, 9)),
        "op0",
        "change the zero point in a Reshape: TFLite keeps its input's",
        ELSEWHERE,
    ),
    (
        product(16),
        "gate",
        "multiply like this: its kernel rescales by the ratio of the units alone, and rounds to the nearest",
        ELSEWHERE,
    ),
    (
        chain(ArgMax()),
        "op0",
        "number the largest channel in 8 or 16 bits: TFLite-Micro's ARG_MAX gives 32",
        "end the model before 'op0' and let the program take the largest, or use --backend c",
    ),
    (joined(11), "join", "join 11 tensors: TFLite-Micro joins up to 10", "join a few at a time"),
    (
        chain(Softmax(1 << 30, 20, 0, 8), label=Affine(2.0**-8, -128), lo=-300, hi=300),
        "x",
        "store an input in [-300, 300] with the unit 2^0 as int8",
        NARROWER,
    ),
    (
        chain(Softmax(1_500_000_001, 23, -248, 8), label=Affine(2.0**-8, -128)),
        "op0",
        "do this softmax: no float32 beta gives its multiplier",
        ELSEWHERE,
    ),
    (read_twice(), "relu", f"rescale the sums of 'dense' twice: {BEFORE}", NARROWER),
    (chain(dense(), act(), lo=0, hi=70_000), "x", "store an input in [0, 70000] with the unit 2^0 as int8", NARROWER),
]


@pytest.mark.parametrize(("graph", "layer", "what", "fix"), REFUSED, ids=[what for _, _, what, _ in REFUSED])
def test_a_refusal_names_the_layer_the_reason_and_the_fix(graph: Graph, layer: str, what: str, fix: str) -> None:
    adapted = TFLM.adapt(graph, BOARD, TflmOptions())
    for one in (graph, adapted):
        first = TFLM.check(one, BOARD, TflmOptions())[0]
        assert (first.layer, first.what, first.fix) == (layer, f"backend tflm cannot {what}", fix)
    with pytest.raises(Unsupported) as caught:
        TFLM.emit(adapted, BOARD, TflmOptions())
    assert str(caught.value) == f"layer '{layer}': backend tflm cannot {what}\n  fix: {fix}"


@pytest.mark.parametrize("seed", range(150))
def test_any_graph_is_adapted_and_checked_without_a_crash(seed: int) -> None:
    graph = random_graph(seed)
    adapted = TFLM.adapt(graph, BOARD, TflmOptions())
    found = TFLM.check(adapted, BOARD, TflmOptions())
    assert all(one.what.startswith("backend tflm cannot ") and one.layer and one.fix for one in found)
    assert found or TFLM.emit(adapted, BOARD, TflmOptions()).files


def test_values_that_rounding_moved_out_of_a_table_come_back() -> None:
    """-1/2 rounds to 0 in the model and to -1 in the kernel."""
    shifted = Requant(ZERO, ONE, (Stage(ONE, Rounding.HALF_EVEN),), ZERO, frozen_array([-9]), frozen_array([9]))
    identity = Dense(frozen_array(np.eye(4, dtype=np.int64) * 64), frozen_array([-32] * 4))
    half = replace(shifted, stages=(Stage(frozen_array([6]), Rounding.HALF_EVEN),))
    graph = chain(identity, half, Lut(frozen_array([5, 6, 7, 8]), 0), lo=0, hi=3)
    adapted = TFLM.adapt(graph, BOARD, TflmOptions())
    assert show_graph(TFLM.adapt(adapted, BOARD, TflmOptions())) == show_graph(adapted)
    assert {one.layer for one in TFLM.check(adapted, BOARD, TflmOptions())} <= {"op2"}


def test_a_product_that_its_kernels_shift_keeps_within_32_bits_is_written_as_it_is() -> None:
    graph = product(15)
    assert TFLM.adapt(graph, BOARD, TflmOptions()) is graph
    assert TFLM.check(graph, BOARD, TflmOptions()) == ()


def test_a_scalar_is_refused() -> None:
    builder = GraphBuilder("scalar")
    x = builder.input("x", TensorType((1,), -8, 7), UNIT)
    at = builder.add(Reshape(()), (x,), UNIT, "scalar")
    zero, shift = frozen_array(0), (Stage(frozen_array(1), Rounding.FLOOR),)
    scalar = Requant(zero, frozen_array(1), shift, zero, zero, frozen_array(9))
    builder.output("y", builder.add(scalar, (at,), UNIT, "act"))
    (found,) = TFLM.check(TFLM.adapt(builder.finish(), BOARD, TflmOptions()), BOARD, TflmOptions())
    assert (found.layer, found.what) == ("act", "backend tflm cannot rescale a tensor without axes")


def test_states_are_refused_and_the_graph_stays_as_it_is() -> None:
    kind = TensorType((4,), -8, 7)
    graph = replace(chain(dense(), act()), states=(State("memory", kind, UNIT, "x"),))
    assert TFLM.adapt(graph, BOARD, TflmOptions()) is graph
    (found,) = TFLM.check(graph, BOARD, TflmOptions())
    assert (found.layer, found.what) == ("memory", "backend tflm cannot keep states yet")


def test_a_board_without_a_microcontroller_is_a_finding() -> None:
    board = load_board("pynq-z2")
    (found,) = TFLM.check(chain(dense(), act()), board, TflmOptions())
    assert (found.what, found.fix) == (
        "pynq-z2 is no microcontroller board",
        "choose one that edgeflow boards lists as a microcontroller, or add --backend hls4ml for an FPGA",
    )
    with pytest.raises(EdgeflowError, match="pynq-z2 is no microcontroller board"):
        TFLM.estimate(chain(dense(), act()), board, TflmOptions())


def test_unknown_kernels_are_named() -> None:
    with pytest.raises(ValueError, match='kernels is "neon"; choose one of: auto, cmsis-nn, reference'):
        TflmOptions(kernels="neon")
