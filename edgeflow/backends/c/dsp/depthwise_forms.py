"""From a depthwise layer's Requant to the epilogue of its function and the constants of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from edgeflow.backends.c.dsp.forms import Form, General, MulHigh, PowerOfTwo
from edgeflow.backends.c.dsp.requantize import SHIFTS, Channel, channels_of, find_layer, scaled, with_bias
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue, ShiftDown, ShiftHalfword
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
        found = _found(alone, kind, scale, shifts)
        if found is not None:
            return _lifted(found, alone, weights, shifts)
    return None


_Found: TypeAlias = tuple[Epilogue, tuple[Constants, ...], int]


def _found(alone: Sequence[Channel], kind: type[Form], scale: int, shifts: Sequence[int]) -> _Found | None:
    """The epilogue of one kind, with weights times a scale."""
    forms = [form for form in find_layer(scaled(alone, scale), kind, shifts).forms if form is not None]
    epilogue = epilogue_of(forms) if len(forms) == len(alone) else None
    if epilogue is None:
        return None
    return epilogue, tuple(constants_of(form, epilogue, scale) for form in forms), scale


def _lifted(found: _Found, alone: Sequence[Channel], weights: IntArray, shifts: Sequence[int]) -> _Found:
    """The same with weights of a scale that makes half to even shorter, where their 16 bits have room for it."""
    epilogue = found[0]
    if not isinstance(epilogue, ShiftDown) or not epilogue.half_even or not 0 < epilogue.shift <= ShiftHalfword.shift:
        return found
    scale = 1 << (ShiftHalfword.shift - epilogue.shift)
    if int(weights.min()) * scale < -(1 << 15) or int(weights.max()) * scale >= 1 << 15:
        return found
    lifted = _found(alone, PowerOfTwo, scale, shifts)
    return found if lifted is None else (unscaled(epilogue, scale), *lifted[1:])


def unscaled(epilogue: Epilogue, scale: int) -> Epilogue:
    """The epilogue of accumulators that come times `scale`, which a depthwise function takes as they are."""
    if not isinstance(epilogue, ShiftDown):
        return epilogue
    shift = epilogue.shift + scale.bit_length() - 1
    if epilogue.half_even and epilogue.shift and shift == ShiftHalfword.shift:
        return ShiftHalfword(epilogue.signed, epilogue.bits)
    return replace(epilogue, shift=shift)
