"""Keras' windows: padding words to amounts, and the size limits that keep a hostile file from filling memory."""

from __future__ import annotations

import math

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.ir.types import Shape
from edgeflow.ops.window import Pads

_MOST_TAPS = 1 << 26


def require_channels_last(layer: Layer) -> None:
    """Refuses channels_first."""
    if layer.fields.raw("data_format") not in (None, "channels_last"):
        raise Unsupported("data_format 'channels_first' is not supported", where=layer.where, fix="use channels_last")


def conv_pads(layer: Layer, source: Shape, window: Shape, strides: Shape, dilation: Shape) -> Pads:
    """Padding before and after each spatial axis of `source` (*spatial, channels), as Keras pads.

    Raises EdgeflowError when the window does not fit or would cover more than 2**26 taps.
    """
    padding = layer.fields.text("padding", "valid")
    spatial = source[:-1]
    reach = tuple(step * (length - 1) + 1 for length, step in zip(window, dilation, strict=True))
    if padding == "same":
        outputs = tuple(-(-length // stride) for length, stride in zip(spatial, strides, strict=True))
        totals = [
            max((out - 1) * stride + span - length, 0)
            for out, stride, span, length in zip(outputs, strides, reach, spatial, strict=True)
        ]
        pads = tuple((total // 2, total - total // 2) for total in totals)
    elif padding == "valid":
        if any(span > length for span, length in zip(reach, spatial, strict=True)):
            raise EdgeflowError(
                f"a window of {_by(reach)} does not fit in an input of {_by(spatial)}",
                where=layer.where,
                fix="use a smaller window or padding='same'",
            )
        outputs = tuple(
            (length - span) // stride + 1 for length, span, stride in zip(spatial, reach, strides, strict=True)
        )
        pads = ((0, 0),) * len(spatial)
    else:
        raise Unsupported(f"padding '{padding}' is not supported", where=layer.where, fix="use 'same' or 'valid'")
    if math.prod(outputs) * math.prod(window) > _MOST_TAPS or math.prod(reach) > _MOST_TAPS:
        raise Unsupported(
            f"a window of {_by(window)} over {_by(spatial)} is too large", where=layer.where, fix="make it smaller"
        )
    return pads


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
