"""ADD, SUB and MUL: what their kernels compute, and Adds and Multiplies brought to it.

ADD brings both inputs to half of the larger unit, 20 bits up, adds, and rescales (kernels/add_common.cc); MUL
multiplies and rescales. The factors follow from the three scales in the file alone, so a Requant behind must say what
the units say. Powers of two stay exact in ADD but for the last rounding, half away from zero; MUL's first stage rounds
too. Where results fit in 8 bits they are kept whole, in the unit of the sum or product, for a kernel of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.backends.tflm.arithmetic import (
    INT32_HI,
    Multiplier,
    clamped,
    kernel_multipliers,
    kernel_requant,
    only_value,
    quantize_multiplier,
    same_but_clamps,
    scale_of,
    shifted,
    sum_input,
)
from edgeflow.backends.tflm.chains import Join, only_outputs, only_shifts
from edgeflow.backends.tflm.edit import Edit
from edgeflow.backends.tflm.rescale import MOST, clamped_form, finest
from edgeflow.backends.tflm.storage import input_storage, stored_result, zero_of
from edgeflow.backends.tflm.widths import Width
from edgeflow.ir.graph import Bounds, Node, Op
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Requant, Rounding

_SAFE = 1 << 28
"""Beyond what ADD's inputs reach: a clamp there does not bind."""


def is_own(join: Join, labels: Sequence[Label], width: Width) -> bool:
    """Whether a join is what TFLite's kernel computes, given the labels of its sources."""
    after = join.after
    if after is None or not isinstance(after.op, Requant) or len(labels) != 2:
        return False
    result, scales = scale_of(after.label), [scale_of(one) for one in labels]
    known = [one for one in scales if one is not None]
    multipliers = kernel_multipliers(after.op, len(join.node.type.shape), join.node.type.shape[-1])
    if result is None or len(known) != 2 or multipliers is None or only_value(after.op.offset) != zero_of(after.label):
        return False
    own = _OWN[type(join.node.op)]
    return set(multipliers) == own(join, labels, known, result, width)


def _own_sum(join: Join, labels: Sequence[Label], scales: list[float], result: float, width: Width) -> set[Multiplier]:
    assert isinstance(join.node.op, Add)
    if join.node.op.signs not in ((1, 1), (1, -1)):
        return set()
    factors, total = _sum_factors(scales, result, width)
    for part, factor, label in zip(join.parts, factors, labels, strict=True):
        if part is None or not isinstance(part.op, Requant):
            return set()
        if not _same(part.op, sum_input(factor, zero_of(label), width.sum_left_shift)):
            return set()
    return {total} if total.exponent <= 0 else set()


def _own_product(
    join: Join, labels: Sequence[Label], scales: list[float], result: float, width: Width
) -> set[Multiplier]:
    for part, label in zip(join.parts, labels, strict=True):
        zero = zero_of(label)
        if part is None and zero:
            return set()
        if part is not None and not (isinstance(part.op, Requant) and _same(part.op, shifted(-zero))):
            return set()
    factor, kind = _product_factor(scales, result), join.node.type
    fits = max(-kind.lo, kind.hi) << max(factor.exponent, 0) <= INT32_HI
    return {factor} if factor.usable and fits else set()


_OWN: Mapping[type, Callable[[Join, Sequence[Label], list[float], float, Width], set[Multiplier]]] = {
    Add: _own_sum,
    Multiply: _own_product,
}


def _sum_factors(scales: Sequence[float], result: float, width: Width) -> tuple[tuple[Multiplier, ...], Multiplier]:
    """ADD's multipliers for its inputs and for its result."""
    twice = 2.0 * max(scales)
    total = quantize_multiplier(twice / ((1 << width.sum_left_shift) * result))
    return tuple(quantize_multiplier(one / twice) for one in scales), total


def _same(left: Requant, right: Requant) -> bool:
    """Whether two Requants are the same but for clamps that do not bind."""
    return int(left.lo.max()) <= -_SAFE and int(left.hi.min()) >= _SAFE and same_but_clamps(left, right)


@dataclass(frozen=True)
class _Term:
    """`sign` times a stored tensor of the adapted graph, shifted left by `up`."""

    tensor: str
    up: int
    sign: int
    lo: int
    hi: int

    @property
    def ends(self) -> tuple[int, int]:
        """The interval of what it adds."""
        ends = (self.lo << self.up) * self.sign, (self.hi << self.up) * self.sign
        return min(ends), max(ends)


