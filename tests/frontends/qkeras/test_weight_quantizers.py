"""Every quantizer of weights against the live QKeras object, by array."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.quantizers import (
    Codes,
    read_weight_quantizer,
)
from tests.frontends.qkeras.live import RELAXED, Entry, Floats, both_modes, label, live, named, stored

KERNELS: list[Entry] = [
    named("quantized_bits", bits=4, integer=0, alpha=1),
    named("quantized_bits", bits=8, integer=1, symmetric=1, alpha=0.5),
    named("quantized_bits", bits=5, integer=0, keep_negative=False, alpha=1.0),
    named("quantized_bits", bits=1, integer=0, alpha=1.0),
    named("quantized_bits", bits=1, integer=0, alpha=0.3),
    named("quantized_bits", bits=4, integer=0, alpha=0.3),
    named("quantized_bits", bits=4, integer=0),
    named("quantized_bits", bits=3, integer=2, alpha="auto_po2"),
    named("quantized_bits", bits=6, integer=1, keep_negative=False, alpha="auto_po2"),
    named("quantized_bits", bits=4, integer=0, alpha="auto"),
    named("quantized_bits", bits=5, integer=2, alpha="auto"),
    named("quantized_linear", bits=4, integer=0, alpha=1.0),
    named("quantized_linear", bits=6, integer=-1, symmetric=0, alpha=2.0),
    named("quantized_linear", bits=4, integer=1, alpha=0.3),
    named("quantized_linear", bits=1, integer=0, alpha=1.0),
    named("quantized_linear", bits=1, integer=0, alpha=0.7),
    named("quantized_linear", bits=4, integer=0),
    named("quantized_linear", bits=5, integer=0, symmetric=0, alpha="auto_po2"),
    named("quantized_linear", bits=5, integer=0, keep_negative=False, alpha="auto_po2"),
    named("quantized_linear", bits=1, integer=0, alpha="auto_po2"),
    named("quantized_linear", bits=1, integer=0, alpha="auto"),
    named("quantized_linear", bits=4, integer=2, alpha="auto"),
    named("quantized_linear", bits=4, integer=0, keep_negative=False, alpha="auto"),
    named("binary"),
    named("binary", alpha=1.0),
    named("binary", alpha=0.3),
    named("binary", alpha="auto"),
    named("binary", use_01=True, alpha="auto_po2"),
    named("binary", use_01=True, alpha="auto"),
    named("stochastic_binary"),
    named("stochastic_binary", alpha="auto"),
    named("ternary"),
    named("ternary", alpha=1.0),
    named("ternary", alpha=0.3, threshold=0.2),
    named("ternary", alpha="auto"),
    named("ternary", alpha="auto_po2", number_of_unrolls=2, use_stochastic_rounding=True),
    named("stochastic_ternary"),
    named("stochastic_ternary", alpha="auto"),
    named("quantized_po2", bits=4),
    named("quantized_po2", bits=6),
    named("quantized_po2", bits=4, max_value=0.5, log2_rounding="floor"),
    named("quantized_po2", bits=4, quadratic_approximation=True),
    named("quantized_relu_po2", bits=4, negative_slope=0.25),
    named("quantized_relu", bits=4, integer=1),
    named("quantized_relu", bits=5, integer=1, negative_slope=0.5),
    named("quantized_tanh", bits=6),
    named("quantized_sigmoid", bits=6),
]
SHAPES = ((3, 3, 2, 5), (7, 4), (3, 3, 4, 1), (6,))


def weights_of(shape: tuple[int, ...], seed: int) -> Floats:
    """Noise with exact ties and a channel of zeros."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, (0.1, 0.6, 2)[seed % 3], shape).astype(np.float32)
    if seed % 2:
        values = np.rint(values * 64).astype(np.float32) / np.float32(64)
    if seed % 4 == 0:
        values[..., 0] = 0
    return values


def reals(codes: Codes) -> npt.NDArray[np.float64]:
    return np.ldexp(codes.codes.astype(np.float64), -codes.frac) * (1 if codes.scale is None else codes.scale)


def judge_weights(entry: Entry, values: Floats, *, kernel: bool, graph: bool = True) -> Codes:
    """Exactly QKeras' weights; with a scale that is no power of two, the same codes and nearly the same weights."""
    quantizer = live(entry)
    ours = read_weight_quantizer(stored(entry, quantizer), "layer 'a'", "kernel")
    assert ours is not None
    if kernel:
        quantizer._set_trainable_parameter()
        ours = ours.on_kernel()
    result = ours.weights(values, "layer 'a'")
    for array in (result.frac, result.scale):
        assert array is None or array.shape in ((), values.shape[-1:])
    for output in both_modes(quantizer, values) if graph else (quantizer(values).numpy(),):
        if result.scale is None:
            np.testing.assert_array_equal(output, reals(result))
        else:
            assert (result.scale > 0).all()
            np.testing.assert_allclose(output, reals(result), rtol=1e-6, atol=0)
            counted = np.rint(np.ldexp(output.astype(np.float64) / result.scale, result.frac))
            np.testing.assert_array_equal(counted, result.codes)
    return result


