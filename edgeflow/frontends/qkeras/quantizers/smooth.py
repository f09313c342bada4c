"""quantized_tanh, quantized_sigmoid, binary_tanh, binary_sigmoid: straight lines between two ends in QKeras."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.fields import Fields
from edgeflow.frontends.qkeras.quantizers.config import MOST_BITS
from edgeflow.frontends.qkeras.quantizers.float32 import hard_sigmoid
from edgeflow.frontends.qkeras.quantizers.steps import Curve, Outline, Steps, curve
from edgeflow.ir.types import IntArray

_FINEST = 23
"""x / 2 + 1/2 in float32 is exact for multiples of 2**-23 within [-1, 1]; beyond, both ends clip."""


def tanh_activation(fields: Fields) -> Steps:
    """quantized_tanh: x within [-1, 1], rounded."""
    _reject_real(fields, "use_real_tanh", "tanh")
    bits = fields.integer("bits", 1, MOST_BITS, 8)
    top = 1 << (bits - 1)
    lo = -top + fields.flag("symmetric", False)
    return Steps(bits - 1, lo, top - 1, bits - 1, straight_through=False, finest=_FINEST)


def sigmoid_activation(fields: Fields) -> Steps | Curve:
    """quantized_sigmoid: x / 2 + 1/2 within [0, 1], rounded."""
    _reject_real(fields, "use_real_sigmoid", "sigmoid")
    bits = fields.integer("bits", 1, MOST_BITS, 8)
    lo = int(fields.flag("symmetric", False))
    if bits == 1:  # half a code is an odd offset, which moves rounding ties
        return _half("quantized_sigmoid", (lo, 1), Fraction(-1, 2), 1, fields.where)
    return Steps(bits - 1, lo, (1 << bits) - 1, bits, False, offset=1 << (bits - 1), finest=_FINEST)


def binary_sigmoid(fields: Fields) -> Curve:
    """QKeras' function of that name: 0 up to x = 0, then 1."""
    return _half("binary_sigmoid", (0, 1), Fraction(0), 0, fields.where)


def binary_tanh(fields: Fields) -> Curve:
    """QKeras' function of that name: -1 up to x = 0, then 1."""
    return _half("binary_tanh", (-1, 1), Fraction(0), 0, fields.where)


def _half(name: str, codes: tuple[int, int], at: Fraction, unit: int, where: str) -> Curve:
    """The first code while hard_sigmoid(x) <= its value at `at`, then the second."""
    limit = np.float32(float(at) / 2 + 0.5)

    def float32(x: Float32Array) -> IntArray:
        return np.where(hard_sigmoid(x) > limit, codes[1], codes[0]).astype(np.int64)

    outline = Outline(name, (at,), lambda x: codes[1] if x > at else codes[0], unit)
    return curve(outline, where, straight_through=False, float32=float32)


def _reject_real(fields: Fields, key: str, name: str) -> None:
    if fields.flag(key, False):
        raise Unsupported(
            f"quantized_{name} with {key}=True rounds a float {name}, which has no exact integers",
            where=fields.where,
            fix=f"leave {key} at False and train: QKeras then uses straight lines",
        )
