"""The kernels' fixed-point arithmetic, against gemmlowp's two functions written down from their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.backends.tflm.arithmetic import (
    JUST_BELOW_ONE,
    Multiplier,
    effective,
    kernel_multipliers,
    kernel_requant,
    quantize_multiplier,
    scale_of,
)
from edgeflow.backends.tflm.widths import INT8, INT16, Width
from edgeflow.ir.types import Affine, Dyadic

WIDE = 1 << 40


def high_mul(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul of 32-bit integers (not both the lowest): truncating division by 2**31."""
    product = a * b
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    return abs(nudged) // (1 << 31) * (1 if nudged >= 0 else -1)


def divide_by_power(x: int, exponent: int) -> int:
    """RoundingDivideByPOT."""
    mask = (1 << exponent) - 1
    remainder, threshold = x & mask, (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


@given(st.integers(-(1 << 24), 1 << 24), st.integers(1 << 30, (1 << 31) - 1), st.integers(-31, 6))
def test_a_requant_in_kernel_form_is_multiply_by_quantized_multiplier(x: int, significand: int, exponent: int) -> None:
    expected = divide_by_power(high_mul(x << max(exponent, 0), significand), max(-exponent, 0))
    requant = kernel_requant([Multiplier(significand, exponent)], 0, -WIDE, WIDE)
    assert requant.finish(np.array([(x << int(requant.pre[0])) * significand])).tolist() == [expected]


@pytest.mark.parametrize("power", range(1, 24))
def test_just_below_a_power_of_two_rounds_once_below_2_to_23(power: int) -> None:
    multiplier = quantize_multiplier(JUST_BELOW_ONE * 2.0**-power)
    assert multiplier == Multiplier((1 << 31) - 128, -power)
    reach = (1 << 23) - 1
    x = np.unique(np.clip(np.arange(-1000, 1000) * (1 << (power - 1)) + np.arange(2000) % 3 - 1, -reach, reach))
    requant = kernel_requant([multiplier], 0, -WIDE, WIDE)
    once = np.sign(x) * ((np.abs(x) + (1 << (power - 1))) >> power)
    np.testing.assert_array_equal(requant.finish(x * multiplier.significand), once)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (1.0, Multiplier(1 << 30, 1)),
        (0.5, Multiplier(1 << 30, 0)),
        (2.0**-7, Multiplier(1 << 30, -6)),
        (3.0, Multiplier(3 << 29, 2)),
        (1 - 2.0**-40, Multiplier(1 << 30, 1)),
    ],
)
def test_factors_split_as_in_tflite_micro(factor: float, expected: Multiplier) -> None:
    assert quantize_multiplier(factor) == expected


SCALES = st.floats(2.0**-12, 8.0, width=32)


@given(SCALES, SCALES, SCALES)
def test_the_scale_behind_a_multiplier_is_found_again(weight: float, source: float, result: float) -> None:
    multiplier = effective(source, weight, result)
    found = INT8.weight_scale(multiplier, source, result)
    assert found is not None
    assert effective(source, found, result) == multiplier


def test_a_multiplier_of_too_many_bits_has_no_scale() -> None:
    assert INT8.weight_scale(Multiplier((1 << 30) + 1, 0), 1.0, 1.0) is None


@pytest.mark.parametrize("width", [INT8, INT16])
def test_a_multiplier_that_tflite_micro_flushes_to_zero_has_no_scale(width: Width) -> None:
    found = [width.weight_scale(Multiplier(0x7000_0000, exponent), 1.0, 1.0) for exponent in (-31, -32)]
    assert found == [math.ldexp(0x7000_0000, -62), None]


def test_kernel_form_is_recognised_per_channel() -> None:
    multipliers = (Multiplier(1 << 30, 2), Multiplier((1 << 31) - 128, -9))
    assert kernel_multipliers(kernel_requant(multipliers, 0, 0, 9), 3, 2) == multipliers
    assert kernel_multipliers(kernel_requant(multipliers[:1], 0, 0, 9), 1, 3) == multipliers[:1] * 3


def test_labels_become_float32_scales() -> None:
    assert scale_of(Dyadic(4)) == 2.0**-4
    assert scale_of(Affine(0.1, 3)) == float(np.float32(0.1))
    assert scale_of(Dyadic((1, 2))) is None
    assert scale_of(Dyadic(200)) is None
    assert math.isfinite(scale_of(Dyadic(-100)) or math.inf)
