from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.multiply import Multiply


def test_by_hand() -> None:
    a, b = np.array([[1, -2, 3]]), np.array([[10, 20, -30]])
    assert Multiply().evaluate((a, b), ()).tolist() == [[10, -40, -90]]


@pytest.mark.parametrize("swapped", [False, True])
def test_an_axis_of_length_1_stands_for_the_whole_axis(swapped: bool) -> None:
    a, gate = np.arange(12).reshape(1, 2, 3, 2), np.array([10, -1]).reshape(1, 1, 1, 2)
    both, shapes = ((gate, a), ((1, 1, 2), (2, 3, 2))) if swapped else ((a, gate), ((2, 3, 2), (1, 1, 2)))
    assert Multiply().shape(shapes) == (2, 3, 2)
    expected = [[[0, -1], [20, -3], [40, -5]], [[60, -7], [80, -9], [100, -11]]]
    assert Multiply().evaluate(both, ())[0].tolist() == expected


def test_each_may_broadcast_along_an_axis_of_its_own() -> None:
    assert Multiply().shape(((2, 1), (1, 3))) == (2, 3)
    result = Multiply().evaluate((np.array([[[2], [3]]]), np.array([[[1, 10, 100]]])), ())
    assert result[0].tolist() == [[2, 20, 200], [3, 30, 300]]


def test_tensors_without_axes() -> None:
    one = Bounds(np.array(-2), np.array(5))
    bounds = Multiply().bounds((one, one), ((), ()))
    assert (Multiply().shape(((), ())), int(bounds.lo.min()), int(bounds.hi.max())) == ((), -10, 25)


def test_bounds_are_tight_per_channel() -> None:
    one, two = Bounds(np.array([-3]), np.array([2])), Bounds(np.array([-4, 5]), np.array([1, 6]))
    bounds = Multiply().bounds((one, two), ((2,), (2,)))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([-8, -18], [12, 12])


def test_bounds_whose_ends_differ_in_shape() -> None:
    one = Bounds(np.array([-3]), np.array([2, 4]))
    bounds = Multiply().bounds((one, one), ((2,), (2,)))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([-6, -12], [9, 16])


@given(
    seed=st.integers(0, 1 << 30),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    narrow=st.tuples(st.lists(st.booleans(), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3)),
)
def test_bounds_hold(
    sound: Callable[..., None], seed: int, shape: list[int], narrow: tuple[list[bool], list[bool]]
) -> None:
    shapes = tuple(tuple(1 if cut else n for n, cut in zip(shape, cuts, strict=False)) for cuts in narrow)
    sound(Multiply(), shapes, seed)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (((2,),), "1 inputs, not two"),
        (((2,), (2,), (2,)), "3 inputs, not two"),
        (((2,), (3,)), "shapes (2,) and (3,) do not broadcast"),
        (((2, 3), (3,)), "shapes (2, 3) and (3,) do not broadcast"),
    ],
)
def test_refusals(shapes: tuple[tuple[int, ...], ...], text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        Multiply().shape(shapes)
    assert str(caught.value) == text


def test_overflow_is_refused() -> None:
    wide, three = Bounds(np.array([-(1 << 61)]), np.array([0])), Bounds(np.array([0]), np.array([2]))
    with pytest.raises(InvalidGraph, match="the product could leave 62 bits"):
        Multiply().bounds((wide, three), ((1,), (1,)))
