"""binary and ternary, also stochastic, as activations: at inference QKeras draws no random number for them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.fields import Fields, shown
from edgeflow.frontends.qkeras.quantizers.config import activation_exponent, fails_in_qkeras, reject_set
from edgeflow.frontends.qkeras.quantizers.float32 import kept
from edgeflow.frontends.qkeras.quantizers.steps import Curve, Float32Codes, Outline, curve, values32
from edgeflow.ir.types import IntArray

_THRESHOLD = 0.33


def binary_codes(x: Float32Array, *, use_01: bool) -> IntArray:
    """-1 (0 with `use_01`) below 0, else 1."""
    return np.where(x < 0, 0 if use_01 else -1, 1).astype(np.int64)


def ternary_codes(x: Float32Array, threshold: np.float32) -> IntArray:
    """The sign where abs(x) >= threshold, else 0."""
    return (np.sign(x) * (np.abs(x) >= threshold)).astype(np.int64)


def read_use_01(fields: Fields) -> bool:
    """binary's constructor, but for alpha. Raises Unsupported where QKeras fails or needs what is not saved."""
    reject_set(fields, "scale_axis", "elements_per_scale", "min_po2_exponent", "max_po2_exponent")
    if fields.flag("use_stochastic_rounding", False):
        raise fails_in_qkeras("binary with use_stochastic_rounding", fields, "leave use_stochastic_rounding at False")
    return fields.flag("use_01", False)


def read_threshold(fields: Fields) -> np.float32:
    """ternary's threshold on its raw input, 0.33 by default."""
    threshold = fields.raw("threshold")
    if isinstance(threshold, str):
        raise fails_in_qkeras(f"threshold '{shown(threshold)}'", fields, "use a number")
    value = _THRESHOLD if threshold is None else fields.number("threshold")
    if not abs(value) <= 2.0**32:
        raise Unsupported(f"threshold {value:g} is out of range", where=fields.where, fix="use a number such as 0.33")
    return np.float32(value)


def binary_activation(fields: Fields) -> Curve:
    """binary and stochastic_binary."""
    use_01 = read_use_01(fields)
    unit = -activation_exponent("binary", fields)
    below = 0 if use_01 else -1
    outline = Outline("binary", (Fraction(0),), lambda x: 1 if x >= 0 else below, unit)
    raw = fields.raw("alpha") is not None

    def float32(x: Float32Array) -> IntArray:
        return binary_codes(x, use_01=use_01)

    return _sign_curve(outline, fields.where, float32, raw=raw)


def ternary_activation(fields: Fields) -> Curve:
    """ternary and stochastic_ternary."""
    unit = -activation_exponent("ternary", fields)
    if fields.flag("use_stochastic_rounding", False):
        raise fails_in_qkeras(
            "ternary with use_stochastic_rounding and no alpha 'auto'", fields, "leave use_stochastic_rounding at False"
        )
    threshold = read_threshold(fields)
    limit = Fraction(float(threshold))

    def exact(x: Fraction) -> int:
        return ((x > 0) - (x < 0)) * (abs(x) >= limit)

    outline = Outline("ternary", (-limit, Fraction(0), limit), exact, unit)
    return _sign_curve(
        outline, fields.where, lambda x: ternary_codes(x, threshold), raw=fields.raw("alpha") is not None
    )


def _sign_curve(outline: Outline, where: str, float32: Float32Codes, *, raw: bool) -> Curve:
    """With alpha None the straight-through form starts from tanh(x), which always leaves the code whole."""
    if not raw:
        return curve(outline, where, straight_through=False, float32=float32)
    return curve(
        outline,
        where,
        straight_through=True,
        float32=float32,
        held=lambda x: kept(x, values32(float32(x), outline.unit)),
    )
