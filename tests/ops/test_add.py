from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ops.add import Add

A, B = np.array([[1, -2, 3]]), np.array([[10, 20, -30]])


@pytest.mark.parametrize(
    ("signs", "expected"), [((1, 1), [[11, 18, -27]]), ((1, -1), [[-9, -22, 33]]), ((-1, -1), [[-11, -18, 27]])]
)
def test_by_hand(signs: tuple[int, ...], expected: list[list[int]]) -> None:
    assert Add(signs).evaluate((A, B), ()).tolist() == expected


def test_three_inputs() -> None:
    assert Add((1, -1, 1)).evaluate((A, B, A), ()).tolist() == [[-8, -24, 36]]


def test_bounds_are_tight() -> None:
    one = Bounds(np.array([-1]), np.array([5]))
    two = Bounds(np.array([-10, 0]), np.array([0, 7]))
    bounds = Add((1, -1)).bounds((one, two), ((2,), (2,)))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([-1, -8], [15, 5])


@given(
    seed=st.integers(0, 1 << 30),
    signs=st.lists(st.sampled_from((1, -1)), min_size=2, max_size=4),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_bounds_hold(sound: Callable[..., None], seed: int, signs: list[int], shape: list[int]) -> None:
    sound(Add(tuple(signs)), (tuple(shape),) * len(signs), seed)


@pytest.mark.parametrize(
    ("signs", "shapes", "text"),
    [
        ((1,), ((2,),), "1 inputs with signs (1,)"),
        ((1, 2), ((2,), (2,)), "2 inputs with signs (1, 2)"),
        ((1, 1), ((2,), (2,), (2,)), "3 inputs with signs (1, 1)"),
        ((1, 1), ((2,), (3,)), "shapes differ: (2,), (3,)"),
    ],
)
def test_refusals(signs: tuple[int, ...], shapes: tuple[tuple[int, ...], ...], text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        Add(signs).shape(shapes)
    assert str(caught.value) == text


def test_overflow_is_refused() -> None:
    wide = Bounds(np.array([0]), np.array([1 << 61]))
    with pytest.raises(InvalidGraph, match="the sum could leave 62 bits"):
        Add((1, 1)).bounds((wide, wide), ((1,), (1,)))
