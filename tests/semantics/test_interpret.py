from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph, Output, State
from edgeflow.ir.types import Dyadic, TensorType
from edgeflow.ops import Add
from edgeflow.semantics import interpret as module
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret, interpret_all


def samples(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(-8, 8, (count, 4, 4, 2))


def test_every_tensor_stays_within_its_type(graph: Graph) -> None:
    values = interpret_all(graph, {"x": samples(200)})
    for tensor in graph.tensors():
        assert values[tensor.name].shape == (200, *tensor.type.shape)
        assert tensor.type.lo <= values[tensor.name].min()
        assert values[tensor.name].max() <= tensor.type.hi


def test_outputs_by_name_and_samples_on_their_own(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    x = samples(9)
    outputs, states = interpret(graph, {"x": x})
    assert list(outputs) == ["scores", "sum"]
    assert states == {}
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 100)
    again, _ = interpret(graph, {"x": np.asarray(x, dtype=np.int8)})  # pyright: ignore[reportArgumentType]
    for name, values in outputs.items():
        np.testing.assert_array_equal(again[name], values)
        alone, _ = interpret(graph, {"x": x[4:5]})
        np.testing.assert_array_equal(alone[name], values[4:5])


def counter() -> Graph:
    """y = x + h, and h becomes y as long as it stays small (the type says so)."""
    builder = GraphBuilder("counter")
    x = builder.input("x", TensorType((1,), 0, 3), Dyadic(0))
    h = builder.input("h", TensorType((1,), 0, 3), Dyadic(0))
    total = builder.add(Add((1, 1)), (x, h), Dyadic(0), "sum")
    builder.output("y", total)
    graph = builder.finish()
    state = State("h", TensorType((1,), 0, 3), Dyadic(0), "x")
    return replace(graph, inputs=graph.inputs[:1], states=(state,), outputs=(Output("y", total),))


def test_states_start_at_zero_and_are_handed_back() -> None:
    graph = counter()
    outputs, states = interpret(graph, {"x": np.array([[1], [2]])})
    assert (outputs["y"].tolist(), states["h"].tolist()) == ([[1], [2]], [[1], [2]])
    outputs, states = interpret(graph, {"x": np.array([[3], [3]])}, states)
    assert (outputs["y"].tolist(), states["h"].tolist()) == ([[4], [5]], [[3], [3]])


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "no data for input 'x' (given: nothing)\n  fix: name the array 'x'"),
        ({"y": samples(1)}, "no data for input 'x' (given: y)\n  fix: name the array 'x'"),
        ({"x": samples(1) * 0.5}, "input 'x' holds float64, not integers"),
        ({"x": samples(1)[..., 0]}, "input 'x' has samples of shape (4, 4), the model reads (4, 4, 2)"),
        ({"x": samples(1) + 9}, "input 'x' leaves its interval [-8, 7]"),
        ({"x": samples(0)}, "the inputs hold different numbers of samples, or none"),
        ({"x": np.uint64(1 << 63) + np.zeros((1, 4, 4, 2), dtype=np.uint64)}, "input 'x' leaves its interval [-8, 7]"),
        ({"x": np.full((1, 4, 4, 2), (1 << 64) - 5, dtype=np.uint64)}, "input 'x' leaves its interval [-8, 7]"),
        ({"x": np.array(3)}, "input 'x' has samples of shape (), the model reads (4, 4, 2)"),
    ],
)
def test_refusals(graph: Graph, inputs: dict[str, Any], text: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        interpret(graph, inputs)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ({"h": np.array([[7]])}, "state 'h' leaves its interval [0, 3]"),
        ({"h": np.array([[0.5]])}, "state 'h' holds float64, not integers"),
        ({"h": np.array([1])}, "state 'h' has samples of shape (), the model reads (1,)"),
        ({"h": np.array([[1], [1]])}, "state 'h' holds 2 samples, the inputs 1"),
        ({"g": np.array([[1]])}, "the model has no state 'g'"),
    ],
)
def test_states_that_do_not_fit(states: dict[str, Any], text: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        interpret(counter(), {"x": np.array([[1]])}, states)
    assert str(caught.value) == text
