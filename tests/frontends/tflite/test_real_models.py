"""Two reference models of MLPerf Tiny: TFLite-Micro's bytes, and quick to import and to interpret."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgeflow.frontends.tflite import load_tflite
from edgeflow.frontends.tflite.reader import read_tflite
from edgeflow.semantics.interpret import interpret
from tests.frontends.tflite.wheel import ask_wheel, differences, random_inputs

MODELS = ("kws_ref_model", "ad01_int8")


def differing(path: Path, samples: int) -> int:
    """How many values the imported model gives that the wheel does not."""
    content = path.read_bytes()
    inputs = random_inputs(read_tflite(content, path.name), samples, seed=1)
    (answer,) = ask_wheel([content], [inputs], [1])
    return differences(load_tflite(path), inputs, answer)


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_bytes_of_tflite_micro(data: Path, name: str) -> None:
    assert differing(data / "models" / f"{name}.tflite", 20) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_bytes_of_tflite_micro_on_many_inputs(data: Path, name: str) -> None:
    assert differing(data / "models" / f"{name}.tflite", 1000) == 0


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_imported_in_less_than_a_second(data: Path, name: str) -> None:
    start = time.process_time()
    graph = load_tflite(data / "models" / f"{name}.tflite")
    assert time.process_time() - start < 1.0
    assert graph.nodes


@pytest.mark.slow
def test_keyword_spotting_interprets_1000_inputs_in_10_seconds(data: Path) -> None:
    graph = load_tflite(data / "models" / "kws_ref_model.tflite")
    (source,) = graph.inputs
    x = np.random.default_rng(0).integers(source.type.lo, source.type.hi + 1, (1000, *source.type.shape))
    start = time.process_time()
    outputs, _ = interpret(graph, {source.name: x})
    assert time.process_time() - start < 10.0
    assert outputs[graph.outputs[0].name].shape == (1000, 12)
