"""Sums of two bytes with all that is rescaled before and behind: one product each, one shift, compared for all pairs.

What TFLite's ADD does with three roundings is nearly a plane over its two inputs, rounded once. A plane of integers
that gives the same bytes for every pair is searched near it, and taken if every pair was compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.ctypes import INT32
from edgeflow.backends.c.ctypes import Table as Constants
from edgeflow.backends.c.dsp.forms import INT32_HI
from edgeflow.backends.c.dsp.staircase import line_of
from edgeflow.backends.c.flow import Reuse, Window
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, Shared, requant_of
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.mve.finish import code_bytes
from edgeflow.backends.c.mve.plane import Lanes, source
from edgeflow.backends.c.optimize import Optimize
from edgeflow.ir.graph import Node, Op
from edgeflow.ir.types import IntArray
from edgeflow.ops.add import Add
from edgeflow.ops.requant import Requant

_NEAR = 12
"""Factors so far from the ideal ones, in both directions, are tried."""
_DROPS = (1 << 9, 1 << 11, 1 << 13)
_UNROLL = 4
_ROOM = 1 << 16
"""Least distance of the ideal plane from the ends of 32 bits, for what the search adds."""


@dataclass(frozen=True)
class Plane:
    """y = clamp((start + first * a + second * b) >> shift, lo, hi), in this order, on the way within 32 bits.

    `half_even` takes 1 from a word whose bit `shift` is set before it is shifted: with half of 2**shift in the start
    the quotient rounds half to even. `drop` is taken from a negative word, which is less by `rest` until then: a tie
    below 0 rounds down where one above rounds up.
    """

    first: int
    second: int
    start: int
    shift: int
    lo: int
    hi: int
    half_even: bool = False
    drop: int = 0
    rest: int = 0

    def evaluate(self, a: IntArray, b: IntArray) -> IntArray:
        """Values that broadcast against each other."""
        word = self.start + self.first * a + self.second * b
        word += (word >> 31) * self.drop + self.rest
        if self.half_even:
            word -= (word >> self.shift) & 1
        return np.clip(word >> self.shift, self.lo, self.hi)


@dataclass(frozen=True, eq=False)
class Table:
    """What is wanted: `values[i, j]` for a = a_lo + i and b = b_lo + j, clamped to [lo, hi].

    `ideal`: the slopes in both directions and the start of a real plane, whose floor is nearly that, and how much of
    the start rounds and moves the zero point.
    """

    values: IntArray
    a_lo: int
    b_lo: int
    lo: int
    hi: int
    ideal: tuple[Fraction, Fraction, Fraction]
    beyond: Fraction = Fraction(0)

    @property
    def a(self) -> IntArray:
        """As a column."""
        return np.arange(self.a_lo, self.a_lo + self.values.shape[0], dtype=np.int64)[:, None]

    @property
    def b(self) -> IntArray:
        """As a row."""
        return np.arange(self.b_lo, self.b_lo + self.values.shape[1], dtype=np.int64)[None, :]


@dataclass(frozen=True, eq=False)
class _Bounds:
    """Points (a, b) that bound the start from one side, the closest ones."""

    a: IntArray
    b: IntArray
    ends: IntArray

    def starts(self, firsts: IntArray, seconds: IntArray) -> IntArray:
        """Each point's bound on the start for factors that are larger by so much: (factors, points)."""
        return self.ends - firsts[:, None] * self.a - seconds[:, None] * self.b


def find_plane(table: Table) -> Plane | None:
    """A plane that gives all values of the table; None where none was found."""
    found = (make() for make in (partial(_near, table), partial(_dyadic, table), *_parted(table)))
    return next((one for one in found if one is not None and _fits(one, table) and _equal(one, table)), None)


def _parted(table: Table) -> tuple[Callable[[], Plane | None], ...]:
    """The searches for planes of two parts, where ties may round away from zero."""
    return tuple(partial(_near, table, drop) for drop in _DROPS if table.beyond)


