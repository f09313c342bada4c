"""The wheel's interpreter gives the adapted graph's integers, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.tflm.arithmetic import effective, kernel_requant
from edgeflow.backends.tflm.lower import lower
from edgeflow.frontends import load_model
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_integers
from edgeflow.vectors import read_vectors
from tests.backends.tflm.conftest import run_wheel
from tests.backends.tflm.graphs import random_tflm_graph
from tests.graphs import UNIT, extreme_inputs

ZERO, ONE = frozen_array([0]), frozen_array([1])


def assert_exact(graph: Graph, inputs: dict[str, IntArray], folder: Path) -> tuple[str, ...]:
    """Compares every output; returns the kernels that the file uses."""
    artefact, run = run_wheel(graph, inputs, folder)
    expected, _ = interpret(artefact.graph, inputs)
    assert run.outputs.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(run.outputs[name], values)
    return tuple(one.kernel.value for one in lower(artefact.graph).model.operators)


def test_the_digits_student_is_exact_on_all_its_samples(data: Path, tmp_path: Path) -> None:
    graph = load_model(data / "digits" / "student.keras")
    vectors = read_vectors(data / "digits" / "vectors.npz")
    image = graph.inputs[0]
    inputs = {image.name: to_integers(vectors.inputs[image.name], image.type, image.label)}
    assert len(inputs[image.name]) == 360
    kernels = assert_exact(graph, inputs, tmp_path)
    window = ("CONV_2D", "MAX_POOL_2D")
    assert kernels == (*window, *window, "RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED")


@pytest.mark.parametrize("seed", range(44))
def test_random_graphs_are_exact_on_extreme_inputs(seed: int, tmp_path: Path) -> None:
    graph = random_tflm_graph(seed)
    assert_exact(graph, extreme_inputs(graph, seed), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_many_random_graphs_are_exact(seed: int, tmp_path: Path) -> None:
    graph = random_tflm_graph(seed)
    assert_exact(graph, extreme_inputs(graph, seed), tmp_path)


def requant(lo: int, hi: int, shift: int | list[int], rounding: Rounding = Rounding.HALF_EVEN) -> Requant:
    stage = Stage(frozen_array(np.atleast_1d(shift)), rounding)
    return Requant(ZERO, ONE, (stage,), ZERO, frozen_array([lo]), frozen_array([hi]))


def chain(kind: TensorType, *ops: Op, label: Label = UNIT) -> Graph:
    builder = GraphBuilder("chain")
    at = builder.input("x", kind, label)
    for number, op in enumerate(ops):
        at = builder.add(op, (at,), label, f"op{number}")
    builder.output("y", at)
    return builder.finish()


def window(size: int, inputs: int, outputs: int, pad: int = 0, groups: int = 1) -> Conv:
    rng = np.random.default_rng(size + inputs)
    weight = rng.integers(-128, 128, (size, size, inputs // groups, outputs))
    bias = rng.integers(-500, 500, outputs)
    pads = ((pad, pad), (pad, pad))
    return Conv(frozen_array(weight), frozen_array(bias), (1, 1), pads, (1, 1), groups)


WHOLE_BYTES = TensorType((5, 4, 2), 0, 255)
CASES: dict[str, tuple[Graph, str]] = {
    "unsigned bytes, padded": (chain(WHOLE_BYTES, window(3, 2, 4, pad=1), requant(0, 255, 10)), "CONV_2D"),
    "unsigned bytes, depthwise": (
        chain(WHOLE_BYTES, window(3, 2, 4, pad=1, groups=2), requant(0, 255, 7)),
        "DEPTHWISE_CONV_2D",
    ),
    "a shift a channel": (chain(WHOLE_BYTES, window(3, 2, 3), requant(0, 100, [6, 9, 12])), "CONV_2D"),
    "a shift a channel, dense": (
        chain(
            TensorType((3,), -128, 127),
            Dense(frozen_array([[99, -99], [-128, 127], [5, 6]]), frozen_array([1000, -1000])),
            requant(-128, 127, [5, 8]),
        ),
        "FULLY_CONNECTED",
    ),
    "both ends of a narrow clamp": (chain(WHOLE_BYTES, window(1, 2, 3), requant(-8, 7, 9)), "MAXIMUM"),
    "an average of values": (
        chain(TensorType((4, 4, 3), -128, 127), SumPool((2, 2), (2, 2), ((0, 0),) * 2), requant(-128, 127, 2)),
        "AVERAGE_POOL_2D",
    ),
    "an average of shifted bytes": (
        chain(TensorType((4, 4, 3), 0, 255), SumPool((2, 2), (2, 2), ((0, 0),) * 2), requant(0, 255, 2)),
        "DEPTHWISE_CONV_2D",
    ),
    "a floor average": (
        chain(
            TensorType((4, 4, 3), -128, 127),
            SumPool((4, 4), (4, 4), ((0, 0),) * 2),
            requant(-128, 127, 4, Rounding.FLOOR),
        ),
        "DEPTHWISE_CONV_2D",
    ),
    "a pool with padding of its own": (chain(WHOLE_BYTES, MaxPool((2, 2), (1, 1), ((1, 0), (0, 1)))), "PADV2"),
    "a padding value": (
        chain(
            TensorType((3, 4, 1), -8, 7),
            Conv(frozen_array(np.full((3, 3, 1, 2), 9)), frozen_array([0, 9]), (1, 1), ((1, 1),) * 2, (1, 1), 1, -5),
            requant(0, 31, 4),
        ),
        "PADV2",
    ),
    "one spatial axis": (
        chain(
            TensorType((9, 2), -16, 15),
            Conv(frozen_array(np.full((3, 2, 5), 7)), frozen_array([0] * 5), (2,), ((1, 1),), (1,)),
            requant(0, 63, 4),
        ),
        "CONV_2D",
    ),
    "a matrix product over the last axis": (
        chain(
            TensorType((3, 4), -16, 15),
            Dense(frozen_array(np.arange(8).reshape(4, 2)), frozen_array([3, 1])),
            requant(-128, 127, 2),
            Reshape((6,)),
        ),
        "FULLY_CONNECTED",
    ),
    "a result finer than its sums": (
        chain(
            TensorType((2,), -7, 7),
            Dense(frozen_array([[1, 2], [0, 1]]), frozen_array([1, 0])),
            Requant(
                frozen_array([2]), ONE, (Stage(ZERO, Rounding.FLOOR),), ZERO, frozen_array([-99]), frozen_array([99])
            ),
        ),
        "FULLY_CONNECTED",
    ),
    "sums beyond 2^23": (
        chain(
            TensorType((1500,), -128, 127),
            Dense(frozen_array(np.full((1500, 2), -127)), frozen_array([1, 1 << 22])),
            requant(-128, 127, 17),
        ),
        "FULLY_CONNECTED",
    ),
    "requantized without a sum": (chain(TensorType((5,), -128, 127), requant(-3, 8, 3)), "MAXIMUM"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_corner_is_exact_and_uses_the_kernel_it_should(case: str, tmp_path: Path) -> None:
    graph, kernel = CASES[case]
    assert kernel in assert_exact(graph, extreme_inputs(graph, 3, 60), tmp_path)


def test_zero_points_of_a_model_from_tflite_keep_their_bytes(tmp_path: Path) -> None:
    """Labels with zero points, a pad value that is one, offsets that are others: TFLite's own form."""
    builder = GraphBuilder("affine")
    x = builder.input("x", TensorType((4, 4, 2), -128, 127), Affine(0.5847029, 83))
    wide, scale = window(3, 2, 3, pad=1), 0.0123
    conv = Conv(wide.weight, wide.bias, wide.strides, wide.pads, wide.dilation, 1, pad_value=83)
    factors = [
        effective(float(np.float32(0.5847029)), float(np.float32(one)), float(np.float32(scale)))
        for one in (3e-5, 4e-5, 1e-4)
    ]
    sums = builder.add(conv, (x,), Affine(1e-3, 0), "conv")
    at = builder.add(kernel_requant(factors, -17, -17, 127), (sums,), Affine(scale, -17), "relu")
    builder.output("y", at)
    graph = builder.finish()
    tensors = lower(graph).model.tensors
    assert [one.quantization.zero_point for one in tensors if one.data is None and one.quantization] == [83, -17]
    assert_exact(graph, extreme_inputs(graph, 3, 60), tmp_path)


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    builder = GraphBuilder("ports")
    b = builder.input("b", TensorType((3,), 0, 255), UNIT)
    a = builder.input("a", TensorType((2, 2, 1), -4, 3), Dyadic(2))
    builder.output("z", builder.add(requant(0, 255, 1), (b,), UNIT, "halved"))
    flat = builder.add(Reshape((4,)), (a,), Dyadic(2), "flat")
    builder.output("a flat", flat)
    builder.output("b itself", b)
    builder.output("again", flat)
    graph = builder.finish()
    assert_exact(graph, extreme_inputs(graph, 1), tmp_path)
