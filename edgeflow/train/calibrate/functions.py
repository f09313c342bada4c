"""Keras' element-wise activation functions in NumPy, for tables of their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Real: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """A function of an array and its parameters. `range` holds its values where all of them lie in [-1, 1]."""

    compute: Callable[..., Real]
    defaults: tuple[float, ...] = ()
    range: tuple[float, float] | None = None


def _sigmoid(x: Real) -> Real:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _softplus(x: Real) -> Real:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _erf(x: Real) -> Real:
    """Within 1.5e-7 (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26)."""
    t = 1.0 / (1.0 + 0.3275911 * np.abs(x))
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return np.sign(x) * (1.0 - series * np.exp(-x * x))


def _gelu(x: Real, approximate: float) -> Real:
    if approximate:
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))


def _relu(x: Real, slope: float, largest: float, threshold: float) -> Real:
    """Keras' general ReLU: `largest` may be inf."""
    return np.where(x >= threshold, np.minimum(x, largest), slope * (x - threshold))


def _hard_sigmoid(x: Real) -> Real:
    return np.clip(x + 3.0, 0.0, 6.0) / 6.0


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

FUNCTIONS: Mapping[str, Known] = {
    "relu": Known(_relu, (0.0, math.inf, 0.0)),
    "leaky_relu": Known(lambda x, slope: np.where(x >= 0, x, slope * x), (0.2,)),
    "sigmoid": Known(_sigmoid, range=(0.0, 1.0)),
    "tanh": Known(np.tanh, range=(-1.0, 1.0)),
    "hard_sigmoid": Known(_hard_sigmoid, range=(0.0, 1.0)),
    "hard_tanh": Known(lambda x: np.clip(x, -1.0, 1.0), range=(-1.0, 1.0)),
    "hard_swish": Known(lambda x: x * _hard_sigmoid(x)),
    "swish": Known(lambda x: x * _sigmoid(x)),
    "mish": Known(lambda x: x * np.tanh(_softplus(x))),
    "elu": Known(lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))), (1.0,)),
    "celu": Known(lambda x, alpha: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)), (1.0,)),
    "selu": Known(lambda x: _SELU_SCALE * np.where(x >= 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0)))),
    "gelu": Known(_gelu, (0.0,)),
    "softplus": Known(_softplus),
    "softsign": Known(lambda x: x / (1.0 + np.abs(x)), range=(-1.0, 1.0)),
    "exponential": Known(np.exp),
    "log_sigmoid": Known(lambda x: -_softplus(-x)),
}

SAME: Mapping[str, str] = {
    "hard_silu": "hard_swish",
    "silu": "swish",
    "exp": "exponential",
    "leakyrelu": "leaky_relu",
}
"""Other names that Keras takes for a function."""
