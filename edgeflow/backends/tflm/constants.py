"""A constant of ADD, SUB or MUL, found again: integers and a float32 scale of which a kernel makes what a graph says.

ADD and SUB bring their constant to half of the larger unit, as they do their input. A graph holds what comes out, C a
value. Integers k and a scale are sought with MultiplyByQuantizedMultiplier(k << left, scale / twice) = C for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.arithmetic import Multiplier, quantize_multiplier, sum_input
from edgeflow.backends.tflm.storage import Storage
from edgeflow.backends.tflm.widths import Width
from edgeflow.ir.types import IntArray, frozen_array

_MOST_TRIES = 32
"""Integers for the largest value that are tried to the end."""
_NEIGHBOURS = 8
"""float32 numbers on either side of the middle of those that serve."""
_OFF = 1.0
"""How far a result lies at most from the real product; both roundings of a kernel together."""


@dataclass(frozen=True, eq=False)
class Constant:
    """An operand: `values` less its zero point, as many axes as the result, with the unit `scale`."""

    values: IntArray
    scale: float
    storage: Storage


def stored_constant(values: IntArray, scale: float, width: Width) -> Constant | None:
    """A constant of integers, the real 0 among them 0; None where they span more than the width has."""
    lo, hi = min(int(values.min()), 0), max(int(values.max()), 0)
    zero = 0
    if width.narrow and not width.lo <= lo <= hi <= width.hi:
        least, most = int(values.min()), int(values.max())
        zero = width.lo - least if least < width.lo else width.hi - most
        if not width.lo <= zero <= width.hi or not width.lo <= least + zero <= most + zero <= width.hi:
            return None
    elif not width.lo <= lo <= hi <= width.hi:
        return None
    return Constant(frozen_array(values), scale, Storage(0, zero, width))


def sum_constant(wanted: IntArray, source: float, twice: float, width: Width) -> Constant | None:
    """The constant of an ADD or SUB that becomes `wanted`, beside an input of the scale `source`.

    `twice` is twice the larger of the two scales. None where there is none.
    """
    left = width.sum_left_shift
    if twice > 2.0 * source:
        return _from_integers(wanted, twice / 2.0, left, width)
    return _from_integers(wanted, source, left, width) or _from_values(wanted, twice, width)


def _from_integers(wanted: IntArray, scale: float, left: int, width: Width) -> Constant | None:
    """A constant whose scale is the larger one."""
    values = wanted >> (left - 1)
    return stored_constant(values, scale, width) if (values << (left - 1) == wanted).all() else None


def _from_values(wanted: IntArray, twice: float, width: Width) -> Constant | None:
    """A constant whose scale is less than half of `twice`."""
    each, places = np.unique(wanted, return_inverse=True)
    left = width.sum_left_shift
    for top in _largest(each, left, width):
        most = int(each[np.argmax(np.abs(each))])
        integers = np.rint(each * (top / abs(most))).astype(np.int64)
        for scale in _scales(each, integers, twice, left):
            op = sum_input(quantize_multiplier(scale / twice), 0, left)
            if (op.evaluate((integers,), ()) == each).all():
                found = stored_constant(integers[places].reshape(wanted.shape), scale, width)
                if found is not None:
                    return found
    return None


def _largest(each: IntArray, left: int, width: Width) -> list[int]:
    """What integer the largest value may come from, so that all others come from integers too."""
    most = int(np.abs(each).max())
    tops = np.arange(max(-(-most >> (left - 1)), 1), width.span + 1, dtype=np.int64)
    for one in each:
        ratio = tops * (float(one) / most)
        room = tops * (_OFF * (1.0 + abs(float(one)) / most) / most)
        tops = tops[np.abs(ratio - np.rint(ratio)) <= room]
    return [int(top) for top in tops[:_MOST_TRIES]]


def _scales(each: IntArray, integers: IntArray, twice: float, left: int) -> Iterator[float]:
    """The float32 scales around the middle of those that the real arithmetic allows."""
    known = integers != 0
    size = np.ldexp(np.abs(integers[known]).astype(np.float64), left)
    reach = np.abs(each[known]).astype(np.float64)
    low, high = float(((reach - _OFF) / size).max()) * twice, float(((reach + _OFF) / size).min()) * twice
    above = below = np.float32((low + high) / 2.0)
    yield float(above)
    for _ in range(_NEIGHBOURS):
        above, below = np.nextafter(above, np.float32(np.inf)), np.nextafter(below, np.float32(0.0))
        yield from (float(above), float(below))


def factored(products: IntArray, shift: int, width: Width) -> Iterator[tuple[IntArray, Multiplier]]:
    """The integers and the multiplier of whose products a graph holds all; `shift` is the kernel's right shift."""
    common = int(np.gcd.reduce(np.abs(products).reshape(-1)))
    if common == 0:
        return
    for times in range(1, min(width.span, common >> 30) + 1):
        bits = (common // times).bit_length() - 31
        exact = common % times == 0 and bits >= 0 and (common // times) % (1 << bits) == 0
        if exact and (bits == 0 or shift == 0):
            yield products // (common // times), Multiplier(common // times >> bits, bits - shift)