def adapt_join(edit: Edit, join: Join) -> None:
    """Adds a join as kernels compute it, the Requant behind it included, or as it is."""
    labels = [edit.label(one) for one in join.sources]
    if is_own(join, labels, edit.width) and join.after is not None:
        for one in dict.fromkeys((*join.parts, join.node)):
            if one is not None:
                edit.copy(one)
        add_clamped(edit, join.after)
        return
    signs = join.node.op.signs if isinstance(join.node.op, Add) else (1,) * len(join.sources)
    if _simplified(edit, join, signs):
        return
    pairs = zip(join.sources, join.parts, signs, strict=True)
    terms = [_term(edit, source, part, sign) for source, part, sign in pairs]
    if _MAKERS[type(join.node.op)](edit, join, terms):
        return
    for part in join.parts:
        if part is not None and part.name not in edit.names:
            edit.alone(part)
    edit.copy(join.node)


def add_clamped(edit: Edit, after: Node) -> None:
    """A Requant in a kernel's form, with a clamp of its own for what the kernel's does not do."""
    op, wide = after.op, edit.names[after.inputs[0]]
    assert isinstance(op, Requant)
    found = None
    if stored_result(op, after.label, edit.width) is None:
        form = replace(op, lo=frozen_array([-MOST]), hi=frozen_array([MOST]))
        found = clamped_form(form, op, after.label, edit.builder.bounds(wide), edit.width, relu=True)
    if found is None:
        edit.copy(after)
        return
    edit.names[after.name] = edit.requant(after.name, after.layer, after.label, wide, *found)
    edit.done.add(after.name)


def _simplified(edit: Edit, join: Join, signs: Sequence[int]) -> bool:
    """Brings back the kernel's form of a join that computes the same in another: a pass has dropped common bits."""
    after, pair = join.after, tuple(edit.names[one] for one in join.sources)
    scale = None if after is None else scale_of(after.label)
    if after is None or scale is None or not isinstance(after.op, Requant) or len(pair) != 2 or signs[0] < 0:
        return False
    lo, hi = only_value(after.op.lo), only_value(after.op.hi)
    labels = [edit.builder.label(one) for one in pair]
    scales = [one for one in map(scale_of, labels) if one is not None]
    if lo is None or hi is None or len(scales) != 2:
        return False
    goal = _Goal(after.name, after.layer, after.label, scale, lo, hi)
    form = _form(join.node.op, scales, labels, goal, edit.width)
    if form is None or not _equal(edit, join, form, pair):
        return False
    parts = zip(pair, form.parts, strict=True)
    inputs = tuple(_input(edit, one, part, goal, number) for number, (one, part) in enumerate(parts, start=1))
    wide = edit.builder.add(join.node.op, inputs, join.node.label, goal.layer, f"{goal.name}_wide")
    _name(edit, join, goal, _rescaled(edit, wide, form.factor, goal))
    return True


@dataclass(frozen=True)
class _Form:
    """What a kernel does to its inputs (None: nothing) and the factor of its result."""

    parts: tuple[Requant | None, ...]
    factor: Multiplier
    after: Requant


def _form(op: Op, scales: list[float], labels: Sequence[Label], goal: _Goal, width: Width) -> _Form | None:
    zeros = [zero_of(one) for one in labels]
    if isinstance(op, Add):
        factors, total = _sum_factors(scales, goal.scale, width)
        if total.exponent > 0:
            return None
        parts = tuple(sum_input(one, zero, width.sum_left_shift) for one, zero in zip(factors, zeros, strict=True))
    else:
        parts, total = tuple(shifted(-zero) if zero else None for zero in zeros), _product_factor(scales, goal.scale)
    return _Form(parts, total, kernel_requant([total], zero_of(goal.label), goal.lo, goal.hi)) if total.usable else None


def _product_factor(scales: Sequence[float], result: float) -> Multiplier:
    """MUL's multiplier."""
    return quantize_multiplier(scales[0] * scales[1] / result)


def _equal(edit: Edit, join: Join, form: _Form, pair: tuple[str, str]) -> bool:
    """Whether a join gives what a kernel gives: compared on all pairs of bytes, or, of int16, as functions."""
    kinds = [edit.builder.type(one) for one in pair]
    after = join.after.op if join.after is not None else None
    if not isinstance(after, Requant) or any(kind.hi - kind.lo > edit.width.span for kind in kinds):
        return False
    if any(only_value(one) is None for one in after.arrays()):
        return False
    values = [np.arange(kind.lo, kind.hi + 1, dtype=np.int64) for kind in kinds]
    own = [_evaluated(part.op if part else None, one) for part, one in zip(join.parts, values, strict=True)]
    kernels = [_evaluated(part, one) for part, one in zip(form.parts, values, strict=True)]
    if not edit.width.narrow:
        return _equal_functions(own, kernels, after, form.after)
    sign = join.node.op.signs[1] if isinstance(join.node.op, Add) else 0
    left, right = (_joined(one, sign) for one in (own, kernels))
    return bool((after.evaluate((left,), ()) == form.after.evaluate((right,), ())).all())


