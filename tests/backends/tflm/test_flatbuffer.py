"""The file as a flatbuffer: same bytes for the same graph, aligned, named after the layers, small."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow import __version__
from edgeflow.backends.tflm import flatbuffer
from edgeflow.backends.tflm.adapt import adapt
from edgeflow.backends.tflm.backend import TflmOptions
from edgeflow.errors import MissingTool
from edgeflow.frontends import load_model
from edgeflow.frontends.tflite import load_tflite
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.serialize import graph_digest
from tests.backends.tflm.conftest import BOARD, TFLM
from tests.backends.tflm.graphs import random_tflm_graph


@pytest.fixture(scope="module")
def digits(data: Path) -> Graph:
    return TFLM.adapt(load_model(data / "digits" / "student.keras"), BOARD, TflmOptions())


def emitted(graph: Graph) -> bytes:
    return TFLM.emit(graph, BOARD, TflmOptions()).files["model.tflite"]


def parsed(content: bytes) -> Any:
    return flatbuffer.schema().ModelT.InitFromPackedBuf(bytearray(content), 0)


@pytest.mark.parametrize("seed", range(8))
def test_the_same_graph_gives_the_same_bytes(seed: int) -> None:
    graph = TFLM.adapt(random_tflm_graph(seed), BOARD, TflmOptions())
    first, second = (TFLM.emit(graph, BOARD, TflmOptions()) for _ in range(2))
    assert first.files == second.files


def test_the_bytes_do_not_depend_on_the_process(digits: Graph, data: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeflow.board import load_board;"
        "from edgeflow.frontends import load_model;"
        "from edgeflow.backends.tflm.backend import TflmBackend, TflmOptions;"
        "b, o, t = load_board('nucleo-f446re'), TflmOptions(), TflmBackend();"
        "print(t.emit(t.adapt(load_model(Path(sys.argv[1])), b, o), b, o).digest)"
    )
    argv = [sys.executable, "-c", code, str(data / "digits" / "student.keras")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert done.stdout.strip() == TFLM.emit(digits, BOARD, TflmOptions()).digest


def test_every_constant_is_aligned_to_16_bytes(digits: Graph) -> None:
    content = emitted(digits)
    model = flatbuffer.schema().Model.GetRootAs(content)
    starts = [model.Buffers(index)._tab for index in range(model.BuffersLength())]
    offsets = [tab.Vector(tab.Offset(4)) for tab in starts if tab.Offset(4)]
    assert len(offsets) == 9
    assert {offset % 16 for offset in offsets} == {0}
    assert content[4:8] == b"TFL3"


def test_tensors_are_named_after_the_layers_and_the_model_after_the_graph(digits: Graph) -> None:
    (graph,) = parsed(emitted(digits)).subgraphs
    assert graph.name == b"digits"
    assert [one.name.decode() for one in graph.tensors] == [
        *("image", "conv1/weight", "conv1/bias", "conv1", "pool1"),
        *("conv2/weight", "conv2/bias", "conv2", "pool2", "flatten"),
        *("dense/weight", "dense/bias", "dense", "logits/weight", "logits/bias", "logits"),
    ]


def test_scales_and_zero_points_say_what_bytes_mean(digits: Graph) -> None:
    (graph,) = parsed(emitted(digits)).subgraphs
    told = {one.name.decode(): one.quantization for one in graph.tensors}
    assert (told["image"].scale.tolist(), told["image"].zeroPoint.tolist()) == ([2.0**-4], [0])
    assert (told["conv2"].scale.tolist(), told["conv2"].zeroPoint.tolist()) == ([2.0**-4], [64])
    assert (told["logits"].scale.tolist(), told["logits"].zeroPoint.tolist()) == ([2.0**-2], [0])
    assert told["conv2/weight"].scale.tolist() == [2.0**-5 * (1 - 2.0**-24)]


def test_operator_versions_are_the_smallest(digits: Graph) -> None:
    model = parsed(emitted(digits))
    codes = [(one.deprecatedBuiltinCode, one.builtinCode, one.version) for one in model.operatorCodes]
    assert codes == [(3, 3, 3), (17, 17, 2), (22, 22, 1), (9, 9, 4)], "CONV_2D, MAX_POOL_2D, RESHAPE, FULLY_CONNECTED"


def test_the_metadata_hold_the_version_and_the_graph(digits: Graph) -> None:
    model = parsed(emitted(digits))
    (entry,) = model.metadata
    assert entry.name == b"edgeflow"
    said = json.loads(bytes(model.buffers[entry.buffer].data))
    assert said == {"edgeflow": __version__, "graph": graph_digest(digits)}


def student(layers: int, *, per_channel: bool) -> Graph:
    """Convolutions, depthwise and not, and a dense layer in turn; quantized to 8 bits a tensor or a channel."""
    rng = np.random.default_rng(4)
    builder, unit = GraphBuilder("student"), Dyadic(4)
    at = builder.input("image", TensorType((4, 4, 16), -128, 127), unit)
    window = (1, 1), ((1, 1), (1, 1)), (1, 1)
    for number in range(layers):
        bias = frozen_array(rng.integers(-99, 99, 16))
        ops: tuple[Conv | Dense, ...] = (
            Conv(frozen_array(rng.integers(-127, 128, (3, 3, 16, 16))), bias, *window),
            Conv(frozen_array(rng.integers(-127, 128, (3, 3, 1, 16))), bias, *window, 16),
            Dense(frozen_array(rng.integers(-127, 128, (16, 16))), bias),
        )
        at = builder.add(ops[number % 3], (at,), Dyadic(11), f"layer{number}")
        shift = np.where(np.arange(16) % 2, 9, 9 - per_channel)
        stage, zero = Stage(frozen_array(shift - 1), Rounding.HALF_UP), frozen_array([0])
        op = Requant(zero, frozen_array([1]), (stage,), zero, zero, frozen_array([127]))
        at = builder.add(op, (at,), unit, f"layer{number}_act")
    builder.output("y", at)
    return builder.finish()


def beyond_parameters(content: bytes) -> tuple[int, int]:
    """A file's bytes beyond its weights, biases and the scales of their channels, and the count of its operators."""
    model = parsed(content)
    (graph,) = model.subgraphs
    constants = [one for one in graph.tensors if model.buffers[one.buffer].data is not None]
    scales = [0 if one.quantization is None else len(one.quantization.scale) for one in constants]
    known = sum(len(model.buffers[one.buffer].data) for one in constants) + 4 * sum(n for n in scales if n > 1)
    return len(content) - known, len(graph.operators)


