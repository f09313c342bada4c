"""`edgeflow quantize` from a Keras file to verified firmware: accuracy, the folder, its words and its refusals."""

# pyright: basic
from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeflow import pipeline, verification
from edgeflow.backends import BACKENDS
from edgeflow.board import load_board
from edgeflow.budget import Limits
from edgeflow.cli import app
from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, Dyadic
from edgeflow.ops.conv import Conv
from edgeflow.ops.requant import Requant
from edgeflow.semantics.serialize import graph_digest, load_graph
from edgeflow.train.calibrate import Options, Quantized, quantize_model, write_quantized
from edgeflow.train.runtime import load_runtime, quiet
from edgeflow.vectors import read_vectors

pytestmark = pytest.mark.xdist_group("keras")


def small(k: Any, layers: Any) -> Any:
    return k.Sequential(
        [
            k.Input((8, 8, 1), name="image"),
            layers.Flatten(),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(10, "softmax", name="digit"),
        ]
    )


def convolutional(k: Any, layers: Any) -> Any:
    return k.Sequential(
        [
            k.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", use_bias=False, name="first"),
            layers.BatchNormalization(momentum=0.8),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=0.8),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(10),
            layers.Softmax(),
        ]
    )


def mobile(k: Any, layers: Any) -> Any:
    def norm(x: Any) -> Any:
        return layers.BatchNormalization(momentum=0.8)(x)

    image = k.Input((8, 8, 1), name="image")
    x = layers.Rescaling(2.0, offset=-1)(image)
    x = layers.ReLU(6.0)(norm(layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(x)))
    for number in range(2):
        before = x
        x = layers.ReLU(6.0)(norm(layers.Conv2D(16, 1, use_bias=False, name=f"wide{number}")(x)))
        x = layers.ReLU(6.0)(norm(layers.DepthwiseConv2D(3, padding="same", name=f"depthwise{number}")(x)))
        x = norm(layers.Conv2D(8, 1, use_bias=False, name=f"narrow{number}")(x))
        x = layers.Add(name=f"add{number}")([before, x])
    return k.Model(image, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x)), name="mobile")


MODELS = {"small": (small, 8), "convolutional": (convolutional, 4), "mobile": (mobile, 5)}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the digits as digits.npz, and three models trained on them."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    x, y = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32), labels.astype(np.int64)
    np.savez(folder / "digits.npz", x_train=x[:1437], y_train=y[:1437], x_test=x[1437:], y_test=y[1437:])
    keras, _, _ = load_runtime()
    with quiet():
        for name, (build, epochs) in MODELS.items():
            keras.backend.clear_session()
            keras.utils.set_random_seed(2)
            model = build(keras, keras.layers)
            model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", jit_compile=False)
            model.fit(x[:1437], y[:1437], batch_size=48, epochs=epochs, verbose=0)
            model.save(folder / f"{name}.keras")
    return folder


