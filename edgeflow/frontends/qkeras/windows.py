"""Keras' windows: padding words to amounts, and the size limits that keep a hostile file from filling memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.importer import Importer
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.ir.types import Shape
from edgeflow.ops.window import Pads

MOST_WINDOW = 4096
_MOST_TAPS = 1 << 26
_AXES = {1: "(length, channels)", 2: "(height, width, channels)"}


@dataclass(frozen=True)
class Geometry:
    """How a window moves over the spatial axes."""

    window: Shape
    strides: Shape
    dilation: Shape
    pads: Pads


def require_channels_last(layer: Layer) -> None:
    """Refuses channels_first."""
    if layer.fields.raw("data_format") not in (None, "channels_last"):
        raise Unsupported("data_format 'channels_first' is not supported", where=layer.where, fix="use channels_last")


def spatial_shape(importer: Importer, layer: Layer, tensor: str, rank: int) -> Shape:
    """A tensor's shape (*spatial, channels) with `rank` spatial axes. Raises EdgeflowError for another rank."""
    require_channels_last(layer)
    shape = importer.builder.type(tensor).shape
    if len(shape) != rank + 1:
        raise EdgeflowError(f"it reads a tensor of shape {shape}, not {_AXES[rank]}", where=layer.where)
    return shape


def conv_geometry(layer: Layer, source: Shape) -> Geometry:
    """A convolution's window over `source` (*spatial, channels), as its configuration asks."""
    rank = len(source) - 1
    window, strides, dilation = (
        layer.fields.shape(key, rank, 1, MOST_WINDOW) for key in ("kernel_size", "strides", "dilation_rate")
    )
    return Geometry(window, strides, dilation, conv_pads(layer, source, window, strides, dilation))


def conv_pads(layer: Layer, source: Shape, window: Shape, strides: Shape, dilation: Shape) -> Pads:
    """Padding before and after each spatial axis of `source` (*spatial, channels), as Keras pads.

    'causal' puts all of it before the one axis: QKeras 0.9 does, and qkeras-v3 cannot run it.
    Raises EdgeflowError when the window does not fit or would cover more than 2**26 taps.
    """
    padding = layer.fields.text("padding", "valid").lower()
    spatial = source[:-1]
    reach = tuple(step * (length - 1) + 1 for length, step in zip(window, dilation, strict=True))
    if padding == "same":
        outputs = tuple(-(-length // stride) for length, stride in zip(spatial, strides, strict=True))
        totals = [
            max((out - 1) * stride + span - length, 0)
            for out, stride, span, length in zip(outputs, strides, reach, spatial, strict=True)
        ]
        pads = tuple((total // 2, total - total // 2) for total in totals)
    elif padding == "causal" and len(spatial) == 1:
        pads = ((reach[0] - 1, 0),)
        outputs = ((spatial[0] - 1) // strides[0] + 1,)
    elif padding == "valid":
        if any(span > length for span, length in zip(reach, spatial, strict=True)):
            raise EdgeflowError(
                f"a window of {_by(reach)} does not fit in an input of {_by(spatial)}",
                where=layer.where,
                fix="use a smaller window or padding='same'",
            )
        pads = ((0, 0),) * len(spatial)
        outputs = tuple(
            (length - span) // stride + 1 for length, span, stride in zip(spatial, reach, strides, strict=True)
        )
    else:
        raise Unsupported(f"padding '{padding}' is not supported", where=layer.where, fix="use 'same' or 'valid'")
    reject_taps(layer, outputs, window, spatial, math.prod(reach))
    return pads


def reject_taps(layer: Layer, outputs: Shape, window: Shape, spatial: Shape, reach: int = 0) -> None:
    """Raises Unsupported when a window covers more than 2**26 taps in all its positions."""
    if math.prod(outputs) * math.prod(window) > _MOST_TAPS or reach > _MOST_TAPS:
        raise Unsupported(
            f"a window of {_by(window)} over {_by(spatial)} is too large", where=layer.where, fix="make it smaller"
        )


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
