from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Input, Node, Output, State
from edgeflow.ir.types import Affine, Dyadic, TensorType, frozen_array
from edgeflow.ops import Dense, MaxPool, Requant
from edgeflow.ops.requant import Rounding, Stage
from edgeflow.semantics.verify import verify


def test_a_good_graph_gives_the_bounds_of_every_tensor(graph: Graph) -> None:
    bounds = verify(graph)
    assert set(bounds) == {tensor.name for tensor in graph.tensors()}
    assert (bounds["x"].lo.tolist(), bounds["x"].hi.tolist()) == ([[[-8]]], [[[7]]])
    for node in graph.nodes:
        assert int(bounds[node.name].lo.min()) == node.type.lo
        assert int(bounds[node.name].hi.max()) == node.type.hi


def test_a_wider_type_than_needed_is_fine(graph: Graph) -> None:
    verify(changed(graph, "dense", lambda node: replace(node, type=replace(node.type, hi=node.type.hi + 99))))


def changed(graph: Graph, name: str, change: Callable[[Node], Node]) -> Graph:
    return replace(graph, nodes=tuple(change(node) if node.name == name else node for node in graph.nodes))


def with_op(name: str, op: object) -> Callable[[Graph], Graph]:
    return lambda graph: changed(graph, name, lambda node: replace(node, op=op))  # pyright: ignore[reportArgumentType]


def with_input(kind: TensorType, label: Dyadic | Affine | None = None) -> Callable[[Graph], Graph]:
    return lambda graph: replace(graph, inputs=(Input("x", kind, label or Dyadic(3)),))


def with_state(state: State) -> Callable[[Graph], Graph]:
    return lambda graph: replace(graph, states=(state,))


def requant(**change: object) -> Requant:
    fields: dict[str, object] = {
        "pre": frozen_array(0),
        "multiplier": frozen_array(1),
        "stages": (Stage(frozen_array(0), Rounding.FLOOR),),
        "offset": frozen_array(0),
        "lo": frozen_array(-16),
        "hi": frozen_array(15),
        **change,
    }
    return Requant(**fields)  # pyright: ignore[reportArgumentType]


CASES: list[tuple[str, Callable[[Graph], Graph], str]] = [
    (
        "tensor twice",
        lambda graph: changed(graph, "add", lambda node: replace(node, name="max")),
        "two tensors are named 'max'",
    ),
    (
        "output twice",
        lambda graph: replace(graph, outputs=(*graph.outputs, Output("sum", "dense"))),
        "two outputs have the same name",
    ),
    (
        "half a character",
        lambda graph: changed(graph, "add", lambda node: replace(node, layer="a\ud800")),
        "the name 'a\\ud800' is not valid Unicode",
    ),
    ("no output", lambda graph: replace(graph, outputs=()), "the graph has no output"),
    (
        "output of nothing",
        lambda graph: replace(graph, outputs=(Output("y", "nowhere"),)),
        "output 'y': reads 'nowhere', which does not exist",
    ),
    (
        "reads what comes later",
        lambda graph: changed(graph, "max", lambda node: replace(node, inputs=("dense",))),
        "layer 'max' (MaxPool 'max'): reads 'dense', which does not stand before it",
    ),
    (
        "wrong number of inputs",
        lambda graph: changed(graph, "max", lambda node: replace(node, inputs=("conv_act", "conv_act"))),
        "layer 'max' (MaxPool 'max'): malformed parameters: too many values to unpack (expected 1)",
    ),
    (
        "wrong shape",
        lambda graph: changed(graph, "flat", lambda node: replace(node, type=replace(node.type, shape=(4, 4)))),
        "layer 'flat' (Reshape 'flat'): has shape (16,), its type says (4, 4)",
    ),
    (
        "type too narrow",
        lambda graph: changed(graph, "max", lambda node: replace(node, type=replace(node.type, hi=14))),
        "layer 'max' (MaxPool 'max'): can reach [-16, 15], its type says i5[-16, 14] 2x2x4",
    ),
    (
        "does not fit",
        with_op("dense", Dense(frozen_array([[1]]), frozen_array([1]))),
        "layer 'dense' (Dense 'dense'): a weight of shape (1, 1) cannot read a tensor of shape (16,)",
    ),
    (
        "overflow",
        with_op("conv_act", requant(pre=frozen_array(61))),
        "layer 'conv' (Requant 'conv_act'): the product before the shift could leave 62 bits",
    ),
    (
        "no broadcast",
        with_op("conv_act", requant(lo=frozen_array([0, 1, 2]))),
        "layer 'conv' (Requant 'conv_act'): a parameter of shape (3,) does not broadcast against (4, 4, 4)",
    ),
    (
        "empty parameter",
        with_op("conv_act", requant(pre=frozen_array(np.zeros(0, dtype=int)))),
        "layer 'conv' (Requant 'conv_act'): a parameter of shape (0,) does not broadcast against (4, 4, 4)",
    ),
    (
        "rank",
        with_op("max", MaxPool((2,), (2, 2), ((0, 0), (0, 0)))),
        "layer 'max' (MaxPool 'max'): window of rank 1 on 2 spatial axes",
    ),
    (
        "empty interval",
        with_input(TensorType((4, 4, 2), 3, 2)),
        "tensor 'x': [3, 2] is not an interval of up to 63 bits",
    ),
    (
        "64 bits",
        with_input(TensorType((4, 4, 2), -(1 << 63), 0)),
        "tensor 'x': [-9223372036854775808, 0] is not an interval of up to 63 bits",
    ),
    (
        "too many elements",
        with_input(TensorType((1 << 12, 1 << 12, 2), 0, 2)),
        "tensor 'x': shape (4096, 4096, 2) has more than 2^24 elements",
    ),
    ("empty axis", with_input(TensorType((4, 0, 2), 0, 2)), "tensor 'x': an empty shape (4, 0, 2)"),
    (
        "label of another length",
        with_input(TensorType((4, 4, 2), 0, 2), Dyadic((1, 2, 3))),
        "tensor 'x': 3 label entries for 2 channels",
    ),
    (
        "label of channels on a scalar",
        with_input(TensorType((), 0, 2), Dyadic((1, 2))),
        "tensor 'x': 2 label entries for 1 channels",
    ),
    (
        "scale",
        with_input(TensorType((4, 4, 2), 0, 2), Affine(0.0, 1)),
        "tensor 'x': a scale of 0.0",
    ),
    (
        "scale that is no number",
        with_input(TensorType((4, 4, 2), 0, 2), Affine(float("nan"), 1)),
        "tensor 'x': a scale of nan",
    ),
    (
        "state without a next",
        with_state(State("h", TensorType((16,), -9999, 9999), Dyadic(0), "later")),
        "state 'h': its next value 'later' does not exist",
    ),
    (
        "state that outgrows its type",
        with_state(State("h", TensorType((16,), -1, 1), Dyadic(0), "flat")),
        "state 'h': its next value has type i8[-76, 79] 16, not i2[-1, 1] 16",
    ),
]


@pytest.mark.parametrize(("change", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_rejection(graph: Graph, change: Callable[[Graph], Graph], text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        verify(change(graph))
    assert str(caught.value) == text


def test_a_state_that_holds(graph: Graph) -> None:
    verify(with_state(State("h", TensorType((16,), -9999, 9999), Dyadic(0), "flat"))(graph))
