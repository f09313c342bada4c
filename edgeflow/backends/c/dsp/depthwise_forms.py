"""From a depthwise layer's Requant to the epilogue of its function and the constants of its channels."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.backends.c.dsp.forms import General, MulHigh, PowerOfTwo
from edgeflow.backends.c.dsp.requantize import SHIFTS, channels_of, find_layer, scaled, with_bias
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue
from edgeflow.backends.c.dsp.tile_forms import constants_of, epilogue_of
from edgeflow.backends.c.dsp.tile_weights import Constants, reach
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant


def per_channel(
    requant: Requant,
    weights: IntArray,
    bias: IntArray,
    bounds: tuple[int, int],
    shifts: Sequence[int] = SHIFTS,
) -> tuple[Epilogue, tuple[Constants, ...], int] | None:
    """The cheapest epilogue that gives a layer's Requant exactly, each channel's constants, and the weights' factor.

    `weights` are (channels, taps) with `bias` (channels,); x lies in the closed interval `bounds`. The weights are to
    be stored times the factor: a product of 16-bit halves has room for weights times 256, with whose sums
    MulHigh is exact far more often. Layers that shall share a function ask for one of `shifts`. None where no
    epilogue serves all channels.
    """
    least, most = reach(weights, *bounds)
    whole = with_bias(requant, bias)
    alone = channels_of(whole, least, most)
    if alone is None:
        return None
    for kind, scale in ((PowerOfTwo, 1), (MulHigh, 256), (General, 1)):
        forms = [form for form in find_layer(scaled(alone, scale), kind, shifts).forms if form is not None]
        epilogue = epilogue_of(forms) if len(forms) == len(alone) else None
        if epilogue is not None:
            return epilogue, tuple(constants_of(form, epilogue, scale) for form in forms), scale
    return None
