"""What QKeras' quantizers compute, as integers: steps for activations, codes and exponents for weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.fields import Fields, as_object, shown
from edgeflow.ir.types import IntArray

MOST_BITS = 24
AUTO_PO2 = "auto_po2"
_EPSILON = np.float32(1e-7)
_AMBIGUOUS = 1e-4
_LARGEST_WEIGHT = 2.0**40
_ROUNDS = 5

Alpha = float | Literal["auto_po2"] | None


@dataclass(frozen=True, slots=True)
class Steps:
    """An activation quantizer: code = clip(rint(x * 2**frac), lo, hi), worth code * 2**-unit.

    `straight_through`: QKeras computes x + (q - x) in float32, which is q only while no bit falls off.
    """

    frac: int
    lo: int
    hi: int
    unit: int
    straight_through: bool


@dataclass(frozen=True)
class Codes:
    """Quantized weights: value = code * 2**-frac, frac a scalar array or one entry along the last axis."""

    codes: IntArray
    frac: IntArray


@dataclass(frozen=True, slots=True)
class QuantizedBits:
    """quantized_bits as its constructor takes it; `alpha` is a power of two, "auto_po2" or None (1)."""

    bits: int
    integer: int
    symmetric: bool
    keep_negative: bool
    alpha: Alpha

    def on_kernel(self) -> QuantizedBits:
        """As a layer holds it for its kernel: the constructor turns alpha None into auto_po2, symmetric."""
        if self.alpha is None:
            return QuantizedBits(self.bits, self.integer, True, self.keep_negative, AUTO_PO2)
        return self

    def steps(self, where: str) -> Steps:
        """As an activation. Raises Unsupported for what depends on the batch or is no multiple of a step."""
        if self.alpha == AUTO_PO2:
            raise Unsupported(
                "alpha='auto_po2' on an activation depends on the batch, so no fixed integers equal it",
                where=where,
                fix="give the activation's quantized_bits alpha=1",
            )
        unsigned = self.bits - self.keep_negative
        if unsigned < 1:
            raise Unsupported(
                "a 1-bit quantized_bits activation (a sign) is not supported yet",
                where=where,
                fix="use 2 bits or more, or quantized_relu(1)",
            )
        frac = unsigned - self.integer
        lo = (-(1 << unsigned) + self.symmetric) if self.keep_negative else 0
        return Steps(frac, lo, (1 << unsigned) - 1, frac - _log2(self.alpha), straight_through=True)

    def weights(self, values: Float32Array, where: str) -> Codes:
        """The integer codes of weights, in float32 as QKeras computes them.

        Raises Unsupported when a weight is not finite or so large that the quantizer loses bits in float32,
        or when an auto_po2 scale lies so near a tie that float32 decides it.
        """
        if not np.isfinite(values).all():
            raise EdgeflowError("a weight is NaN or infinite", where=where, fix="train the model again")
        held = bool(np.abs(values).max(initial=0) < _LARGEST_WEIGHT)
        codes, exponent = np.zeros(1, dtype=np.float32), np.zeros(1, dtype=np.int64)
        if held:
            codes, exponent = self._auto_po2(values, where) if self.alpha == AUTO_PO2 else self._fixed(values)
            quantized = np.ldexp(codes.astype(np.float32), exponent.astype(np.int32))
            held = np.array_equal(values + (quantized - values), quantized)
        if not held:
            raise Unsupported(
                f"a weight of {float(np.abs(values).max()):.3g} lies so far outside the range of its "
                f"quantizer ({self.bits} bits, {self.integer} integer) that float32 loses the quantized value",
                where=where,
                fix="clip the weights, or give the quantizer more integer bits",
            )
        return Codes(codes.astype(np.int64), -exponent.astype(np.int64))

    def _fixed(self, values: Float32Array) -> tuple[Float32Array, IntArray]:
        unsigned = self.bits - self.keep_negative
        alpha = _log2(self.alpha if isinstance(self.alpha, float) else None)
        if unsigned == 0:
            return np.where(values < 0, np.float32(-1), np.float32(1)), np.array(alpha)
        exponent = self.integer - unsigned
        lo = (-(1 << unsigned) + self.symmetric) if self.keep_negative else 0
        codes = np.clip(np.rint(np.ldexp(values, -exponent)), lo, (1 << unsigned) - 1)
        return codes.astype(np.float32), np.array(exponent + alpha)

    def _auto_po2(self, values: Float32Array, where: str) -> tuple[Float32Array, IntArray]:
        if self.bits < 2:
            raise Unsupported(
                "quantized_bits(1) with alpha None or 'auto_po2' makes every weight zero in QKeras",
                where=where,
                fix="give the kernel_quantizer 2 bits or more, or alpha=1",
            )
        scaled = np.ldexp(values, -self.integer)
        low = _fit_po2(scaled, self.bits, -_AMBIGUOUS)
        high = _fit_po2(scaled, self.bits, +_AMBIGUOUS)
        live = np.any(low[0] != 0, axis=_reduced(scaled))
        if not (np.array_equal(low[0], high[0]) and np.array_equal(low[1][live], high[1][live])):
            raise Unsupported(
                "an auto_po2 scale lies so near a tie that the order of float32 sums decides it",
                where=where,
                fix="give the kernel_quantizer alpha=1 or a fixed power of two",
            )
        codes, exponent = low
        coarsest = exponent[live].max() if live.any() else 0
        return codes, np.where(live, exponent, coarsest).astype(np.int64) + self.integer


def _reduced(values: Float32Array) -> tuple[int, ...]:
    """The axes that share one auto scale: all but the last; a vector has one scale an element."""
    return tuple(range(values.ndim - 1))


def _fit_po2(values: Float32Array, bits: int, lean: float) -> tuple[Float32Array, IntArray]:
    """QKeras' iteration: (codes, exponent along the last axis). `lean` shifts every rounded logarithm."""
    axes = _reduced(values)
    levels = np.float32((1 << (bits - 1)) - 1)
    sign, magnitude = np.sign(values), np.abs(values)
    largest = magnitude.max(axis=axes or None, keepdims=True)
    exponent = _round_log2(np.broadcast_to(largest, values.shape if not axes else largest.shape) / levels, lean)
    codes = _codes(sign, magnitude, exponent, levels)
    for _ in range(_ROUNDS):
        products = (values * codes).astype(np.float64)
        squares = (codes * codes).astype(np.float64)
        if axes:
            products, squares = products.mean(axis=axes, keepdims=True), squares.mean(axis=axes, keepdims=True)
        exponent = _round_log2(products / (squares + _EPSILON), lean)
        codes = _codes(sign, magnitude, exponent, levels)
    return codes, exponent.reshape(-1)


