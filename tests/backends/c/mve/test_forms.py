"""Every form that MVE's instructions have gives the Requant's own bytes for every sum that can come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.dsp.forms import Wraps
from edgeflow.backends.c.mve.finish import finish_of
from edgeflow.backends.c.mve.forms import Clamp, Doubled, Lifted, Shifted, VectorForm, layer_forms
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage
from tests.passes.graphs import requant

CLAMPS = [(0, 255), (-128, 127), (-128, 90), (-7, 8), (3, 250)]


def two_stage(multiplier: int, shift: int, offset: int, ends: tuple[int, int], how: Rounding) -> Requant:
    one = requant(multiplier=multiplier, offset=offset, lo=ends[0], hi=ends[1])
    stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(shift), how))
    return Requant(one.pre, one.multiplier, stages, one.offset, one.lo, one.hi, one.bias)


def forms_of(op: Requant, bias: int, taps: int = 2) -> tuple[VectorForm, ...] | None:
    """One output of weights 127, whose sums reach from -128 * 127 * taps to 127 * 127 * taps."""
    return layer_forms(op, np.full((1, taps), 127), frozen_array([bias]), (-128, 127))


def assert_same(form: VectorForm, op: Requant, bias: int, taps: int = 2) -> None:
    sums: IntArray = np.arange(-128 * 127 * taps, 127 * 127 * taps + 1)
    np.testing.assert_array_equal(form.evaluate(sums), op.evaluate((sums + bias,), ()))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, (1 << 31) - 1),
    st.integers(0, 12),
    st.sampled_from([0, -128, 14, 200]),
    st.sampled_from(CLAMPS),
    st.sampled_from([Rounding.HALF_UP, Rounding.HALF_AWAY]),
    st.integers(-40_000, 40_000),
)
def test_two_stages_are_exact(
    multiplier: int, shift: int, offset: int, ends: tuple[int, int], how: Rounding, bias: int
) -> None:
    op = two_stage(multiplier, shift, offset, ends, how)
    forms = forms_of(op, bias)
    assert forms is not None
    assert isinstance(forms[0], Doubled | Shifted)
    assert_same(forms[0], op, bias)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(Rounding)),
    st.integers(0, 12),
    st.integers(0, 3),
    st.integers(-3000, 3000),
    st.sampled_from([0, 2, -128, 3]),
    st.sampled_from(CLAMPS),
)
def test_powers_of_two_are_exact(
    how: Rounding, down: int, up: int, bias: int, offset: int, ends: tuple[int, int]
) -> None:
    op = requant(down, how, pre=up, offset=offset, lo=ends[0], hi=ends[1])
    forms = forms_of(op, bias)
    if down >= up and how in (Rounding.FLOOR, Rounding.HALF_UP):
        assert forms is not None
        assert isinstance(forms[0], Shifted)
        assert not forms[0].half_even
    if forms is not None:
        assert_same(forms[0], op, bias)


@settings(max_examples=30, deadline=None)
@given(st.integers(1 << 13, 1 << 19), st.integers(24, 28), st.integers(-(1 << 27), 1 << 27))
def test_a_multiplier_with_one_stage_is_exact_where_a_form_is_found(multiplier: int, shift: int, bias: int) -> None:
    op = requant(shift, Rounding.HALF_UP, multiplier=2 * multiplier + 1, bias=bias, lo=-128, hi=127)
    forms = forms_of(op, 17)
    if forms is not None:
        assert isinstance(forms[0], Lifted)
        assert_same(forms[0], op, 17)


def test_rounding_away_is_left_out_where_the_clamp_hides_it() -> None:
    hidden = two_stage(1 << 30, 4, -128, (-128, 127), Rounding.HALF_AWAY)
    shown = two_stage(1 << 30, 4, 0, (-128, 127), Rounding.HALF_AWAY)
    found = [forms_of(one, 0) for one in (hidden, shown)]
    assert found == [
        (Doubled(0, 1 << 30, 4, False, Clamp(-128, -128, 127)),),
        (Doubled(0, 1 << 30, 4, True, Clamp(0, -128, 127)),),
    ]


def test_a_shift_of_zero_is_masked_only_where_halves_round_away() -> None:
    clamp = Clamp(0, -128, 127)
    mixed = [Doubled(0, 1 << 30, shift, True, clamp) for shift in (0, 3)]
    assert finish_of(mixed, signed=True).masked
    assert not finish_of(mixed[1:], signed=True).masked
    assert not finish_of([Doubled(0, 1 << 30, 0, False, clamp)], signed=True).masked


def test_outputs_with_unlike_clamps_have_no_form() -> None:
    op = requant(4, lo=0, hi=255)
    unlike = Requant(op.pre, op.multiplier, op.stages, op.offset, op.lo, frozen_array([255, 100]), op.bias)
    assert layer_forms(unlike, np.full((2, 6), 127), frozen_array([0, 0]), (-128, 127)) is None


@pytest.mark.parametrize(
    "form",
    [
        Shifted(1, 3, False, Clamp(0, 0, 255)),
        Doubled(1, 1 << 30, 3, False, Clamp(0, 0, 255)),
        Lifted(0, 1 << 30, 3, Clamp(0, 0, 255)),
    ],
)
def test_a_sum_that_leaves_32_bits_is_no_result(form: VectorForm) -> None:
    with pytest.raises(Wraps):
        form.evaluate(np.array([(1 << 31) - 1]))
