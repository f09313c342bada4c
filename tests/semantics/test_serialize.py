from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph, State
from edgeflow.ir.types import Dyadic, TensorType
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.serialize import MODEL, WEIGHTS, from_files, graph_digest, load_graph, to_files
from edgeflow.semantics.text import show_graph
from tests.crossing import FORMS, Form
from tests.graphs import extreme_inputs

AGAIN = "\n  fix: import the model again"


def test_a_round_trip_gives_equal_bytes_and_results(graph: Graph) -> None:
    files = to_files(graph)
    back = from_files(files, "here")
    assert to_files(back) == files
    assert show_graph(back) == show_graph(graph)
    assert graph_digest(back) == graph_digest(graph)
    x = np.random.default_rng(1).integers(-8, 8, (5, 4, 4, 2))
    expected, actual = interpret(graph, {"x": x})[0], interpret(back, {"x": x})[0]
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values)


def test_states_and_odd_names_survive(graph: Graph) -> None:
    state = State("größe */", TensorType((16,), -9999, 9999), Dyadic(0), "flat")
    odd = replace(graph, name='"\n☃', states=(state,))
    back = from_files(to_files(odd), "here")
    assert (back.name, back.states) == ('"\n☃', (state,))


def test_the_digest_sees_every_weight(graph: Graph) -> None:
    dense: Any = graph.nodes[-1]
    other_op = replace(dense.op, bias=np.array([1, 2, 4]))
    other = replace(graph, nodes=(*graph.nodes[:-1], replace(dense, op=other_op)))
    assert graph_digest(other) != graph_digest(graph)


def test_arrays_are_read_only(graph: Graph) -> None:
    back: Any = from_files(to_files(graph), "here")
    with pytest.raises(ValueError, match="read-only"):
        back.nodes[-1].op.weight[0, 0] = 1


def test_a_folder(graph: Graph, tmp_path: Path) -> None:
    for name, content in to_files(graph).items():
        (tmp_path / name).write_bytes(content)
    assert to_files(load_graph(tmp_path)) == to_files(graph)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(EdgeflowError) as caught:
        load_graph(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no model.json here, so not an imported model\n  fix: edgeflow import student.keras -o {tmp_path}"
    )


def edited(graph: Graph, **change: Any) -> dict[str, bytes]:
    files = to_files(graph)
    return {**files, MODEL: json.dumps({**json.loads(files[MODEL]), **change}).encode()}


def failure(files: dict[str, bytes]) -> str:
    with pytest.raises(EdgeflowError) as caught:
        from_files(files, "here")
    return str(caught.value)


def test_another_version(graph: Graph) -> None:
    assert failure(edited(graph, edgeflow_graph=99)) == (
        "here: graph file version 99, this edgeflow reads 2\n  fix: import the model again with this edgeflow"
    )


def test_an_unknown_op(graph: Graph) -> None:
    nodes = json.loads(to_files(graph)[MODEL])["nodes"]
    nodes[0]["op"] = "__import__"
    assert failure(edited(graph, nodes=nodes)) == (
        "here: damaged graph file (ValueError: unknown op '__import__')" + AGAIN
    )


def test_a_graph_that_breaks_a_rule(graph: Graph) -> None:
    assert failure(edited(graph, outputs=[])) == "here: damaged graph file: the graph has no output" + AGAIN


def test_pickled_arrays_are_refused(graph: Graph) -> None:
    stream = io.BytesIO()
    np.savez(stream, a0=np.array([{}], dtype=object))
    assert "Object arrays cannot be loaded when allow_pickle=False" in failure(
        {**to_files(graph), WEIGHTS: stream.getvalue()}
    )


def test_a_bomb_is_refused(graph: Graph) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a0.npy", bytes(257 << 20))
    assert failure({**to_files(graph), WEIGHTS: stream.getvalue()}) == (
        "here: damaged graph file (ValueError: the arrays are larger than 256 MiB)" + AGAIN
    )


