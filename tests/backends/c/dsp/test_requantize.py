"""Every form of requantization gives the Requant's own bytes for every sum that can come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.dsp.forms import Form, General, MulHigh, PowerOfTwo, Saturation, Wraps
from edgeflow.backends.c.dsp.requantize import Channel, LayerForms, channels_of, find_layer, with_bias
from edgeflow.backends.c.dsp.staircase import mul_accumulate
from edgeflow.frontends.tflite import load_tflite
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import per_channel
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.passes.unsigned import unsigned
from edgeflow.semantics.verify import verify
from tests.passes.graphs import requant

BYTE, SIGNED = Saturation(8, signed=False), Saturation(8, signed=True)


def two_stage(multiplier: int, shift: int, zero_point: int = 0, bias: int = 0, *, signed: bool = False) -> Requant:
    """TFLite-Micro's requantization."""
    one = requant(
        multiplier=multiplier, bias=bias * multiplier, offset=zero_point, lo=-128 * signed, hi=255 - 128 * signed
    )
    stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(shift), Rounding.HALF_AWAY))
    return Requant(one.pre, one.multiplier, stages, one.offset, one.lo, one.hi, one.bias)


KINDS: tuple[type[Form], ...] = (PowerOfTwo, MulHigh, General)
"""The cheapest first."""


def layer_of(channels: tuple[Channel, ...] | None) -> LayerForms | None:
    """The cheapest kind of form that every channel has."""
    found = (find_layer(channels, kind) for kind in KINDS if channels)
    return next((one for one in found if not one.failed), None)


def cheapest(op: Requant, lo: int, hi: int, scale: int) -> Form | None:
    """The cheapest form of one channel."""
    found = layer_of(channels_of(op, np.array([lo]), np.array([hi]), [scale]))
    return found.forms[0] if found else None


def high(op: Requant, lo: int, hi: int, scale: int) -> Form | None:
    """The MulHigh of one channel."""
    channels = channels_of(op, np.array([lo]), np.array([hi]), [scale])
    return find_layer(channels, MulHigh).forms[0] if channels else None


def every_sum(lo: int, hi: int) -> IntArray:
    """All of a short interval; of a long one its ends and a random part."""
    if hi - lo < 1 << 18:
        return np.arange(lo, hi + 1)
    return np.concatenate(
        [np.arange(lo, lo + 999), np.arange(hi - 999, hi + 1), np.linspace(lo, hi, 99_999).astype(int)]
    )


def assert_same(form: Form | None, op: Requant, lo: int, hi: int) -> None:
    assert form is not None
    sums = every_sum(lo, hi)
    np.testing.assert_array_equal(form.evaluate(sums), op.evaluate((sums,), ()))


REQUANTS = st.builds(
    lambda multiplier, shift, zero, bias, signed: two_stage(multiplier, shift, zero, bias, signed=signed),
    st.integers(1 << 30, (1 << 31) - 1),
    st.integers(1, 10),
    st.sampled_from([0, 0, 128, 14, -20]),
    st.integers(-40_000, 40_000),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(REQUANTS, st.sampled_from([1, 256]), st.integers(-90_000, 0), st.integers(0, 90_000))
def test_every_kind_that_is_found_is_exact(op: Requant, scale: int, lo: int, hi: int) -> None:
    channels = channels_of(op, np.array([lo]), np.array([hi]), [scale])
    assert channels is not None
    for kind in KINDS:
        for form in find_layer(channels, kind).forms:
            if form is not None:
                assert_same(form, op, lo, hi)
            if isinstance(form, MulHigh) and (other := mul_accumulate(channels[0].stairs, form)):
                assert_same(other, op, lo, hi)
                assert (other.scale, other.factor) == (1, form.factor)
    assert_same(cheapest(op, lo, hi, scale), op, lo, hi)


@pytest.mark.parametrize("multiplier", [1_438_000_001, -1_438_000_001])
@pytest.mark.parametrize("bias", [0, 33_333, -41_000])
def test_two_addends_stand_for_the_bits_below_a_sum(multiplier: int, bias: int) -> None:
    op = two_stage(multiplier, 9, bias=bias)
    channels = channels_of(op, np.array([-400_000]), np.array([400_000]), [256])
    assert channels is not None
    (form,) = find_layer(channels, MulHigh).forms
    assert isinstance(form, MulHigh)
    other = mul_accumulate(channels[0].stairs, form)
    assert other is not None
    assert (other.shift, other.instructions) == (form.shift - 8, 3)
    assert_same(other, op, -400_000, 400_000)


@pytest.mark.parametrize("shift", [7, 29])
def test_a_shift_that_leaves_the_sum_no_room_has_no_two_addends(shift: int) -> None:
    op = two_stage(1 << 30, 1 if shift == 7 else 22)
    channels = channels_of(op, np.array([-200]), np.array([200]), [256])
    assert channels is not None
    assert mul_accumulate(channels[0].stairs, MulHigh(256, 0, 1 << 30, shift, BYTE)) is None


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(Rounding)),
    st.integers(0, 9),
    st.integers(0, 3),
    st.integers(-3000, 3000),
    st.sampled_from([0, 2, 128, 3]),
    st.sampled_from([(0, 255), (-128, 127), (0, 15), (-8, 7)]),
    st.sampled_from([1, 256]),
)
def test_powers_of_two_are_exact(
    how: Rounding, down: int, up: int, bias: int, offset: int, ends: tuple[int, int], scale: int
) -> None:
    op = requant(down, how, pre=up, bias=bias, offset=offset, lo=ends[0], hi=ends[1])
    form = cheapest(op, -70_000, 70_000, scale)
    if how in (Rounding.FLOOR, Rounding.HALF_UP) and (down >= up or scale > 1):
        assert isinstance(form, PowerOfTwo)
        assert not form.half_even
    if form is not None:
        assert_same(form, op, -70_000, 70_000)


