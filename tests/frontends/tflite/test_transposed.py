"""TRANSPOSE_CONV: int8 and 16x8, per tensor and per channel, any padding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgeflow.frontends.tflite.model import TfliteFile
from tests.frontends.tflite.make import Making, assert_refused, imported
from tests.frontends.tflite.wheel import assert_equal

Rng = np.random.Generator
Pair = tuple[int, int]


def made(
    rng: Rng,
    size: Pair = (3, 4),
    window: Pair = (3, 3),
    strides: Pair = (2, 2),
    output: Pair | None = None,
    *,
    channels: Pair = (2, 3),
    kind: str = "INT8",
    bias: str | None = "INT32",
    same: bool = True,
    activation: str = "NONE",
    each: bool = True,
    zeros: Pair = (3, -5),
    target: float = 0.5,
    weights: str = "INT8",
    weight_zero: int = 0,
) -> TfliteFile:
    """A file of one TRANSPOSE_CONV; `output` follows from the rest unless given."""
    making, (sources, outputs) = Making("transpose_conv"), channels
    if output is None:
        room = (0, 0) if same else tuple(max(one - stride, 0) for one, stride in zip(window, strides, strict=True))
        output = (size[0] * strides[0] + room[0], size[1] * strides[1] + room[1])
    zeros = zeros if kind == "INT8" else (0, 0)
    x = making.input((1, *size, sources), kind, 0.1, zeros[0])
    scales = [float(one) for one in rng.uniform(0.001, 0.02, outputs if each else 1)]
    kernel = making.constant(rng.integers(-127, 128, (outputs, *window, sources)), weights, scales, weight_zero)
    inputs = [making.constant((1, *output, outputs), "INT32"), kernel, x]
    if bias is not None:
        inputs.append(making.constant(rng.integers(-3000, 3000, outputs), bias, 0.001))
    result = making.tensor("result", (1, *output, outputs), kind, target, zeros[1])
    making.operator(
        "TRANSPOSE_CONV",
        inputs,
        (result,),
        padding="SAME" if same else "VALID",
        stride_h=strides[0],
        stride_w=strides[1],
        fused_activation_function=activation,
    )
    return making.file()


def random_model(seed: tuple[int, int]) -> TfliteFile:
    """Any sizes, also such that leave output positions over."""
    rng = np.random.default_rng(seed)
    size, window = (tuple(int(one) for one in rng.integers(1, 5, 2)) for _ in range(2))
    strides = tuple(int(one) for one in rng.integers(1, 4, 2))
    same, kind = bool(rng.integers(2)), str(rng.choice(("INT8", "INT16")))
    least = [(n - 1) * stride + (1 if same else reach) for n, reach, stride in zip(size, window, strides, strict=True)]
    output = [low + int(rng.integers(0, stride)) for low, stride in zip(least, strides, strict=True)]
    return made(
        rng,
        (size[0], size[1]),
        (window[0], window[1]),
        (strides[0], strides[1]),
        (output[0], output[1]),
        channels=(int(rng.integers(1, 5)), int(rng.integers(1, 5))),
        kind=kind,
        bias=None if rng.random() < 0.25 else "INT32" if kind == "INT8" else str(rng.choice(("INT64", "INT16"))),
        same=same,
        activation=str(rng.choice(("NONE", "RELU", "RELU6", "RELU_N1_TO_1"))),
        each=bool(rng.integers(2)),
        zeros=(int(rng.choice((-128, 0, 127, 9))), int(rng.choice((-128, 0, 127, 9)))),
        target=float(rng.uniform(0.02, 0.5)) / (1 if kind == "INT8" else 16),
    )


@pytest.mark.usefixtures("wheel")
def test_transposed_convolutions_give_the_bytes_of_tflite_micro() -> None:
    assert_equal([random_model((1, at)) for at in range(12)], samples=8)


@pytest.mark.slow
@pytest.mark.usefixtures("wheel")
def test_many_transposed_convolutions_give_the_bytes_of_tflite_micro() -> None:
    assert_equal([random_model((2, at)) for at in range(120)], samples=8)


def rng() -> Rng:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("file", "nodes"),
    [
        (made(rng()), ["result_input", "result_spread", "result_sums", "result"]),
        (made(rng(), zeros=(0, 0)), ["result_spread", "result_sums", "result"]),
        (made(rng(), strides=(1, 1), kind="INT16", bias="INT64"), ["result_sums", "result"]),
    ],
)
def test_only_what_is_needed_stands_before_the_convolution(file: TfliteFile, nodes: list[str]) -> None:
    assert [node.name for node in imported(file).nodes] == nodes


AGAIN = "convert the model again with a current converter"
REFUSED: Mapping[str, tuple[TfliteFile, str, str]] = {
    "int32 bias": (
        made(rng(), kind="INT16", bias="INT32"),
        "operator 0 (TRANSPOSE_CONV): its bias is INT32 of shape (3,), not INT64 or INT16 of shape (3,)",
        AGAIN,
    ),
    "weights' zero point": (
        made(rng(), weight_zero=1),
        "operator 0 (TRANSPOSE_CONV): its weights have a zero point that is not 0",
        AGAIN,
    ),
    "int16 weights": (
        made(rng(), weights="INT16"),
        "operator 0 (TRANSPOSE_CONV): a kernel of INT16 of shape (3, 3, 3, 2) cannot read a tensor of shape (3, 4, 2)",
        "write the file again",
    ),
    "activation": (
        made(rng(), activation="TANH"),
        "operator 0 (TRANSPOSE_CONV): its fused activation TANH is not one that TFLite-Micro computes on integers",
        "put the activation behind it",
    ),
    "too small": (
        made(rng(), output=(2, 3), same=False),
        "operator 0 (TRANSPOSE_CONV): padding must not be negative",
        "",
    ),
    "overflow": (
        made(rng(), target=1e-9),
        "operator 0 (TRANSPOSE_CONV): what it computes could reach 2^38.3, beyond TFLite-Micro's 32 bits",
        "convert the model again with more calibration data",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_operator_and_the_fix(case: str) -> None:
    file, what, fix = REFUSED[case]
    assert_refused(file, f"{what}\n  fix: {fix}" if fix else what)
