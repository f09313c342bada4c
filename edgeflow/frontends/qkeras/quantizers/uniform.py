"""quantized_bits, quantized_linear and quantized_hswish as activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.fields import Fields
from edgeflow.frontends.qkeras.quantizers.config import (
    MOST_BITS,
    MOST_INTEGER,
    Alpha,
    activation_exponent,
    fails_in_qkeras,
    read_alpha,
    read_scales,
    reject_noise,
    reject_set,
)
from edgeflow.frontends.qkeras.quantizers.float32 import kept
from edgeflow.frontends.qkeras.quantizers.steps import (
    MOST_PIECES,
    BoolArray,
    Curve,
    Outline,
    Steps,
    curve,
    too_many_pieces,
    two_to,
    values32,
)
from edgeflow.ir.types import IntArray

_ROOT_BITS = 130
_ZERO = np.float32(0)


@dataclass(frozen=True, slots=True)
class Uniform:
    """The parameters that quantized_bits and quantized_linear share. `fixed`: post_training_scale."""

    bits: int
    integer: int
    symmetric: bool
    keep_negative: bool
    alpha: Alpha
    fixed: tuple[float, ...] | None = None

    @property
    def unsigned(self) -> int:
        """Bits without the sign; 0 makes it a sign function."""
        return self.bits - self.keep_negative

    @property
    def lo(self) -> int:
        """The least code."""
        return (-(1 << self.unsigned) + self.symmetric) if self.keep_negative else 0

    @property
    def hi(self) -> int:
        """The greatest code."""
        return (1 << self.unsigned) - 1


def read_bits(fields: Fields) -> Uniform:
    """quantized_bits. Stochastic rounding needs no refusal: at inference QKeras rounds to nearest."""
    uniform = _read_uniform(fields, symmetric=False)
    if fields.raw("post_training_scale") is None:
        return uniform
    if uniform.alpha is None or isinstance(uniform.alpha, tuple):
        raise fails_in_qkeras("post_training_scale without alpha 'auto' or 'auto_po2'", fields, "remove it")
    fixed = read_scales(fields, "post_training_scale")
    return Uniform(uniform.bits, uniform.integer, True, uniform.keep_negative, uniform.alpha, fixed)


def read_linear(fields: Fields) -> Uniform:
    """quantized_linear."""
    return _read_uniform(fields, symmetric=True)


def _read_uniform(fields: Fields, *, symmetric: bool) -> Uniform:
    reject_noise(fields)
    reject_set(fields, "scale_axis", "elements_per_scale", "min_po2_exponent", "max_po2_exponent")
    return Uniform(
        bits=fields.integer("bits", 1, MOST_BITS, 8),
        integer=fields.integer("integer", -MOST_INTEGER, MOST_INTEGER, 0),
        symmetric=fields.flag("symmetric", symmetric),
        keep_negative=fields.flag("keep_negative", True),
        alpha=read_alpha(fields),
    )


def bits_activation(fields: Fields) -> Steps | Curve:
    """quantized_bits: clips after rounding; one bit is a sign, 0 counts as positive."""
    exponent = activation_exponent("quantized_bits", fields)
    uniform = read_bits(fields)
    if uniform.unsigned == 0:
        return _sign("quantized_bits", -exponent, fields.where, lambda x: x)
    frac = uniform.unsigned - uniform.integer
    return Steps(frac, uniform.lo, uniform.hi, frac - exponent, straight_through=True)


def linear_activation(fields: Fields) -> Steps | Curve:
    """quantized_linear: alpha scales its step; one bit gives plus or minus half a step."""
    exponent = activation_exponent("quantized_linear", fields)
    uniform = read_linear(fields)
    frac = uniform.unsigned - uniform.integer - exponent
    if uniform.unsigned == 0:
        return _sign("quantized_linear", frac + 1, fields.where, lambda x: half_steps(np.ldexp(x, frac)))
    return Steps(frac, uniform.lo, uniform.hi, frac, straight_through=True)


def half_steps(scaled: Float32Array) -> Float32Array:
    """quantized_linear's sign: -1/2 or 1/2. A negative number tiny enough to vanish beside 1/2 gives 1/2."""
    half = np.float32(0.5)
    return np.rint(np.clip(scaled, -half, half) - half) + half


