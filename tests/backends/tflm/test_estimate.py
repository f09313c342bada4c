"""The figures: constants that are the baselines', an arena model that meets them, a file size that is the writer's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeflow.backends.tflm import estimate
from edgeflow.backends.tflm.backend import TflmOptions
from edgeflow.backends.tflm.estimate import Kernels, arena_bytes, file_bytes
from edgeflow.backends.tflm.lower import lower
from edgeflow.backends.tflm.model import (
    Activation,
    ConvOptions,
    DenseOptions,
    Kernel,
    NoOptions,
    Operator,
    Options,
    PoolOptions,
    Quantization,
    ReshapeOptions,
    Tensor,
    TensorKind,
    TfliteModel,
)
from edgeflow.backends.tflm.plan import plan_memory
from edgeflow.board import load_board
from edgeflow.frontends import load_model
from edgeflow.ir.types import Shape
from edgeflow.resource import SourceKind
from tests.backends.tflm.conftest import BOARD, TFLM
from tests.backends.tflm.graphs import random_tflm_graph


@pytest.fixture(scope="module")
def baselines(root: Path) -> Any:
    text = (root / "benchmarks" / "baselines" / "tflm-cortex-m.json").read_text()
    return json.loads(text)["cortex_m4f"]


class Drawing:
    """Draws the operators of a published model."""

    def __init__(self, shape: Shape) -> None:
        self.tensors = [Tensor("x", shape, TensorKind.INT8, Quantization((1.0,)))]
        self.operators: list[Operator] = []
        self.at = 0

    def add(self, kernel: Kernel, options: Options, shape: Shape, weight: Shape = (), scales: int = 1) -> None:
        operands = [self.at]
        if weight:
            many = Quantization((1.0,) * scales)
            self.tensors.append(Tensor("w", weight, TensorKind.INT8, many, b""))
            self.tensors.append(Tensor("b", (shape[-1],), TensorKind.INT32, many, b""))
            operands += [len(self.tensors) - 2, len(self.tensors) - 1]
        self.tensors.append(Tensor("y", shape, TensorKind.INT8, Quantization((1.0,))))
        self.at = len(self.tensors) - 1
        self.operators.append(Operator(kernel, 1, tuple(operands), self.at, options, "layer"))

    def model(self) -> TfliteModel:
        return TfliteModel("drawn", tuple(self.tensors), tuple(self.operators), (0,), (self.at,))


def anomaly_detection() -> TfliteModel:
    drawn, inputs = Drawing((1, 640)), 640
    for outputs in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        drawn.add(Kernel.FULLY_CONNECTED, DenseOptions(Activation.RELU, False), (1, outputs), (outputs, inputs))
        inputs = outputs
    return drawn.model()


def keyword_spotting() -> TfliteModel:
    drawn = Drawing((1, 49, 10, 1))
    image, conv = (1, 25, 5, 64), ConvOptions(True, (1, 1), (1, 1), Activation.RELU, 1)
    drawn.add(Kernel.CONV_2D, conv, image, (64, 10, 4, 1), 64)
    for _ in range(4):
        drawn.add(Kernel.DEPTHWISE_CONV_2D, conv, image, (1, 3, 3, 64), 64)
        drawn.add(Kernel.CONV_2D, conv, image, (64, 1, 1, 64), 64)
    pool = PoolOptions(False, (25, 5), (25, 5), Activation.NONE)
    drawn.add(Kernel.AVERAGE_POOL_2D, pool, (1, 1, 1, 64))
    drawn.add(Kernel.RESHAPE, ReshapeOptions((1, 64)), (1, 64))
    drawn.add(Kernel.FULLY_CONNECTED, DenseOptions(Activation.NONE, False), (1, 12), (12, 64))
    drawn.add(Kernel.MAXIMUM, NoOptions(), (1, 12))
    drawn.tensors.append(Tensor("the reshape's shape", (2,), TensorKind.INT32, None, b""))
    return drawn.model()


@pytest.mark.parametrize("kernels", list(Kernels))
def test_the_arena_model_meets_the_baselines(baselines: Any, kernels: Kernels) -> None:
    key = {Kernels.REFERENCE: "tflm_reference", Kernels.CMSIS_NN: "tflm_cmsis_nn"}[kernels]
    for model, name in ((keyword_spotting(), "kws_ref_model"), (anomaly_detection(), "ad01_int8")):
        assert arena_bytes(model, kernels) == pytest.approx(baselines[name][key]["arena"], rel=0.01)


def test_the_constants_are_the_baselines(baselines: Any) -> None:
    kws, ad = baselines["kws_ref_model"], baselines["ad01_int8"]
    for cost, key in ((estimate._REFERENCE, "tflm_reference"), (estimate._CMSIS_NN, "tflm_cmsis_nn")):
        assert cost.code_base == ad[key]["code_ro"] - 7000
        assert (cost.stack_window, cost.stack_dense) == (kws[key]["stack"], ad[key]["stack"])
        assert cost.window == kws[key]["insns"] / kws["macs"]
        assert cost.dense == ad[key]["insns"] / ad["macs"]
        kinds = (Kernel.CONV_2D, Kernel.DEPTHWISE_CONV_2D, Kernel.AVERAGE_POOL_2D, Kernel.RESHAPE)
        code = cost.code_base + sum(cost.code[one] for one in kinds)
        assert code == pytest.approx(kws[key]["code_ro"] - 7000, rel=0.15), "less SOFTMAX"


@pytest.mark.parametrize("seed", range(12))
def test_the_files_size_is_known_before_it_is_written(seed: int) -> None:
    graph = TFLM.adapt(random_tflm_graph(seed), BOARD, TflmOptions())
    size = len(TFLM.emit(graph, BOARD, TflmOptions()).files["model.tflite"])
    assert file_bytes(lower(graph).model) == pytest.approx(size, rel=0.05, abs=200)


def test_the_digits_students_figures(data: Path) -> None:
    graph = load_model(data / "digits" / "student.keras")
    found = {one.name: one for one in TFLM.estimate(graph, BOARD, TflmOptions()) if one.layer is None}
    assert set(found) == {"flash", "RAM", "instructions", "latency"}
    assert {one.source.kind for one in found.values()} == {SourceKind.ESTIMATED}
    assert 55_000 < found["flash"].value < 65_000
    assert str(found["RAM"].source) == (
        "estimated ±15 %: 4,188 B arena + 892 B stack from TFLite-Micro on a Cortex-M4 (benchmarks/baselines)"
    )
    pico = {one.name: one.value for one in TFLM.estimate(graph, load_board("rpi-pico"), TflmOptions())[:4]}
    assert pico["instructions"] > 4 * found["instructions"].value, "reference kernels"


def test_the_option_chooses_the_kernels(data: Path) -> None:
    graph = load_model(data / "digits" / "student.keras")
    auto, reference = (TFLM.estimate(graph, BOARD, TflmOptions(kernels=one)) for one in ("auto", "reference"))
    assert reference[0].value < auto[0].value
    assert reference[2].value > auto[2].value


def test_layers_say_what_is_alive_together(data: Path) -> None:
    graph = load_model(data / "digits" / "student.keras")
    layers = [one for one in TFLM.estimate(graph, BOARD, TflmOptions()) if one.layer == "pool1" and one.name == "RAM"]
    assert [(one.value, one.source.detail) for one in layers] == [(2560, "conv1 2048 B + pool1 512 B alive together")]


def test_remedies_lower_what_they_name(data: Path) -> None:
    graph = load_model(data / "digits" / "student.keras")
    totals = {one.name: one.value for one in TFLM.estimate(graph, BOARD, TflmOptions()) if one.layer is None}
    found = TFLM.remedies(graph, BOARD, TflmOptions())
    assert {"halve the channels of 'conv1'", "halve the outputs of 'conv2'"} <= {one.change for one in found}
    assert all(one.value < totals[one.resource] for one in found)


def test_the_plan_never_overlaps_what_is_alive_together() -> None:
    for seed in range(40):
        model = lower(TFLM.adapt(random_tflm_graph(seed), BOARD, TflmOptions())).model
        placed = plan_memory(model, {}).placed
        for index, one in enumerate(placed):
            for other in placed[:index]:
                together = one.first <= other.last and other.first <= one.last
                assert not together or one.offset + one.size <= other.offset or other.offset + other.size <= one.offset
