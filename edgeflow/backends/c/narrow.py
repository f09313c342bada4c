"""Requantization to a byte by one product or one shift, in C that any core computes: found and proven offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import INT32, CType, Table, literal, table
from edgeflow.backends.c.dsp.forms import Form, General, MulHigh, PowerOfTwo, Saturation
from edgeflow.backends.c.dsp.requantize import SHIFTS, channels_of, find_layer, with_bias
from edgeflow.backends.c.dsp.tile_weights import reach
from edgeflow.backends.c.epilogue import Epilogue, Piece
from edgeflow.backends.c.kernel import Context, bias_of, epilogue_of
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.requant import Requant

_KINDS: tuple[tuple[type[Form], int], ...] = ((PowerOfTwo, 1), (MulHigh, 256), (General, 1))
"""The kinds of form, and the power of two with which a sum comes to each: finer steps make MulHigh exact."""


@dataclass(frozen=True)
class Finish:
    """What a sum of channel `m` starts from, a C expression, what is done to it then, and the tables of both."""

    start: str
    epilogue: Epilogue | None
    tables: tuple[Table, ...]


def finish_of(
    step: Step, node: Node, name: str, context: Context, acc: CType, y: Buffer, weights: IntArray, bias: IntArray
) -> Finish:
    """How the sums of a Conv or Dense become results: cheaply where one Requant to a byte allows it.

    `weights` are (outputs, values) with `bias` (outputs,).
    """
    forms = _forms(step, node, context, acc, y, weights, bias)
    if forms is not None:
        return _WRITERS[type(forms[0])](forms, name)
    start, tables = bias_of(name, bias, "m")
    axes = (*(None,) * (len(node.type.shape) - 1), "m")
    return Finish(start, epilogue_of(step.fused, name, context, acc, axes), tables)


def _forms(
    step: Step, node: Node, context: Context, acc: CType, y: Buffer, weights: IntArray, bias: IntArray
) -> tuple[Form, ...] | None:
    """One form a channel, all of the same code; None where there are none."""
    fused = [one.op for one in step.fused]
    if acc is not INT32 or y.ctype.size != 1 or len(fused) != 1 or not isinstance(fused[0], Requant):
        return None
    bounds = context.bounds[node.inputs[0]]
    ends = [int(bounds.lo.min()), int(bounds.hi.max())]
    if isinstance(node.op, Conv) and any(map(any, node.op.pads)):
        ends.append(node.op.pad_value)
    least, most = reach(weights, min(ends), max(ends))
    whole = with_bias(fused[0], bias)
    shifts = SHIFTS if context.shift is None else (context.shift, *(one for one in SHIFTS if one != context.shift))
    for kind, scale in _KINDS:
        channels = channels_of(whole, least, most, [scale] * len(weights))
        found = [one for one in find_layer(channels, kind, shifts).forms if one] if channels else []
        same = len(found) == len(weights) and len({_code(one) for one in found}) == 1
        if same and _partial_sums_fit(found, weights, max(map(abs, ends))):
            return tuple(found)
    return None


def _partial_sums_fit(forms: Sequence[Form], weights: IntArray, most: int) -> bool:
    """Whether 32 bits hold every sum on the way; that they hold the whole sums is part of a form's proof."""
    starts = [0 if isinstance(form, MulHigh) else abs(_addend(form)) for form in forms]
    return int((np.abs(weights).sum(axis=1) * most + np.array(starts)).max()) < 1 << 31


def _addend(form: Form) -> int:
    return cast(PowerOfTwo | MulHigh | General, form).addend


def _code(form: Form) -> tuple[object, ...]:
    """What is the same in the code of all channels."""
    match form:
        case PowerOfTwo(_, _, shift, half_even, one):
            return shift, half_even, one
        case MulHigh(_, _, _, shift, one):
            return shift, one
        case _:
            general = cast(General, form)
            return general.shift > 0, general.carry, general.saturation


def _constants(values: Sequence[int], name: str, what: str) -> tuple[str, tuple[Table, ...]]:
    """The C expression of a channel's constant, and the table behind it."""
    if len(set(values)) == 1:
        return literal(values[0]), ()
    entry = table(f"{name}_{what}", np.array(values, dtype=np.int64))
    return f"{entry.name}[m]", (entry,)


def _shifted(forms: tuple[Form, ...], name: str) -> Finish:
    first = cast(PowerOfTwo, forms[0])
    start, tables = _constants([_addend(form) for form in forms], name, "bias")
    word = f"(acc - ((acc >> {first.shift}) & 1))" if first.half_even else "acc"
    value = f"{word} >> {first.shift}" if first.shift else word
    pieces = (Piece.SHIFT, *((Piece.SHIFT, Piece.ADD, Piece.ADD) if first.half_even else ()))
    return Finish(start, _epilogue((f"int32_t v = {value};",), first.saturation, (), pieces), tables)


def _high(forms: tuple[Form, ...], name: str) -> Finish:
    first = cast(MulHigh, forms[0])
    addend, addends = _constants([_addend(form) for form in forms], name, "addend")
    factor, factors = _constants([cast(MulHigh, form).factor for form in forms], name, "factor")
    product = f"(int64_t)(acc * {first.scale} + {addend}) * {factor}"
    tables = (*addends, *factors)
    pieces = (*(Piece.LOAD for _ in tables), Piece.ADD, Piece.HIGH_PRODUCT, Piece.SHIFT)
    line = f"int32_t v = (int32_t)({product} >> 32) >> {first.shift};"
    return Finish("0", _epilogue((line,), first.saturation, tables, pieces), ())


def _two_stages(forms: tuple[Form, ...], name: str) -> Finish:
    """TFLite-Micro's two roundings, the second with what follows it in 32 bits."""
    generals = [cast(General, form) for form in forms]
    start, starts = _constants([form.addend for form in generals], name, "bias")
    doubled = [form.factor + (form.carry << 32) for form in generals]
    factor, factors = _constants([one >> 1 for one in doubled], name, "multiplier")
    offset, offsets = _constants([form.offset for form in generals], name, "offset")
    shift, shifts = _constants([form.shift for form in generals], name, "shift")
    lines = [f"int32_t v = (int32_t)(((int64_t)acc * {factor} + (1 << 30)) >> 31);"]
    if generals[0].shift:
        lines.append(f"v = (v + (v >> 31) + {offset}) >> {shift};")
    elif any(form.offset for form in generals):
        lines.append(f"v += {offset};")
    tables = (*factors, *offsets, *shifts)
    rounded = (Piece.ADD, Piece.SHIFT, Piece.ADD, Piece.ADD)
    pieces = (*(Piece.LOAD for _ in tables), Piece.HIGH_PRODUCT, Piece.SHIFT, *rounded, *rounded)
    return Finish(start, _epilogue(tuple(lines), generals[0].saturation, tables, pieces), starts)


def _epilogue(lines: tuple[str, ...], one: Saturation, tables: tuple[Table, ...], pieces: Sequence[Piece]) -> Epilogue:
    clamp = (f"if (v < {one.lo}) {{", f"    v = {one.lo};", "}", f"if (v > {one.hi}) {{", f"    v = {one.hi};", "}")
    done = tuple((piece, False) for piece in (*pieces, Piece.CLAMP, Piece.CLAMP))
    return Epilogue("v", Piece.HIGH_PRODUCT in pieces, (*lines, *clamp), tables, frozenset(), done)


_WRITERS: Mapping[type[Form], Callable[[tuple[Form, ...], str], Finish]] = {
    PowerOfTwo: _shifted,
    MulHigh: _high,
    General: _two_stages,
}
