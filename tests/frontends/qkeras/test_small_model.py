"""The saved small model: read without TensorFlow, equal to the outputs that QKeras gave when it was saved."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.frontends import load_model
from edgeflow.frontends.qkeras import import_content
from edgeflow.frontends.qkeras.content import Content
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.semantics.serialize import to_files

HOSTILE = ["*/ int x; /*", "int", "größe ☃", "a\nb", "$(rm -rf ~)", "\ud800", "'; DROP", "conv 1"]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_equals_what_qkeras_predicted(suffix: str, keras_file: Path) -> None:
    graph = load_model(keras_file.with_suffix(f".{suffix}"))
    vectors = np.load(keras_file.with_name("small.npz"))
    source, output = graph.inputs[0], graph.outputs[0]
    assert (graph.name, source.name, output.name) == ("small", "image", "logits")
    assert (source.type, source.label) == (TensorType((6, 6, 1), -128, 127), Dyadic(6))
    result, _ = interpret(graph, {"image": to_integers(vectors["image"], source.type, source.label)})
    reals = to_reals(result["logits"], graph.tensor(output.tensor).label)
    np.testing.assert_array_equal(reals, vectors["logits"].astype(np.float64))


def test_names_and_layers(keras_file: Path) -> None:
    graph = load_model(keras_file)
    assert [(node.name, type(node.op).__name__, node.layer) for node in graph.nodes] == [
        ("conv_1", "Conv", "conv_1"),
        ("conv_1_act", "Requant", "conv_1"),
        ("conv_2", "Conv", "conv_2"),
        ("conv_1_act_aligned", "Requant", "add"),
        ("add", "Add", "add"),
        ("relu_1", "Requant", "relu_1"),
        ("pool", "SumPool", "pool"),
        ("pool_act", "Requant", "pool_act"),
        ("flat", "Reshape", "flat"),
        ("logits", "Dense", "logits"),
    ]


def test_both_formats_give_one_graph(keras_file: Path, h5_file: Path) -> None:
    assert to_files(load_model(keras_file)) == to_files(load_model(h5_file))


def test_importing_loads_no_tensorflow(keras_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeflow.frontends import load_model; "
        f"load_model(Path({str(keras_file)!r})); "
        "assert not {'tensorflow', 'keras', 'qkeras', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def renamed(edited: Callable[..., Content], names: dict[str, str]) -> Graph:
    """The small model with some layers under other names, everywhere in its configuration."""

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rename(one) for key, one in value.items()}
        if isinstance(value, list):
            return [rename(one) for one in value]
        return names.get(value, value) if isinstance(value, str) else value

    def edit(layers: dict[str, Any]) -> None:
        layers[""]["config"] = rename(layers[""]["config"])

    return import_content(edited(edit), "x.keras")


@pytest.mark.parametrize("name", HOSTILE)
def test_any_layer_name_is_only_data(edited: Callable[..., Content], name: str) -> None:
    graph = renamed(edited, {"conv_1": name, "logits": name + "2", "image": name + "3"})
    kept = name.encode(errors="replace").decode()
    assert (graph.nodes[0].name, graph.nodes[0].layer) == (kept, kept)
    assert (graph.inputs[0].name, graph.outputs[0].name) == (kept + "3", kept + "2")
    to_files(graph)


def test_colliding_names_become_unique(edited: Callable[..., Content]) -> None:
    graph = renamed(edited, {"conv_2": "conv_1_act", "add": "conv_1_act_aligned"})
    names = [tensor.name for tensor in graph.tensors()]
    assert len(set(names)) == len(names)


def test_a_20_layer_model_imports_within_a_second(tmp_path: Path, edited: Callable[..., Content]) -> None:
    def lengthen(layers: dict[str, Any]) -> None:
        entries = layers[""]["config"]["layers"]
        for number in range(20):
            last = entries[-1]["config"]["name"]
            history = {"class_name": "__keras_tensor__", "config": {"keras_history": [last, 0, 0]}}
            act: Any = {**layers["relu_1"], "inbound_nodes": [{"args": [history], "kwargs": {}}]}
            entries.append({**act, "config": {**act["config"], "name": f"act_{number}"}, "name": f"act_{number}"})
        layers[""]["config"]["output_layers"] = ["act_19", 0, 0]

    content = edited(lengthen)
    start = time.perf_counter()
    import_content(content, "x")
    assert time.perf_counter() - start < 0.7


def test_reading_a_file_takes_under_a_second(keras_file: Path) -> None:
    start = time.perf_counter()
    load_model(keras_file)
    assert time.perf_counter() - start < 2
