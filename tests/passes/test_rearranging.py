"""Ops that change nothing go: identities, rearrangements, borders, dead nodes, types and clamps too wide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.passes import PASSES
from edgeflow.passes.fold_pad import FoldPad
from edgeflow.passes.narrow import Narrow
from edgeflow.passes.remove_dead import RemoveDead
from edgeflow.passes.remove_identities import RemoveIdentities
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT
from tests.passes.graphs import chain, requant
from tests.passes.test_passes import assert_equal

IMAGE = TensorType((4, 4, 2), -8, 7)
NONE, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))

IDENTITIES: dict[str, tuple[Op, ...]] = {
    "Requant": (requant(lo=-8, hi=7),),
    "Reshape": (Reshape((4, 4, 2)),),
    "Transpose": (Transpose((0, 1, 2)),),
    "two Transposes": (Transpose((2, 0, 1)), Transpose((1, 2, 0))),
    "Reshape and back": (Reshape((32,)), Reshape((4, 4, 2))),
    "Pad": (Pad(((0, 0),) * 3, 9),),
    "Slice": (Slice((0, 0, 0), (4, 4, 2), (1, 1, 1)),),
    "Concat": (Concat(2),),
    "Upsample": (Upsample((1, 1), zeros=False),),
    "MaxPool": (MaxPool((1, 1), (1, 1), NONE),),
    "SumPool": (SumPool((1, 1), (1, 1), NONE),),
}


def applied(name: str, graph: Graph) -> Graph:
    found = PASSES[name].apply(graph)
    assert_equal(graph, found, 0)
    return RemoveDead().apply(found)


@pytest.mark.parametrize("ops", IDENTITIES.values(), ids=IDENTITIES)
def test_an_op_that_changes_nothing_goes(ops: tuple[Op, ...]) -> None:
    found = applied("remove_identities", chain(IMAGE, *ops))
    assert found.nodes == ()
    assert found.outputs[0].tensor == "x"


@pytest.mark.parametrize("op", [requant(hi=6), requant(1), requant(offset=1), requant(multiplier=2), requant(bias=1)])
def test_a_requant_that_changes_a_value_stays(op: Requant) -> None:
    graph = chain(IMAGE, op)
    assert RemoveIdentities().apply(graph) is graph


def test_what_renames_the_unit_stays() -> None:
    graph = chain(IMAGE, requant())
    halved = replace(graph, nodes=(replace(graph.nodes[0], label=Dyadic(1)),))
    assert RemoveIdentities().apply(halved) is halved


def test_moving_axes_of_length_one_is_a_view() -> None:
    found = applied("remove_identities", chain(TensorType((3, 1, 2), 0, 1), Transpose((1, 0, 2))))
    assert [node.op for node in found.nodes] == [Reshape((1, 3, 2))]


def test_zeros_are_not_added() -> None:
    builder = GraphBuilder("add")
    x = builder.input("x", IMAGE, UNIT)
    zeros = builder.add(requant(multiplier=0), (x,), UNIT, "zeros")
    other = builder.add(requant(1), (x,), UNIT, "other")
    total = builder.add(Add((-1, 1, 1)), (x, zeros, other), UNIT, "three")
    builder.output("two", total)
    builder.output("one", builder.add(Add((1, 1)), (zeros, other), UNIT, "pair"))
    builder.output("minus", builder.add(Add((1, -1)), (zeros, other), UNIT, "minus"))
    found = applied("remove_identities", builder.finish())
    assert [str(node.op) for node in found.nodes if isinstance(node.op, Add)] == [str(Add((-1, 1))), str(Add((1, -1)))]
    assert found.outputs[1].tensor == "other"


def conv(pads: tuple[tuple[int, int], ...], pad_value: int) -> Conv:
    weight = frozen_array([[[[1, 2], [3, -4]]] * 2] * 2)
    return Conv(weight, frozen_array([0, 1]), (1, 1), pads, (1, 1), 1, pad_value)


BORDER = ((1, 0), (2, 1), (0, 0))
BORDERS: dict[str, tuple[Pad, Op, int]] = {
    "Conv that did not pad": (Pad(BORDER, 5), conv(NONE, 0), 1),
    "Conv that pads with the same": (Pad(BORDER, 5), conv(SAME, 5), 1),
    "Conv that pads with another": (Pad(BORDER, 5), conv(SAME, 0), 2),
    "Pad of channels": (Pad(((0, 0), (0, 0), (0, 1)), 0), SumPool((2, 2), (1, 1), NONE), 2),
    "MaxPool and the least value": (Pad(((1, 0), (1, 0), (0, 0)), -8), MaxPool((2, 2), (1, 1), NONE), 1),
    "MaxPool and a value that can win": (Pad(((1, 0), (1, 0), (0, 0)), -7), MaxPool((2, 2), (1, 1), NONE), 2),
    "MaxPool with a window of border": (Pad(((2, 0), (1, 0), (0, 0)), -8), MaxPool((2, 2), (1, 1), NONE), 2),
    "SumPool and zeros": (Pad(BORDER, 0), SumPool((2, 2), (1, 1), NONE), 1),
    "SumPool and ones": (Pad(BORDER, 1), SumPool((2, 2), (1, 1), NONE), 2),
}


@pytest.mark.parametrize("case", BORDERS.values(), ids=BORDERS)
def test_a_border_becomes_padding_where_it_means_the_same(case: tuple[Pad, Op, int]) -> None:
    pad, window, nodes = case
    assert len(applied("fold_pad", chain(IMAGE, pad, window)).nodes) == nodes


def test_a_border_with_two_readers_stays() -> None:
    builder = GraphBuilder("twice")
    at = builder.add(Pad(BORDER, 0), (builder.input("x", IMAGE, UNIT),), UNIT, "pad")
    for name in ("a", "b"):
        builder.output(name, builder.add(conv(NONE, 0), (at,), UNIT, name))
    graph = builder.finish()
    assert FoldPad().apply(graph) is graph


def test_dead_nodes_go() -> None:
    builder = GraphBuilder("dead")
    x = builder.input("x", IMAGE, UNIT)
    builder.add(requant(2), (builder.add(requant(1), (x,), UNIT, "dead"),), UNIT, "dead")
    builder.output("y", builder.add(requant(3), (x,), UNIT, "alive"))
    found = applied("remove_dead", builder.finish())
    assert [node.layer for node in found.nodes] == ["alive"]


def test_types_become_what_is_proven_and_free_clamps_end_where_types_end() -> None:
    graph = chain(TensorType((3,), 0, 90), requant(2, Rounding.HALF_UP, lo=-500, hi=999))
    node = replace(graph.nodes[0], type=TensorType((3,), -500, 999))
    found = applied("narrow", replace(graph, nodes=(node,)))
    op = found.nodes[0].op
    assert isinstance(op, Requant)
    assert (found.nodes[0].type.lo, found.nodes[0].type.hi) == (0, 23)
    assert (op.lo.tolist(), op.hi.tolist()) == ([0], [31])


def test_a_clamp_that_binds_stays() -> None:
    graph = chain(TensorType((2,), -90, 90), requant(2, Rounding.HALF_UP, lo=-5, hi=9))
    assert Narrow().apply(graph) is graph
