"""Every file form of both QKeras: the imported graph gives what that QKeras predicted when it wrote the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.frontends import load_model
from edgeflow.frontends.qkeras import import_content
from edgeflow.frontends.qkeras.content import Content, parse_content, read_content
from edgeflow.frontends.qkeras.reader import ONLY_WEIGHTS, OnlyWeights, read
from edgeflow.ir.graph import Graph
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.semantics.serialize import to_files

Saved = Callable[[str], Path]

ONE_FILE = [".keras", ".h5"]
NEW_PAIRS = [".weights.h5", ".h5", ".keras"]
MODELS = ["plain", "bare", "late", "headless", "branches", "shared", "nested", "scopes", "frozen", "ends", "sequence"]


def loaded(path: str, weights: str | None = None) -> Graph:
    """As load_model, without its child process: these files are our own."""
    content = read(Path(path).read_bytes(), None if weights is None else Path(weights).read_bytes())
    return import_content(parse_content(content, path), path)


def assert_predicts(graph: Graph, vectors: Path) -> None:
    """0 values may differ from what QKeras predicted; inputs and outputs in the model's own order."""
    stored = np.load(vectors)
    given = {one.name: to_integers(stored[f"x{n}"], one.type, one.label) for n, one in enumerate(graph.inputs)}
    results, _ = interpret(graph, given)
    assert len(graph.outputs) == sum(name.startswith("y") for name in stored.files)
    for number, output in enumerate(graph.outputs):
        reals = to_reals(results[output.name], graph.tensor(output.tensor).label)
        np.testing.assert_array_equal(reals, stored[f"y{number}"].astype(np.float64))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("age", ["v3", "v09"])
def test_every_form_equals_predict(saved: Saved, age: str, model: str) -> None:
    stem = saved(age) / model
    graphs = [loaded(f"{stem}{end}") for end in ONE_FILE]
    pairs = [*NEW_PAIRS, "_weights.h5"] if age == "v09" else NEW_PAIRS
    graphs += [loaded(f"{stem}.json", f"{stem}{end}") for end in pairs]
    assert_predicts(graphs[0], Path(f"{stem}.npz"))
    files = [to_files(graph) for graph in graphs]
    assert all(one == files[0] for one in files)


@pytest.mark.parametrize("age", ["v3", "v09"])
def test_a_model_in_two_places(saved: Saved, age: str) -> None:
    """An .h5 file holds its weights twice; a .keras file holds them once, and Keras cannot load it either."""
    stem = saved(age) / "twin"
    assert_predicts(load_model(Path(f"{stem}.h5")), Path(f"{stem}.npz"))
    with pytest.raises(EdgeflowError, match=r"^layer 'one/d' \(QDense\): the file holds no kernel for it"):
        load_model(Path(f"{stem}.keras"))


@pytest.mark.parametrize(
    ("model", "age", "inputs", "outputs"),
    [
        ("plain", "v3", ["x"], ["d2"]),
        ("bare", "v09", ["q_input"], ["d2"]),
        ("headless", "v09", ["front_input"], ["e"]),
        ("shared", "v3", ["a", "b"], ["o", "d"]),
        ("nested", "v3", ["x"], ["three", "d"]),
        ("ends", "v3", ["a", "b"], ["swap", "join"]),
        ("ends", "v09", ["a", "b"], ["swap", "join"]),
        ("sequence", "v09", ["x"], ["end"]),
    ],
)
def test_ends_have_the_names_that_keras_gives_them(
    saved: Saved, model: str, age: str, inputs: list[str], outputs: list[str]
) -> None:
    graph = loaded(str(saved(age) / f"{model}.keras"))
    assert [one.name for one in graph.inputs] == inputs
    assert [one.name for one in graph.outputs] == outputs


@pytest.mark.parametrize("end", [".weights.h5", "_weights.h5", ".h5"])
def test_weights_beside_a_json_are_found(tmp_path: Path, saved: Saved, end: str) -> None:
    folder = saved("v09")
    shutil.copy(folder / "plain.json", tmp_path / "model.json")
    shutil.copy(folder / f"plain{end}", tmp_path / f"model{end}")
    assert to_files(load_model(tmp_path / "model.json")) == to_files(load_model(folder / "plain.keras"))


