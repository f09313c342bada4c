from __future__ import annotations

import pytest

from edgeflow.errors import InvalidGraph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops import Dense, Reshape
from edgeflow.semantics.builder import GraphBuilder


def test_names_are_made_unique_and_types_inferred() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((2, 2), 0, 3), Dyadic(1))
    first = builder.add(Reshape((4,)), (x,), Dyadic(1), "x")
    second = builder.add(Reshape((2, 2)), (first,), Dyadic(1), "layer", "x")
    assert (x, first, second) == ("x", "x_2", "x_3")
    assert builder.type(first) == TensorType((4,), 0, 3)
    assert builder.label(second) == Dyadic(1)
    builder.output("y", second)
    assert [node.name for node in builder.finish().nodes] == ["x_2", "x_3"]


def test_an_op_that_does_not_fit_names_its_layer() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((2,), 0, 3), Dyadic(1))
    with pytest.raises(InvalidGraph) as caught:
        builder.add(Dense(frozen_array([[1]]), frozen_array([1])), (x,), Dyadic(1), "fc")
    assert str(caught.value) == "layer 'fc': a weight of shape (1, 1) cannot read a tensor of shape (2,)"


def test_a_graph_without_outputs_is_refused() -> None:
    builder = GraphBuilder("g")
    builder.input("x", TensorType((2,), 0, 3), Dyadic(1))
    with pytest.raises(InvalidGraph, match="the graph has no output"):
        builder.finish()