def check_weights(entry: Entry, *, kernel: bool) -> None:
    seen = 0
    for number, shape in enumerate(SHAPES):
        for seed in (number, number + 6):
            try:
                judge_weights(entry, weights_of(shape, seed), kernel=kernel, graph=seed in (0, 7))
                seen += 1
            except Unsupported as error:
                assert "near a tie" in error.what
    assert seen >= 5


@pytest.mark.parametrize("entry", KERNELS, ids=label)
def test_kernel_equals_live_quantizer(entry: Entry) -> None:
    check_weights(entry, kernel=True)


@pytest.mark.parametrize("entry", [one for one in KERNELS if "alpha" not in one["config"]], ids=label)
def test_bias_equals_live_quantizer(entry: Entry) -> None:
    check_weights(entry, kernel=False)


def test_one_scale_for_each_channel() -> None:
    values = weights_of((3, 3, 2, 3), 1)
    for name, alpha in (
        ("quantized_bits", [0.5, 1.0, 2.0]),
        ("quantized_bits", [0.5, 0.7, 2.0]),
        ("quantized_linear", np.array([0.5, 0.7, 2.0])),
        ("binary", np.array([0.5, 0.7, 2.0])),
        ("ternary", np.array([[[[0.5, 0.25, 2.0]]]])),
    ):
        entry = named(name, alpha=alpha, **({"bits": 4} if name.startswith("quantized") else {}))
        result = judge_weights(entry, values, kernel=True)
        assert (result.frac if result.scale is None else result.scale).shape == (3,)


def test_post_training_scale() -> None:
    values = weights_of((3, 3, 2, 3), 1)
    fixed = {"bits": 4, "integer": 1, "symmetric": True, "alpha": "auto_po2"}
    powers = judge_weights(
        named("quantized_bits", **fixed, post_training_scale=np.array([[[[0.5, 2, 1]]]])), values, kernel=True
    )
    assert powers.scale is None
    floats = judge_weights(
        named("quantized_bits", **fixed, post_training_scale=np.array([[[[0.5, 0.3, 1]]]])), values, kernel=True
    )
    assert floats.scale is not None


def test_a_depthwise_kernel_has_one_scale() -> None:
    ours = read_weight_quantizer(named("quantized_bits", bits=4, alpha="auto_po2"), "x", "depthwise")
    assert ours is not None
    assert ours.weights(weights_of((3, 3, 4, 1), 1), "x").frac.shape == ()


@pytest.mark.parametrize("name", ["binary(alpha=1)", "quantized_po2(4)", "quantized_bits(1, 0, alpha=1)"])
def test_subnormal_weights_are_zeros_as_in_tensorflow(name: str) -> None:
    quantizer = read_weight_quantizer(name, "here", "kernel")
    assert quantizer is not None
    given, zero = (quantizer.weights(np.array([[one, -0.5, 0.25]], dtype=np.float32), "here") for one in (-1e-39, 0.0))
    assert given.codes.tolist() == zero.codes.tolist()
    assert given.codes[0, 0] > 0


def test_zero_channels_take_the_coarsest_unit() -> None:
    ours = read_weight_quantizer(named("quantized_bits", bits=4, alpha="auto_po2"), "x", "kernel")
    assert ours is not None
    values = np.array([[0, 1.0, 0.125], [0, 0.5, 0.0625]], dtype=np.float32)
    result = ours.weights(values, "x")
    assert result.frac[0] == result.frac[1:].min()
    assert not ours.weights(np.zeros((2, 2), dtype=np.float32), "x").codes.any()


def check_any_weights(number: int, seed: int, shape: tuple[int, ...], kernel: bool) -> None:
    try:
        judge_weights(KERNELS[number], weights_of(shape, seed), kernel=kernel)
    except Unsupported as error:
        assume("near a tie" not in error.what)
        raise


@pytest.mark.slow
@settings(RELAXED, max_examples=1500)
@given(
    number=st.integers(0, len(KERNELS) - 1),
    seed=st.integers(0, 1 << 30),
    shape=st.sampled_from([*SHAPES, (3, 3, 16, 8), (64, 10), (5, 5, 1, 4), (1, 3), (12, 1)]),
    kernel=st.booleans(),
)
def test_any_weights_thoroughly(number: int, seed: int, shape: tuple[int, ...], kernel: bool) -> None:
    check_any_weights(number, seed, shape, kernel)
