"""Exact factors go into weights, while these stay narrow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeflow.ir.graph import Graph
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.passes.fold_affine import FoldAffine
from edgeflow.passes.fold_bias import FoldBias
from tests.passes.graphs import chain, depthwise, requant
from tests.passes.test_passes import assert_equal

IMAGE = TensorType((4, 4, 2), -8, 7)
NONE, SAME = ((0, 0), (0, 0)), ((1, 1), (1, 1))
SCALE, BIAS = np.array([3, -2]), np.array([5, 0])


def conv(groups: int = 1, pads: tuple[tuple[int, int], ...] = NONE, pad_value: int = 0) -> Conv:
    weight = np.random.default_rng(1).integers(-9, 10, (3, 3, 2 // groups, 2))
    return Conv(frozen_array(weight), frozen_array([7, -1]), (1, 1), pads, (1, 1), groups, pad_value)


def folded(graph: Graph) -> Graph:
    found = FoldAffine().apply(graph)
    assert_equal(graph, found, 0)
    return found


def test_a_scale_a_channel_behind_a_conv_folds_into_its_weights() -> None:
    found = folded(chain(IMAGE, conv(pads=SAME), depthwise(SCALE, BIAS, 2)))
    assert [type(node.op).__name__ for node in found.nodes] == ["Conv"]
    assert found.nodes[0].layer == "layer0", "the weights' own layer"


def test_a_scale_a_channel_before_a_conv_folds_into_its_rows() -> None:
    assert len(folded(chain(IMAGE, depthwise(SCALE, BIAS, 2), conv())).nodes) == 1
    assert len(folded(chain(IMAGE, depthwise(SCALE, BIAS, 2), conv(groups=2))).nodes) == 1
    assert len(folded(chain(IMAGE, depthwise(SCALE, 0 * BIAS, 2), conv(pads=SAME))).nodes) == 1


def test_padding_folds_only_where_one_value_stands_for_it() -> None:
    shifted = depthwise(SCALE, BIAS, 2)
    assert len(folded(chain(IMAGE, shifted, conv(pads=SAME))).nodes) == 2
    even = depthwise(np.array([2, 2]), np.array([4, 4]), 2)
    found = folded(chain(IMAGE, even, conv(pads=SAME)))
    assert len(found.nodes) == 1
    assert isinstance(found.nodes[0].op, Conv)
    assert found.nodes[0].op.pad_value == -2


def test_an_exact_shift_folds_and_a_binding_clamp_stays() -> None:
    dense = Dense(frozen_array([[1, 2], [3, -4]]), frozen_array([0, 9]))
    vector = TensorType((2,), 0, 15)
    assert len(folded(chain(vector, requant(pre=3, offset=5), dense)).nodes) == 1
    found = folded(chain(vector, dense, requant(pre=3, offset=5)))
    assert isinstance(found.nodes[0].op, Dense)
    assert found.nodes[0].op.weight.tolist() == [[8, 16], [24, -32]]
    assert isinstance(found.nodes[1].op, Requant)
    assert found.nodes[1].op.pre.tolist() == [0], "what follows the sums is left with nothing to do"
    assert len(folded(chain(vector, requant(pre=3, hi=50, lo=0), dense)).nodes) == 2


def test_weights_do_not_grow_beyond_8_bits() -> None:
    dense = Dense(frozen_array([[31, 2], [3, -4]]), frozen_array([0, 9]))
    vector = TensorType((2,), 0, 15)
    graphs = {factor: chain(vector, requant(pre=factor), dense) for factor in (2, 3)}
    assert len(folded(graphs[2]).nodes) == 1
    assert len(folded(graphs[3]).nodes) == 2
    assert len(FoldAffine(most_bits=16).apply(graphs[3]).nodes) == 1
    behind = chain(vector, dense, requant(pre=3))
    assert FoldAffine().apply(behind) is behind


def test_a_bias_before_a_rounding_joins_the_bias_of_the_weights() -> None:
    dense = Dense(frozen_array([[31, 2], [3, -4]]), frozen_array([0, 9]))
    vector = TensorType((2,), 0, 15)
    graph = chain(vector, dense, requant(3, Rounding.HALF_EVEN, multiplier=3, bias=[6, -9]))
    found = FoldBias().apply(graph)
    assert_equal(graph, found, 0)
    assert isinstance(found.nodes[0].op, Dense)
    assert found.nodes[0].op.bias.tolist() == [2, 6]
    uneven = chain(vector, dense, requant(3, Rounding.HALF_EVEN, multiplier=3, bias=[6, -8]))
    assert FoldBias().apply(uneven) is uneven


def test_sums_that_would_leave_62_bits_stay_as_they_are() -> None:
    far = replace(requant(61, bias=[1 << 60, 0]), multiplier=frozen_array([1, 1]))
    dense = Dense(frozen_array([[1 << 50, 2], [3, -4]]), frozen_array([1 << 60, 9]))
    graph = chain(TensorType((2,), 0, 15), dense, far)
    found = FoldBias().apply(graph)
    assert_equal(graph, found, 0)
