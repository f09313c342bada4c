"""A linear op and the Requant behind it, as one of TFLite-Micro's kernels computes the two.

Rounding. A kernel rounds `factor x sum` half away from zero (`arithmetic.py`). With a power of two as factor the
first of its two stages is kept exact (`JUST_BELOW_ONE`), so that every value but a tie rounds as in the model at any
weight width. Behind a clamp at zero only ties above zero matter, and the bias moves them: half up and half away need
nothing; floor subtracts half a unit. Where results below zero count, weights of up to 7 bits are doubled, and odd sums
have no ties (`offties.py`). Half to even no kernel can do (its thresholds lie unevenly): of every two channels one
rounds ties up and one, whose bias loses 1, rounds them down, so that what moves cancels in the next layer's sums
instead of adding up. A student without ties keeps all its outputs. Any other factor, sign, offset or bias is fitted
step by step (`fit.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeflow.backends.tflm.arithmetic import (
    LARGEST_EXPONENT,
    Multiplier,
    along_channels,
    clamped,
    effective,
    kernel_requant,
    only_value,
    quantize_multiplier,
    scale_of,
    weight_scale,
)
from edgeflow.backends.tflm.chains import is_depthwise, linear, sum_conv
from edgeflow.backends.tflm.fit import Scales, fit
from edgeflow.backends.tflm.model import Activation
from edgeflow.backends.tflm.offties import finer, off_ties
from edgeflow.backends.tflm.storage import input_storage, kernel_clamp, stored_result, zero_of
from edgeflow.backends.tflm.widths import INT8, Width
from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds, Node
from edgeflow.ir.types import Dyadic, IntArray, Label, Shape, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.ops.sumpool import SumPool

MOST = np.iinfo(np.int64).max
"""The end of a clamp that binds nothing."""
_LARGEST_SHIFTED = 30
"""Bits of what a stored integer less its zero point may be shifted left to within 32 bits."""


@dataclass(frozen=True)
class Kernel:
    """A linear op with its own rounding put right, and the Requant (perhaps a clamp too) that follows it."""

    op: Conv | Dense | SumPool
    label: Label
    requant: Requant
    clamp: Requant | None


@dataclass(frozen=True)
class Given:
    """What a kernel reads: proven bounds, shape, label, and the width of what it reads and gives."""

    bounds: Bounds
    shape: Shape
    label: Label
    width: Width


def kernel_for(node: Node, after: Node, given: Given, *, relu: bool = True) -> Kernel | None:
    """The kernel for an op and the Requant behind it, exact where any kernel is; None if there is none.

    `relu` says whether the kernel can fuse one.
    """
    fitted = _fitted(node, after, given, relu=relu)
    if fitted is not None:
        return fitted
    pair = off_ties(node, after, given.bounds, given.shape) if given.width.narrow else None
    found = None if pair is None else _rounding_kernel(*pair, given, relu=relu)
    return found or _rounding_kernel(node, after, given, relu=relu)


def _rounding_kernel(node: Node, after: Node, given: Given, *, relu: bool) -> Kernel | None:
    assert isinstance(after.op, Requant)
    result = scale_of(after.label)
    wanted = _multipliers(after.op, node, given, result, relu=relu)
    if wanted is None or not linear(node.op):
        return None
    op, requant = node.op, after.op
    form = replace(requant, lo=frozen_array([-MOST]), hi=frozen_array([MOST]))
    if _own_multipliers(requant, node, given, result, relu=relu) is None:
        nudge = _nudges(requant, node, after.label)
        if nudge is None:
            return None
        op = _biased(op, nudge, node.type.shape[-1])
        form = given.width.requant(wanted, zero_of(after.label), -MOST, MOST)
    elif (stored := stored_result(requant, after.label, given.width)) and (relu or stored[1] is Activation.NONE):
        return Kernel(op, node.label, requant, None)
    bounds = _bounds(op, given)
    found = None if bounds is None else clamped_form(form, requant, after.label, bounds, given.width, relu=relu)
    return None if found is None else Kernel(op, node.label, *found)


def _bounds(op: Conv | Dense | SumPool, given: Given) -> Bounds | None:
    try:
        return op.bounds((given.bounds,), (given.shape,))
    except InvalidGraph:
        return None


def _fitted(node: Node, after: Node, given: Given, *, relu: bool) -> Kernel | None:
    """The kernel whose steps lie where the Requant's do, for what is more than a power of two and a clamp."""
    requant, scale, result = after.op, scale_of(given.label), scale_of(after.label)
    assert isinstance(requant, Requant)
    if (
        scale is None
        or result is None
        or not linear(node.op)
        or not _asks_for_fit(requant, node, after.label, given, relu=relu)
    ):
        return None
    op = _window(node.op, node.type.shape[-1])
    try:
        sums = op.sums(given.bounds) if isinstance(op, Dense) else op.sums(given.bounds, given.shape[-1])
        zero = zero_of(after.label)
        found = fit(requant, len(node.type.shape), sums, op.weight, Scales(scale, result, zero, given.width))
        if found is None:
            return None
        weight, bias = frozen_array(op.weight * found.times), frozen_array(op.bias * found.times + found.bias)
        op = replace(op, weight=weight, bias=bias)
        bounds = op.bounds((given.bounds,), (given.shape,))
    except InvalidGraph:
        return None
    form = given.width.requant(found.multipliers, zero, -MOST, MOST)
    ends = clamped_form(form, requant, after.label, bounds, given.width, relu=relu)
    return None if ends is None else Kernel(op, finer(node.label, np.abs(found.times)), *ends)


