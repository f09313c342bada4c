"""Ranges as grids of integers: TFLite's for float scales, powers of two else, and what each method keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import EdgeflowError
from edgeflow.ir.types import Affine, Dyadic
from edgeflow.train.calibrate.grids import Grid, Range, affine_grid, choose_grid, dyadic_grid, fixed_grid
from edgeflow.train.calibrate.options import Options

TENTH = float(np.float32(25.5) / np.float32(255))


@pytest.mark.parametrize(
    ("lo", "hi", "bits", "grid"),
    [
        (0.0, 255.0, 8, Grid(1.0, -128, -128, 127)),
        (-128.0, 127.0, 8, Grid(1.0, 0, -128, 127)),
        (-0.2, 25.3, 8, Grid(TENTH, -126, -128, 127)),
        (3.0, 25.5, 8, Grid(TENTH, -128, -128, 127)),
        (-25.5, -4.0, 8, Grid(TENTH, 127, -128, 127)),
        (0.0, 7.5, 4, Grid(0.5, -8, -8, 7)),
        (0.0, 0.0, 8, Grid(float(np.float32(1 / 255)), -128, -128, 127)),
    ],
)
def test_affine_grids_hold_zero_exactly(lo: float, hi: float, bits: int, grid: Grid) -> None:
    found = affine_grid(lo, hi, bits)
    assert (found.zero, found.lo, found.hi) == (grid.zero, grid.lo, grid.hi)
    assert found.scale == pytest.approx(grid.scale, rel=1e-6)
    assert float(np.float32(found.scale)) == found.scale
    assert found.label == Affine(found.scale, found.zero)


@pytest.mark.parametrize(
    ("lo", "hi", "bits", "frac", "ends"),
    [
        (0.0, 255.0, 8, 0, (0, 255)),
        (0.0, 256.0, 8, -1, (0, 255)),
        (0.0, 0.99, 8, 8, (0, 255)),
        (-1.0, 0.5, 8, 7, (-128, 127)),
        (-1.01, 0.5, 8, 6, (-128, 127)),
        (-0.5, 127.0, 8, 0, (-128, 127)),
        (-8.0, 7.0, 4, 0, (-8, 7)),
    ],
)
def test_dyadic_grids_reach_both_ends(lo: float, hi: float, bits: int, frac: int, ends: tuple[int, int]) -> None:
    found = dyadic_grid(lo, hi, bits)
    assert found == Grid(2.0**-frac, 0, *ends, dyadic=True)
    assert found.label == Dyadic(frac)


def test_functions_with_known_values_get_tflites_own_grids() -> None:
    assert fixed_grid(0.0, 1.0, 8) == Grid(1 / 256, -128, -128, 127)
    assert fixed_grid(-1.0, 1.0, 8) == Grid(1 / 128, 0, -128, 127)


@given(st.floats(-1e6, 1e6, width=32), st.floats(0.015625, 1e6, width=32), st.integers(2, 8), st.floats(0, 1, width=32))
def test_values_in_range_stay_within_half_a_step(lo: float, span: float, bits: int, place: float) -> None:
    hi = lo + span
    value = np.array([lo + place * (hi - lo)])
    for make in (affine_grid, dyadic_grid):
        grid = make(lo, hi, bits)
        error = abs(float(grid.reals(grid.integers(value))[0] - value[0]))
        assert error <= grid.scale * (1.0001 if make is affine_grid else 0.5001), "the zero point rounds once more"
        assert grid.reals(np.array([grid.zero]))[0] == 0.0


OUTLIER = Range(-1.0, 100.0, np.concatenate([np.linspace(-1, 1, 200_001), [100.0]]).astype(np.float32))


def test_methods_keep_what_they_say() -> None:
    def span(method: str) -> float:
        grid = choose_grid(OUTLIER, affine_grid, 8, method)
        return (grid.hi - grid.lo) * grid.scale

    assert span("minmax") == pytest.approx(101.0, rel=1e-5)
    assert span("percentile") == pytest.approx(2.0, rel=1e-3)
    assert 60.0 < span("mse") < 90.0, "one value in 200,000: worth a little clipping"
    errors = {name: choose_grid(OUTLIER, affine_grid, 8, name).error(OUTLIER.values) for name in ("minmax", "mse")}
    assert errors["mse"] < errors["minmax"]


def test_the_least_square_error_may_clip_a_power_of_two() -> None:
    seen = Range(0.0, 1.0, np.linspace(0, 1, 1001).astype(np.float32))
    assert choose_grid(seen, dyadic_grid, 8, "minmax").scale == 2.0**-7
    assert choose_grid(seen, dyadic_grid, 8, "mse").scale == 2.0**-8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"samples": 0}, "--samples is 0\n  fix: give a number of samples from 1, such as 512"),
        ({"method": "kl"}, '--method is "kl"\n  fix: choose from: minmax, percentile, mse'),
        ({"bits": 9}, "--bits is 9\n  fix: choose from 2 to 8; 8 keeps the most accuracy"),
        ({"activation_bits": 1}, "--activation-bits is 1\n  fix: choose from 2 to 8; 8 keeps the most accuracy"),
    ],
)
def test_options_that_cannot_be(options: dict[str, int], text: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        Options(**options)  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == text
