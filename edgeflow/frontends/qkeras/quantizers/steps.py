"""What an activation quantizer is to the importer: uniform steps, a piecewise constant curve, or a float ReLU."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.quantizers.float32 import hard_tanh, kept
from edgeflow.ir.types import IntArray, frozen_array

BoolArray: TypeAlias = npt.NDArray[np.bool_]
Float32Codes: TypeAlias = Callable[[Float32Array], IntArray]

MOST_PIECES = 1 << 16


@dataclass(frozen=True, slots=True)
class Steps:
    """An activation quantizer: code = clip(rint(x * 2**frac) + offset, lo, hi), worth code * 2**-unit.

    `straight_through`: QKeras computes x + (q - x) in float32, which is q only while no bit falls off.
    `finest`: QKeras' float32 equals this formula only for inputs that are multiples of 2**-finest.
    """

    frac: int
    lo: int
    hi: int
    unit: int
    straight_through: bool
    offset: int = 0
    finest: int | None = None

    def codes_at(self, x: Sequence[Fraction]) -> IntArray:
        """The formula on real numbers."""
        scale = two_to(self.frac)
        return np.array([min(max(round(one * scale) + self.offset, self.lo), self.hi) for one in x], dtype=np.int64)

    def float32(self, x: Float32Array) -> IntArray:
        """QKeras' own codes, also for inputs that are no multiples of 2**-finest."""
        squeezed = x if self.finest is None else hard_tanh(x)
        with np.errstate(over="ignore"):
            steps = np.rint(np.ldexp(squeezed, self.frac))
        return np.clip(steps + np.float32(self.offset), self.lo, self.hi).astype(np.int64)

    def held(self, x: Float32Array) -> BoolArray:
        """Where QKeras' float32 output is exactly the code's value."""
        if not self.straight_through:
            return np.ones(x.shape, dtype=np.bool_)
        return kept(x, values32(self.float32(x), self.unit))


@dataclass(frozen=True, slots=True)
class Break:
    """Where the next piece of a curve begins: at x >= `at` (closed) or at x > `at`."""

    at: Fraction
    closed: bool


def _everywhere(x: Float32Array) -> BoolArray:
    return np.ones(x.shape, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Curve:
    """Any other activation quantizer: a piecewise constant function of one real number.

    `name` is the quantizer's class. `codes[i]`, worth codes[i] * 2**-unit, holds between breaks i - 1 and i;
    `breaks` ascend. A break that is irrational, such as 2**0.5, is a rational number within 2**-120 of it (relative
    to its size): no float32 number lies between the two. `straight_through` is as in Steps.

    `float32` gives QKeras' own codes, rounding where its float32 rounds. `held` says where its float32 output
    is exactly that code's value, wherever in a tensor the number stands. Neither counts for numbers below 2**-100,
    which TensorFlow may take for 0.
    """

    name: str
    breaks: tuple[Break, ...]
    codes: IntArray
    unit: int
    straight_through: bool
    float32: Float32Codes
    held: Callable[[Float32Array], BoolArray] = _everywhere

    def codes_at(self, x: Sequence[Fraction]) -> IntArray:
        """The function on real numbers."""
        keys = [(one.at, not one.closed) for one in self.breaks]
        return self.codes[[bisect_right(keys, (one, False)) for one in x]]


@dataclass(frozen=True, slots=True)
class Relu:
    """A float ReLU, which quantizes nothing: slope * x below 0, x above, at most `most`."""

    most: Fraction | None = None
    slope: Fraction = Fraction(0)


Activation: TypeAlias = Steps | Curve | Relu


@dataclass(frozen=True)
class Outline:
    """What a curve is made from: its exact function and where that may change.

    Between two neighbouring `points` the function is constant; at a point it may have a value of its own.
    """

    name: str
    points: Iterable[Fraction]
    exact: Callable[[Fraction], int]
    unit: int


def curve(
    outline: Outline,
    where: str,
    *,
    straight_through: bool,
    float32: Float32Codes,
    held: Callable[[Float32Array], BoolArray] = _everywhere,
) -> Curve:
    """Evaluates `outline` at and between its points. Raises Unsupported beyond MOST_PIECES of them."""
    points = sorted(set(outline.points))
    if len(points) >= MOST_PIECES:
        raise too_many_pieces(outline.name, len(points), where)
    centres = [points[0] - 1, *((left + right) / 2 for left, right in pairwise(points)), points[-1] + 1]
    codes, breaks = [outline.exact(centres[0])], list[Break]()
    for point, centre in zip(points, centres[1:], strict=True):
        for code, closed in ((outline.exact(point), True), (outline.exact(centre), False)):
            if code != codes[-1]:
                breaks.append(Break(point, closed))
                codes.append(code)
    return Curve(outline.name, tuple(breaks), frozen_array(codes), outline.unit, straight_through, float32, held)


def too_many_pieces(name: str, pieces: int, where: str) -> Unsupported:
    """The error for a curve of more than MOST_PIECES pieces; not raised here."""
    return Unsupported(
        f"this {name} has {pieces} different pieces, above {MOST_PIECES}", where=where, fix="use 16 bits or fewer"
    )


def values32(codes: IntArray, unit: int) -> Float32Array:
    """codes * 2**-unit in float32."""
    return np.ldexp(codes.astype(np.float32), -unit)


def two_to(exponent: int) -> Fraction:
    """2**exponent."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)