def _asks_for_fit(requant: Requant, node: Node, label: Label, given: Given, *, relu: bool) -> bool:
    """Whether a Requant has a bias, an offset that is no zero point, or a factor that is no power of two."""
    if _own_multipliers(requant, node, given, scale_of(label), relu=relu) is not None:
        return bool((requant.offset != zero_of(label)).any())
    factor = requant.multiplier
    powers = (factor > 0) & (factor & (factor - 1) == 0)
    return bool(requant.bias.any() or (requant.offset != zero_of(label)).any() or not powers.all())


def _own_multipliers(
    requant: Requant, node: Node, given: Given, result: float | None, *, relu: bool
) -> tuple[Multiplier, ...] | None:
    """The multipliers of a Requant that is in the form of the op's kernel already; None for any other."""
    rank, channels, source = len(node.type.shape), node.type.shape[-1], scale_of(given.label)
    form = INT8 if len(requant.stages) == 2 else given.width
    found = form.multipliers(requant, rank, channels)
    narrow_bias = isinstance(node.op, Dense) or (isinstance(node.op, Conv) and not is_depthwise(node.op) and relu)
    if found is None or source is None or result is None or not (form is given.width or narrow_bias):
        return None
    return found if all(form.weight_scale(one, source, result) is not None for one in set(found)) else None


def _window(op: Conv | Dense | SumPool, channels: int) -> Conv | Dense:
    """A SumPool has no bias and no weights, so it becomes the depthwise Conv that it is."""
    return sum_conv(op, channels) if isinstance(op, SumPool) else op


def _multipliers(
    requant: Requant, node: Node, given: Given, result: float | None, *, relu: bool
) -> tuple[Multiplier, ...] | None:
    """What the kernel will multiply by, one a channel; None where the file cannot say the Requant's factors."""
    rank, channels, width = len(node.type.shape), node.type.shape[-1], given.width
    source = scale_of(given.label)
    if source is None or result is None or requant.bias.any():
        return None
    known = _own_multipliers(requant, node, given, result, relu=relu)
    if known is not None:
        return known
    factors = _factors(requant, rank, channels)
    if factors is None:
        return None
    last = requant.stages[-1].rounding
    found: list[Multiplier] = []
    for numerator, shift in factors:
        if numerator <= 0:
            return None
        power = numerator.bit_length() - 1 - shift
        if numerator & (numerator - 1) == 0:
            one_shift = power == -1 and last is Rounding.HALF_UP
            found.append(power_of_two(power, source, result, width, twice=one_shift))
        else:
            found.append(effective(source, weight_scale(numerator / (1 << shift), source, result), result))
    return tuple(found) if all(width.usable(one) for one in found) else None


def power_of_two(power: int, source: float, result: float, width: Width, *, twice: bool = False) -> Multiplier:
    """The multiplier for 2**power. `twice` allows the first stage to round: right for half up by one bit."""
    factor = 2.0**power if power >= 0 or twice else width.power_of_two * 2.0**power
    return effective(source, weight_scale(factor, source, result), result)


def _factors(requant: Requant, rank: int, channels: int) -> list[tuple[int, int]] | None:
    """(numerator, right shift) a channel; None when they vary from position to position."""
    arrays = [requant.pre, requant.multiplier, *(stage.shift for stage in requant.stages)]
    parts = [along_channels(one, rank, channels) for one in arrays]
    if any(part is None for part in parts):
        return None
    columns = zip(*(part for part in parts if part is not None), strict=True)
    return [(int(m) << int(up), sum(int(one) for one in down)) for up, m, *down in columns]


def _nudges(requant: Requant, node: Node, label: Label) -> IntArray | None:
    """What to add to each channel's bias so that half away from zero rounds as the Requant does (module docstring).

    An offset moves into the bias as well, unless the label's zero point says it. None where it cannot.
    """
    rank, channels = len(node.type.shape), node.type.shape[-1]
    factors = _factors(requant, rank, channels)
    offset = along_channels(requant.offset, rank, channels)
    lo = along_channels(requant.lo, rank, channels)
    if factors is None or offset is None or lo is None:
        return None
    rounding = requant.stages[-1].rounding
    found: list[int] = []
    for channel, ((numerator, shift), plus, least) in enumerate(zip(factors, offset, lo, strict=True)):
        ties_down = channel % 2 == 1 and int(least) - int(plus) >= 0
        nudge = _nudge(rounding, numerator, shift, ties_down=ties_down)
        if plus and isinstance(label, Dyadic):
            if (int(plus) << shift) % numerator:
                return None
            nudge += (int(plus) << shift) // numerator
        found.append(nudge)
    return frozen_array(found)