@pytest.fixture(scope="module")
def quantized(digits: Path) -> dict[str, Quantized]:
    """The three models with the default options."""
    return {name: quantize_model(digits / f"{name}.keras", digits / "digits.npz", Options()) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_accuracy_stays(name: str, quantized: dict[str, Quantized], digits: Path) -> None:
    found = quantized[name]
    measured = found.measured
    assert (measured.samples, found.calibrated, found.held_out) == (360, 512, True)
    assert measured.float_accuracy is not None
    assert measured.float_accuracy > 0.7
    assert measured.change is not None
    assert abs(measured.change) <= 1.5
    (output,) = measured.outputs
    assert output.agreement is not None
    assert output.agreement >= 0.97
    assert output.decibels is not None
    assert output.decibels > 20


def test_float_accuracy_is_what_keras_measures(digits: Path, quantized: dict[str, Quantized]) -> None:
    keras, _, _ = load_runtime()
    data = np.load(digits / "digits.npz")
    for name, found in quantized.items():
        with quiet():
            model = keras.models.load_model(digits / f"{name}.keras", compile=False)
            decided = np.asarray(model(data["x_test"])).argmax(axis=1)
        assert found.measured.float_accuracy == float((decided == data["y_test"]).mean())


def kinds(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes]


def test_the_graph_has_tflites_form(quantized: dict[str, Quantized]) -> None:
    graph = quantized["convolutional"].graph
    assert kinds(graph) == ["Conv", "Requant", "MaxPool", "Conv", "Requant", "Reshape", "Dense", "Requant"]
    assert [node.layer for node in graph.nodes[:2]] == ["first", "first"]
    assert graph.inputs[0].label == Affine(float(np.float32(1 / 255)), -128)
    assert (graph.inputs[0].type.lo, graph.inputs[0].type.hi) == (-128, 127)
    assert graph.outputs[0].logits
    for node in graph.nodes:
        if isinstance(node.op, Requant):
            assert [(one.rounding.value, one.shift.tolist()) for one in node.op.stages[:1]] == [("half_up", [31])]
            assert node.op.stages[1].rounding.value == "half_away"
        if isinstance(node.op, Conv):
            assert np.abs(node.op.weight).max() == 127
            label = graph.tensor(node.inputs[0]).label
            assert isinstance(label, Affine)
            assert node.op.pad_value == label.zero_point


def test_powers_of_two_have_dyadic_labels_and_plain_shifts(digits: Path) -> None:
    found = quantize_model(digits / "convolutional.keras", digits / "digits.npz", Options(power_of_two=True))
    assert all(isinstance(one.label, Dyadic) for one in found.graph.tensors())
    requants = [node.op for node in found.graph.nodes if isinstance(node.op, Requant)]
    assert {len(one.stages) for one in requants} == {1}
    assert all((one.multiplier == 1).all() for one in requants)
    assert abs(found.measured.change or 0.0) <= 1.5


@pytest.mark.parametrize("options", [{"bits": 4}, {"per_tensor": True}, {"activation_bits": 6}, {"samples": 64}])
def test_other_options_cost_a_little(options: dict[str, Any], digits: Path, quantized: dict[str, Quantized]) -> None:
    found = quantize_model(digits / "convolutional.keras", digits / "digits.npz", Options(**options))
    assert abs(found.measured.change or 0.0) <= 3.0
    best = quantized["convolutional"].measured.outputs[0].decibels
    assert best is not None
    assert 10 < (found.measured.outputs[0].decibels or 0.0) < best


def test_the_same_input_gives_the_same_bytes(digits: Path, quantized: dict[str, Quantized]) -> None:
    again = quantize_model(digits / "small.keras", digits / "digits.npz", Options())
    assert graph_digest(again.graph) == graph_digest(quantized["small"].graph)


def test_layers_noise_names_the_costliest(quantized: dict[str, Quantized]) -> None:
    found = quantized["mobile"]
    assert [one.layer for one in found.layers][:5] == ["first", "wide0", "depthwise0", "narrow0", "add0"]
    worst = found.costliest
    assert worst is not None
    assert worst.added == min(one.added for one in found.layers if one.added is not None)


@pytest.mark.parametrize("name", ["convolutional", "mobile"])
def test_built_and_verified_bit_for_bit(name: str, quantized: dict[str, Quantized], tmp_path: Path) -> None:
    write_quantized(quantized[name], tmp_path / "graph")
    graph = pipeline.open_graph(tmp_path / "graph")
    pipeline.build(graph, load_board("nucleo-f446re"), "c", {}, tmp_path / "firmware")
    vectors = read_vectors(tmp_path / "graph" / "vectors.npz")
    _, found, verdict = verification.verify(tmp_path / "firmware", vectors, ("host",))
    assert found.bit_exact
    assert verdict.fits
    assert [one.runner for one in found.comparisons] == ["graph", "host"]
    assert found.accuracy == quantized[name].measured.accuracy
    command = ["verify", str(tmp_path / "firmware"), "--vectors", str(tmp_path / "graph" / "vectors.npz")]
    result = CliRunner().invoke(app, [*command, "--runner", "host"])
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines()[:2]] == [["integer", "graph"], ["C", "on"]]
    assert (
        f"  accuracy of the integers: {(found.accuracy or 0.0) * 100:.2f} % on the vectors' labels\n" in result.stdout
    )


def test_tflite_micros_kernels_compute_the_graph_as_it_stands(quantized: dict[str, Quantized]) -> None:
    board = load_board("nucleo-f446re")
    for name in ("small", "convolutional"):
        graph = quantized[name].graph
        adapted = BACKENDS["tflm"].adapt(graph, board, BACKENDS["tflm"].Options())
        assert graph_digest(adapted) == graph_digest(graph)


def test_every_backend_takes_powers_of_two(digits: Path) -> None:
    graph = quantize_model(digits / "convolutional.keras", digits / "digits.npz", Options(power_of_two=True)).graph
    for backend, board in (("c", "rpi-pico"), ("tflm", "nucleo-f446re"), ("hls4ml", "pynq-z2")):
        assert pipeline.check(graph, load_board(board), backend, {}, Limits()).findings == ()


