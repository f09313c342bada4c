"""Constant channels become bias; channels that nobody reads go, with the weights that made them."""

from __future__ import annotations

import numpy as np

from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Rounding
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.passes.drop_channels import DropConstantChannels
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT
from tests.passes.graphs import chain, requant
from tests.passes.test_passes import assert_equal

IMAGE = TensorType((4, 4, 2), 0, 7)
NONE, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))
RELU = requant([2, 3, 2, 3], Rounding.HALF_EVEN, lo=0, hi=15)


def conv(inputs: int, outputs: int, *, dead: tuple[int, ...] = (), bias: int = -1, pads: object = NONE) -> Conv:
    """3x3, of which some output channels hold the bias and nothing else."""
    weight = np.random.default_rng(inputs + outputs).integers(1, 9, (3, 3, inputs, outputs))
    weight[..., list(dead)] = 0
    ends = SAME if pads == SAME else NONE
    return Conv(frozen_array(weight), frozen_array([bias] * outputs), (1, 1), ends, (1, 1))


def dropped(graph: Graph) -> Graph:
    found = DropConstantChannels().apply(graph)
    assert_equal(graph, found, 0)
    return found


def shapes(graph: Graph) -> list[tuple[int, ...]]:
    return [node.type.shape for node in graph.nodes]


def test_a_dead_relu_goes_through_a_pool_and_a_flatten() -> None:
    dense = Dense(frozen_array(np.arange(1, 49).reshape(16, 3) % 7 - 3), frozen_array([1, 2, 3]))
    first = conv(2, 4, dead=(1, 2), pads=SAME)
    graph = chain(IMAGE, first, RELU, MaxPool((2, 2), (2, 2), NONE), Reshape((16,)), dense)
    found = dropped(graph)
    assert shapes(found) == [(4, 4, 2), (4, 4, 2), (2, 2, 2), (8,), (3,)]


def test_a_constant_moves_into_the_bias_unless_padding_holds_another_value() -> None:
    big = TensorType((6, 6, 2), 0, 7)
    first = conv(2, 4, dead=(0,), bias=20)
    assert shapes(dropped(chain(big, first, RELU, conv(4, 2, pads=NONE))))[0] == (4, 4, 3)
    graph = chain(big, first, RELU, conv(4, 2, pads=SAME))
    assert DropConstantChannels().apply(graph) is graph
    assert shapes(dropped(chain(big, conv(2, 4, dead=(0,)), RELU, conv(4, 2, pads=SAME))))[0] == (4, 4, 3)


def test_channels_that_no_reader_weighs_go() -> None:
    weight = np.array([[1, 2], [0, 0], [3, 4], [0, 0]])
    sums = SumPool((2, 2), (1, 1), NONE)
    graph = chain(IMAGE, conv(2, 4), sums, Reshape((4,)), Dense(frozen_array(weight), frozen_array([0, 0])))
    assert shapes(dropped(graph)) == [(2, 2, 2), (1, 1, 2), (2,), (2,)]


def test_labels_a_channel_shrink_with_their_channels() -> None:
    builder = GraphBuilder("labels")
    at = builder.add(conv(2, 3, pads=SAME), (builder.input("x", IMAGE, UNIT),), Dyadic((1, 2, 3)), "conv")
    unread = Conv(frozen_array([[[[1], [0], [2]]]]), frozen_array([0]), (1, 1), NONE, (1, 1))
    builder.output("y", builder.add(unread, (at,), UNIT, "pointwise"))
    assert dropped(builder.finish()).nodes[0].label == Dyadic((1, 3))


def test_concatenated_channels_find_their_own_maker() -> None:
    builder = GraphBuilder("concat")
    x = builder.input("x", IMAGE, UNIT)
    parts = tuple(builder.add(conv(2, outputs), (x,), UNIT, f"conv{outputs}") for outputs in (2, 3))
    at = builder.add(Concat(2), parts, UNIT, "concat")
    weight = np.array([1, 0, 0, 2, 3]).reshape(1, 1, 5, 1)
    last = Conv(frozen_array(weight), frozen_array([0]), (1, 1), NONE, (1, 1))
    builder.output("y", builder.add(last, (at,), UNIT, "last"))
    assert shapes(dropped(builder.finish())) == [(2, 2, 1), (2, 2, 2), (2, 2, 3), (2, 2, 1)]


def test_a_depthwise_conv_loses_the_group_and_inputs_keep_their_channels() -> None:
    depthwise = Conv(frozen_array(np.ones((1, 1, 1, 4)).astype(int)), frozen_array([0] * 4), (1, 1), NONE, (1, 1), 4)
    last = Conv(frozen_array(np.array([1, 0, 0, 2]).reshape(1, 1, 4, 1)), frozen_array([0]), (1, 1), NONE, (1, 1))
    found = dropped(chain(IMAGE, conv(2, 4), depthwise, last))
    assert shapes(found) == [(2, 2, 2), (2, 2, 2), (2, 2, 1)]
    graph = chain(IMAGE, Conv(frozen_array([[[[1], [0]]]]), frozen_array([0]), (1, 1), NONE, (1, 1)))
    assert DropConstantChannels().apply(graph) is graph


def test_something_is_left_of_a_tensor_without_any_reader() -> None:
    zeros = Dense(frozen_array(np.zeros((4, 2), dtype=np.int64)), frozen_array([3, 4]))
    assert shapes(
        dropped(chain(TensorType((2,), 0, 9), Dense(frozen_array([[1] * 4] * 2), frozen_array([0] * 4)), zeros))
    )[0] == (1,)
