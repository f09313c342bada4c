"""Every quantizer of activations against the live QKeras object, at each break and its neighbours."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.quantizers import (
    Curve,
    Relu,
    Steps,
    read_activation,
    read_weight_quantizer,
)
from tests.frontends.qkeras.live import RELAXED, Entry, Floats, both_modes, label, live, named, stored


def neighbours(centres: Floats, reach: int = 2) -> Floats:
    below, above, found = centres, centres, [centres]
    for _ in range(reach):
        below = np.nextafter(below, np.float32(-np.inf))
        above = np.nextafter(above, np.float32(np.inf))
        found += [below, above]
    return np.concatenate(found)


def ties(activation: Steps | Curve) -> Floats:
    if isinstance(activation, Curve):
        return np.array([float(one.at) for one in activation.breaks], dtype=np.float32)
    codes = np.arange(max(activation.lo, -2000) - 1, min(activation.hi, 2000) + 2, dtype=np.float64)
    return np.ldexp(codes - activation.offset + 0.5, -activation.frac).astype(np.float32)


def inputs(activation: Steps | Curve, seed: int = 0) -> Floats:
    """Each break and its float32 neighbours, zeros, tiny and huge numbers, noise of several sizes."""
    rng = np.random.default_rng(seed)
    special = np.array([0, -0.0, 1e-7, 1e-10, 1e-30, 0.33, 0.5, 1, 2, 3, 6, 100, 1e4, 1e9, 1e20], dtype=np.float32)
    noise = np.concatenate([rng.normal(0, size, 400) for size in (1e-3, 0.1, 1, 8, 300)]).astype(np.float32)
    x = np.concatenate([neighbours(ties(activation)), neighbours(special, 1), -special, noise])
    return np.where(np.abs(x) < SMALLEST, np.copysign(SMALLEST, x), x)


SMALLEST = np.float32(2.0**-100)
"""TensorFlow's kernels take numbers below 2**-126 for 0; products come nearer to that than their factors."""


def value32(codes: npt.NDArray[np.int64], unit: int) -> Floats:
    return np.ldexp(codes.astype(np.float32), -unit)


ACTIVATIONS: list[Entry] = [
    named("quantized_bits", bits=4, integer=1, alpha=1),
    named("quantized_bits", bits=8, integer=0),
    named("quantized_bits", bits=5, integer=3, symmetric=1, alpha=0.25),
    named("quantized_bits", bits=6, integer=-2, keep_negative=False, alpha=2.0),
    named("quantized_bits", bits=12, integer=2, use_stochastic_rounding=True),
    named("quantized_bits", bits=1, integer=0, alpha=1),
    named("quantized_bits", bits=1, integer=2, alpha=0.5),
    named("quantized_linear", bits=4, integer=1, alpha=1.0),
    named("quantized_linear", bits=6, integer=0, symmetric=0, alpha=4.0),
    named("quantized_linear", bits=5, integer=-1, keep_negative=False),
    named("quantized_linear", bits=5, integer=2, use_stochastic_rounding=True),
    named("quantized_linear", bits=1, integer=0),
    named("quantized_linear", bits=1, integer=1, alpha=0.5),
    named("quantized_linear", bits=1, integer=1, keep_negative=False),
    named("quantized_relu", bits=4, integer=2),
    named("quantized_relu", bits=1, integer=0),
    named("quantized_relu", bits=8, integer=4, use_stochastic_rounding=True),
    named("quantized_relu", bits=6, integer=2, relu_upper_bound=1.5),
    named("quantized_relu", bits=6, integer=2, is_quantized_clip=False),
    named("quantized_relu", bits=6, integer=2, is_quantized_clip=False, relu_upper_bound=1.5),
    named("quantized_relu", bits=6, integer=2, is_quantized_clip=False, relu_upper_bound=9.0),
    named("quantized_relu", bits=5, integer=1, negative_slope=0.25),
    named("quantized_relu", bits=5, integer=1, negative_slope=1.0),
    named("quantized_relu", bits=5, integer=1, negative_slope=2.0),
    named("quantized_relu", bits=3, integer=0, negative_slope=0.0625),
    named("quantized_relu", bits=1, integer=0, negative_slope=0.5),
    named("quantized_relu", bits=6, integer=1, negative_slope=0.5, is_quantized_clip=False, relu_upper_bound=0.75),
    named("quantized_relu", bits=5, integer=0, use_sigmoid=1),
    named("quantized_relu", bits=8, integer=2, use_sigmoid=1),
    named("quantized_relu", bits=1, integer=1, use_sigmoid=1),
    named("quantized_relu", bits=5, integer=1, use_sigmoid=1, negative_slope=0.25),
    named("quantized_relu", bits=2, integer=3, use_sigmoid=1, negative_slope=0.125),
    named("quantized_relu", bits=3, integer=0, use_sigmoid=1, negative_slope=0.125),
    named("quantized_relu", bits=5, integer=1, use_sigmoid=1, is_quantized_clip=False, relu_upper_bound=1.0),
    named("quantized_tanh", bits=4),
    named("quantized_tanh", bits=8, symmetric=True),
    named("quantized_tanh", bits=1),
    named("quantized_tanh", bits=12, use_stochastic_rounding=True),
    named("quantized_sigmoid", bits=4),
    named("quantized_sigmoid", bits=8, symmetric=True),
    named("quantized_sigmoid", bits=1),
    named("quantized_sigmoid", bits=1, symmetric=True),
    named("quantized_sigmoid", bits=2, use_stochastic_rounding=True),
    named("quantized_hswish", bits=6, integer=2),
    named("quantized_hswish", bits=8, integer=3, symmetric=1, alpha=0.5),
    named("quantized_hswish", bits=10, integer=0, relu_shift=2, relu_upper_bound=4),
    named("quantized_hswish", bits=6, integer=1, relu_shift=5, relu_upper_bound=3),
    named("quantized_hswish", bits=1, integer=1, alpha=0.5),
    named("binary"),
    named("binary", alpha=1.0),
    named("binary", use_01=True),
    named("binary", use_01=True, alpha=0.25),
    named("stochastic_binary"),
    named("stochastic_binary", alpha=2.0),
    named("ternary"),
    named("ternary", alpha=0.5),
    named("ternary", threshold=0.5, alpha=1.0),
    named("ternary", threshold=-1.0),
    named("stochastic_ternary", threshold=0.1),
    named("quantized_po2", bits=4),
    named("quantized_po2", bits=2),
    named("quantized_po2", bits=4, max_value=1.0),
    named("quantized_po2", bits=5, max_value=3.0),
    named("quantized_po2", bits=5, max_value=0.3),
    named("quantized_po2", bits=4, log2_rounding="floor"),
    named("quantized_po2", bits=4, quadratic_approximation=True),
    named("quantized_po2", bits=5, max_value=0.7, quadratic_approximation=True, log2_rounding="floor"),
    named("quantized_po2", bits=4, use_stochastic_rounding=True),
    named("quantized_relu_po2", bits=4),
    named("quantized_relu_po2", bits=3, max_value=1),
    named("quantized_relu_po2", bits=4, max_value=4.0, negative_slope=0.25),
    named("quantized_relu_po2", bits=4, negative_slope=2.0, log2_rounding="floor"),
    named("quantized_relu_po2", bits=4, quadratic_approximation=True, negative_slope=0.5),
]