def test_command(digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "graph"
    base = ["quantize", str(digits / "small.keras"), "--data", str(digits / "digits.npz"), "-o", str(output)]
    result = CliRunner().invoke(app, [*base, "--explain"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "  calibrated on   512 samples, ranges by mse",
        "  weights         int8, one scale an output channel",
        "  values          int8",
    ]
    assert lines[4].split() == ["float", "integers", "change", "on", "360", "held-out", "samples"]
    assert [line.split("  ")[1] for line in lines[5:8]] == ["accuracy", "same decision", "signal over noise"]
    assert [line.split()[0] for line in lines[9:12]] == ["layer", "hidden", "digit"]
    assert "  note: 'digit': its softmax is left out, the output is its logits (the largest class is the same)" in lines
    assert lines[-3:] == [
        f"  wrote {output}: model.json, weights.npz, vectors.npz, quantize.json",
        f"  next: edgeflow build {output} --board nucleo-f446re -o firmware",
        f"        edgeflow verify firmware --vectors {output / 'vectors.npz'}",
    ]
    names = sorted(path.name for path in output.iterdir())
    assert names == ["edgeflow.json", "model.json", "quantize.json", "vectors.npz", "weights.npz"]
    result = CliRunner().invoke(app, [*base, "--json"])
    assert result.exit_code == 2
    assert "the output folder exists" in result.stdout + result.stderr
    result = CliRunner().invoke(app, [*base, "--force", "--json", "--power-of-two", "--no-equalize", "--bits", "6"])
    record = json.loads(result.stdout)
    assert record["digest"] == graph_digest(load_graph(output))
    assert record["options"] == {
        "samples": 512,
        "method": "mse",
        "bits": 6,
        "activation_bits": 8,
        "per_tensor": False,
        "power_of_two": True,
        "equalize": False,
        "correct_bias": True,
    }
    assert {"path", "float_accuracy", "accuracy", "change", "layers", "outputs", "notes"} <= set(record)
    del record["path"]
    assert record == json.loads((output / "quantize.json").read_text())


def test_no_tensorflow_is_needed(digits: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['tensorflow', 'keras', 'qkeras', 'sklearn'])\n"
        "from edgeflow.cli import main\n"
        "main()\n"
    )
    words = ["quantize", str(digits / "small.keras"), "-d", str(digits / "digits.npz"), "-o", str(tmp_path / "graph")]
    finished = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "same decision" in finished.stdout


def test_the_commands_defaults_are_the_options_own(digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "graph"
    base = ["quantize", str(digits / "small.keras"), "--data", str(digits / "digits.npz"), "-o", str(output), "--json"]
    record = json.loads(CliRunner().invoke(app, base).stdout)
    assert Options(**record["options"]) == Options()


def refused(digits: Path, data: Path, model: str = "small.keras") -> str:
    with pytest.raises(EdgeflowError) as caught:
        quantize_model(digits / model, data, Options())
    return str(caught.value)


def test_data_that_do_not_fit(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    assert refused(digits, path).startswith(f"{path}: no such file\n  fix: give a .npy file")
    np.save(path, np.ones((50, 8, 8), np.float32))
    assert refused(digits, path) == (
        f'{path}: input "image" takes (n, 8, 8, 1), but the data has shape (50, 8, 8)\n'
        "  fix: give the samples along the first axis, in the shape that the model was trained on; "
        "for example x[..., None]"
    )
    np.save(path, np.full((50, 8, 8, 1), np.nan))
    assert refused(digits, path) == (
        f'{path}: the data for input "image" holds NaN or infinite values\n  fix: remove or replace them'
    )
    np.save(path, np.full((50, 8, 8, 1), 3.0))
    assert refused(digits, path) == (
        "every value of input 'image' is 3, so nothing can be calibrated\n"
        "  fix: give real samples of what the model will see"
    )
    (tmp_path / "model.json").write_text('{"class_name": "Sequential"}')
    assert refused(tmp_path, path, "model.json").endswith(
        "damaged or not a Keras model: a JSON architecture without weights\n"
        "  fix: save the model again with model.save('model.keras')"
    )
    assert refused(digits, path, "none.keras").startswith(f"{digits / 'none.keras'}: does not exist\n")
    assert refused(digits, path, "").startswith(f"{digits}: is a folder, not a model file\n")


def test_few_samples_and_unscaled_ones_are_said(digits: Path, tmp_path: Path) -> None:
    data = np.load(digits / "digits.npz")
    path = tmp_path / "data.npz"
    np.savez(path, x=data["x_test"][:20], y=data["y_test"][:20, None])
    found = quantize_model(digits / "small.keras", path, Options())
    assert not found.held_out
    assert found.measured.accuracy is not None
    assert found.notes[1:] == ("only 20 samples to calibrate on: ranges may be too narrow; give 100 or more",)
    np.savez(path, x=data["x_test"][:1])
    found = quantize_model(digits / "small.keras", path, Options())
    assert found.notes[-1].startswith("only 1 sample to calibrate on: ")
    random = np.random.default_rng(0).permutation(data["y_test"])
    np.savez(path, x=data["x_test"], y=np.where(random < 9, random, 0))
    found = quantize_model(digits / "small.keras", path, Options(samples=64))
    assert found.notes[-1].startswith("the float model itself is right on only ")
    assert found.notes[-1].endswith(" %: are the data scaled as they were in training?")


def test_without_labels_agreement_is_what_there_is(digits: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.load(digits / "digits.npz")["x_test"])
    found = quantize_model(digits / "small.keras", tmp_path / "x.npy", Options())
    assert (found.measured.float_accuracy, found.measured.accuracy, found.measured.change) == (None, None, None)
    assert found.measured.outputs[0].agreement is not None
    assert found.labels is None


def test_several_inputs_and_outputs_nested_models_and_a_single_probability(tmp_path: Path) -> None:
    keras, _, _ = load_runtime()
    layers = keras.layers
    with quiet():
        keras.utils.set_random_seed(0)
        left, right = keras.Input((6,), name="left"), keras.Input((4, 4, 2), name="right")
        inner = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(3, 3, activation="relu"), layers.Flatten()])
        both = layers.Concatenate(name="both")([left, inner(right)])
        yes = layers.Dense(1, activation="sigmoid", name="yes")(both)
        model = keras.Model({"left": left, "right": right}, [yes, layers.Dense(3, name="which")(both)])
        model.save(tmp_path / "m.keras")
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz",
        left=random.normal(size=(100, 6)),
        right=random.normal(size=(100, 4, 4, 2)),
    )
    found = quantize_model(tmp_path / "m.keras", tmp_path / "d.npz", Options())
    assert [one.name for one in found.graph.inputs] == ["left", "right"]
    assert [one.name for one in found.measured.outputs] == ["yes", "which"]
    assert all((one.agreement or 0.0) >= 0.95 and (one.decibels or 0.0) > 25 for one in found.measured.outputs)
    sigmoid = found.graph.tensor(found.graph.outputs[0].tensor)
    assert sigmoid.label == Affine(1 / 256, -128)
    assert replace(found.options) == Options()


