"""Whether and how a depthwise layer stores weights of few bits: its layout, epilogue and constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeflow.backends.c.dsp.depthwise import has_assembly
from edgeflow.backends.c.dsp.depthwise_forms import per_channel, unscaled
from edgeflow.backends.c.dsp.depthwise_taps import Depthwise
from edgeflow.backends.c.dsp.forms import Form, MulHigh, PowerOfTwo
from edgeflow.backends.c.dsp.packed_taps import HALF, Taps, Word, bits_of
from edgeflow.backends.c.dsp.requantize import SHIFTS, Channel, channels_of, find_layer, with_bias
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue
from edgeflow.backends.c.dsp.tile_forms import constants_of, epilogue_of
from edgeflow.backends.c.dsp.tile_weights import Constants, reach
from edgeflow.backends.c.lower import Step
from edgeflow.backends.c.optimize import Optimize
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.requant import Requant

WIDEST = {Optimize.SIZE: 8, Optimize.BALANCED: 4, Optimize.SPEED: 0}
"""Bits of the widest weights that are stored in fewer than 16: unpacking costs an instruction or two a tap and call."""
_COMMON = 8
"""log2 of the scale for which the common shift of all layers is meant."""


def is_depthwise(op: object) -> bool:
    """Whether a Conv has one filter for each channel."""
    return isinstance(op, Conv) and op.groups == op.weight.shape[-1] > 1 and op.weight.shape[-2] == 1


def depthwise_bits(steps: Sequence[Step], optimize: Optimize) -> int:
    """The bits with which all depthwise layers store their weights, so that they share functions: 16 or fewer."""
    bits = [
        bits_of(step.node.op.weight)
        for step in steps
        if step.node and isinstance(step.node.op, Conv)
        if is_depthwise(step.node.op)
    ]
    return max(bits) if bits and max(bits) <= WIDEST[optimize] else HALF


def packed_per_channel(
    requant: Requant,
    weights: IntArray,
    bias: IntArray,
    bounds: tuple[int, int],
    taps: Taps,
    shifts: Sequence[int] = SHIFTS,
) -> tuple[Epilogue, tuple[Constants, ...], int] | None:
    """What `per_channel` finds, for weights (channels, taps row by row) that a layout stores.

    None where the accumulators, scaled by 2**(16 - bits), or the addends that carry a tap are not exact.
    """
    least, most = reach(weights, *bounds)
    channels = channels_of(with_bias(requant, bias), least, most, [taps.scale] * len(weights))
    if channels is None:
        return None
    codes = _codes(weights, taps)
    channels = (
        [replace(own, remainder=(code, 1 << taps.bits)) for own, code in zip(channels, codes, strict=True)]
        if codes
        else channels
    )
    moved = taps.scale.bit_length() - 1 - _COMMON
    wanted = tuple(dict.fromkeys(min(max(shift + moved, 0), SHIFTS[0]) for shift in shifts))
    for kind in (PowerOfTwo, MulHigh):
        forms = [form for form in find_layer(channels, kind, wanted).forms if form is not None]
        if len(forms) == len(channels):
            forms = _carrying(forms, channels, codes, 1 << taps.bits)
        epilogue = epilogue_of(forms) if len(forms) == len(channels) else None
        if epilogue is not None:
            constants = tuple(constants_of(form, epilogue, 1) for form in forms)
            return unscaled(epilogue, taps.scale), constants, taps.scale
    return None


def _codes(weights: IntArray, taps: Taps) -> list[int]:
    """What each channel's addend carries; nothing where the words hold all taps."""
    if taps.carried is None:
        return []
    row, column = taps.carried
    return (weights[:, row * taps.width + column] & ((1 << taps.bits) - 1)).tolist()


def _carrying(forms: list[Form], channels: Sequence[Channel], codes: list[int], unit: int) -> list[Form]:
    """The forms whose addends carry the codes in their lowest bits; fewer than there were where one cannot."""
    if not codes:
        return forms
    found: list[Form] = []
    for form, channel, code in zip(forms, channels, codes, strict=True):
        assert isinstance(form, PowerOfTwo | MulHigh)
        one = replace(form, addend=form.addend - form.addend % unit + code)
        found += [one] if channel.stairs.equal(one) else []
    return found


def layouts(weight: IntArray, bits: int, words: tuple[Word, ...]) -> tuple[Taps, ...]:
    """The layouts of weights (rows, columns, channels) with so many bits that save something, the smallest first."""
    if bits == HALF or bits_of(weight) > bits:
        return ()
    found = dict.fromkeys(Taps(bits, weight.shape[1], words, carries) for carries in (True, False))
    useful = (taps for taps in found if taps.stored < weight.shape[1] * len(words))
    return tuple(taps for taps in useful if taps.carries is (taps.carried is not None))


def narrowest(
    requant: Requant,
    weight: IntArray,
    bias: IntArray,
    bounds: tuple[int, int],
    shape: Depthwise,
    bits: int,
    shifts: Sequence[int],
) -> tuple[Epilogue, tuple[Constants, ...], int, Taps | None] | None:
    """What `per_channel` finds for weights (rows, columns, channels), and their layout of so many bits.

    The first of the `layouts` with which numbers are exact and the function has assembly, else none at all.
    """
    rows = weight.reshape(-1, weight.shape[-1]).T
    for taps in (*layouts(weight, bits, shape.words), None):
        packed = taps and packed_per_channel(requant, rows, bias, bounds, taps, shifts)
        found = packed if taps else per_channel(requant, rows, bias, bounds, shifts)
        if found and has_assembly(replace(shape, taps=taps), found[0]):
            return (*found, taps)
    return None
