"""From real values to a tensor's integers and back: the only floats beside the graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, TensorType

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def to_integers(values: FloatArray, kind: TensorType, label: Label) -> IntArray:
    """Rounds half to even and clamps: what QKeras' input quantizer does. Shape (batch, *kind.shape).

    NaN becomes 0, infinities clamp. For an exact power-of-two label the scaling itself loses nothing.
    """
    real = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    match label:
        case Dyadic(frac):
            with np.errstate(over="ignore"):
                scaled = np.rint(np.ldexp(real, np.asarray(frac, dtype=np.int32)))
        case Affine(scale, zero_point):
            scaled = np.rint(real / scale) + zero_point
    return np.clip(scaled, kind.lo, kind.hi).astype(np.int64)


def to_reals(integers: IntArray, label: Label) -> npt.NDArray[np.float64]:
    """What a tensor's integers mean. Exact for dyadic labels and integers of up to 53 bits."""
    match label:
        case Dyadic(frac):
            return np.ldexp(integers.astype(np.float64), -np.asarray(frac, dtype=np.int32))
        case Affine(scale, zero_point):
            return np.asarray((integers - zero_point) * scale, dtype=np.float64)


def exact_integers(values: FloatArray, label: Dyadic) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """A float model's outputs as integers of the label, and a mask of those that are no exact integer."""
    with np.errstate(over="ignore"):
        scaled = np.ldexp(values.astype(np.float64), np.asarray(label.frac, dtype=np.int32))
    exact = np.isfinite(scaled) & (np.abs(scaled) < 2.0**53) & (np.rint(scaled) == scaled)
    return np.where(exact, scaled, 0).astype(np.int64), ~exact