def judge(entry: Entry, x: Floats | None = None) -> Steps | Curve:
    """Where `held`, both of TensorFlow's modes give exactly the code's value."""
    quantizer = live(entry)
    activation = read_activation(stored(entry, quantizer), "layer 'a'")
    assert isinstance(activation, (Steps, Curve))
    x = inputs(activation) if x is None else x
    expected = value32(activation.float32(x), activation.unit)
    held = activation.held(x)
    for values in both_modes(quantizer, x):
        wrong = held & (values != expected)
        assert not wrong.any(), (x[wrong][:5], values[wrong][:5], expected[wrong][:5])
    assert held[np.abs(x) < 2].mean() > 0.6
    return activation


@pytest.mark.parametrize("entry", ACTIVATIONS, ids=label)
def test_activation_equals_live_quantizer(entry: Entry) -> None:
    activation = judge(entry)
    if entry["class_name"] == "quantized_hswish" or entry["config"].get("quadratic_approximation"):
        return  # a sixth or a square root in float32 decides exact ties otherwise than real arithmetic
    coarse = np.ldexp(np.arange(-512, 513).astype(np.float32), -6)
    assert activation.held(coarse).all()
    reals = [Fraction(float(one)) for one in coarse]
    np.testing.assert_array_equal(activation.codes_at(reals), activation.float32(coarse))


@pytest.mark.parametrize("entry", ACTIVATIONS, ids=label)
def test_real_function_and_float32_agree_away_from_breaks(entry: Entry) -> None:
    activation = read_activation(entry, "layer 'a'")
    assert isinstance(activation, (Steps, Curve))
    x = np.random.default_rng(1).normal(0, 3, 500).astype(np.float32)
    distance = np.abs(x[:, None].astype(np.float64) - ties(activation).astype(np.float64))
    near = distance.min(axis=1, initial=1) < 1e-5
    reals = [Fraction(float(one)) for one in x[~near]]
    np.testing.assert_array_equal(activation.codes_at(reals), activation.float32(x[~near]))


@pytest.mark.parametrize("name", ["quantized_tanh", "quantized_sigmoid"])
def test_steps_hold_for_every_multiple_of_the_finest(name: str) -> None:
    activation = read_activation(named(name, bits=9), "x")
    assert isinstance(activation, Steps)
    assert activation.finest == 23
    centres = np.ldexp(np.rint(np.ldexp(ties(activation).astype(np.float64), 23)), -23)
    x = (centres[:, None] + np.ldexp(np.arange(-3, 4), -23)).reshape(-1)
    single = x.astype(np.float32)
    on_grid = single[single.astype(np.float64) == x]
    reals = [Fraction(float(one)) for one in on_grid]
    np.testing.assert_array_equal(activation.codes_at(reals), activation.float32(on_grid))


