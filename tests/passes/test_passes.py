"""What holds for every pass and every graph: the same outputs, a graph that verifies, nothing left to do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.ir.graph import Graph
from edgeflow.passes import PASSES, simplify
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.serialize import graph_digest
from edgeflow.semantics.verify import verify
from tests.graphs import extreme_inputs, random_graph
from tests.passes.graphs import random_redundant_graph


def assert_equal(before: Graph, after: Graph, seed: int) -> None:
    verify(after)
    assert after.inputs == before.inputs
    ends = [[(one.name, graph.tensor(one.tensor)) for one in graph.outputs] for graph in (before, after)]
    described = [[(name, end.type.shape, end.label) for name, end in one] for one in ends]
    assert described[0] == described[1]
    inputs = extreme_inputs(before, seed)
    wanted, _ = interpret(before, inputs)
    got, _ = interpret(after, inputs)
    for name, values in wanted.items():
        np.testing.assert_array_equal(got[name], values)


def assert_simplified(graph: Graph, seed: int) -> None:
    found = simplify(graph)
    assert_equal(graph, found, seed)
    assert len(found.nodes) <= len(graph.nodes)
    assert simplify(found) is found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30))
def test_simplify_keeps_every_output(seed: int) -> None:
    assert_simplified(random_redundant_graph(seed), seed)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_simplify_keeps_every_output_of_many_graphs(seed: int, redundant: bool) -> None:
    assert_simplified((random_redundant_graph if redundant else random_graph)(seed), seed)


@pytest.mark.parametrize("seed", range(12))
def test_simplify_keeps_every_output_of_graphs_of_all_ops(seed: int) -> None:
    assert_simplified(random_graph(seed), seed)


@pytest.mark.parametrize("name", list(PASSES))
def test_each_pass_alone_keeps_every_output_and_fires(name: str) -> None:
    fired = 0
    for seed in range(100, 116):
        graph = random_redundant_graph(seed)
        found = PASSES[name].apply(graph)
        fired += found is not graph
        assert_equal(graph, found, seed)
        assert PASSES[name].name == name
    assert fired or name in ("fold_bias", "relax_rounding"), "these two need what other passes leave"


def test_the_same_graph_gives_the_same_bytes() -> None:
    graph = random_redundant_graph(5)
    assert graph_digest(simplify(graph)) == graph_digest(simplify(graph))
