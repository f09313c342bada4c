"""TensorFlow's float32 where QKeras depends on its rounding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeflow.frontends.qkeras.content import Float32Array

_HALF = np.float32(0.5)
_ONE = np.float32(1)
_SQRT_HALF = np.float32(0.707106781186547524)
LN2 = np.float32(np.log(2.0))
_P1, _P2, _P3 = np.float32(1.0000000190281136), np.float32(1.0000000190281063), np.float32(0.18256296349849254)
_Q1, _Q2, _Q3 = np.float32(1.4999999999999927), np.float32(0.59923249590823520), np.float32(0.049616247954120038)


def kept(x: Float32Array, quantized: Float32Array) -> npt.NDArray[np.bool_]:
    """Where x + (quantized - x), the form that lets gradients through, is `quantized`."""
    with np.errstate(over="ignore", invalid="ignore"):
        return x + (quantized - x) == quantized


def hard_sigmoid(x: Float32Array) -> Float32Array:
    """clip(x / 2 + 1/2, 0, 1): QKeras' sigmoid. Rounds x to multiples of 2**-23 or finer."""
    return np.clip(_HALF * x + _HALF, np.float32(0), _ONE)


def hard_tanh(x: Float32Array) -> Float32Array:
    """2 * hard_sigmoid(x) - 1, which is x within [-1, 1] but for the same rounding."""
    return np.float32(2) * hard_sigmoid(x) - _ONE


def packet_log(x: Float32Array) -> Float32Array:
    """The natural logarithm of positive, normal numbers as TensorFlow's x86 build computes most of a tensor.

    Eigen's plog_float without fused multiply-add: a rational function on [sqrt(1/2), sqrt(2)]. The last few
    elements of a tensor (its length modulo 8) get the C library's correctly rounded logarithm, `scalar_log`.
    """
    halves, exponent = np.frexp(x)
    fraction = halves.astype(np.float32)
    low = fraction < _SQRT_HALF
    y = (fraction - _ONE) + np.where(low, fraction, np.float32(0))
    above = y * (y * (y * _P3 + _P2) + _P1)
    below = y * (y * (y * _Q3 + _Q2) + _Q1) + _ONE
    return np.asarray((exponent - low).astype(np.float32) * LN2 + above / below, dtype=np.float32)


def scalar_log(x: Float32Array) -> Float32Array:
    """The natural logarithm, correctly rounded."""
    return np.log(x.astype(np.float64)).astype(np.float32)
