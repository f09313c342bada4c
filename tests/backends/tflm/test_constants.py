"""Constants of ADD, SUB and MUL, found again from what a graph keeps of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.backends.tflm.arithmetic import quantize_multiplier, sum_input
from edgeflow.backends.tflm.constants import factored, stored_constant, sum_constant
from edgeflow.backends.tflm.widths import INT8, INT16, Width
from edgeflow.ir.types import IntArray, frozen_array


def in_a_sum(values: IntArray, scale: float, twice: float, width: Width) -> IntArray:
    """What ADD makes of integers less their zero point."""
    op = sum_input(quantize_multiplier(scale / twice), 0, width.sum_left_shift)
    return op.evaluate((values,), ())


@given(
    seed=st.integers(0, 1 << 30),
    wide=st.booleans(),
    source=st.floats(2.0**-12, 2.0),
    ratio=st.floats(2.0**-4, 2.0**4),
)
def test_the_constant_of_a_sum_becomes_what_the_graph_says(seed: int, wide: bool, source: float, ratio: float) -> None:
    rng, width = np.random.default_rng(seed), INT16 if wide else INT8
    source, scale = (float(np.float32(one)) for one in (source, source * ratio))
    zero = 0 if wide else int(rng.integers(-128, 128))
    values = rng.integers(width.lo, width.hi + 1, (3, 1, int(rng.integers(1, 9)))) - zero
    twice = 2.0 * max(source, scale)
    wanted = in_a_sum(values, scale, twice, width)
    found = sum_constant(wanted, source, twice, width)
    assert found is not None
    assert found.values.shape == wanted.shape
    assert 2.0 * max(source, found.scale) == twice
    assert found.storage.holds(int(found.values.min()), int(found.values.max()))
    np.testing.assert_array_equal(in_a_sum(found.values, found.scale, twice, width), wanted)


def test_what_no_constant_becomes_has_none() -> None:
    assert sum_constant(frozen_array([1 << 28, 3]), 0.1, 0.2, INT8) is None


@pytest.mark.parametrize(
    ("values", "zero_point"), [([-128, 127], 0), ([0, 255], -128), ([200, 255], -128), ([-255, -1], 127)]
)
def test_integers_beyond_a_byte_get_a_zero_point(values: list[int], zero_point: int) -> None:
    found = stored_constant(frozen_array(values), 0.5, INT8)
    assert found is not None
    assert found.storage.zero_point == zero_point


@pytest.mark.parametrize("values", [[-1, 255], [0, 256], [300, 310]])
def test_integers_that_span_more_than_bytes_are_no_constant(values: list[int]) -> None:
    assert stored_constant(frozen_array(values), 0.5, INT8) is None


@pytest.mark.parametrize("shift", [0, 7])
def test_products_are_taken_apart_into_integers_and_a_multiplier(shift: int) -> None:
    values = np.array([[92], [64], [-14], [0]])
    found = {
        int(factor.significand): (got, factor.exponent) for got, factor in factored(values * 1830232782, shift, INT8)
    }
    got, exponent = found[1830232782]
    np.testing.assert_array_equal(got, values)
    assert exponent == -shift