def _round_log2(scale: np.ndarray[tuple[int, ...], np.dtype[np.floating]], lean: float) -> IntArray:
    return np.rint(np.log2(scale.astype(np.float64) + np.float64(_EPSILON)) + lean).astype(np.int64)


def _codes(sign: Float32Array, magnitude: Float32Array, exponent: IntArray, levels: np.float32) -> Float32Array:
    rounded = np.floor(np.ldexp(magnitude, -exponent.astype(np.int32)) + np.float32(0.5))
    return (sign * np.minimum(rounded, levels)).astype(np.float32)


def _log2(alpha: Alpha) -> int:
    return 0 if alpha is None or isinstance(alpha, str) else int(math.log2(alpha))


def read_activation(data: object, where: str) -> Steps | None:
    """The quantizer in an activation's configuration; None for linear. Raises Unsupported by name."""
    if data is None or data == "linear":
        return None
    if isinstance(data, str):
        raise Unsupported(f"activation '{shown(data)}' is not quantized", where=where, fix=_activation_fix(data))
    name, fields = _quantizer(data, where)
    if name not in _ACTIVATIONS:
        raise Unsupported(
            f"quantizer '{shown(name)}' is not supported on activations yet",
            where=where,
            fix=f"use {' or '.join(_ACTIVATIONS)}",
        )
    return _ACTIVATIONS[name](fields)


def read_weight_quantizer(data: object, where: str, role: str) -> QuantizedBits | None:
    """The quantizer of a kernel or bias (`role`); None when there is none. Raises Unsupported by name."""
    if data is None:
        return None
    name, fields = _quantizer(data, where)
    if name != "quantized_bits":
        raise Unsupported(
            f"{role}_quantizer '{shown(name)}' is not supported yet", where=where, fix="use quantized_bits"
        )
    return _read_bits(fields)


