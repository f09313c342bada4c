"""Two Requants in a row become one, where that is exact on every value that can come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds, Graph, Node
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import INT64_SAFE
from edgeflow.ops.requant import LARGEST_SHIFT, Requant, Rounding, Stage
from edgeflow.passes.requants import (
    NO_STAGE,
    ZERO,
    clamp_equals,
    compact,
    natural_range,
    reach,
    rounding_stages,
    scale_of,
)
from edgeflow.passes.rewrite import Change, Facts, rewritten

_MOST_ELEMENTS = 1 << 22
_EVEN_STEPS = (Rounding.FLOOR, Rounding.HALF_UP)
"""Roundings that move with their argument: round(p + 2^n) = round(p) + 1, whatever p is."""


@dataclass(frozen=True)
class FoldRequant:
    """A Requant whose only reader is a Requant merges with it.

    Algebra proves most cases: the first one's clamp passes through the second, which is monotone; a first one that
    drops nothing is a factor and a bias; a second one that only adds is an offset; floors nest. Where no algebra
    applies and at most `most_values` values a channel can come, all of them are compared.
    """

    most_values: int = 1 << 16
    name: ClassVar[str] = "fold_requant"

    def apply(self, graph: Graph) -> Graph:
        """Merges wherever it is exact."""
        return rewritten(graph, self._fold)

    def _fold(self, facts: Facts, node: Node) -> Mapping[str, Change] | None:
        first = facts.private_maker(node.inputs[0]) if isinstance(node.op, Requant) else None
        if first is None or not isinstance(node.op, Requant) or not isinstance(first.op, Requant):
            return None
        source = facts.bounds[first.inputs[0]]
        op = self._merged(first.op, node.op, source, node.type.shape)
        return None if op is None else {first.name: first.inputs[0], node.name: replace(node, op=op)}

    def _merged(self, inner: Requant, outer: Requant, source: Bounds, shape: Shape) -> Requant | None:
        between = inner.bounds((source,), (shape,))
        result = outer.bounds((between,), (shape,))
        for rule in _RULES:
            body = rule(inner, outer)
            found = None if body is None else _clamped(body, source, result, outer, shape)
            if found is not None:
                return found
        return self._searched(inner, outer, source, result, shape)

    def _searched(self, inner: Requant, outer: Requant, source: Bounds, result: Bounds, shape: Shape) -> Requant | None:
        """One shift by the sum of both, in whatever rounding proves equal on every value."""
        width = int((source.hi - source.lo).max()) + 1
        arrays = (source.lo, *inner.arrays(), *outer.arrays())
        size = int(np.prod(np.broadcast_shapes(*(array.shape for array in arrays))))
        if width > self.most_values or width * size > _MOST_ELEMENTS:
            return None
        steps = np.arange(width, dtype=np.int64).reshape(-1, *(1,) * source.lo.ndim)
        values = np.minimum(source.lo + steps, source.hi)
        wanted = outer.evaluate((inner.evaluate((values,), ()),), ())
        for rounding in Rounding:
            body = _one_shift(inner, outer, rounding)
            found = None if body is None else _clamped(body, source, result, outer, shape)
            if found is not None and (found.evaluate((values,), ()) == wanted).all():
                return found
        return None


def _exact_first(inner: Requant, outer: Requant) -> Requant | None:
    """The first drops no bits: its factor and bias go through the second's factor."""
    if rounding_stages(inner):
        return None
    bias = _sum(_product(inner.bias + inner.offset, scale_of(outer)), outer.bias)
    multiplier, pre = _product(inner.multiplier, outer.multiplier), inner.pre + outer.pre
    return _requant(pre, multiplier, bias, rounding_stages(outer), outer.offset)