def test_functions_that_qkeras_knows_by_name() -> None:
    from qkeras.quantizers import get_quantizer

    for name in ("binary_tanh", "binary_sigmoid"):
        activation = read_activation(name, "x")
        assert isinstance(activation, Curve)
        x = inputs(activation)
        for values in both_modes(get_quantizer(name), x):
            np.testing.assert_array_equal(values, value32(activation.float32(x), activation.unit))


def test_no_quantizer_and_float_relu() -> None:
    assert read_activation(None, "x") is None
    assert read_activation("linear", "x") is None
    assert read_activation("relu", "x") == Relu()
    assert read_activation("relu6", "x") == Relu(most=Fraction(6))
    assert read_weight_quantizer(None, "x", "bias") is None


def test_text_is_read_like_an_object() -> None:
    assert read_activation("quantized_relu(6,2)", "x") == Steps(4, 0, 63, 4, straight_through=False)
    assert read_activation("quantized_bits(4, 1, 1, alpha=2)", "x") == Steps(2, -7, 7, 1, straight_through=True)
    assert read_activation("quantized_tanh", "x") == Steps(7, -128, 127, 7, straight_through=False, finest=23)


def test_curve_between_breaks() -> None:
    curve = read_activation(named("ternary", threshold=0.25), "x")
    assert isinstance(curve, Curve)
    quarter, less = Fraction(1, 4), Fraction(1, 4) - Fraction(1, 1 << 200)
    assert curve.codes_at([-quarter, -less, Fraction(0), less, quarter]).tolist() == [-1, 0, 0, 0, 1]
    assert [(one.at, one.closed) for one in curve.breaks] == [(-quarter, False), (quarter, True)]


def test_po2_breaks_are_square_roots() -> None:
    curve = read_activation(named("quantized_po2", bits=3), "x")
    assert isinstance(curve, Curve)
    assert curve.codes.tolist() == [-8, -4, -2, -1, 1, 2, 4, 8]
    assert curve.unit == 2
    assert abs(curve.breaks[-1].at ** 2 - 2) < Fraction(1, 1 << 120)


@st.composite
def activations(draw: st.DrawFn) -> Entry:
    bits, integer = st.integers(1, 9), st.integers(0, 4)
    alpha = st.sampled_from([None, 1, 0.25, 4.0])
    slope = st.sampled_from([0.0, 0.125, 0.5, 1.0])
    bound = st.sampled_from([None, 0.5, 1.0, 2.0, 40.0])
    flag = st.booleans()
    kinds: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "quantized_bits": {
            "bits": bits,
            "integer": integer,
            "symmetric": flag,
            "keep_negative": flag,
            "alpha": alpha,
        },
        "quantized_linear": {
            "bits": bits,
            "integer": integer,
            "symmetric": st.integers(0, 1),
            "keep_negative": flag,
            "alpha": alpha,
        },
        "quantized_relu": {
            "bits": bits,
            "integer": integer,
            "use_sigmoid": st.integers(0, 1),
            "negative_slope": slope,
            "is_quantized_clip": flag,
            "relu_upper_bound": bound,
        },
        "quantized_tanh": {"bits": bits, "symmetric": flag},
        "quantized_sigmoid": {"bits": bits, "symmetric": flag},
        "quantized_hswish": {
            "bits": bits,
            "integer": integer,
            "relu_shift": st.integers(1, 5),
            "relu_upper_bound": st.integers(1, 8),
        },
        "binary": {"use_01": flag, "alpha": alpha},
        "ternary": {"alpha": alpha, "threshold": st.sampled_from([None, 0.1, 0.5, 2.0])},
        "quantized_po2": {
            "bits": st.integers(2, 6),
            "max_value": st.sampled_from([None, 0.3, 1, 2, 5.5]),
            "quadratic_approximation": flag,
            "log2_rounding": st.sampled_from(["rnd", "floor"]),
        },
        "quantized_relu_po2": {
            "bits": st.integers(1, 5),
            "max_value": st.sampled_from([None, 0.3, 1, 2, 5.5]),
            "negative_slope": slope,
            "quadratic_approximation": flag,
            "log2_rounding": st.sampled_from(["rnd", "floor"]),
        },
    }
    name = draw(st.sampled_from(list(kinds)))
    return named(name, **{key: draw(one) for key, one in kinds[name].items()})


def check_any_activation(entry: Entry, seed: int) -> None:
    try:
        activation = read_activation(entry, "x")
    except Unsupported:
        assume(False)
        raise
    assert isinstance(activation, (Steps, Curve))
    judge(entry, inputs(activation, seed))


@RELAXED
@given(entry=activations(), seed=st.integers(0, 1 << 30))
def test_any_activation(entry: Entry, seed: int) -> None:
    check_any_activation(entry, seed)


@pytest.mark.slow
@settings(RELAXED, max_examples=600)
@given(entry=activations(), seed=st.integers(0, 1 << 30))
def test_any_activation_thoroughly(entry: Entry, seed: int) -> None:
    check_any_activation(entry, seed)