def _evaluated(op: Op | None, values: IntArray) -> IntArray:
    return op.evaluate((values,), ()) if isinstance(op, Requant) else values


def _joined(values: list[IntArray], sign: int) -> IntArray:
    """All pairs, added, subtracted or (0) multiplied."""
    left, right = values[0][:, None], values[1][None, :]
    return left + sign * right if sign else left * right


def _equal_functions(own: list[IntArray], kernels: list[IntArray], after: Requant, kernel: Requant) -> bool:
    """Whether inputs are the kernel's but for a common power of two, which the Requant behind them makes up for."""
    more = int((kernel.multiplier << kernel.pre).flat[0]), int((after.multiplier << after.pre).flat[0])
    if more[1] % more[0] or [one.rounding for one in after.stages] != [one.rounding for one in kernel.stages]:
        return False
    same = all((a * (more[1] // more[0]) == b).all() for a, b in zip(own, kernels, strict=True))
    shifts = zip(after.stages, kernel.stages, strict=True)
    return same and not after.bias.any() and all(only_value(a.shift) == only_value(b.shift) for a, b in shifts)


def _input(edit: Edit, tensor: str, part: Requant | None, goal: _Goal, number: int) -> str:
    """What a kernel makes of an input."""
    label = edit.builder.label(tensor)
    scale = (scale_of(label) or 0.0) / (1 << edit.width.sum_left_shift)
    unit = Affine(scale, 0)
    return tensor if part is None else edit.builder.add(part, (tensor,), unit, goal.layer, f"{goal.name}_in{number}")


def _term(edit: Edit, source: str, part: Node | None, sign: int) -> _Term:
    """What the op reads, as a shift where that is all that stands before it; else the Requant gets a kernel."""
    tensor, up = edit.names[source], 0
    kind = edit.builder.type(tensor)
    if part is not None and isinstance(part.op, Requant):
        op = part.op
        shifts = only_shifts(op)
        up = (only_value(op.multiplier) or 1).bit_length() - 1 + (only_value(op.pre) or 0) if shifts else 0
        if not shifts or int(op.lo.max()) > kind.lo << up or kind.hi << up > int(op.hi.min()):
            if part.name not in edit.names:
                edit.alone(part)
            tensor, up = edit.names[part.name], 0
            kind = edit.builder.type(tensor)
    return _Term(tensor, up, sign, kind.lo, kind.hi)


def _unit(edit: Edit, terms: Sequence[_Term], *, product: bool) -> float | None:
    """The unit of a sum or product by its tensors' own labels; None where they disagree or 8 bits are too few."""
    units: list[float] = []
    for term in terms:
        label, kind = edit.builder.label(term.tensor), edit.builder.type(term.tensor)
        scale = scale_of(label)
        if scale is None or zero_of(label) or input_storage(kind.lo, kind.hi, 0, edit.width) is None:
            return None
        units.append(scale / (1 << term.up))
    if product:
        return float(np.prod(units))
    return units[0] if len(set(units)) == 1 else None


@dataclass(frozen=True)
class _Goal:
    """What a kernel's result shall be: its name, layer, label, unit and clamp."""

    name: str
    layer: str
    label: Label
    scale: float
    lo: int
    hi: int


def _goal(join: Join, unit: float) -> _Goal | None:
    """The Requant behind a join, where its factor is what the units say and its rounding near the kernel's."""
    after = join.after
    result = None if after is None else scale_of(after.label)
    if after is None or result is None or not isinstance(after.op, Requant):
        return None
    op = after.op
    values = [only_value(one) for one in (op.pre, op.multiplier, op.lo, op.hi, *(stage.shift for stage in op.stages))]
    known = [one for one in values if one is not None]
    if len(known) < len(values) or op.bias.any() or only_value(op.offset) != zero_of(after.label):
        return None
    pre, factor, lo, hi, *shifts = known
    if float(np.ldexp(float(factor), pre - sum(shifts))) * result != unit:
        return None
    if any(stage.rounding is Rounding.FLOOR for stage in op.stages if stage.shift.any()):
        return None
    return _Goal(after.name, after.layer, after.label, result, lo, hi)


def _whole(edit: Edit, name: str, node: Node, unit: float, lo: int, hi: int) -> _Goal | None:
    """A result that loses nothing, where 8 bits hold it."""
    if (
        scale_of(node.label) != unit
        or zero_of(node.label)
        or input_storage(min(lo, 0), max(hi, 0), 0, edit.width) is None
    ):
        return None
    return _Goal(name, node.layer, node.label, unit, lo, hi)


def _wide(edit: Edit, node: Node, unit: float, lo: int, hi: int) -> _Goal | None:
    """8 bits of what is the model's output."""
    if not isinstance(node.label, Dyadic) or not isinstance(node.label.frac, int) or scale_of(node.label) != unit:
        return None
    if only_outputs(edit.graph, node) is None:
        return None
    frac = finest(Bounds(frozen_array([lo]), frozen_array([hi])), frozen_array([node.label.frac]), edit.width)
    return None if frac is None else _Goal(node.name, node.layer, Dyadic(frac), 2.0**-frac, -MOST, MOST)


def _add(edit: Edit, join: Join, terms: list[_Term]) -> bool:
    """Two at a time; all sums but the last must fit in 8 bits."""
    node, unit = join.node, _unit(edit, terms, product=False)
    ordered = sorted(terms, key=lambda one: -one.sign)
    if unit is None or ordered[0].sign < 0:
        return False
    goals: list[_Goal] = []
    lo, hi = ordered[0].ends
    for number, term in enumerate(ordered[1:], start=2):
        lo, hi = lo + term.ends[0], hi + term.ends[1]
        last = number == len(ordered)
        goal = _goal(join, unit) if last else None
        goal = goal or _whole(edit, node.name if last else f"{node.name}_part{number - 1}", node, unit, lo, hi)
        goal = goal or (_wide(edit, node, unit, lo, hi) if last else None)
        scales = [scale_of(edit.builder.label(one.tensor)) or unit for one in (ordered[0], term)]
        scales = scales if number == 2 else [unit, scales[1]]
        if goal is None or _sum_factors(scales, goal.scale, edit.width)[1].exponent > 0:
            return False
        goals.append(goal)
    at = ordered[0].tensor
    for term, goal in zip(ordered[1:], goals, strict=True):
        at = _kernel_sum(edit, (at, term.tensor), term.sign, goal)
    _name(edit, join, goals[-1], at)
    return True


def _kernel_sum(edit: Edit, pair: tuple[str, str], sign: int, goal: _Goal) -> str:
    builder = edit.builder
    scales = [scale_of(builder.label(one)) or 0.0 for one in pair]
    factors, total = _sum_factors(scales, goal.scale, edit.width)
    unit = Affine(2.0 * max(scales) / (1 << edit.width.sum_left_shift), 0)
    inputs = tuple(
        builder.add(
            sum_input(factor, zero_of(builder.label(one)), edit.width.sum_left_shift),
            (one,),
            unit,
            goal.layer,
            f"{goal.name}_in{number}",
        )
        for number, (one, factor) in enumerate(zip(pair, factors, strict=True), start=1)
    )
    sums = builder.add(Add((1, sign)), inputs, unit, goal.layer, f"{goal.name}_sums")
    return _rescaled(edit, sums, total, goal)


def _multiply(edit: Edit, join: Join, terms: list[_Term]) -> bool:
    node, unit = join.node, _unit(edit, terms, product=True)
    if unit is None:
        return False
    left, right = (one.ends for one in terms)
    ends = [a * b for a in left for b in right]
    goal = _goal(join, unit) or _whole(edit, node.name, node, unit, min(ends), max(ends))
    goal = goal or _wide(edit, node, unit, min(ends), max(ends))
    if goal is None:
        return False
    scales = [scale_of(edit.builder.label(one.tensor)) or 0.0 for one in terms]
    factor = _product_factor(scales, goal.scale)
    if not factor.usable:
        return False
    inputs = tuple(one.tensor for one in terms)
    products = edit.builder.add(node.op, inputs, Affine(scales[0] * scales[1], 0), node.layer, f"{goal.name}_products")
    _name(edit, join, goal, _rescaled(edit, products, factor, goal))
    return True


def _rescaled(edit: Edit, wide: str, factor: Multiplier, goal: _Goal) -> str:
    zero = zero_of(goal.label)
    form = kernel_requant([factor], zero, -MOST, MOST)
    wanted = clamped(goal.lo, goal.hi)
    found = clamped_form(form, wanted, goal.label, edit.builder.bounds(wide), edit.width, relu=True)
    requant, clamp = found or (replace(form, lo=wanted.lo, hi=wanted.hi), None)
    return edit.requant(goal.name, goal.layer, goal.label, wide, requant, clamp)


def _name(edit: Edit, join: Join, goal: _Goal, at: str) -> None:
    """The result stands for the join, or for the Requant behind it."""
    node, after = join.node, join.after
    edit.done.add(node.name)
    edit.names[node.name] = at
    if after is not None and goal.name == after.name:
        edit.done.add(after.name)
        edit.names[after.name] = at
    elif goal.label != node.label:
        found = only_outputs(edit.graph, node)
        for one in found.after if found else ():
            edit.follow(one, goal.label)


_MAKERS: Mapping[type, Callable[[Edit, Join, list[_Term]], bool]] = {Add: _add, Multiply: _multiply}