def _equal(plane: Plane, table: Table) -> bool:
    return bool((plane.evaluate(table.a, table.b) == table.values).all())


def _dyadic(table: Table) -> Plane | None:
    """The ideal plane itself where its numbers are whole ones over a power of two; half to even."""
    bits = max(one.denominator for one in table.ideal)
    if bits & (bits - 1) or not 1 < bits <= 1 << 31:
        return None
    first, second, start = (int(one * bits) for one in table.ideal)
    return Plane(first, second, start, bits.bit_length() - 1, table.lo, table.hi, half_even=True)


def _near(table: Table, drop: int = 0) -> Plane | None:
    """The plane whose start may move farthest among those with factors near the ideal ones; None without any.

    With shift k, y = v where v * 2**k <= first * a + second * b + start < (v + 1) * 2**k: for given factors every pair
    bounds the start, and few pairs lie so close to a step that they can decide.
    """
    shift = _shift(table)
    if shift is None:
        return None
    first, second = (round(one * (1 << shift)) for one in table.ideal[:2])
    base = first * table.a + second * table.b
    rest = round(table.beyond * (1 << shift)) if drop else 0
    if drop:
        base = base - drop * (base < rest - round(table.ideal[2] * (1 << shift)))
    above, below = table.values > table.lo, table.values < table.hi
    steps = np.arange(-_NEAR, _NEAR + 1, dtype=np.int64)
    firsts, seconds = np.repeat(steps, len(steps)), np.tile(steps, len(steps))
    least = _closest(table, above, (table.values << shift) - base, 1)
    most = _closest(table, below, ((table.values + 1) << shift) - 1 - base, -1)
    least_starts = least.starts(firsts, seconds).max(axis=1, initial=-INT32_HI)
    most_starts = most.starts(firsts, seconds).min(axis=1, initial=INT32_HI)
    best = int((most_starts - least_starts).argmax())
    start = int(least_starts[best] + most_starts[best]) // 2 - rest
    factors = first + int(firsts[best]), second + int(seconds[best])
    return Plane(*factors, start, shift, table.lo, table.hi, drop=drop, rest=rest)


def _corners(table: Table) -> tuple[tuple[int, int], ...]:
    a, b = table.a.ravel(), table.b.ravel()
    return tuple((int(one), int(other)) for one in (a[0], a[-1]) for other in (b[0], b[-1]))


def _shift(table: Table) -> int | None:
    """The largest shift with which the ideal plane stays within 32 bits, term by term and added up."""
    largest = max(_parts(table, *table.ideal))
    if largest == 0 or largest >= INT32_HI - _ROOM:
        return None
    return min((int((INT32_HI - _ROOM) / largest)).bit_length() - 1, 31)


def _parts(table: Table, first: Fraction | int, second: Fraction | int, start: Fraction | int) -> list[Fraction | int]:
    """The magnitude of all that there is on the way to a plane, at the corners."""
    return [
        abs(one)
        for a, b in _corners(table)
        for one in (first * a, second * b, start, start + first * a, start + first * a + second * b)
    ]


def _closest(table: Table, bounding: npt.NDArray[np.bool_], ends: IntArray, sign: int) -> _Bounds:
    """Of the pairs that bound the start from below (sign 1) or above (-1), those that may decide."""
    a, b = (np.broadcast_to(one, ends.shape)[bounding] for one in (table.a, table.b))
    own = ends[bounding] * sign
    moved = 2 * _NEAR * max(abs(one) + abs(other) for one, other in _corners(table))
    near = own >= own.max(initial=-(1 << 62)) - moved
    return _Bounds(a[near], b[near], sign * own[near])


def _fits(plane: Plane, table: Table) -> bool:
    """Whether nothing on the way leaves 32 bits: it is largest at a corner."""
    least, most = (max(_parts(table, plane.first, plane.second, plane.start + one)) for one in (0, plane.rest))
    return max(least, most) <= INT32_HI - plane.drop


