"""Requantization on 32-bit multiplications: wherever constants are found, every sum gets the Requant's value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.v6m.refine import Below, Even, Levels, Refined, refine, signed_weights
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage

HALF_UP, HALF_AWAY, HALF_EVEN, FLOOR = Rounding.HALF_UP, Rounding.HALF_AWAY, Rounding.HALF_EVEN, Rounding.FLOOR


def requant(
    multiplier: int | list[int], *stages: tuple[int, Rounding], offset: int = 0, lo: int = 0, hi: int = 255
) -> Requant:
    zero = frozen_array(0)
    made = tuple(Stage(frozen_array(shift), rounding) for shift, rounding in stages)
    return Requant(zero, frozen_array(multiplier), made, frozen_array(offset), frozen_array(lo), frozen_array(hi))


def found(
    requant: Requant, weights: IntArray, bias: IntArray, bounds: tuple[int, int]
) -> tuple[Levels, tuple[Refined, ...]]:
    answer = refine(requant, weights, bias, bounds)
    assert answer is not None
    return answer


def assert_equal(requant: Requant, weights: IntArray, bias: IntArray, bounds: tuple[int, int]) -> None:
    """Every sum of one output, the ends included."""
    levels, (form,) = found(requant, weights, bias, bounds)
    ends = weights[:, :, None] * np.array(bounds)
    sums = np.arange(ends.min(axis=2).sum(), ends.max(axis=2).sum() + 1)
    values = form.evaluate(sums * form.sign, levels)
    assert values is not None
    stored = (values + levels.offset) % 256
    np.testing.assert_array_equal(stored, requant.evaluate((sums + bias[0],), ()) % 256)


FORMS = {
    "relu": requant(1_518_500_250, (31, HALF_UP), (9, HALF_AWAY)),
    "relu that ends early": requant(1_318_500_251, (31, HALF_UP), (9, HALF_AWAY), hi=100),
    "zero point": requant(1_318_500_251, (31, HALF_UP), (8, HALF_AWAY), offset=11, lo=-128, hi=127),
    "zero point, unsigned": requant(2_000_500_253, (31, HALF_UP), (9, HALF_AWAY), offset=142),
    "ties to even": requant(1, (9, HALF_EVEN), hi=63),
    "ties to even, signed": requant(1, (10, HALF_EVEN), lo=-32, hi=31),
    "ties to even, a factor": requant(3, (11, HALF_EVEN), hi=255),
    "down": requant(1, (9, FLOOR), lo=-7, hi=8),
    "falling": requant(-3, (11, HALF_UP), hi=255),
    "rarely more than the least": requant(1, (16, HALF_UP)),
    "never more than the least": requant(1, (22, HALF_UP), hi=255),
}


@pytest.mark.parametrize("name", [name for name in FORMS if not name.startswith("never")])
def test_every_sum_of_an_output_is_exact(name: str) -> None:
    weights = frozen_array([[127, -127, 40, 3, -77, -127, 90]])
    assert_equal(FORMS[name], weights, frozen_array([-1234]), (0, 255))


def test_a_layer_that_has_one_value_has_no_form() -> None:
    assert refine(FORMS["never more than the least"], frozen_array([[1, 2]]), frozen_array([0]), (0, 255)) is None


def test_an_output_that_has_one_value_keeps_it_without_its_weights() -> None:
    weights, bias = frozen_array([[90, 90], [1, 1]]), frozen_array([0, 5000])
    levels, forms = found(requant(1, (8, HALF_UP)), weights, bias, (0, 255))
    assert [form.sign for form in forms] == [1, 1]
    levels, forms = found(requant([1, 0], (8, HALF_UP)), weights, bias, (0, 255))
    assert forms[1].sign == 0
    assert signed_weights(weights, forms).tolist() == [[90, 90], [0, 0]]
    assert forms[1].evaluate(np.array([0]), levels) == 0


def test_the_weights_of_an_output_that_falls_are_negated() -> None:
    weights, bias = frozen_array([[90, 7], [90, 7]]), frozen_array([0, -20_000])
    _, forms = found(requant([2, -2], (9, HALF_UP)), weights, bias, (0, 255))
    assert [form.sign for form in forms] == [1, -1]


@pytest.mark.parametrize("name", [name for name in FORMS if not name.startswith("never")])
def test_outputs_of_one_scale_differ_in_their_addends_alone(name: str) -> None:
    rng = np.random.default_rng(2)
    weights, bias = frozen_array(rng.integers(-127, 128, (9, 11))), frozen_array(rng.integers(-2000, 2000, 9))
    levels, forms = found(FORMS[name], weights, bias, (0, 255))
    assert levels.alike
    assert levels.words == 1
    assert levels.common == len(forms[0].words(levels))
    assert {form.words(levels) for form in forms} == {forms[0].words(levels)}
    for row, one, form in zip(weights, bias, forms, strict=True):
        ends = row[:, None] * np.array([0, 255])
        sums = np.arange(ends.min(axis=1).sum(), ends.max(axis=1).sum() + 1)
        values = form.evaluate(sums * form.sign, levels)
        assert values is not None
        np.testing.assert_array_equal((values + levels.offset) % 256, FORMS[name].evaluate((sums + one,), ()) % 256)


def test_outputs_of_several_scales_have_constants_of_their_own() -> None:
    weights, bias = frozen_array([[90, 90], [90, 90]]), frozen_array([0, 0])
    levels, forms = found(requant([2, 3], (9, HALF_UP)), weights, bias, (0, 255))
    assert not levels.alike
    assert (levels.common, levels.words) == (0, 4)
    assert forms[0].step > forms[1].step


def test_an_output_of_one_value_is_like_the_others() -> None:
    weights, bias = frozen_array([[90, 90], [90, 90], [1, 1]]), frozen_array([0, 99, 5000])
    one = requant(1, (8, HALF_UP), hi=127)
    levels, forms = found(one, weights, bias, (0, 255))
    assert [form.sign for form in forms] == [1, 1, 1]
    levels, forms = found(one, weights, frozen_array([0, 99, 60_000]), (0, 255))
    assert levels.alike
    assert forms[2].sign == 0
    assert forms[2].evaluate(np.array([0]), levels) == 127


@pytest.mark.parametrize(
    ("name", "split"),
    [("relu", None), ("zero point", Below(139)), ("zero point, unsigned", Below(142)), ("ties to even", Even())],
)
def test_a_split_is_there_where_it_must_be(name: str, split: object) -> None:
    weights = frozen_array([[127, -127, 40, 3, -77, -127, 90, 100, -100]])
    assert found(FORMS[name], weights, frozen_array([7]), (0, 255))[0].split == split


def test_products_that_leave_32_bits_have_no_form() -> None:
    weights = frozen_array([[127] * 40_000])
    assert refine(requant(3, (5, HALF_UP)), weights, frozen_array([0]), (0, 255)) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_found_is_exact(data: st.DataObject) -> None:
    rounding = data.draw(st.sampled_from(list(Rounding)))
    count = data.draw(st.integers(1, 9))
    weights = frozen_array([data.draw(st.lists(st.integers(-127, 127), min_size=count, max_size=count))])
    bias = frozen_array([data.draw(st.integers(-(1 << 14), 1 << 14))])
    lo = data.draw(st.sampled_from([0, -128, -8]))
    hi = lo + data.draw(st.sampled_from([255, 63, 15]))
    offset = data.draw(st.integers(lo, hi))
    if data.draw(st.booleans()):
        stages = ((31, HALF_UP), (data.draw(st.integers(1, 12)), HALF_AWAY))
        chosen = requant(data.draw(st.integers(1 << 30, (1 << 31) - 1)), *stages, offset=offset, lo=lo, hi=hi)
    else:
        shift = (data.draw(st.integers(1, 14)), rounding)
        chosen = requant(data.draw(st.integers(-40, 40)), shift, offset=offset, lo=lo, hi=hi)
    bounds = data.draw(st.sampled_from([(0, 255), (-128, 127), (0, 63)]))
    if refine(chosen, weights, bias, bounds) is not None:
        assert_equal(chosen, weights, bias, bounds)
