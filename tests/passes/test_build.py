"""`edgeflow build` simplifies first: the artefact holds the simplified graph, and verification speaks of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeflow import pipeline
from edgeflow.backends.c.backend import CBackend
from edgeflow.board import load_board
from edgeflow.budget import Limits
from edgeflow.conformance import graph_inputs, verify_artefact
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Rounding
from edgeflow.passes import simplify
from edgeflow.passes.rewrite import rebuilt
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_reals
from edgeflow.semantics.serialize import graph_digest
from edgeflow.vectors import Vectors
from tests.conftest import NeedTool
from tests.passes.graphs import requant

BOARD = load_board("rpi-pico")


def wasteful() -> Graph:
    """A layer of which half the units never fire."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("wasteful")
    x = builder.input("x", TensorType((6,), 0, 15), Dyadic(4))
    weight = rng.integers(-7, 8, (6, 40))
    weight[:, ::2] = -np.abs(weight[:, ::2])
    at = builder.add(Dense(frozen_array(weight), frozen_array([0] * 40)), (x,), Dyadic(6), "hidden")
    at = builder.add(requant(2, Rounding.HALF_EVEN, lo=0, hi=31), (at,), Dyadic(4), "hidden")
    last = Dense(frozen_array(rng.integers(-7, 8, (40, 3))), frozen_array([0] * 3))
    builder.output("y", builder.add(last, (at,), Dyadic(7), "scores"))
    return builder.finish()


GRAPH = wasteful()


def vectors() -> Vectors:
    reals = (np.random.default_rng(1).integers(0, 16, (20, 6)) / 16).astype(np.float32)
    outputs, _ = interpret(GRAPH, graph_inputs(GRAPH, Vectors({"x": reals}, {})))
    return Vectors({"x": reals}, {"y": to_reals(outputs["y"], Dyadic(7)).astype(np.float32)})


def test_the_artefact_is_made_from_the_simplified_graph(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    artefact = pipeline.build(GRAPH, BOARD, "c", {}, tmp_path / "fw")
    assert artefact.digest == graph_digest(simplify(GRAPH)) != graph_digest(GRAPH)
    assert artefact.source.tensor("hidden").type.shape == (19,), "of 40"
    found = verify_artefact(artefact, vectors(), ["host"])
    assert [one.mismatches for one in found.comparisons] == [0, 0]


def test_a_fault_is_traced_to_a_layer_of_the_simplified_graph(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    artefact = pipeline.build(GRAPH, BOARD, "c", {}, tmp_path / "fw")
    node = artefact.graph.nodes[0]
    assert isinstance(node.op, Dense)
    bias: IntArray = node.op.bias.copy()
    bias[3] += 40
    other = replace(node, op=replace(node.op, bias=frozen_array(bias)))
    claimed = rebuilt(artefact.graph, [other, *artefact.graph.nodes[1:]])
    found = verify_artefact(replace(artefact, graph=claimed), vectors(), ["host"])
    first = found.comparisons[1].first
    assert first is not None
    assert first.layer in {one.layer for one in claimed.nodes}


def test_the_early_verdict_is_that_of_the_simplified_graph() -> None:
    backend = CBackend()
    checked = pipeline.check(GRAPH, BOARD, "c", {}, Limits())
    flash = next(line for line in checked.verdict.lines if line.name == "flash").used
    sizes = [
        sum(
            one.value
            for one in backend.estimate(graph, BOARD, backend.Options())
            if one.name == "flash" and not one.layer
        )
        for graph in (GRAPH, simplify(GRAPH))
    ]
    assert flash == sizes[1] < sizes[0]
