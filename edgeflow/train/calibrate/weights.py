"""Float weights as integers: symmetric, one scale an output channel (or one a layer)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.ir.types import IntArray
from edgeflow.train.calibrate.floats import FloatArray
from edgeflow.train.calibrate.grids import Grid
from edgeflow.train.calibrate.options import Options

_TIGHTEST, _CLIPPINGS = 0.3, 29
_LARGEST_BIAS = 2.0**29
_SMALLEST_FACTOR = 2.0**-20


@dataclass(frozen=True)
class Weights:
    """Integers and what one of them means: real = integer * scale, one scale an output channel (float32 numbers)."""

    codes: IntArray
    scales: npt.NDArray[np.float64]


def quantize_weights(kernel: FloatArray, bias: FloatArray, source: Grid, target: Grid, options: Options) -> Weights:
    """A kernel (..., outputs) for an input on `source` and a result on `target`.

    With 8 bits the largest weight of a channel takes the largest integer, as in TFLite. With fewer the clipping with
    the smallest square error is searched. A scale is never so small that the bias leaves 32 bits or the
    requantization's factor falls below 2**-20.
    """
    most = (1 << (options.bits - 1)) - 1
    rows = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    least = np.maximum(
        np.abs(bias.astype(np.float64)) / (source.scale * _LARGEST_BIAS),
        target.scale / source.scale * _SMALLEST_FACTOR,
    )
    if options.per_tensor:
        rows, least = rows.reshape(-1, 1), least.max(keepdims=True)
    full = np.abs(rows).max(axis=0) / most
    scales = _best(rows, full, least, most, options)
    codes = np.clip(np.rint(rows / scales), -most, most).astype(np.int64).reshape(kernel.shape)
    return Weights(codes, np.broadcast_to(scales, kernel.shape[-1:]))


def _best(
    rows: npt.NDArray[np.float64],
    full: npt.NDArray[np.float64],
    least: npt.NDArray[np.float64],
    most: int,
    options: Options,
) -> npt.NDArray[np.float64]:
    """The scale with the smallest square error for each column, of those that may be tried."""
    if options.power_of_two:
        shares = (1.0, 0.5) if options.bits > 4 else (1.0, 0.5, 0.25)
    else:
        shares = (1.0,) if options.bits == 8 else tuple(np.linspace(1.0, _TIGHTEST, _CLIPPINGS))
    best = _allowed(full, least, options)
    error = _error(rows, best, most)
    for share in shares[1:]:
        scale = _allowed(full * share, least, options)
        found = _error(rows, scale, most)
        best, error = np.where(found < error, scale, best), np.minimum(found, error)
    return best


def _allowed(
    scale: npt.NDArray[np.float64], least: npt.NDArray[np.float64], options: Options
) -> npt.NDArray[np.float64]:
    scale = np.maximum(scale, least)
    if options.power_of_two:
        return np.exp2(np.ceil(np.log2(scale) - 1e-9))
    return scale.astype(np.float32).astype(np.float64)


def _error(rows: npt.NDArray[np.float64], scale: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    return ((np.clip(np.rint(rows / scale), -most, most) * scale - rows) ** 2).sum(axis=0)
