"""What Keras computes from a model file, and the files and data that are refused."""

# pyright: basic
from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.train.predict import predict
from edgeflow.train.runtime import load_runtime, quiet, save_model
from edgeflow.vectors import InputData

pytestmark = pytest.mark.xdist_group("keras")


@pytest.fixture(scope="module")
def one_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """image (3,) -> Dense 'sum' with weights of one."""
    keras, qkeras, _ = load_runtime()
    path = tmp_path_factory.mktemp("one") / "one.keras"
    with quiet():
        image = keras.Input((3,), name="image")
        x = qkeras.QActivation(qkeras.quantized_bits(8, 3, alpha=1.0), name="q")(image)
        x = qkeras.QDense(1, kernel_quantizer=qkeras.quantized_bits(4, 2, alpha=1.0), name="sum")(x)
        model = keras.Model(image, x)
        model.get_layer("sum").set_weights([np.ones((3, 1)), np.zeros(1)])
        save_model(model, path)
        model.save(path.with_suffix(".h5"))
    return path


@pytest.fixture(scope="module")
def two_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """left and right (2,) -> their sum, twice over, and right times one."""
    keras, _, _ = load_runtime()
    path = tmp_path_factory.mktemp("two") / "two.keras"
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    total = keras.layers.Add(name="total")([left, right])
    copy = keras.layers.Flatten(name="copy")(right)
    save_model(keras.Model([left, right], [total, copy, total]), path)
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_outputs_carry_their_layers_name(one_input: Path, suffix: str) -> None:
    samples = np.array([[0.25, 0.5, 1.0], [1.0, 1.0, 1.0], [-9.0, 0.0, 0.0]])
    inputs, outputs = predict(one_input.with_suffix(suffix), samples, batch=2)
    assert {name: (array.dtype, array.tolist()) for name, array in outputs.items()} == {
        "sum": (np.float32, [[1.75], [3.0], [-8.0]])
    }
    assert list(inputs) == ["image"]
    assert np.array_equal(inputs["image"], samples)


@pytest.mark.parametrize("form", ["layer", "Activation", "of the last layer", "nested", "before an idle layer"])
def test_a_softmax_at_the_output_is_left_out(tmp_path: Path, form: str) -> None:
    keras, qkeras, _ = load_runtime()
    with quiet():
        last = "softmax" if form == "of the last layer" else None
        kernel = qkeras.quantized_bits(4, 2, alpha=1.0)
        layers = [keras.Input((2,)), qkeras.QDense(2, kernel_quantizer=kernel, activation=last, name="sums")]
        if form != "of the last layer":
            layers.append(keras.layers.Activation("softmax") if form == "Activation" else keras.layers.Softmax())
        if form == "before an idle layer":
            layers.append(keras.layers.Dropout(0.5))
        model = keras.Sequential(layers)
        model.get_layer("sums").set_weights([np.eye(2), np.zeros(2)])
        if form == "nested":
            model = keras.Sequential([keras.Input((2,)), model])
        save_model(model, tmp_path / "m.keras")
    _, outputs = predict(tmp_path / "m.keras", np.array([[3.0, -1.0]]))
    assert [one.tolist() for one in outputs.values()] == [[[3.0, -1.0]]]


def test_several_inputs_and_outputs(two_inputs: Path) -> None:
    left, right = np.array([[1.0, 2.0]], np.float32), np.array([[10.0, 20.0]], np.float32)
    inputs, outputs = predict(two_inputs, {"right": right, "left": left})
    assert list(inputs) == ["left", "right"]
    assert {name: array.tolist() for name, array in outputs.items()} == {
        "total": [[11.0, 22.0]],
        "copy": [[10.0, 20.0]],
        "total_2": [[11.0, 22.0]],
    }


ONES = np.ones((2, 3), np.float32)
BAD_INPUTS: dict[str, tuple[Any, str]] = {
    "shape": (
        InputData("some.npy", {}, np.ones((5, 8, 8), np.float32), None),
        'some.npy: input "image" takes (n, 3), but the data has shape (5, 8, 8)\n'
        "  fix: give the samples along the first axis, in the shape that the model was trained on",
    ),
    "name": (
        InputData("some.npz", {"imgae": ONES}, None, None),
        'some.npz: the model has no input "imgae"; did you mean "image"?\n  fix: its inputs: image',
    ),
    "none": ({}, 'no data for input "image"\n  fix: add an array of shape (n, 3)'),
    "not a number": (
        ONES * np.nan,
        'the data for input "image" holds NaN or infinite values\n  fix: remove or replace them',
    ),
}