def changed_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data)))
        match int(rng.integers(4)):
            case 0:
                data[at] = int(rng.integers(256))
            case 1:
                data[at : at + int(rng.integers(1, 40))] = b""
            case 2:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
            case _:
                data[at] = int(rng.choice(np.frombuffer(b'0123456789-"[]{},:', dtype=np.uint8)))
    return bytes(data)


def changed_values(content: bytes, rng: np.random.Generator) -> bytes:
    """model.json with one to three values replaced or removed."""
    data = json.loads(content)
    odd: list[Any] = [None, -1, 0, 1, 2, 1.5, 10**30, -(10**30), 1 << 40, 1 << 62, "", "x", [], {}, [None], True]
    for _ in range(int(rng.integers(1, 4))):
        places: list[tuple[Any, Any]] = []
        stack = [data]
        while stack:
            value = stack.pop()
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                places.append((value, key))
                if isinstance(value[key], (dict, list)):
                    stack.append(value[key])
        holder, key = places[int(rng.integers(len(places)))]
        if rng.random() < 0.15:
            del holder[key]
        else:
            holder[key] = odd[int(rng.integers(len(odd)))]
        if not data:
            break
    return json.dumps(data).encode()


def check_mutations(graph: Graph, count: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    files, loaded, texts = to_files(graph), 0, list[str]()
    for number in range(count):
        mutant = dict(files)
        match number % 4:
            case 0:
                mutant[MODEL] = changed_bytes(files[MODEL], rng)
            case 1:
                mutant[WEIGHTS] = changed_bytes(files[WEIGHTS], rng)
            case _:
                mutant[MODEL] = changed_values(files[MODEL], rng)
        try:
            back = from_files(mutant, "here")
        except EdgeflowError as error:
            texts.append(str(error))
            continue
        to_files(back)
        show_graph(back)
        loaded += 1
    for text in texts:
        assert text.startswith("here: ")
        assert len(text.splitlines()) == 2
        assert len(text) < 260
    return loaded


def test_damaged_files(graph: Graph) -> None:
    assert check_mutations(graph, 600, 3) < 300


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_damaged_files(graph: Graph, seed: int) -> None:
    check_mutations(graph, 2000, 40 + seed)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.id)
def test_every_form_of_every_op_survives_the_file(form: Form) -> None:
    graph = form.graph()
    back = from_files(to_files(graph), "here")
    assert to_files(back) == to_files(graph)
    assert show_graph(back) == show_graph(graph)
    inputs = extreme_inputs(graph, 1, 9)
    expected, actual = interpret(graph, inputs)[0], interpret(back, inputs)[0]
    np.testing.assert_array_equal(actual["y"], expected["y"])
    check_mutations(graph, 40, 5)


def changed_parameter(form: str, name: str, value: object, shape: list[int] | None = None) -> dict[str, bytes]:
    files = to_files(next(one for one in FORMS if one.id == form).graph())
    data = json.loads(files[MODEL])
    data["nodes"][-1]["parameters"][name] = value
    data["nodes"][-1]["shape"] = shape or data["nodes"][-1]["shape"]
    return {**files, MODEL: json.dumps(data).encode()}


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            changed_parameter("Upsample-nearest", "zeros", 1),
            "here: damaged graph file (TypeError: 1 is not a <class 'bool'>)",
        ),
        (
            changed_parameter("Concat-rows", "axis", True),
            "here: damaged graph file (TypeError: True is not a <class 'int'>)",
        ),
        (
            changed_parameter("Pad-channels", "pads", [[0, 0], [0, 0], [0, 1 << 30]]),
            "here: damaged graph file: layer 'op' (Pad 'op'): has shape (3, 4, 1073741826), its type says (3, 4, 5)",
        ),
        (
            changed_parameter("Pad-channels", "pads", [[0, 0], [0, 0], [0, 1 << 30]], [3, 4, (1 << 30) + 2]),
            "here: damaged graph file: layer 'op' (Pad 'op'): shape (3, 4, 1073741826) has more than 2^24 elements",
        ),
    ],
)
def test_hostile_parameters(files: dict[str, bytes], text: str) -> None:
    assert failure(files).startswith(text)