def _activation_fix(name: str) -> str:
    if name == "softmax":
        return "end the model at its logits: the largest class stays the same"
    return "use 'quantized_relu(8, 2)' or 'quantized_bits(8, 2, alpha=1)'"


def _quantizer(data: object, where: str) -> tuple[str, Fields]:
    if isinstance(data, str):
        raise Unsupported(
            f"quantizer '{shown(data)}' is stored as text, by an older QKeras",
            where=where,
            fix="load and save the model with qkeras-v3",
        )
    entry = Fields(as_object(data, where, "a quantizer"), where)
    return entry.text("class_name").removeprefix("qkeras>"), Fields(
        as_object(entry.raw("config"), where, "a quantizer's config"), where
    )


def _read_bits(fields: Fields) -> QuantizedBits:
    _reject_noise(fields)
    if fields.raw("post_training_scale") is not None:
        raise Unsupported("post_training_scale is not supported", where=fields.where, fix="remove it")
    keep_negative = fields.flag("keep_negative", True)
    return QuantizedBits(
        bits=fields.integer("bits", 1, MOST_BITS),
        integer=fields.integer("integer", -32, 32, 0),
        symmetric=fields.flag("symmetric", False),
        keep_negative=keep_negative,
        alpha=_read_alpha(fields),
    )


def _read_alpha(fields: Fields) -> Alpha:
    alpha = fields.raw("alpha")
    if alpha is None:
        return None
    if alpha == AUTO_PO2:
        return AUTO_PO2
    fix = "use alpha=1, a power of two, or 'auto_po2' on a kernel"
    if isinstance(alpha, (str, list, dict)):
        raise Unsupported(
            f"alpha {shown(cast(object, alpha))!r} gives scales that are no powers of two", where=fields.where, fix=fix
        )
    value = fields.number("alpha")
    if not 2.0**-32 <= value <= 2.0**32 or math.frexp(value)[0] != 0.5:
        raise Unsupported(f"alpha {value:g} is not a power of two", where=fields.where, fix=fix)
    return value


def _read_bits_steps(fields: Fields) -> Steps:
    return _read_bits(fields).steps(fields.where)


def _read_relu_steps(fields: Fields) -> Steps:
    _reject_noise(fields)
    for key, harmless in (("use_sigmoid", False), ("negative_slope", 0), ("relu_upper_bound", None)):
        if (fields.raw(key) or None) != (harmless or None):
            raise Unsupported(
                f"quantized_relu with {key}={shown(fields.raw(key))} is not supported yet",
                where=fields.where,
                fix=f"leave {key} at {harmless}",
            )
    if fields.raw("is_quantized_clip") not in (None, True):
        raise Unsupported(
            "quantized_relu with is_quantized_clip=False is not supported yet",
            where=fields.where,
            fix="leave is_quantized_clip at True",
        )
    bits = fields.integer("bits", 1, MOST_BITS)
    integer = fields.integer("integer", -32, 32, 0)
    if integer < 0:
        raise Unsupported(
            f"quantized_relu with {integer} integer bits fails in QKeras itself",
            where=fields.where,
            fix=f"use quantized_bits({bits}, {integer}, keep_negative=False, alpha=1)",
        )
    return Steps(bits - integer, 0, (1 << bits) - 1, bits - integer, straight_through=False)


def _reject_noise(fields: Fields) -> None:
    if fields.number("qnoise_factor", 1.0) != 1.0:
        raise Unsupported(
            f"qnoise_factor {fields.number('qnoise_factor'):g} blends unquantized values in",
            where=fields.where,
            fix="set qnoise_factor to 1 before saving",
        )
    if fields.flag("use_stochastic_rounding", False):
        raise Unsupported(
            "use_stochastic_rounding is random, so no fixed integers equal it",
            where=fields.where,
            fix="leave use_stochastic_rounding at False",
        )


_ACTIVATIONS: Mapping[str, Callable[[Fields], Steps]] = {
    "quantized_bits": _read_bits_steps,
    "quantized_relu": _read_relu_steps,
}
