"""quantized_relu in all its forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.fields import Fields, shown
from edgeflow.frontends.qkeras.quantizers.config import (
    MOST_BITS,
    MOST_INTEGER,
    fails_in_qkeras,
    is_po2,
    reject_noise,
)
from edgeflow.frontends.qkeras.quantizers.float32 import hard_sigmoid, kept
from edgeflow.frontends.qkeras.quantizers.steps import (
    MOST_PIECES,
    BoolArray,
    Curve,
    Outline,
    Steps,
    curve,
    too_many_pieces,
    two_to,
    values32,
)
from edgeflow.ir.types import IntArray

_HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class _Relu:
    """x * 2**frac, rounded within [0, levels - 1], plus slope * x * 2**frac, rounded within [-slope * levels, 0].

    With `sigmoid`, twice the rounded half scale levels * (x / 2**integer / 2 + 1/2) stands for each, minus its own
    middle. `most` is the largest value, in float32; `clipped` says whether the straight-through form sees x or the
    clipped x. Codes count units of 2**-unit, finer than 2**-frac when slope * levels is a fraction.
    """

    integer: int
    levels: int
    frac: int
    slope: Fraction
    sigmoid: bool
    most: int | None
    clipped: bool

    @property
    def unit(self) -> int:
        return self.frac + self.extra

    @property
    def extra(self) -> int:
        return max((self.slope * self.levels).denominator.bit_length() - 1, 0)

    def exact(self, x: Fraction) -> int:
        if self.sigmoid:
            rising = min(max(x / two_to(self.integer) / 2 + _HALF, Fraction(0)), Fraction(1)) * self.levels
            above, below = 2 * round(rising) - self.levels, 2 * round(rising * self.slope) - self.slope * self.levels
        else:
            steps = x * two_to(self.frac)
            above, below = round(steps), round(steps * self.slope)
        code = Fraction(min(max(above, 0), self.levels - 1))
        if self.slope:
            code += min(max(Fraction(below), -self.slope * self.levels), Fraction(0))
        code = code if self.most is None else min(code, Fraction(self.most))
        return int(code * (1 << self.extra))

    def terms(self, x: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Both terms in steps, in QKeras' float32."""
        slope, reach = np.float32(float(self.slope)), np.float32(float(self.slope * self.levels))
        with np.errstate(over="ignore"):
            steps = np.ldexp(x, self.frac)
        above, below = np.rint(steps), np.rint(steps * slope)
        if self.sigmoid:
            levels = np.float32(self.levels)
            rising = hard_sigmoid(np.ldexp(x, -self.integer)) * levels
            above, below = 2 * np.rint(rising) - levels, 2 * np.rint(rising * slope) - reach
        return np.clip(above, 0, self.levels - 1), np.clip(below, -reach, 0)

    def float32(self, x: Float32Array) -> IntArray:
        """The function in QKeras' float32."""
        above, below = self.terms(x)
        codes = above + below if self.slope else above
        codes = codes if self.most is None else np.minimum(codes, self.most)
        return np.ldexp(codes, self.extra).astype(np.int64)

    def through(self, x: Float32Array) -> Float32Array:
        """What the straight-through form adds the quantized value to."""
        leaky = np.where(x < 0, x * np.float32(float(self.slope)), x)
        if not self.clipped:
            return leaky
        top = self.levels - 1 if self.most is None else self.most
        return np.minimum(leaky, np.ldexp(np.float32(top), -self.frac))

    def held(self, x: Float32Array) -> BoolArray:
        """Where x + (quantized - x) is `quantized`, in whatever order a compiled graph adds the two terms to -x."""
        through, wanted = self.through(x), values32(self.float32(x), self.unit)
        found = kept(through, wanted)
        if self.slope and self.most is None:
            above, below = (np.ldexp(term, -self.frac) for term in self.terms(x))
            for first, second in ((above, below), (below, above)):
                found &= through + ((first - through) + second) == wanted
        return found

    def points(self) -> Iterator[Fraction]:
        """Where a rounding of either term passes a tie."""
        steps = two_to(self.frac)
        ends = (self.slope * self.levels, Fraction(self.levels))
        if self.sigmoid:
            for slope, end in zip((self.slope, Fraction(1)), ends, strict=True):
                for code in range(1, math.ceil(end) + 1) if slope else ():
                    yield two_to(self.integer) * (2 * (code - _HALF) / (self.levels * slope) - 1)
            return
        for code in range(1, self.levels):
            yield (code - _HALF) / steps
        for code in range(1, math.ceil(ends[0]) + 1):
            yield -(code - _HALF) / steps / self.slope


def relu_activation(fields: Fields) -> Steps | Curve:
    """quantized_relu. Raises Unsupported for slopes that are no power of two and bounds between two steps."""
    reject_noise(fields)
    relu = _read(fields)
    if not relu.sigmoid and relu.slope == 0:
        top = relu.levels - 1 if relu.most is None else relu.most
        return Steps(relu.frac, 0, top, relu.frac, straight_through=not relu.clipped)
    pieces = relu.levels + math.ceil(relu.slope * relu.levels)
    if pieces > MOST_PIECES:
        raise too_many_pieces("quantized_relu", pieces, fields.where)
    points = [Fraction(0), *relu.points()]
    return curve(
        Outline("quantized_relu", points, relu.exact, relu.unit),
        fields.where,
        straight_through=relu.slope != 0 or not relu.clipped,
        float32=relu.float32,
        held=relu.held,
    )


def _read(fields: Fields) -> _Relu:
    bits = fields.integer("bits", 1, MOST_BITS, 8)
    integer = fields.integer("integer", -MOST_INTEGER, MOST_INTEGER, 0)
    slope = fields.number("negative_slope", 0.0)
    if slope != 0 and not (2.0**-32 <= slope <= 2.0**8 and is_po2(slope)):
        raise Unsupported(
            f"negative_slope {slope:g} is not a power of two from 2^-32 to 2^8",
            where=fields.where,
            fix="use a power of two, such as 0.25",
        )
    if integer < 0:
        raise fails_in_qkeras(
            f"quantized_relu with {integer} integer bits",
            fields,
            f"use quantized_bits({bits}, {integer}, keep_negative=False, alpha=1)",
        )
    unsigned = bits - (slope != 0)
    most, clipped = _read_bound(fields, unsigned - integer, (1 << unsigned) - 1)
    return _Relu(
        integer, 1 << unsigned, unsigned - integer, Fraction(slope), fields.flag("use_sigmoid", False), most, clipped
    )


def _read_bound(fields: Fields, frac: int, top: int) -> tuple[int | None, bool]:
    """relu_upper_bound in steps, and whether QKeras clips x to the largest code before all else.

    is_quantized_clip=True (its default, and not saved) makes relu_upper_bound void.
    """
    clip = fields.raw("is_quantized_clip")
    if (clip is None or fields.flag("is_quantized_clip")) or fields.raw("relu_upper_bound") is None:
        return None, clip is None or fields.flag("is_quantized_clip")
    bound = Fraction(float(np.float32(fields.number("relu_upper_bound")))) * two_to(frac)
    if bound > top:
        return None, False
    if bound <= 0 or bound.denominator != 1:
        raise Unsupported(
            f"relu_upper_bound {shown(fields.raw('relu_upper_bound'))} is not a positive multiple of 2^{-frac}, "
            "the quantizer's step",
            where=fields.where,
            fix="choose such a multiple, or leave relu_upper_bound out",
        )
    return int(bound), True
