from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import frozen_array
from edgeflow.ops.lut import Lut

TABLE = frozen_array([5, -7, 100, 0, 3])


def test_by_hand() -> None:
    assert Lut(TABLE, -2).evaluate((np.array([[-2, -1, 0, 2, 1]]),), ()).tolist() == [[5, -7, 100, 3, 0]]


def test_bounds_are_the_least_and_largest_entry_within_each_channels_reach() -> None:
    source = Bounds(np.array([[-2, 1, 0]]), np.array([[-1, 2, 0]]))
    bounds = Lut(TABLE, -2).bounds((source,), ((4, 3),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[-7, 0, 100]], [[5, 3, 100]])


def test_a_tensor_without_axes() -> None:
    bounds = Lut(TABLE, 0).bounds((Bounds(np.array(1), np.array(3)),), ((),))
    assert (bounds.lo.shape, int(bounds.lo), int(bounds.hi)) == ((), -7, 100)


def test_the_largest_table() -> None:
    table = frozen_array(np.arange(1 << 16)[::-1])
    bounds = Lut(table, -(1 << 15)).bounds((Bounds(np.array([-(1 << 15)]), np.array([(1 << 15) - 1])),), ((1,),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([0], [(1 << 16) - 1])


@given(seed=st.integers(0, 1 << 30), first=st.integers(-90, -50), more=st.integers(0, 9))
def test_bounds_hold(sound: Callable[..., None], seed: int, first: int, more: int) -> None:
    table = np.random.default_rng(seed).integers(-99, 99, 51 - first + more)
    sound(Lut(frozen_array(table), first, "tanh"), ((4, 3),), seed)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Lut(frozen_array(np.zeros(0, dtype=int)), 0), "a table of shape (0,), not of 1 to 65536 entries"),
        (
            Lut(frozen_array(np.zeros((1 << 16) + 1, dtype=int)), 0),
            "a table of shape (65537,), not of 1 to 65536 entries",
        ),
        (Lut(frozen_array([[1, 2]]), 0), "a table of shape (1, 2), not of 1 to 65536 entries"),
        (Lut(TABLE, 0, "*/ x"), "'*/ x' is no function's name"),
        (Lut(TABLE, 0, "\ud800"), r"'\ud800' is no function's name"),
        (Lut(TABLE, 0, "größe"), r"'gr\xf6\xdfe' is no function's name"),
    ],
)
def test_refusals(op: Lut, text: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        op.shape(((2,),))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("first", "covered"), [(-1, "[-1, 3]"), (1, "[1, 5]"), (1 << 70, f"[{1 << 70}, {(1 << 70) + 4}]")]
)
def test_an_input_beyond_the_table_is_refused(first: int, covered: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        Lut(TABLE, first).bounds((Bounds(np.array([0]), np.array([4])),), ((1,),))
    assert str(caught.value) == f"the table covers {covered}, its input reaches [0, 4]"