@dataclass(frozen=True, kw_only=True)
class PlaneKernel(Kernel):
    """Values of two operands that are added, `elements` in a row, `unroll` of them at a time.

    Where the core has vectors `function` adds a row, in `work` instructions.
    """

    plane: Plane
    elements: int
    unroll: int
    function: str = ""
    work: int = 0


def make_plane(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> PlaneKernel | None:
    """The kernel of an Add of two tensors of bytes where a plane computes it and what is around it; else None."""
    op = cast(Add, node.op)
    requant = requant_of(step, inputs, y)
    if requant is None or len(op.signs) != 2 or any(one.ctype.size != 1 for one in inputs):
        return None
    table = _table(step, node, requant, context)
    plane = None if table is None else find_plane(table)
    if plane is None:
        return None
    lanes = _lanes(plane, inputs, y) if context.core.has_mve and plane.shift else None
    function = "" if lanes is None else context.named("add_plane", lanes)
    text = "" if lanes is None else source(function, lanes)
    shape = node.type.shape
    height = shape[0] if len(shape) > 1 else 1
    elements = node.type.size // height
    return PlaneKernel(
        name=name,
        layer=node.layer,
        what="add, requantize",
        template="Plane",
        inputs=inputs,
        y=y,
        own_tables=(Constants(f"{name}_plane", INT32, np.array([plane.start, plane.first, plane.second])),),
        by_rows=RowForm((Window(1),) * 2, reuse=Reuse.SAME_ROWS) if height > 1 else None,
        shared=(Shared(function, text, code_bytes(text)),) if function else (),
        plane=plane,
        elements=elements,
        unroll=1 if context.optimize is Optimize.SIZE else min(_UNROLL, elements),
        function=function,
        work=0 if lanes is None else height * lanes.work(elements),
    )


def _lanes(plane: Plane, inputs: tuple[Buffer, ...], y: Buffer) -> Lanes:
    a, b = (one.ctype for one in inputs)
    return Lanes(a, b, y.ctype, plane.shift, plane.lo, plane.hi, plane.half_even, plane.drop, plane.rest)


def _table(step: Step, node: Node, requant: Requant, context: Context) -> Table | None:
    """All results; None where a parameter is not the whole tensor's."""
    before = {one.name: one.op for one in step.before}
    parts = [before.get(one) for one in node.inputs]
    if not all(_uniform(one) for one in (*parts, requant) if one is not None):
        return None
    spans = [_span(context, name) for name in step.reads]
    signs = cast(Add, node.op).signs
    terms = [
        sign * (span if part is None else part.evaluate((span,), ()).reshape(-1))
        for sign, span, part in zip(signs, spans, parts, strict=True)
    ]
    sums = terms[0][:, None] + terms[1][None, :]
    values = requant.evaluate((sums,), ()).reshape(sums.shape)
    lines = [(Fraction(1), Fraction(0)) if part is None else _line(cast(Requant, part)) for part in parts]
    slope, start = _line(requant)
    beyond = start - Fraction(int(requant.bias.flat[0]), 1 << line_of(requant)[2])
    starts = sum(sign * line[1] for sign, line in zip(signs, lines, strict=True))
    first, second = (sign * line[0] * slope for sign, line in zip(signs, lines, strict=True))
    lo, hi = (int(one.flat[0]) for one in (requant.lo, requant.hi))
    return Table(values, int(spans[0][0]), int(spans[1][0]), lo, hi, (first, second, starts * slope + start), beyond)


def _uniform(op: Op) -> bool:
    return isinstance(op, Requant) and all(one.size == 1 for one in op.arrays())


def _span(context: Context, name: str) -> IntArray:
    """Every value that a tensor may have."""
    bounds = context.bounds[name]
    return np.arange(int(bounds.lo.min()), int(bounds.hi.max()) + 1, dtype=np.int64)


def _line(requant: Requant) -> tuple[Fraction, Fraction]:
    """Slope and start of the line whose floor is nearly what the Requant computes."""
    slope, start, bits = line_of(requant)
    return Fraction(slope, 1 << bits), Fraction(start, 1 << bits)