def test_layers_that_cannot_be_quantized_are_refused_by_name(tmp_path: Path) -> None:
    keras, qkeras, _ = load_runtime()
    layers = keras.layers
    np.save(tmp_path / "x.npy", np.ones((4, 6, 4), np.float32))

    def message(*stack: Any) -> str:
        with quiet():
            keras.Sequential([keras.Input((6, 4)), *stack]).save(tmp_path / "m.keras")
        return refused(tmp_path, tmp_path / "x.npy", "m.keras")

    assert message(layers.Dense(3), layers.LSTM(4, name="memory")) == (
        "layer 'memory' (LSTM): LSTM is not supported yet (layer 3 of 3)\n"
        "  fix: use Conv1D over the time axis, or a Dense on a window of samples"
    )
    assert message(layers.PReLU(name="act")) == (
        "layer 'act' (PReLU): PReLU is not supported yet (layer 2 of 2)\n  fix: use LeakyReLU or ReLU"
    )
    assert message(qkeras.QDense(3, kernel_quantizer="quantized_bits(4,0,alpha=1)", name="q")) == (
        "layer 'q' (QDense): QDense is a QKeras layer, already quantized (layer 2 of 2)\n"
        f"  fix: edgeflow import {tmp_path / 'm.keras'} -o graph"
    )
    assert message(layers.Dense(3, activation="softmax", name="p"), layers.Dense(2, name="after")) == (
        "layer 'after' (Dense): it reads a softmax, and a softmax is supported at the end of a model only\n"
        "  fix: let it read the logits in front of the softmax"
    )
    assert message(layers.Conv1D(3, 2, name="c", data_format="channels_first")) == (
        "layer 'c' (Conv1D): data_format 'channels_first' is not supported\n  fix: use channels_last"
    )
    assert message(layers.BatchNormalization(axis=1, name="bn")) == (
        "layer 'bn' (BatchNormalization): its axis is 1, not the last one\n  fix: use axis=-1"
    )
    assert message(layers.Dense(3, activation="glu", name="d")).startswith(
        "layer 'd' (Dense): activation 'glu' is not supported"
    )
    assert message(layers.Lambda(lambda x: x, name="code")).startswith("layer 'code' (Lambda): a Lambda holds ")
    with quiet():
        dense = layers.Dense(2, name="d")
        model = keras.Sequential([keras.Input((6, 4)), dense])
        dense.set_weights([np.full((4, 2), np.nan), np.zeros(2)])
        model.save(tmp_path / "m.keras")
    assert refused(tmp_path, tmp_path / "x.npy", "m.keras") == (
        "layer 'd' (Dense): its kernel holds NaN or infinite values\n  fix: train it again: it has diverged"
    )