def test_half_to_even_takes_two_more_instructions() -> None:
    op = requant(4, Rounding.HALF_EVEN, lo=0, hi=255)
    form = cheapest(op, -9000, 9000, 1)
    assert form == PowerOfTwo(1, 8, 4, half_even=True, saturation=BYTE)
    assert form is not None
    assert form.instructions == 4
    assert_same(form, op, -9000, 9000)


@pytest.mark.parametrize("multiplier", [1_438_000_001, -1_438_000_001])
def test_a_high_product_falls_where_the_multiplier_is_negative(multiplier: int) -> None:
    form = high(two_stage(multiplier, 8), -400_000, 400_000, 256)
    assert isinstance(form, MulHigh)
    assert (form.factor > 0) == (multiplier > 0)
    assert_same(form, two_stage(multiplier, 8), -400_000, 400_000)


def test_the_general_form_holds_the_bias_and_the_zero_point() -> None:
    op = two_stage(1_278_221_421, 7, 14, 333, signed=True)
    form = cheapest(op, -600_000, 600_000, 256)
    factor = 2 * 1_278_221_421 - (1 << 32)
    assert form == General(256, 333 * 256, factor, carry=True, offset=64 + (14 << 7), shift=7, saturation=SIGNED)
    assert form is not None
    assert form.instructions == 6
    assert_same(form, op, -600_000, 600_000)


def test_a_clamp_that_no_saturation_gives_has_no_form() -> None:
    assert cheapest(requant(2, lo=0, hi=100), -999, 999, 1) is None
    assert high(requant(2, lo=0, hi=100), -999, 999, 256) is None


def test_parameters_that_differ_between_positions_have_no_form() -> None:
    op = requant(2, lo=0, hi=255)
    op = Requant(op.pre, frozen_array([[[1]], [[2]]]), op.stages, op.offset, op.lo, op.hi)
    assert cheapest(op, -999, 999, 1) is None
    assert channels_of(op, np.array([-9]), np.array([9])) is None


def test_a_word_beyond_32_bits_is_no_form() -> None:
    with pytest.raises(Wraps):
        MulHigh(256, 0, 1 << 30, 3, BYTE).evaluate(np.array([1 << 23]))
    assert high(two_stage(1 << 30, 9), 0, 1 << 23, 256) is None


def test_a_layer_of_several_shifts_falls_back_to_products() -> None:
    op = requant([2, 3, 5], Rounding.HALF_UP, lo=0, hi=255)
    channels = channels_of(op, np.full(3, -9000), np.full(3, 9000), [256] * 3)
    assert channels is not None
    found = find_layer(channels, MulHigh)
    assert found.failed == ()
    assert len({form.shift for form in found.forms if isinstance(form, MulHigh)}) == 1


def layers(graph: Graph, scale: int, *, with_biases: bool) -> dict[str, tuple[Channel, ...]]:
    """The channels of every Conv and Dense; the bias is part of the sums or comes after them."""
    bounds = verify(graph)
    makers = {node.name: node.op for node in graph.nodes}
    found: dict[str, tuple[Channel, ...]] = {}
    for node in graph.nodes:
        before = makers.get(node.inputs[0])
        if isinstance(node.op, Requant) and isinstance(before, Conv | Dense):
            lo, hi = per_channel(bounds[node.inputs[0]], node.type.shape[-1])
            op = node.op if with_biases else with_bias(node.op, before.bias)
            bias = 0 if with_biases else before.bias
            found[node.name] = channels_of(op, lo - bias, hi - bias, [scale] * len(lo)) or ()
            assert found[node.name]
    return found


def kinds(found: dict[str, tuple[Channel, ...]]) -> dict[str, str]:
    """The kind of form that each layer gets, all of which are checked."""
    chosen: dict[str, str] = {}
    for name, channels in found.items():
        layer = layer_of(channels)
        assert layer is not None
        for channel, form in zip(channels, layer.forms, strict=True):
            assert form is not None
            assert channel.stairs.equal(form)
            chosen[name] = type(form).__name__
    return chosen


@pytest.mark.parametrize("with_biases", [True, False])
def test_every_layer_of_a_real_model_has_one_cheap_form(data: Path, with_biases: bool) -> None:
    graph = unsigned(load_tflite(data / "models" / "kws_ref_model.tflite"))
    chosen = kinds(layers(graph, 256, with_biases=with_biases))
    assert list(chosen.values()) == ["MulHigh"] * (len(chosen) - 1) + ["General"], "the last rounds on both sides of 0"


@pytest.mark.slow
@pytest.mark.parametrize("with_biases", [True, False])
def test_every_layer_of_the_anomaly_detector_has_one_cheap_form(data: Path, with_biases: bool) -> None:
    graph = unsigned(load_tflite(data / "models" / "ad01_int8.tflite"))
    *inner, last = kinds(layers(graph, 256, with_biases=with_biases)).values()
    assert last == "General", "it rounds on both sides of its zero point"
    assert set(inner) == {"MulHigh"}