def _nudge(rounding: Rounding, numerator: int, shift: int, *, ties_down: bool) -> int:
    exact = numerator & (numerator - 1) == 0
    unit = (1 << shift) / numerator
    if unit <= 1:
        return 0
    match rounding:
        case Rounding.FLOOR:
            return -int(unit / 2 + 0.5)
        case Rounding.HALF_EVEN:
            return -1 if exact and ties_down else 0
        case Rounding.HALF_UP | Rounding.HALF_AWAY:
            return 0


def _biased(op: Conv | Dense | SumPool, nudge: IntArray, channels: int) -> Conv | Dense | SumPool:
    """The op with the nudges in its bias."""
    if not nudge.any():
        return op
    op = _window(op, channels)
    return replace(op, bias=frozen_array(op.bias + nudge))


def clamped_form(
    form: Requant, wanted: Requant, label: Label, source: Bounds, width: Width, *, relu: bool
) -> tuple[Requant, Requant | None] | None:
    """`form`, a kernel's Requant without a clamp, with the one that comes closest to `wanted`'s.

    The second is a clamp for what the kernel's own leaves over. None where no clamp of one tensor does it.
    """
    lo, hi, reach = only_value(wanted.lo), only_value(wanted.hi), _reach(form, source)
    if lo is None or hi is None or reach is None:
        return None
    found = kernel_clamp((lo, hi), reach, label, width, fused=relu)
    if found is None:
        return None
    rest = clamped(max(lo, found.lo), min(hi, found.hi)) if found.rest else None
    return replace(form, lo=frozen_array([found.lo]), hi=frozen_array([found.hi])), rest


def _reach(requant: Requant, source: Bounds) -> tuple[int, int] | None:
    """The interval of a Requant's result without its clamp."""
    try:
        products = requant.products(source)
    except InvalidGraph:
        return None
    return int(requant.finish(products.lo).min()), int(requant.finish(products.hi).max())


def quantize_form(node: Node, given: Given) -> tuple[Requant, Requant | None] | None:
    """A Requant as QUANTIZE computes it, and what it leaves to clamp; None where that gives other values.

    QUANTIZE takes the zero point off, multiplies by the ratio of the two scales and adds the other zero point
    (kernels/quantize_common.cc).
    """
    requant, source, result = node.op, scale_of(given.label), scale_of(node.label)
    assert isinstance(requant, Requant)
    if source is None or result is None:
        return None
    form = quantize_kernel(given.label, node.label, given.width)
    lo, hi = only_value(requant.lo), only_value(requant.hi)
    if form is None or lo is None or hi is None:
        return None
    values = np.arange(int(given.bounds.lo.min()), int(given.bounds.hi.max()) + 1, dtype=np.int64)
    row = values.reshape(-1, *(1,) * max(len(given.shape), 1))
    if (np.clip(form.evaluate((row,), ()), lo, hi) != requant.evaluate((row,), ())).any():
        return None
    return clamped_form(form, requant, node.label, given.bounds, given.width, relu=False)


def quantize_kernel(source: Label, result: Label, width: Width) -> Requant | None:
    """QUANTIZE between two labels, without a clamp."""
    scales = scale_of(source), scale_of(result)
    if scales[0] is None or scales[1] is None:
        return None
    factor = quantize_multiplier(scales[0] / scales[1])
    if not factor.usable or factor.exponent > _LARGEST_SHIFTED - width.bits:
        return None
    op = kernel_requant([factor], zero_of(result), -MOST, MOST)
    return replace(op, bias=frozen_array([-zero_of(source) * int((op.multiplier << op.pre).flat[0])]))


def finest(bounds: Bounds, fracs: IntArray, width: Width) -> int | None:
    """The finest frac in which every channel's rounded interval is one that a tensor can hold."""
    lo = np.broadcast_to(bounds.lo.reshape(-1, bounds.lo.shape[-1]).min(axis=0), fracs.shape)
    hi = np.broadcast_to(bounds.hi.reshape(-1, bounds.hi.shape[-1]).max(axis=0), fracs.shape)
    for frac in range(int(fracs.max()), int(fracs.min()) - 63, -1):
        drop = fracs - frac
        if (drop < -LARGEST_EXPONENT).any():
            continue
        ends = [_rounded(end, drop) for end in (lo, hi)]
        least, most = min(int(ends[0].min()), 0), max(int(ends[1].max()), 0)
        if input_storage(least, most, 0, width) is not None:
            return frac
    return None


def _rounded(values: IntArray, drop: IntArray) -> IntArray:
    """values / 2**drop, half away from zero; a negative drop shifts left."""
    up, down = np.maximum(-drop, 0), np.maximum(drop, 0)
    shifted = values << up
    half = np.where(down > 0, np.int64(1) << np.maximum(down - 1, 0), 0)
    signs: IntArray = np.where(shifted < 0, np.int64(-1), np.int64(1))
    return signs * ((np.abs(shifted) + half) >> down)
