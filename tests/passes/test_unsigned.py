"""Internal tensors move to start at 0, exactly, wherever every reader can take the move back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.frontends.tflite import load_tflite
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, Dyadic, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.upsample import Upsample
from edgeflow.passes.unsigned import signed, unsigned
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT, random_graph
from tests.passes.graphs import chain, random_redundant_graph, requant
from tests.passes.test_passes import assert_equal

BYTES = TensorType((4, 4, 2), -128, 127)
SMALL = requant(1, lo=-128, hi=127, offset=-5)


def checked(graph: Graph, seed: int = 0) -> Graph:
    found = unsigned(graph)
    assert_equal(graph, found, seed)
    assert unsigned(found) is found
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_every_output_stays(seed: int, redundant: bool) -> None:
    checked((random_redundant_graph if redundant else random_graph)(seed), seed)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_every_output_stays_where_bytes_become_signed(seed: int, redundant: bool) -> None:
    graph = (random_redundant_graph if redundant else random_graph)(seed)
    found = signed(graph)
    assert_equal(graph, found, seed)
    assert signed(found) is found


def test_unsigned_bytes_become_signed_and_smaller_ones_stay(data: Path) -> None:
    graph = load_tflite(data / "models" / "kws_ref_model.tflite")
    assert signed(graph) is graph
    back = signed(unsigned(graph))
    assert [node.type for node in back.nodes if node.type.bits <= 8] == [
        node.type for node in graph.nodes if node.type.bits <= 8
    ]
    assert_equal(graph, back, 1)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans())
def test_every_output_of_many_graphs_stays(seed: int, redundant: bool) -> None:
    checked((random_redundant_graph if redundant else random_graph)(seed), seed)


@pytest.mark.parametrize("name", ["kws_ref_model", "ad01_int8"])
def test_all_internal_bytes_of_a_tflite_model_become_unsigned(name: str, data: Path) -> None:
    found = checked(load_tflite(data / "models" / f"{name}.tflite"))
    outputs = {output.tensor for output in found.outputs}
    narrow = [node for node in found.nodes if node.type.bits <= 8 and node.name not in outputs]
    assert {(node.type.lo, node.type.hi) for node in narrow} == {(0, 255)}
    assert all(isinstance(node.label, Affine) and node.label.zero_point >= 0 for node in narrow)
    inside = [node.op for node in found.nodes if isinstance(node.op, Conv) and node.inputs[0] != found.inputs[0].name]
    assert {op.pad_value for op in inside} <= {0}


THROUGH = {
    "MaxPool": MaxPool((2, 2), (1, 1), ((1, 0), (0, 0))),
    "Pad": Pad(((1, 0), (0, 1), (0, 2)), -128),
    "Upsample": Upsample((2, 1), zeros=False),
    "SumPool": SumPool((2, 2), (2, 2), ((0, 0), (0, 0))),
    "Lut": Lut(frozen_array(np.arange(256)[::-1] - 128), -128),
    "Threshold": Threshold(frozen_array([[-9, 0, 30]]), frozen_array([-2]), frozen_array([1])),
    "ArgMax": ArgMax(),
}


@pytest.mark.parametrize("name", THROUGH)
def test_a_reader_takes_the_move(name: str) -> None:
    found = checked(chain(BYTES, SMALL, THROUGH[name], requant(1, bias=3, lo=-128, hi=127)))
    assert found.nodes[0].type.lo >= 0
    assert found.nodes[0].label == Affine(1.0, 128)
    assert found.nodes[-1].label == UNIT


STAYS = {
    "padded sum": SumPool((2, 2), (1, 1), ((1, 0), (0, 0))),
    "zeros between": Upsample((2, 2), zeros=True),
}


@pytest.mark.parametrize("name", STAYS)
def test_a_tensor_stays_whose_reader_cannot_take_the_move(name: str) -> None:
    graph = chain(BYTES, SMALL, STAYS[name], requant(1))
    assert checked(graph) is graph


def test_a_label_a_channel_keeps_its_tensor() -> None:
    graph = chain(BYTES, SMALL, requant(1), label=Dyadic((1, 2)))
    assert checked(graph) is graph


def test_outputs_and_their_reshaped_makers_stay() -> None:
    graph = chain(BYTES, SMALL, MaxPool((2, 2), (1, 1), ((0, 0), (0, 0))))
    assert checked(graph) is graph


def joined(op: Add | Concat | Multiply, second: Requant) -> Graph:
    builder = GraphBuilder("joined")
    x = builder.input("x", BYTES, UNIT)
    parts = tuple(builder.add(one, (x,), UNIT, "part") for one in (SMALL, second))
    at = builder.add(op, parts, UNIT, "join")
    builder.output("y", builder.add(requant(2, bias=1), (at,), UNIT, "end"))
    return builder.finish()


def test_what_a_concat_joins_moves_together() -> None:
    found = checked(joined(Concat(2), requant(5, lo=-3, hi=100)))
    first, second, join = found.nodes[:3]
    assert (first.label, second.label, join.label) == (Affine(1.0, 128),) * 3
    assert join.type.lo >= 0


def test_a_concat_with_something_wider_stays() -> None:
    graph = joined(Concat(2), requant(pre=2))
    assert checked(graph) is graph


def test_a_sum_moves_by_the_sum_of_its_parts() -> None:
    found = checked(joined(Add((1, -1)), requant(3, lo=-8, hi=7)))
    assert [node.label for node in found.nodes[:3]] == [Affine(1.0, 128), Affine(1.0, 8), Affine(1.0, 120)]


def test_the_factors_of_a_product_stay() -> None:
    graph = joined(Multiply(), requant(3, lo=-8, hi=7))
    assert checked(graph) is graph
