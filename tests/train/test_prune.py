"""Which weights become zero, and when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.train.prune import default_end, keep_mask, sparsity_at, zero_count


def test_the_schedule_is_a_cubic_from_begin_to_end() -> None:
    shares = [sparsity_at(0.8, 2, 6, epoch) for epoch in range(9)]
    assert shares == pytest.approx([0, 0, 0, 0.4625, 0.7, 0.7875, 0.8, 0.8, 0.8])


def test_an_empty_span_prunes_at_once() -> None:
    assert [sparsity_at(0.5, 1, 1, epoch) for epoch in range(3)] == [0, 0.5, 0.5]


@pytest.mark.parametrize(("begin", "epochs", "end"), [(0, 1, 0), (0, 10, 6), (8, 10, 8), (2, 60, 36)])
def test_the_default_end_leaves_two_fifths_to_recover(begin: int, epochs: int, end: int) -> None:
    assert default_end(begin, epochs) == end


def test_the_smallest_go_and_of_equals_the_first() -> None:
    kernel = np.array([[0.5, -0.1], [0.1, -2.0]], dtype=np.float32)
    assert keep_mask(kernel, 0.25).tolist() == [[1, 0], [1, 1]]
    assert keep_mask(kernel, 0.5).tolist() == [[1, 0], [0, 1]]
    assert keep_mask(kernel, 0.0).tolist() == [[1, 1], [1, 1]]


@given(st.integers(1, 400), st.floats(0, 0.999), st.floats(0, 0.999))
def test_zeros_are_exactly_as_many_as_asked_and_stay(size: int, first: float, second: float) -> None:
    low, high = sorted((first, second))
    kernel = np.random.default_rng(size).normal(size=size).astype(np.float32)
    once = kernel * keep_mask(kernel, low)
    assert np.count_nonzero(once == 0) == zero_count(size, low)
    twice = once * keep_mask(once, high)
    assert np.count_nonzero(twice == 0) == zero_count(size, high)
    assert not np.any(twice[once == 0])