def test_weights_that_are_missing_wrong_or_too_many(tmp_path: Path, saved: Saved) -> None:
    folder, json_file, other = saved("v3"), tmp_path / "model.json", tmp_path / "other.h5"
    shutil.copy(folder / "plain.json", json_file)
    other.write_text("hello")
    cases = [
        (
            (json_file, None),
            f"{json_file}: holds an architecture without weights, and beside it stands no model.weights.h5, "
            "model_weights.h5 or model.h5\n"
            "  fix: add --weights FILE, saved with model.save_weights('model.weights.h5')",
        ),
        (
            (json_file, tmp_path / "no.h5"),
            f"{tmp_path / 'no.h5'}: does not exist\n  fix: check the path",
        ),
        (
            (json_file, other),
            f"{other}: damaged or not a Keras model: it does not begin like a .h5 file\n"
            "  fix: save them with model.save_weights('model.weights.h5')",
        ),
        (
            (folder / "plain.keras", other),
            f"{folder / 'plain.keras'}: holds its own weights\n  fix: leave out --weights",
        ),
        (
            (folder / "plain.weights.h5", None),
            f"{folder / 'plain.weights.h5'}: holds only weights, no model\n"
            "  fix: give the text of model.to_json() too: edgeflow import model.json --weights THIS_FILE",
        ),
    ]
    for (path, weights), text in cases:
        with pytest.raises(EdgeflowError) as caught:
            load_model(path, weights)
        assert str(caught.value) == text


def test_weights_of_another_model(saved: Saved) -> None:
    folder = saved("v3")
    with pytest.raises(EdgeflowError) as caught:
        load_model(folder / "plain.json", folder / "shared.weights.h5")
    assert str(caught.value).startswith("layer 'd1' (QDense): its kernel has shape (4, 4) in the file")


def test_json_as_text_within_json_and_with_a_byte_order_mark(tmp_path: Path, saved: Saved) -> None:
    folder = saved("v3")
    text = (folder / "plain.json").read_text()
    whole = to_files(load_model(folder / "plain.h5"))
    for content in (json.dumps(text).encode(), b"\xef\xbb\xbf" + text.encode(), b"\n  " + text.encode()):
        (tmp_path / "model.json").write_bytes(content)
        assert to_files(load_model(tmp_path / "model.json", folder / "plain.weights.h5")) == whole


def test_an_imported_graph_given_as_architecture(tmp_path: Path, saved: Saved) -> None:
    folder = saved("v3")
    (tmp_path / "model.json").write_bytes(to_files(load_model(folder / "plain.h5"))["model.json"])
    with pytest.raises(EdgeflowError) as caught:
        load_model(tmp_path / "model.json", folder / "plain.weights.h5")
    assert caught.value.what == "an imported graph, not a Keras model"
    assert caught.value.fix == "give the folder that it is in"


def test_names_that_keras_cuts_into_several_attributes(tmp_path: Path, saved: Saved) -> None:
    """Keras splits lists of names above 64 kB: layer_names0, layer_names1 ..."""
    path = tmp_path / "plain.h5"
    shutil.copy(saved("v3") / "plain.h5", path)
    with h5py.File(path, "r+") as file:
        group: Any = file["model_weights"]
        names = list(group.attrs["layer_names"])
        del group.attrs["layer_names"]
        group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:1], names[1:]
    assert to_files(load_model(path)) == to_files(load_model(saved("v3") / "plain.h5"))


def test_a_frozen_layer_of_a_nested_model_keeps_its_own_weights(saved: Saved) -> None:
    """Keras lists trainable weights first, so the order in the file is not that of the layers."""
    content = read_content(saved("v09") / "frozen.h5")
    inner = [one.slot for one in content.arrays if one.key == "inner"]
    assert inner == ["r/kernel", "r/bias", "p/kernel", "p/bias"]
    assert_predicts(import_content(content, "x"), saved("v09") / "frozen.npz")


def test_the_reader_tells_weights_from_damage(saved: Saved) -> None:
    assert ONLY_WEIGHTS == 4
    with pytest.raises(OnlyWeights):
        read((saved("v09") / "plain_weights.h5").read_bytes())


def test_a_sequential_without_its_input_layer(saved: Saved) -> None:
    """The shape may stand in the first layer, in the first model's own input, or in what the model was built with."""
    content = read_content(saved("v09") / "bare.h5")
    whole = import_content(content, "x")

    def without(change: Callable[[dict[str, Any]], object]) -> Graph:
        config: Any = json.loads(json.dumps(content.config))
        del config["config"]["layers"][0]
        change(config)
        return import_content(Content(content.format, config, content.arrays), "x")

    def built(config: dict[str, Any]) -> None:
        del config["config"]["layers"][0]["config"]["batch_input_shape"]
        config["config"]["build_input_shape"] = [None, 5]

    assert without(lambda config: None).inputs == whole.inputs
    assert [one.name for one in without(built).inputs] == ["input_layer"]
    assert to_files(without(built))["weights.npz"] == to_files(whole)["weights.npz"]
    with pytest.raises(EdgeflowError) as caught:
        without(lambda config: (built(config), config["config"].pop("build_input_shape")))
    assert str(caught.value) == (
        "layer 'input_layer' (InputLayer): the model does not say what it reads\n"
        "  fix: start it with keras.Input(shape)"
    )
