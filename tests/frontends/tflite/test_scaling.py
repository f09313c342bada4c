"""QUANTIZE between integers, and floats at a model's ends."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.ir.types import Affine
from tests.frontends.tflite.make import Making, assert_refused, imported, write
from tests.frontends.tflite.wheel import ask_wheel, assert_equal, interpreted, random_inputs

RANGES = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}
PAIRS = (
    ("INT8", "INT8"),
    ("INT8", "INT16"),
    ("INT16", "INT8"),
    ("INT16", "INT16"),
    ("UINT8", "INT8"),
    ("INT8", "UINT8"),
)


def quantize(source: tuple[str, float, int], target: tuple[str, float, int]) -> TfliteFile:
    """A file of one QUANTIZE; types, scales and zero points."""
    making = Making("quantize")
    x = making.input((1, 16, 16), *source)
    making.add("QUANTIZE", (x,), (1, 16, 16), target[1], target[2], kind=target[0])
    return making.file()


def files(count: int, seed: int) -> list[TfliteFile]:
    """`count` of each pair of types: any scales and zero points, and the same scale."""
    rng, made = np.random.default_rng(seed), list[TfliteFile]()
    for kind, other in PAIRS * count:
        unit = float(np.float32(2.0 ** rng.uniform(-10, 0)))
        ratio = 1.0 if rng.random() < 0.25 else 2.0 ** rng.uniform(-8, 8)
        ends = [(lo, hi, int(rng.integers(lo, hi + 1)), 0) for lo, hi in (RANGES[kind], RANGES[other])]
        zeros = [int(rng.choice([max(one, -(1 << 14)) for one in end])) for end in ends]
        if kind != other and "UINT8" in (kind, other) and rng.random() < 0.5:
            zeros[1] = zeros[0] + (128 if other == "UINT8" else -128)
        made.append(quantize((kind, unit, zeros[0]), (other, unit * ratio, zeros[1])))
    return made


@pytest.mark.usefixtures("wheel")
def test_quantize_gives_the_bytes_of_tflite_micro() -> None:
    assert_equal(files(2, 1), samples=12)


@pytest.mark.slow
@pytest.mark.usefixtures("wheel")
def test_many_quantize_give_the_bytes_of_tflite_micro() -> None:
    assert_equal(files(10, 2), samples=200)


def float_ends() -> TfliteFile:
    """float -> QUANTIZE -> RELU -> DEQUANTIZE -> float."""
    making = Making("floats")
    x = making.tensor("x", (1, 2, 8), "FLOAT32", None)
    making.inputs.append(x)
    q = making.add("QUANTIZE", (x,), (1, 2, 8), 0.05, 3, kind="INT8")
    y = making.add("RELU", (q,), (1, 2, 8), 0.02, -128)
    making.add("DEQUANTIZE", (y,), (1, 2, 8), kind="FLOAT32")
    return making.file()


def test_floats_at_the_ends_become_the_integers_behind_them() -> None:
    graph = imported(float_ends())
    assert graph.inputs[0].name == "x"
    assert (graph.inputs[0].type.lo, graph.inputs[0].type.hi) == (-128, 127)
    assert graph.inputs[0].label == Affine(float(np.float32(0.05)), 3)
    assert len(graph.nodes) == 1
    assert graph.tensor(graph.outputs[0].tensor).label == Affine(float(np.float32(0.02)), -128)


@pytest.mark.usefixtures("wheel")
def test_floats_at_the_ends_mean_what_tflite_micro_computes() -> None:
    file, graph = float_ends(), imported(float_ends())
    (x,) = random_inputs(file, 32, 0)
    answer = ask_wheel([write(file)], [(x,)], [1])[0]
    assert answer.outputs is not None
    scale, target = np.float32(0.05), np.float32(0.02)
    quotient = (x.astype(np.float32) / scale).astype(np.float64)
    integers = np.clip(np.copysign(np.floor(np.abs(quotient) + 0.5), quotient) + 3, -128, 127).astype(np.int8)
    (ours,) = interpreted(graph, (integers,))
    reals = (ours.astype(np.float64) + 128) * float(target)
    np.testing.assert_array_equal(reals.astype(np.float32).reshape(answer.outputs[0].shape), answer.outputs[0])


def test_a_float_input_may_be_quantized_twice_alike() -> None:
    making = Making()
    x = making.tensor("x", (1, 4), "FLOAT32", None)
    making.inputs.append(x)
    parts = [making.add("QUANTIZE", (x,), (1, 4), 0.05, 3, kind="INT8") for _ in range(2)]
    making.add("CONCATENATION", parts, (1, 8), axis=1)
    graph = imported(making.file())
    assert [node.inputs for node in graph.nodes] == [("x", "x")]


def test_uint8_may_stand_at_the_ends_only() -> None:
    making = Making()
    x = making.input((1, 4), "UINT8", 0.1, 100, name="image")
    making.add("RELU", (x,), (1, 4), 0.1, 100, kind="UINT8")
    assert_refused(
        making.file(),
        "operator 0 (RELU): TFLite-Micro does not compute it from UINT8 to UINT8\n"
        "  fix: convert the model again with a current converter",
    )
    graph = imported(quantize(("UINT8", 0.1, 100), ("INT8", 0.1, -28)))
    assert (graph.inputs[0].type.lo, graph.inputs[0].type.hi) == (0, 255)


def _reads_floats() -> TfliteFile:
    making = Making()
    x = making.input((1, 4))
    y = making.add("DEQUANTIZE", (x,), (1, 4), kind="FLOAT32")
    making.add("SOFTMAX", (y,), (1, 4), kind="FLOAT32", beta=1.0)
    return making.file()


def _float_model() -> TfliteFile:
    making = Making()
    x = making.input((1, 4), "FLOAT32", name="x")
    making.add("RELU", (x,), (1, 4))
    return making.file()


FULLY = "convert the model with full integer quantization (int8 or 16x8)"
REFUSED = {
    "floats inside": (
        _reads_floats(),
        "operator 0 (DEQUANTIZE): it makes floats on which operator 1 (SOFTMAX) computes",
        FULLY,
    ),
    "a float model": (_float_model(), "input 'x': tensor 0 ('x') has the type FLOAT32", FULLY),
    "uint8 to int16": (
        quantize(("UINT8", 0.1, 100), ("INT16", 0.1, 0)),
        "operator 0 (QUANTIZE): TFLite-Micro does not bring UINT8 to INT16",
        "use int8 between",
    ),
    "overflow": (
        quantize(("INT16", 1.0, 0), ("INT16", 1e-6, 0)),
        "operator 0 (QUANTIZE): it multiplies by 1e+06, with which TFLite-Micro's 32 bits overflow",
        "convert the model again with more calibration data",
    ),
    "no scale": (
        quantize(("INT8", 0.0, 0), ("INT8", 0.1, 0)),
        "input 'input0': tensor 0 ('input0') has the scale 0",
        "quantize the model again",
    ),
    "int32": (
        quantize(("INT8", 0.1, 0), ("INT32", 0.1, 0)),
        "operator 0 (QUANTIZE): tensor 1 ('quantize0') has the type INT32",
        FULLY,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_place_and_the_fix(case: str) -> None:
    file, what, fix = REFUSED[case]
    assert_refused(file, f"{what}\n  fix: {fix}")
