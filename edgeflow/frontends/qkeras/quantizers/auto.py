"""alpha 'auto' and 'auto_po2': scales that QKeras computes from the weights at every call, inference included."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.content import Float32Array

FloatArray: TypeAlias = npt.NDArray[np.float64]

EPSILON = 1e-7
_ULP = 2.0**-23


@dataclass(frozen=True)
class Fit:
    """How one quantizer finds scale and codes by least squares.

    `values` are the weights that it fits; `first` its first scale, before it is rounded to a power of two.
    `codes` gives float32 codes for a scale. Then follow `rounds` of: codes, least squares for the scale.
    `late`: the codes are those of the last round, not of the last scale.
    """

    values: Float32Array
    first: FloatArray
    codes: Callable[[FloatArray], Float32Array]
    rounds: int
    po2: bool
    late: bool = False


def fit(rule: Fit, where: str) -> tuple[Float32Array, FloatArray]:
    """(codes, scale): scale has shape () or one entry along the last axis; a power of two if `rule.po2`.

    A channel whose codes are all 0 takes the largest scale of the others, which changes no value.
    Raises Unsupported when a scale or a weight lies so near a tie that float32 rounding decides the codes.
    """
    codes, scale = _run(rule, 0.0)
    live = _live(codes, scale)
    for lean in (-_doubt(rule), _doubt(rule)):
        other_codes, other_scale = _run(rule, lean)
        if not np.array_equal(codes, other_codes) or (rule.po2 and (scale != other_scale)[live].any()):
            raise near_a_tie("an auto_po2 scale" if rule.po2 else "a weight divided by its 'auto' scale", where)
    scale = np.where(live, scale, scale[live].max() if live.any() else 1.0)
    return codes, scale.reshape(()) if scale.size == 1 else scale.reshape(-1)


def _live(codes: Float32Array, scale: FloatArray) -> npt.NDArray[np.bool_]:
    """Which scales belong to a code other than 0."""
    if scale.size == 1:
        return np.full(scale.shape, codes.any())
    return np.any(codes != 0, axis=shared_axes(codes), keepdims=True)


def shared_axes(values: npt.NDArray[np.floating]) -> tuple[int, ...]:
    """The axes that share one scale: all but the last; a vector has one scale an element."""
    return tuple(range(values.ndim - 1))


def largest(values: Float32Array, *, whole_vector: bool) -> FloatArray:
    """The largest absolute value of each scale's weights; `whole_vector`: of a vector, one for all."""
    axes = shared_axes(values)
    magnitude = np.abs(values).astype(np.float64)
    if axes:
        return magnitude.max(axis=axes, keepdims=True)
    return magnitude.max(keepdims=True) if whole_vector else magnitude


def _run(rule: Fit, lean: float) -> tuple[Float32Array, FloatArray]:
    """`lean` shifts every logarithm of a scale, to see whether an error of that size would matter."""
    scale = _settle(rule.first, rule, lean)
    codes = rule.codes(scale)
    for _ in range(rule.rounds):
        codes = rule.codes(scale)
        scale = _settle(_least_squares(rule.values, codes), rule, lean)
    return (codes if rule.late else rule.codes(scale)) * (scale > 0), scale


def _settle(scale: FloatArray, rule: Fit, lean: float) -> FloatArray:
    if not rule.po2:
        return scale * 2.0**lean
    return np.exp2(np.rint(np.log2(scale + EPSILON) + lean))


def _least_squares(values: Float32Array, codes: Float32Array) -> FloatArray:
    products, squares = (values * codes).astype(np.float64), (codes * codes).astype(np.float64)
    axes = shared_axes(values)
    if axes:
        products, squares = products.mean(axis=axes, keepdims=True), squares.mean(axis=axes, keepdims=True)
    return products / (squares + EPSILON)


def _doubt(rule: Fit) -> float:
    """How far float32 may move log2(scale): the rounding of n sums, whose order varies, and of the logarithm.

    Sums of n terms of one sign err by about 0.3 sqrt(n) units; three times that is allowed.
    """
    terms = rule.values.size // rule.values.shape[-1] if rule.values.ndim > 1 else 1
    return ((16 if rule.po2 else 4) + math.sqrt(terms)) * _ULP


def near_a_tie(what: str, where: str) -> Unsupported:
    """The error for codes that float32 rounding decides; not raised here."""
    return Unsupported(
        f"{what} lies so near a tie that the order of float32 operations decides it",
        where=where,
        fix="give the kernel_quantizer alpha=1 or a fixed power of two",
    )
