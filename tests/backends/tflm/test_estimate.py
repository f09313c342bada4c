"""The figures: the baselines' and the wheel's own arena, the baselines' constants, the size of the written file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeflow.backends.protocol import microcontroller
from edgeflow.backends.tflm import estimate
from edgeflow.backends.tflm.arena import arena, scratch
from edgeflow.backends.tflm.backend import TflmOptions
from edgeflow.backends.tflm.describe import Description, OperatorFacts, TensorFacts, describe
from edgeflow.backends.tflm.estimate import file_bytes
from edgeflow.backends.tflm.lower import lower
from edgeflow.backends.tflm.model import Kernel, TensorKind
from edgeflow.backends.tflm.plan import plan_memory
from edgeflow.backends.tflm.structures import KEPT, Abi, Build, Extension, Kept, Kernels
from edgeflow.board import load_board
from edgeflow.frontends import load_model
from edgeflow.frontends.tflite.model import Operator as FileOperator
from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.frontends.tflite.reader import read_tflite
from edgeflow.resource import SourceKind
from tests.backends.tflm.conftest import BOARD, TFLM, emit
from tests.backends.tflm.graphs import random_tflm_graph


@pytest.fixture(scope="module")
def baselines(root: Path) -> Any:
    text = (root / "benchmarks" / "baselines" / "tflm-cortex-m.json").read_text()
    return json.loads(text)["cortex_m4f"]


def describe_file(file: TfliteFile) -> Description:
    """The facts about a file that was read."""
    tensors = tuple(
        TensorFacts(
            one.name,
            one.shape,
            TensorKind(one.kind).bits,
            one.data is not None,
            len(one.quantization.scales) if one.quantization else 0,
        )
        for one in file.tensors
    )
    return Description(tensors, tuple(_facts(one) for one in file.operators), file.inputs, file.outputs)


def _facts(one: FileOperator) -> OperatorFacts:
    strides, dilation = (
        (int(str(one.options.get(names[0], 1))), int(str(one.options.get(names[1], 1))))
        for names in (("stride_h", "stride_w"), ("dilation_h_factor", "dilation_w_factor"))
    )
    return OperatorFacts(one.code, one.inputs, one.outputs, f"operator {one.index}", strides, dilation)


def described(data: Path, name: str) -> Description:
    return describe_file(read_tflite((data / "models" / f"{name}.tflite").read_bytes(), name))


KEYS = {Kernels.REFERENCE: "tflm_reference", Kernels.CMSIS_NN: "tflm_cmsis_nn"}


@pytest.mark.parametrize("name", ["kws_ref_model", "ad01_int8"])
@pytest.mark.parametrize("kernels", list(Kernels))
def test_the_arena_is_the_baselines_to_the_byte(baselines: Any, data: Path, name: str, kernels: Kernels) -> None:
    found = arena(described(data, name), Build(kernels))
    assert found.used == baselines[name][KEYS[kernels]]["arena"]
    assert found.needed >= found.used


def test_setting_up_may_need_more_than_is_used_later(data: Path) -> None:
    found = arena(described(data, "ad01_int8"), Build(Kernels.CMSIS_NN))
    assert (found.used, found.needed) == (2580, 3024)
    model = lower(TFLM.adapt(load_model(data / "models" / "ad01_int8.tflite"), BOARD, TflmOptions())).model
    (ram,) = [
        one for one in estimate.estimate(model, microcontroller(BOARD), Build(Kernels.CMSIS_NN)) if one.name == "RAM"
    ][:1]
    assert "B arena while it is set up, then" in str(ram.source)


_COMPRESSED = Kept(data="ii")
WHEEL = Build(
    Kernels.REFERENCE,
    Extension.NONE,
    Abi(pointer=8, enumeration=4),
    ("ppppppppipppp", "piippppiipb", "pppppbppp" + "p" * 25, "pp", "ppp"),
    {
        "CONV_2D": _COMPRESSED,
        "DEPTHWISE_CONV_2D": _COMPRESSED,
        "TRANSPOSE_CONV": _COMPRESSED,
        "FULLY_CONNECTED": Kept("iip", "iii"),
    },
)
"""The wheel: 64 bits, allocators that record, kernels that can read compressed weights."""


def assert_the_wheels(model: Description, file: Path) -> None:
    """That the wheel uses just the arena that we say, and that it takes the one that we say it needs."""
    found = arena(model, WHEEL)
    answer = ask_wheel(file, found.needed)
    assert answer == found.used, f"{answer} bytes, not {found.used}"


def ask_wheel(file: Path, size: int) -> int:
    """Bytes that the wheel uses of an arena of `size`. Fails where it refuses it."""
    code = (
        "import sys; from tflite_micro import runtime;"
        "runtime.Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[2])).print_allocations()"
    )
    done = subprocess.run([sys.executable, "-c", code, file, str(size)], capture_output=True, text=True, check=True)
    total = re.search(r"Arena allocation total (\d+) bytes", done.stderr + done.stdout)
    assert total is not None
    return int(total[1])


@pytest.mark.parametrize("name", ["kws_ref_model", "ad01_int8"])
def test_with_64_bits_the_arena_is_the_wheels(data: Path, name: str) -> None:
    assert_the_wheels(described(data, name), data / "models" / f"{name}.tflite")


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(one, marks=pytest.mark.slow) for one in range(8, 80))])
def test_what_is_written_takes_the_wheels_arena(seed: int, tmp_path: Path) -> None:
    artefact = emit(random_tflm_graph(seed), tmp_path)
    assert_the_wheels(describe(lower(artefact.graph).model), tmp_path / "model.tflite")


CONVS = [
    # window, channels in, channels out, dilation -> bytes with DSP instructions, Helium, neither
    ((1, 1), 8, 4, (1, 1), (), (), ()),
    ((3, 3), 8, 4, (1, 1), (288,), (320,), (288,)),
    ((10, 4), 1, 64, (1, 1), (160,), (192,), (160,)),
    ((3, 1), 5, 4, (1, 1), (64,), (64,), (64,)),
]


@pytest.mark.parametrize(("window", "inputs", "outputs", "dilation", "dsp", "helium", "plain"), CONVS)
def test_cmsis_nn_asks_for_columns(
    window: tuple[int, int],
    inputs: int,
    outputs: int,
    dilation: tuple[int, int],
    dsp: tuple[int, ...],
    helium: tuple[int, ...],
    plain: tuple[int, ...],
) -> None:
    tensors = (
        TensorFacts("x", (1, 9, 9, inputs), 8),
        TensorFacts("w", (outputs, *window, inputs), 8, constant=True),
        TensorFacts("y", (1, 9, 9, outputs), 8),
    )
    operator = OperatorFacts("CONV_2D", (0, 1, -1), (2,), "conv", dilation=dilation)
    model = Description(tensors, (operator,), (0,), (2,))
    for extension, sizes in {Extension.DSP: dsp, Extension.HELIUM: helium, Extension.NONE: plain}.items():
        build = Build(Kernels.CMSIS_NN, extension)
        assert tuple(one.size for one in scratch(model, build)) == sizes
        assert arena(model, build).used > plan_memory(model, scratch(model, build)).size
    assert scratch(model, Build(Kernels.REFERENCE)) == []


def test_an_unknown_operator_costs_as_much_as_the_largest() -> None:
    tensors = (TensorFacts("x", (1, 8), 8), TensorFacts("y", (1, 8), 8))
    sizes = {
        code: arena(Description(tensors, (OperatorFacts(code, (0,), (1,), "one"),), (0,), (1,)), build).used
        for build in (Build(Kernels.REFERENCE),)
        for code in ("NO_SUCH_THING", "RESHAPE", "LOGISTIC", "PAD", "STRIDED_SLICE", "SOFTMAX")
    }
    assert max(sizes, key=lambda code: sizes[code]) == "NO_SUCH_THING"


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


def test_heliums_constants_are_the_baselines(root: Path, baselines: Any) -> None:
    text = (root / "benchmarks" / "baselines" / "tflm-cortex-m.json").read_text()
    found = json.loads(text)["cortex_m55_mve"]
    for name, each in (("kws_ref_model", estimate._HELIUM_WINDOW), ("ad01_int8", estimate._HELIUM_DENSE)):
        assert each == found[name]["tflm_cmsis_nn"]["insns"] / baselines[name]["macs"]


def test_every_kernel_has_its_structures() -> None:
    assert set(KEPT) == {one.value for one in Kernel}


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
        "estimated ±10 %: 4,336 B arena (TFLite-Micro's 32-bit structures) + 892 B stack, as measured on a Cortex-M4 "
        "(benchmarks/baselines)"
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
        placed = plan_memory(describe(model), []).placed
        for index, one in enumerate(placed):
            for other in placed[:index]:
                together = one.first <= other.last and other.first <= one.last
                assert not together or one.offset + one.size <= other.offset or other.offset + other.size <= one.offset
