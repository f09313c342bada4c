from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import frozen_array
from edgeflow.ops.threshold import Threshold


def make(thresholds: Any, first: Any = (0,), step: Any = (1,)) -> Threshold:
    return Threshold(frozen_array(thresholds), frozen_array(first), frozen_array(step))


def test_by_hand() -> None:
    x = np.array([[-10], [-4], [-3], [0], [1], [9]])
    assert make([[-3, 1, 1]]).evaluate((x,), ())[:, 0].tolist() == [0, 0, 1, 1, 3, 3]


def test_each_channel_has_its_own_row_start_and_direction() -> None:
    op = make([[0, 10], [5, 6]], first=[-1, 7], step=[1, -1])
    assert op.evaluate((np.array([[-1, 4], [0, 5], [99, 99]]),), ()).tolist() == [[-1, 7], [0, 6], [1, 5]]


def test_a_shared_row_with_a_start_a_channel() -> None:
    assert make([[3]], first=[0, 10]).evaluate((np.array([[[2, 2], [3, 3]]]),), ()).tolist() == [[[0, 10], [1, 11]]]


def test_bounds_are_the_counts_at_the_ends() -> None:
    source = Bounds(np.array([[-2, 5]]), np.array([[3, 5]]))
    bounds = make([[-9, 0, 4], [0, 5, 6]], first=[0, 2], step=[1, -1]).bounds((source,), ((4, 2),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[1, 0]], [[2, 0]])


def test_huge_values() -> None:
    big = 1 << 62
    op = make([[-big, big]])
    assert op.shape(((1,),)) == (1,)
    assert op.evaluate((np.array([[-big], [0], [big - 1]]),), ()).tolist() == [[1], [1], [1]]


@given(
    seed=st.integers(0, 1 << 30),
    levels=st.integers(1, 9),
    rows=st.sampled_from((1, 3)),
    own=st.sampled_from((1, 3)),
    rank=st.integers(1, 3),
)
def test_bounds_hold(sound: Callable[..., None], seed: int, levels: int, rows: int, own: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    thresholds = np.sort(rng.integers(-60, 61, (rows, levels)), axis=1)
    op = make(thresholds, rng.integers(-9, 10, own), rng.integers(0, 2, rows) * 2 - 1)
    sound(op, ((2, 4, 3)[-rank:],), seed)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (make([1, 2]), "thresholds of shape (2,), not (channels, 1 to 65536)"),
        (make(np.zeros((1, 0), dtype=int)), "thresholds of shape (1, 0), not (channels, 1 to 65536)"),
        (make(np.zeros((1, 65537), dtype=int)), "thresholds of shape (1, 65537), not (channels, 1 to 65536)"),
        (make([[1], [2]]), "a parameter of shape (2, 1) for 3 channels"),
        (make([[1]], first=[1, 2]), "a parameter of shape (2,) for 3 channels"),
        (make([[1]], first=0), "a parameter of shape () for 3 channels"),
        (make([[1]], step=[[1]]), "a parameter of shape (1, 1) for 3 channels"),
        (make([[2, 1]]), "a row of thresholds does not ascend"),
        (make([[(1 << 63) - 1, -(1 << 63)]]), "a row of thresholds does not ascend"),
        (make([[1]], step=[2]), "a step is neither +1 nor -1"),
        (make([[1]], step=[0]), "a step is neither +1 nor -1"),
        (make([[1]], first=[-(1 << 62)]), "a first value could leave 62 bits"),
    ],
)
def test_refusals(op: Threshold, text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        op.shape(((2, 3),))
    assert str(caught.value) == text


def test_a_tensor_without_axes_is_refused() -> None:
    with pytest.raises(InvalidGraph) as caught:
        make([[1]]).shape(((),))
    assert str(caught.value) == "a tensor without axes has no channels"
