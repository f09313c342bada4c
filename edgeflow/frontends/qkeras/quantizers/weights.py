"""Weight quantizers: integer codes, an exponent, and where a scale is no power of two, that scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.quantizers.auto import EPSILON, Fit, FloatArray, fit, largest, near_a_tie
from edgeflow.frontends.qkeras.quantizers.config import Alpha, Auto
from edgeflow.frontends.qkeras.quantizers.float32 import kept, packet_log
from edgeflow.frontends.qkeras.quantizers.po2 import MOST_SPREAD, Po2, spread_too_wide
from edgeflow.frontends.qkeras.quantizers.sign import binary_codes, ternary_codes
from edgeflow.frontends.qkeras.quantizers.steps import Curve, Steps
from edgeflow.frontends.qkeras.quantizers.uniform import Uniform, half_steps
from edgeflow.ir.types import IntArray

_ROUNDS = 5
_LARGEST_WEIGHT = 2.0**40
_CLOSE = 2.0**-20
_ROUNDINGS = 40
"""Twice `_CLOSE` in units of 2**-24, and the few by which a scale and its product with a code may be off."""


@dataclass(frozen=True)
class Codes:
    """Quantized weights: value = code * 2**-frac * scale, the real number meant.

    `frac` is a scalar array or has one entry along the last axis. `scale` is None (1), or positive, shaped likewise:
    then QKeras' float32 weight is the value but for `roundings` of float32's roundings.
    """

    codes: IntArray
    frac: IntArray
    scale: FloatArray | None = None
    roundings: int = _ROUNDINGS


class WeightQuantizer(Protocol):
    """A quantizer as a layer's constructor gets it."""

    def weights(self, values: Float32Array, where: str) -> Codes:
        """The codes of a weight array, exactly those of QKeras' float32.

        Raises EdgeflowError for weights that are not finite, Unsupported where float32 loses the quantized value
        or where its rounding decides between two codes.
        """
        ...

    def on_kernel(self) -> WeightQuantizer:
        """As a layer holds it for its kernel: the constructor turns alpha None into auto_po2, symmetric."""
        ...


@dataclass(frozen=True)
class BitsWeights:
    """quantized_bits."""

    uniform: Uniform

    def on_kernel(self) -> BitsWeights:
        """Alpha None becomes auto_po2, symmetric."""
        return BitsWeights(_uniform_on_kernel(self.uniform))

    def weights(self, values: Float32Array, where: str) -> Codes:
        """As WeightQuantizer."""
        uniform = self.uniform
        reach = f"({uniform.bits} bits, {uniform.integer} integer)"
        values = _usable(values, reach, where)
        if isinstance(uniform.alpha, Auto):
            return _held(values, self._auto(values, uniform.alpha, where), reach, where)
        if uniform.unsigned == 0:
            codes, frac = binary_codes(values, use_01=False), 0
        else:
            frac = uniform.unsigned - uniform.integer
            codes = np.clip(np.rint(np.ldexp(values, frac)), uniform.lo, uniform.hi).astype(np.int64)
        return _held(values, _with_alpha(codes, frac, uniform.alpha, where), reach, where)

    def _auto(self, values: Float32Array, alpha: Auto, where: str) -> Codes:
        """Symmetric whatever keep_negative says, rounding half away from zero."""
        uniform = self.uniform
        if uniform.bits < 2:
            raise Unsupported(
                f"quantized_bits(1) with alpha '{alpha.value}', or None on a kernel, makes every weight "
                f"{'zero' if alpha is Auto.PO2 else 'NaN'} in QKeras",
                where=where,
                fix="give the kernel_quantizer 2 bits or more, or alpha=1",
            )
        scaled = np.ldexp(values, -uniform.integer)
        levels = (1 << (uniform.bits - 1)) - 1
        sign, magnitude = np.sign(scaled), np.abs(scaled)

        def codes(scale: FloatArray) -> Float32Array:
            ratio = magnitude / np.where(scale > 0, scale, 1.0).astype(np.float32)
            return sign * np.minimum(np.floor(ratio + np.float32(0.5)), np.float32(levels))

        if uniform.fixed is not None:
            scale = _spread(uniform.fixed, values, where) * 2.0**-uniform.unsigned
            return _scaled(codes(scale), scale, -uniform.integer)
        top = 2 * largest(scaled, whole_vector=True)
        if alpha is Auto.FLOAT:
            return _scaled(*_from_largest(codes, top, 2 * levels, where), -uniform.integer)
        rule = Fit(scaled, top / (2 * levels), codes, _ROUNDS, po2=True)
        return _scaled(*fit(rule, where), -uniform.integer)


