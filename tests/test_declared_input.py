"""A model that does not quantize its inputs is told what its data is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow import pipeline
from edgeflow.errors import EdgeflowError
from edgeflow.frontends import load_model, round_inputs
from edgeflow.ir.types import Dyadic, TensorType
from tests.conftest import Command, NeedTool

INPUT = "quantized_bits(6, 1, alpha=1)"


@pytest.fixture(scope="module")
def raw_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras
    import qkeras

    kernel: Any = qkeras.quantized_bits(4, 0, alpha=1)
    path = tmp_path_factory.mktemp("raw") / "raw.keras"
    model = keras.Sequential([keras.Input((3,), name="x"), qkeras.QDense(2, kernel_quantizer=kernel, name="y")])
    model.layers[0].set_weights([np.array([[0.5, -0.25], [0.125, 0.75], [-0.5, 0.375]]), np.zeros(2)])
    model.save(path)
    return path


def test_the_input_has_the_declared_type(raw_model: Path) -> None:
    source = load_model(raw_model, declared=INPUT).inputs[0]
    assert (source.type, source.label) == (TensorType((3,), -32, 31), Dyadic(4))


def test_data_is_rounded_half_to_even_and_clipped() -> None:
    given = {"x": np.array([0.03125, 0.09375, 9.0, -9.0, 0.25])}
    assert round_inputs(INPUT, given)["x"].tolist() == [0.0, 0.125, 1.9375, -2.0, 0.25]


def test_import_predict_build_and_verify_agree(
    edgeflow: Command, raw_model: Path, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(0, 1, (40, 3)))
    made = tmp_path / "graph", tmp_path / "vectors", tmp_path / "firmware"
    for words in (
        ("import", raw_model, "--input", INPUT, "-o", made[0]),
        ("predict", raw_model, "--input", INPUT, "--data", tmp_path / "data.npz", "-o", made[1]),
        ("build", made[0], "--board", "rpi-pico", "-o", made[2]),
    ):
        assert edgeflow(*words).code == 0, words
    vectors = made[1] / "vectors.npz"
    answer = edgeflow("verify", made[2], "--vectors", vectors, "--runner", "host", "--json")
    assert answer.code == 0
    record = answer.json
    assert (record["reference"]["mismatches"], record["targets"][0]["mismatches"]) == (0, 0)


@pytest.mark.parametrize("text", ["quantized_tanh(4)", "quantized_bits(8, 0, alpha=2)", "relu"])
def test_anything_but_plain_steps_is_refused(raw_model: Path, text: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        load_model(raw_model, declared=text)
    assert str(caught.value).startswith(f"--input: {text} is no plain quantizer, from real numbers to the nearest step")
    assert str(caught.value).endswith(
        '\n  fix: use --input "quantized_bits(8, 0, alpha=1)" with your number of bits and integer bits'
    )


def test_an_unknown_quantizer_is_refused(raw_model: Path) -> None:
    with pytest.raises(EdgeflowError) as caught:
        load_model(raw_model, declared="quantised_bits(8)")
    assert str(caught.value).startswith("--input: ")


@pytest.mark.parametrize("words", [("check", "-b", "rpi-pico"), ("inspect",), ("build", "-b", "rpi-pico", "-o", "out")])
def test_every_command_that_opens_a_model_takes_input_and_hands_it_on(
    edgeflow: Command, raw_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = edgeflow(words[0], raw_model, *words[1:], "--input", INPUT)
    assert answer.code == 0
    assert f'{raw_model} --input "{INPUT}" ' in answer.out or "edgeflow verify out" in answer.out


QUANTIZED = Path(__file__).parent / "frontends" / "qkeras" / "data" / "small.keras"


@pytest.mark.parametrize("words", [("import", "-o", "out"), ("check", "-b", "rpi-pico"), ("inspect",)])
def test_a_model_that_quantizes_its_input_refuses_input(
    edgeflow: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = edgeflow(words[0], QUANTIZED, *words[1:], "--input", INPUT)
    assert answer.code == 2
    assert answer.err == (
        "error: layer 'quantize' (QActivation): it quantizes the model's input itself, so --input says nothing\n"
        "  fix: leave out --input\n"
    )
    assert not (tmp_path / "out").exists()


def test_predict_refuses_input_for_such_a_model_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.zeros((1, 6, 6, 1)))
    with pytest.raises(EdgeflowError, match="it quantizes the model's input itself, so --input says nothing"):
        pipeline.predict_folder(QUANTIZED, tmp_path / "data.npz", tmp_path / "out", declared=INPUT)


def test_a_folder_says_itself_what_its_inputs_are(raw_model: Path, tmp_path: Path) -> None:
    pipeline.import_model(raw_model, tmp_path / "graph", declared=INPUT)
    with pytest.raises(EdgeflowError) as caught:
        pipeline.open_graph(tmp_path / "graph", declared=INPUT)
    assert str(caught.value) == f"{tmp_path / 'graph'}: says itself what its inputs are\n  fix: leave out --input"


def test_predict_refuses_before_tensorflow_starts(
    raw_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("TensorFlow was started")

    monkeypatch.setattr("edgeflow.train.predict.predict", started)
    data, output = tmp_path / "data.npz", tmp_path / "vectors"
    np.savez(data, x=np.zeros((1, 3)))
    with pytest.raises(EdgeflowError, match="nothing quantizes this input"):
        pipeline.predict_folder(raw_model, data, output)
    output.mkdir()
    (output / "edgeflow.json").write_text("{}")
    with pytest.raises(EdgeflowError, match="the output folder exists"):
        pipeline.predict_folder(raw_model, data, output, declared=INPUT)
