"""From a layer's Requant to the epilogue of its tile product and the constants of its outputs."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.backends.c.dsp.forms import Form, General, MulAccumulate, MulHigh, PowerOfTwo
from edgeflow.backends.c.dsp.requantize import SHIFTS, Channel, channels_of, find_layer, scaled, with_bias
from edgeflow.backends.c.dsp.staircase import mul_accumulate
from edgeflow.backends.c.dsp.tile_epilogue import (
    SCALES,
    AccumulatedProduct,
    Epilogue,
    HighProduct,
    LiftedProduct,
    ShiftDown,
    TwoStage,
)
from edgeflow.backends.c.dsp.tile_weights import Constants, ConstantsOf, fits, groups, reach
from edgeflow.ir.types import IntArray
from edgeflow.ops.requant import Requant

_LIFTED = {256: 256, 1: 256}
_PLAIN = {256: 256, 1: 1}
_KINDS: tuple[tuple[type[Form], dict[int, int]], ...] = (
    (PowerOfTwo, _PLAIN),
    (MulHigh, _LIFTED),
    (General, _PLAIN),
)
"""Kinds of form, with the scale of the word that it starts from for the scale of each accumulator; cheapest first.
"""


def requantization(
    requant: Requant,
    weights: IntArray,
    bias: IntArray,
    bounds: tuple[int, int],
    together: int = 1,
    shifts: Sequence[int] = SHIFTS,
) -> tuple[Epilogue, ConstantsOf] | None:
    """The cheapest epilogue that gives a Conv's or Dense's Requant exactly, and what its outputs need.

    `weights` are (outputs, values) with `bias` (outputs,); x lies in the closed interval `bounds`. None where no
    epilogue serves all outputs, or the nested sums are not exact. Layers that shall share a function ask for one of
    `shifts`: the least that any of them gets nearly always serves them all.
    """
    least, most = reach(weights, *bounds)
    whole = with_bias(requant, bias)
    alone = channels_of(whole, least, most)
    if alone is None:
        return None
    by_scale = {scale: scaled(alone, scale) for scale in SCALES}
    places = {
        (output, SCALES[place % 2]) for group in groups(len(weights), together) for place, output in enumerate(group)
    }
    wanted = sorted(places)
    for kind, words in _KINDS:
        channels = [by_scale[words[scale]][output] for output, scale in wanted]
        forms = [form for form in find_layer(channels, kind, shifts).forms if form is not None]
        if len(forms) < len(wanted):
            continue
        if words is _LIFTED:
            forms = _accumulated(forms, channels, [scale for _, scale in wanted])
        epilogue = epilogue_of(forms, lifted=words is _LIFTED)
        if epilogue is None:
            continue
        table = {key: constants_of(form, epilogue, key[1]) for key, form in zip(wanted, forms, strict=True)}

        def constants(output: int, scale: int, table: dict[tuple[int, int], Constants] = table) -> Constants:
            return table[output, scale]

        if fits(weights, *bounds, constants, together):
            return epilogue, constants
    return None


def _accumulated(forms: Sequence[Form], channels: Sequence[Channel], scales: Sequence[int]) -> Sequence[Form]:
    """The forms, but where sums come with scale 1 products of these as they are; the old ones unless all have one."""
    found: list[Form] = []
    for form, channel, scale in zip(forms, channels, scales, strict=True):
        other = mul_accumulate(channel.stairs, form) if scale == 1 and isinstance(form, MulHigh) else form
        if other is None:
            return forms
        found.append(other)
    return found


def epilogue_of(forms: Sequence[Form], *, lifted: bool = False) -> Epilogue | None:
    """The code that all these forms share; None where there is none.

    `lifted`: all come from words of scale 256, which the code makes where an accumulator has scale 1, but for
    those of a MulAccumulate.
    """
    shifts = {form.shift for form in forms if isinstance(form, General)}
    if any(isinstance(form, MulAccumulate) for form in forms):
        forms = [form for form in forms if isinstance(form, MulHigh)]
        found = {AccumulatedProduct(form.shift, form.saturation.signed, form.saturation.bits) for form in forms}
        return found.pop() if len(found) == 1 else None
    found = {_epilogue(form, shifts, lifted) for form in forms}
    return found.pop() if len(found) == 1 else None


def _epilogue(form: Form, shifts: set[int], lifted: bool) -> Epilogue | None:
    match form:
        case PowerOfTwo(scale, _, shift, half_even, one):
            return ShiftDown(shift - scale.bit_length() + 1, one.signed, half_even, one.bits)
        case MulHigh(_, _, _, shift, one):
            return (LiftedProduct if lifted else HighProduct)(shift, one.signed, one.bits)
        case General(carry=True, shift=shift, saturation=one) if shift:
            return TwoStage(shift if len(shifts) == 1 else None, one.signed, one.bits)
        case _:
            return None


def constants_of(form: Form, epilogue: Epilogue, scale: int) -> Constants:
    """What a form of `epilogue_of` adds to a sum that comes with `scale`, and its words for the epilogue."""
    match form:
        case PowerOfTwo(_, addend):
            return Constants(addend)
        case MulAccumulate(_, addend, factor, more):
            return Constants(addend, (factor, more))
        case MulHigh(_, addend, factor) if epilogue.count(scale) == 2:
            return Constants(0, (addend, factor))
        case MulHigh(_, addend, factor):
            return Constants(addend, (factor,))
        case General(_, addend, factor, _, offset, shift):
            return Constants(addend, (factor, offset, shift)[: epilogue.count(scale)])
        case _:
            raise TypeError(f"no tile product has the form {form!r}")