@dataclass(frozen=True)
class LinearWeights:
    """quantized_linear."""

    uniform: Uniform

    def on_kernel(self) -> LinearWeights:
        """Alpha None becomes auto_po2, symmetric."""
        return LinearWeights(_uniform_on_kernel(self.uniform))

    def weights(self, values: Float32Array, where: str) -> Codes:
        """As WeightQuantizer. With one bit, codes are -1 and 1 and count half steps."""
        uniform = self.uniform
        reach = f"({uniform.bits} bits, {uniform.integer} integer)"
        values = _usable(values, reach, where)
        one_bit = uniform.unsigned == 0

        def codes(scale: FloatArray) -> Float32Array:
            scaled = values / scale.astype(np.float32)
            return half_steps(scaled) if one_bit else np.rint(np.clip(scaled, uniform.lo, uniform.hi))

        if isinstance(uniform.alpha, Auto):
            span = 1 if one_bit else uniform.hi - uniform.lo
            top = largest(2 * values if uniform.keep_negative else np.maximum(values, 0), whole_vector=False)
            if uniform.alpha is Auto.FLOAT:
                found, scale = _from_largest(codes, np.maximum(top, EPSILON * span), span, where)
            else:
                first = np.maximum(top / span, EPSILON)
                found, scale = fit(Fit(values, first, codes, 1 if one_bit else _ROUNDS, po2=True), where)
        else:
            scale = _spread(uniform.alpha or (1.0,), values, where) * 2.0 ** (uniform.integer - uniform.unsigned)
            found = codes(scale)
        return _held(values, _scaled(found * (1 + one_bit), scale, int(one_bit)), reach, where)


@dataclass(frozen=True)
class BinaryWeights:
    """binary and stochastic_binary."""

    use_01: bool
    alpha: Alpha

    def on_kernel(self) -> BinaryWeights:
        """Alpha None becomes auto_po2."""
        return replace(self, alpha=Auto.PO2) if self.alpha is None else self

    def weights(self, values: Float32Array, where: str) -> Codes:
        """As WeightQuantizer."""
        values = _usable(values, "(binary)", where)
        codes = binary_codes(values, use_01=self.use_01)
        if isinstance(self.alpha, Auto):
            signs = codes.astype(np.float32)
            rule = Fit(values, np.ones(1), lambda _: signs, rounds=1, po2=self.alpha is Auto.PO2, late=True)
            return _held(values, _fitted(rule, where), "(binary)", where)
        result = _with_alpha(codes, 0, self.alpha, where)
        return result if self.alpha is None else _held(values, result, "(binary)", where)


@dataclass(frozen=True)
class TernaryWeights:
    """ternary and stochastic_ternary; `threshold` counts without an automatic alpha, `unrolls` with one."""

    alpha: Alpha
    threshold: np.float32
    unrolls: int

    def on_kernel(self) -> TernaryWeights:
        """Alpha None becomes auto_po2."""
        return replace(self, alpha=Auto.PO2) if self.alpha is None else self

    def weights(self, values: Float32Array, where: str) -> Codes:
        """As WeightQuantizer."""
        values = _usable(values, "(ternary)", where)
        if not isinstance(self.alpha, Auto):
            result = _with_alpha(ternary_codes(values, self.threshold), 0, self.alpha, where)
            return result if self.alpha is None else _held(values, result, "(ternary)", where)
        sign, magnitude = np.sign(values), np.abs(values)

        def codes(scale: FloatArray) -> Float32Array:
            ratio = magnitude / np.where(scale > 0, scale, 1.0).astype(np.float32)
            return sign * ((np.rint(ratio) > 0) & (scale > 0))

        first = largest(values, whole_vector=True) * 2 / 3
        rule = Fit(values, first, codes, self.unrolls, po2=self.alpha is Auto.PO2, late=True)
        return _held(values, _fitted(rule, where), "(ternary)", where)


@dataclass(frozen=True)
class Po2Weights:
    """quantized_po2 and quantized_relu_po2: codes are plus or minus powers of two."""

    po2: Po2

    def on_kernel(self) -> Po2Weights:
        """Itself."""
        return self

    def weights(self, values: Float32Array, where: str) -> Codes:
        """As WeightQuantizer; refuses exponents more than MOST_SPREAD apart."""
        values = _usable(values, f"({self.po2.name})", where)
        if not self.po2.sure(values).all():
            raise Unsupported(
                "a weight lies so near a tie between two powers of two that the rounding of TensorFlow's logarithm "
                "decides its code",
                where=where,
                fix="train one more step, or move that weight by a millionth",
            )
        sign, exponent = self.po2.signed(values, packet_log)
        low, high = int(exponent.min()), int(exponent.max())
        if high - low > MOST_SPREAD:
            raise spread_too_wide(self.po2.name, low, high, where)
        if not kept(self.po2.through(values), np.ldexp(sign.astype(np.float32), exponent)).all():
            raise _beyond(values, f"({self.po2.name})", where)
        return Codes(sign << (exponent - low), np.array(-low))


@dataclass(frozen=True)
class ActivationWeights:
    """A quantizer without a scale of its own: quantized_relu, quantized_tanh, quantized_sigmoid."""

    activation: Steps | Curve
    name: str

    def on_kernel(self) -> ActivationWeights:
        """Itself."""
        return self

    def weights(self, values: Float32Array, where: str) -> Codes:
        """As WeightQuantizer."""
        values = _usable(values, f"({self.name})", where)
        if not self.activation.held(values).all():
            raise _beyond(values, f"({self.name})", where)
        return Codes(self.activation.float32(values), np.array(self.activation.unit))