@pytest.mark.parametrize(("inputs", "expected"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_inputs_that_do_not_fit(inputs: Any, expected: str, one_input: Path) -> None:
    with pytest.raises(EdgeflowError) as caught:
        predict(one_input, inputs)
    assert str(caught.value) == expected


def test_one_array_for_two_inputs(two_inputs: Path) -> None:
    with pytest.raises(EdgeflowError) as caught:
        predict(two_inputs, ONES)
    assert str(caught.value) == (
        "one array for a model with 2 inputs\n  fix: give an .npz with one array each: left, right"
    )


def test_a_layer_with_code_is_refused_by_name(tmp_path: Path) -> None:
    keras, _, _ = load_runtime()
    path = tmp_path / "code.keras"
    image = keras.Input((3,), name="image")
    with quiet():
        keras.Model(image, keras.layers.Lambda(lambda x: x * 2, name="double")(image)).save(path)
        keras.Model(image, keras.layers.Lambda(lambda x: x * 2, name="double")(image)).save(path.with_suffix(".h5"))
    for file in (path, path.with_suffix(".h5")):
        with pytest.raises(Unsupported) as caught:
            predict(file, ONES)
        assert str(caught.value) == (
            f"{file}: layer 'double' (Lambda) holds code, and edgeflow runs no code from a model file\n"
            "  fix: replace it by a layer of Keras or QKeras"
        )


def test_files_that_keras_cannot_load(one_input: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none.keras"
    with pytest.raises(EdgeflowError) as caught:
        predict(missing, ONES)
    assert str(caught.value) == f"{missing}: does not exist\n  fix: give a file saved with model.save('model.keras')"
    for name, content in {"text.keras": b"no model", "cut.keras": one_input.read_bytes()[:2000]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EdgeflowError):
            predict(tmp_path / name, ONES)

    keras, _, _ = load_runtime()

    class Own(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    image = keras.Input((3,), name="image")
    own = tmp_path / "own.keras"
    keras.Model(image, Own(name="own")(image)).save(own)
    with pytest.raises(EdgeflowError) as caught:
        predict(own, ONES)
    assert str(caught.value) == (
        f"{own}: layer 'own' (Own) is none of Keras' or QKeras' own\n  fix: replace it by a layer of Keras or QKeras"
    )
    wrong = tmp_path / "wrong.keras"
    with zipfile.ZipFile(one_input) as source, zipfile.ZipFile(wrong, "w") as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry).replace(b'"units": 1', b'"units": 7'))
    with pytest.raises(EdgeflowError) as caught:
        predict(wrong, ONES)
    assert str(caught.value).startswith(f"{wrong}: Keras cannot load this model: ")
    assert str(caught.value).endswith("\n  fix: save it again with the Keras and QKeras that are installed here")


def test_outputs_in_a_dict_keep_their_own_names(data: Path, tmp_path: Path) -> None:
    """Keras gives them in the order in which the dict was written, and `model.outputs` in that of its keys."""
    with tarfile.open(data / "qkeras" / "v3.tar.xz") as archive:
        for name in ("ends.keras", "ends.npz"):
            archive.extract(name, tmp_path, filter="data")
    stored = np.load(tmp_path / "ends.npz")
    _, outputs = predict(tmp_path / "ends.keras", {"a": stored["x0"], "b": stored["x1"]})
    np.testing.assert_array_equal(outputs["swap"], stored["y0"])
    np.testing.assert_array_equal(outputs["join"], stored["y1"])


def test_an_output_deep_inside_models(data: Path, tmp_path: Path) -> None:
    """The second output of a model whose own last layer is a model with one output."""
    with tarfile.open(data / "qkeras" / "v3.tar.xz") as archive:
        for name in ("nested.keras", "nested.npz"):
            archive.extract(name, tmp_path, filter="data")
    stored = np.load(tmp_path / "nested.npz")
    _, outputs = predict(tmp_path / "nested.keras", stored["x0"])
    np.testing.assert_array_equal(outputs["three"], stored["y0"])
    np.testing.assert_array_equal(outputs["d"], stored["y1"])