WRITTEN: Mapping[str, Callable[[Path], Graph]] = {
    "ten layers": lambda data: adapt(student(10, per_channel=False)),
    "ten layers, a scale a channel": lambda data: adapt(student(10, per_channel=True)),
    "digits": lambda data: adapt(load_model(data / "digits" / "student.keras")),
    "keyword spotting": lambda data: adapt(load_tflite(data / "models" / "kws_ref_model.tflite")),
    "anomaly detection": lambda data: adapt(load_tflite(data / "models" / "ad01_int8.tflite")),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_a_file_takes_at_most_4_kilobytes_for_ten_layers_beyond_its_parameters(case: str, data: Path) -> None:
    beyond, layers = beyond_parameters(emitted(WRITTEN[case](data)))
    assert beyond <= 4096 * layers / 10


def test_a_file_that_is_read_and_written_again_is_not_longer(data: Path) -> None:
    for name in ("kws_ref_model", "ad01_int8"):
        path = data / "models" / f"{name}.tflite"
        assert len(emitted(adapt(load_tflite(path)))) < path.stat().st_size


def test_of_several_scales_the_bias_has_none(data: Path) -> None:
    """No kernel reads them; a single one is compared with that of the sums."""
    for per_channel in (False, True):
        (graph,) = parsed(emitted(adapt(student(3, per_channel=per_channel)))).subgraphs
        told = {one.name.decode(): one.quantization for one in graph.tensors}
        assert len(told["layer0/weight"].scale) == (16 if per_channel else 1)
        assert (told["layer0/bias"] is None) == per_channel


def test_litert_reads_the_file_too(digits: Graph) -> None:
    """Its rounding is another, so that its outputs may differ; the file must load and its tensors be the same."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_content=emitted(digits))
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["name"], given["shape"].tolist()) == ("image", [1, 8, 8, 1])
    assert (result["name"], result["quantization"]) == ("logits", (0.25, 0))


def test_a_missing_schema_says_what_to_install(digits: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatbuffer, "_SCHEMAS", ("edgeflow_no_such_module",))
    with pytest.raises(MissingTool) as caught:
        emitted(digits)
    assert str(caught.value) == 'the TFLite schema is not installed\n  fix: pip install "edgeflow[tflm]"'


def test_loading_the_backend_loads_neither_flatbuffers_nor_the_wheel() -> None:
    code = (
        "import sys, edgeflow.backends.tflm.backend;"
        "print(sorted({'flatbuffers', 'tflite_micro', 'ai_edge_litert', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