@dataclass(frozen=True)
class TieFreeWeights:
    """edgeflow's own tie_free_bits, for biases: the nearest odd code, ends included."""

    bits: int
    integer: int

    def on_kernel(self) -> TieFreeWeights:
        """Itself."""
        return self

    def weights(self, values: Float32Array, where: str) -> Codes:
        """As WeightQuantizer: 2 floor(x 2**(frac - 1)) + 1. Its straight-through form loses nothing."""
        values = _usable(values, f"({self.bits} bits, {self.integer} integer)", where)
        frac, most = self.bits - 1 - self.integer, (1 << (self.bits - 1)) - 1
        halves = np.floor(np.ldexp(values.astype(np.float64), frac - 1))
        return Codes(np.clip(2 * halves + 1, -most, most).astype(np.int64), np.array(frac))


def _uniform_on_kernel(uniform: Uniform) -> Uniform:
    return replace(uniform, alpha=Auto.PO2, symmetric=True) if uniform.alpha is None else uniform


def _with_alpha(codes: IntArray, frac: int, alpha: Alpha, where: str) -> Codes:
    """Codes of unit 2**-frac, multiplied by a fixed alpha."""
    assert not isinstance(alpha, Auto)
    return _scaled(codes, _spread(alpha or (1.0,), codes, where), frac)


def _fitted(rule: Fit, where: str) -> Codes:
    """As `fit`; a scale that is no power of two carries the roundings of its two sums, once here and once there."""
    codes = _scaled(*fit(rule, where), 0)
    return replace(codes, roundings=_ROUNDINGS + 4 * rule.values.size // rule.values.shape[-1])


def _scaled(codes: Float32Array | IntArray, scale: FloatArray, frac: int) -> Codes:
    """Powers of two go into frac, other scales stay."""
    mantissa, exponent = np.frexp(scale)
    integers = codes.astype(np.int64)
    if (mantissa == 0.5).all():
        return Codes(integers, frac - (exponent.astype(np.int64) - 1))
    return Codes(integers, np.array(frac), scale)


def _spread(scales: tuple[float, ...], values: Float32Array | IntArray, where: str) -> FloatArray:
    """Fixed scales as an array of shape () or (last axis,)."""
    if len(scales) == 1:
        return np.array(scales[0])
    if len(scales) != values.shape[-1]:
        raise EdgeflowError(
            f"its quantizer has {len(scales)} scales for {values.shape[-1]} channels",
            where=where,
            fix="give it one scale, or one for each channel of the last axis",
        )
    return np.array(scales)


def _from_largest(
    codes: Callable[[FloatArray], Float32Array], top: FloatArray, span: int, where: str
) -> tuple[Float32Array, FloatArray]:
    """(codes, top / span) as `fit`. TensorFlow divides, or multiplies by 1 / span: both must give the same codes."""
    divided = top.astype(np.float32) / np.float32(span)
    multiplied = top.astype(np.float32) * (np.float32(1) / np.float32(span))
    chosen, other = (codes(one.astype(np.float64)) for one in (divided, multiplied))
    if not np.array_equal(chosen, other):
        raise near_a_tie("a weight divided by its 'auto' scale", where)
    scale = np.where(top > 0, top, top.max(initial=0) or 1.0) / span
    return chosen, scale.reshape(()) if scale.size == 1 else scale.reshape(-1)


def _held(values: Float32Array, result: Codes, reach: str, where: str) -> Codes:
    """`result`, if x + (q - x) in float32 is q; with a scale that is no power of two, nearly q."""
    if result.scale is None:
        quantized = np.ldexp(result.codes.astype(np.float32), -result.frac.astype(np.int32))
        held = bool(kept(values, quantized).all())
    else:
        quantized = (np.ldexp(result.codes.astype(np.float64), -result.frac) * result.scale).astype(np.float32)
        error = np.abs((values + (quantized - values)) - quantized)
        held = bool((error <= _CLOSE * np.abs(quantized)).all())
    if not held:
        raise _beyond(values, reach, where)
    return result


def _usable(values: Float32Array, reach: str, where: str) -> Float32Array:
    """The weights as TensorFlow sees them: subnormal numbers are 0, which the sign of a weight may depend on."""
    if not np.isfinite(values).all():
        raise EdgeflowError("a weight is NaN or infinite", where=where, fix="train the model again")
    if np.abs(values).max(initial=0) >= _LARGEST_WEIGHT:
        raise _beyond(values, reach, where)
    return np.where(np.abs(values) < np.finfo(np.float32).smallest_normal, np.float32(0), values)


def _beyond(values: Float32Array, reach: str, where: str) -> Unsupported:
    return Unsupported(
        f"a weight of {float(np.abs(values).max()):.3g} lies so far outside the range of its quantizer {reach} that "
        "float32 loses the quantized value",
        where=where,
        fix="clip the weights, or give the quantizer more integer bits",
    )