def _sign(name: str, unit: int, where: str, rounded: Callable[[Float32Array], Float32Array]) -> Curve:
    """-1 below 0, 1 from there on. `rounded` is whatever float32 number decides the sign."""

    def float32(x: Float32Array) -> IntArray:
        return np.where(rounded(x) < 0, -1, 1).astype(np.int64)

    return curve(
        Outline(name, (Fraction(0),), lambda x: -1 if x < 0 else 1, unit),
        where,
        straight_through=True,
        float32=float32,
        held=lambda x: kept(x, values32(float32(x), unit)),
    )


def hswish_activation(fields: Fields) -> Curve:
    """quantized_hswish: quantized_bits of x * clip(x + shift, 0, top) / top."""
    exponent = activation_exponent("quantized_hswish", fields)
    uniform = read_bits(fields)
    shift, top = (np.float32(fields.number(key, default)) for key, default in _HSWISH)
    if not (0 < shift <= 2**16 and 0 < top <= 2**16):
        raise Unsupported(
            "relu_shift and relu_upper_bound must lie between 0 and 65536",
            where=fields.where,
            fix="use relu_shift=3 and relu_upper_bound=6",
        )
    frac = uniform.unsigned - uniform.integer
    unit = (frac if uniform.unsigned else 0) - exponent

    def code32(swished: Float32Array) -> IntArray:
        if uniform.unsigned == 0:
            return np.where(swished < 0, -1, 1).astype(np.int64)
        return np.clip(np.rint(np.ldexp(swished, frac)), uniform.lo, uniform.hi).astype(np.int64)

    def held(x: Float32Array) -> BoolArray:
        relu: Float32Array = np.clip(x + shift, _ZERO, top)
        graph, eager = _swish32(x, shift, top), x * relu / top
        codes = code32(graph)
        return (codes == code32(eager)) & kept(graph, values32(codes, unit)) & kept(eager, values32(codes, unit))

    return curve(
        _hswish_outline(uniform, Fraction(float(shift)), Fraction(float(top)), unit, fields.where),
        fields.where,
        straight_through=True,
        float32=lambda x: code32(_swish32(x, shift, top)),
        held=held,
    )


def _swish32(x: Float32Array, shift: np.float32, top: np.float32) -> Float32Array:
    """x * (clip(x + shift, 0, top) * (1 / top)): how TensorFlow's graphs, hence `predict`, order the product."""
    relu: Float32Array = np.clip(x + shift, _ZERO, top)
    relu *= np.float32(1) / top
    return x * relu


_HSWISH = (("relu_shift", 3.0), ("relu_upper_bound", 6.0))


def _hswish_outline(uniform: Uniform, shift: Fraction, top: Fraction, unit: int, where: str) -> Outline:
    """Breaks where the parabola x (x + shift) / top, or x itself from top - shift on, passes a rounding tie."""
    steps = two_to(uniform.unsigned - uniform.integer)
    bend = top - shift

    def exact(x: Fraction) -> int:
        swished = x * min(max(x + shift, Fraction(0)), top) / top
        if uniform.unsigned == 0:
            return -1 if swished < 0 else 1
        return min(max(round(swished * steps), uniform.lo), uniform.hi)

    if uniform.hi - uniform.lo >= MOST_PIECES:
        raise too_many_pieces("quantized_hswish", uniform.hi - uniform.lo + 1, where)
    ties = [(code - Fraction(1, 2)) / steps for code in range(uniform.lo + 1, uniform.hi + 1)]
    points = [-shift, Fraction(0), bend, *(tie for tie in ties if tie >= bend)]
    for tie in ties:
        inside = shift * shift + 4 * top * tie
        if inside >= 0:
            half = _root(inside) / 2
            points += [x for x in (-shift / 2 - half, -shift / 2 + half) if -shift <= x <= bend]
    return Outline("quantized_hswish", points, exact, unit)


def _root(square: Fraction) -> Fraction:
    """The square root, exact where it is rational, else within 2**-130."""
    numerator, denominator = isqrt(square.numerator), isqrt(square.denominator)
    if numerator**2 == square.numerator and denominator**2 == square.denominator:
        return Fraction(numerator, denominator)
    return Fraction(isqrt((square.numerator << 2 * _ROOT_BITS) // square.denominator), 1 << _ROOT_BITS)