def _exact_second(inner: Requant, outer: Requant) -> Requant | None:
    """The second drops no bits and has no factor: what it adds is an offset of the first."""
    if rounding_stages(outer) or (scale_of(outer) != 1).any():
        return None
    offset = inner.offset + outer.bias + outer.offset
    return _requant(inner.pre, inner.multiplier, inner.bias, rounding_stages(inner), offset)


def _floors(inner: Requant, outer: Requant) -> Requant | None:
    """floor(floor(p / 2^n) + c) / 2^m) = floor((p + c 2^n) / 2^(n+m)); a second half_up adds its half to c."""
    first, second = rounding_stages(inner), rounding_stages(outer)
    if len(first) != 1 or not second or (scale_of(outer) != 1).any() or first[0].rounding is not Rounding.FLOOR:
        return None
    last = second[0]
    if last.rounding not in _EVEN_STEPS or (last.rounding is Rounding.HALF_UP and (last.shift < 1).any()):
        return None
    shift = first[0].shift
    if int((shift + last.shift).max()) > LARGEST_SHIFT:
        return None
    bias = _sum(_product(inner.offset + outer.bias, np.int64(1) << shift), inner.bias)
    stages = (Stage(compact(shift + last.shift), last.rounding), *second[1:])
    return _requant(inner.pre, inner.multiplier, bias, stages, outer.offset)


_RULES: tuple[Callable[[Requant, Requant], Requant | None], ...] = (_exact_first, _exact_second, _floors)


def _one_shift(inner: Requant, outer: Requant, rounding: Rounding) -> Requant | None:
    """A guess that has to be tried: the real value of both, rounded once."""
    first, second = rounding_stages(inner), rounding_stages(outer)
    if len(first) != 1 or len(second) != 1:
        return None
    shift = first[0].shift
    if int((shift + second[0].shift).max()) > LARGEST_SHIFT:
        return None
    between = _sum(_product(inner.offset, scale_of(outer)), outer.bias)
    bias = None if between is None else _product(between, np.int64(1) << shift)
    bias = None if bias is None else _sum(_product(inner.bias, scale_of(outer)), bias)
    multiplier, pre = _product(inner.multiplier, outer.multiplier), inner.pre + outer.pre
    return _requant(pre, multiplier, bias, (Stage(compact(shift + second[0].shift), rounding),), outer.offset)


def _requant(
    pre: IntArray, multiplier: IntArray | None, bias: IntArray | None, stages: tuple[Stage, ...], offset: IntArray
) -> Requant | None:
    """A Requant whose clamp is still to be found."""
    if multiplier is None or bias is None:
        return None
    parts = compact(pre), compact(multiplier), stages or (NO_STAGE,), compact(offset)
    return Requant(*parts, ZERO, ZERO, compact(bias))


def _clamped(body: Requant, source: Bounds, result: Bounds, outer: Requant, shape: Shape) -> Requant | None:
    """The body with the simplest clamp that ends where both Requants together end."""
    try:
        body.shape((shape,))
        ends = reach(body, source)
    except InvalidGraph:
        return None
    whole = natural_range(result)
    natural = np.array([whole[0]]), np.array([whole[1]])
    one = np.array([result.lo.min()]), np.array([result.hi.max()])
    for lo, hi in ((outer.lo, outer.hi), natural, one, (result.lo, result.hi)):
        if clamp_equals(ends, lo, hi, result):
            return replace(body, lo=compact(lo), hi=compact(hi))
    return None


def _product(left: IntArray, right: IntArray) -> IntArray | None:
    """left * right; None where it could leave 62 bits."""
    if _magnitude(left) * _magnitude(right) >= INT64_SAFE:
        return None
    return left * right


def _sum(left: IntArray | None, right: IntArray) -> IntArray | None:
    """left + right; None where a part is missing or the sum could leave 62 bits."""
    if left is None or _magnitude(left) + _magnitude(right) >= INT64_SAFE:
        return None
    return left + right


def _magnitude(array: IntArray) -> int:
    return max(abs(int(array.min())), abs(int(array.max())))
