"""quantized_po2 and quantized_relu_po2: signs and powers of two, for activations and for weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import TypeAlias

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.fields import Fields, shown
from edgeflow.frontends.qkeras.quantizers.config import MOST_BITS, is_po2, reject_noise
from edgeflow.frontends.qkeras.quantizers.float32 import LN2, kept, packet_log, scalar_log
from edgeflow.frontends.qkeras.quantizers.steps import BoolArray, Curve, Outline, curve, two_to
from edgeflow.ir.types import IntArray

MOST_SPREAD = 40
"""The largest difference of two exponents: more would make integers of more than 41 bits."""

_EPSILON = np.float32(1e-7)
_ROOT_BITS = 130
_SQRT_HALF = Fraction(isqrt(1 << (2 * _ROOT_BITS - 1)), 1 << _ROOT_BITS)
_FIRST, _LAST = -26, 130  # float32 magnitudes from _EPSILON on lie between 2**_FIRST and 2**_LAST

Log: TypeAlias = Callable[[Float32Array], Float32Array]
_WAYS: tuple[tuple[Log, bool], ...] = tuple(
    (log, inverse) for log in (packet_log, scalar_log) for inverse in (False, True)
)


@dataclass(frozen=True, slots=True)
class Po2:
    """Both quantizers: from a magnitude to an exponent, and from a number to a sign.

    exponent = clip(round(log2 a), lowest, highest) with a = min(magnitude, most), and `lowest` for a below 1e-7.
    `quadratic`: twice the clipped, rounded log2 of the square root. `floor`: rounds down, else half to even.
    `slope` is None for quantized_po2; quantized_relu_po2 gives 2**lowest below 0, or with a slope
    -2**exponent(slope * magnitude).
    """

    name: str
    lowest: int
    highest: int
    most: np.float32 | None
    quadratic: bool
    floor: bool
    slope: float | None

    def exponent(self, magnitude: Fraction) -> int:
        """The exact function of a magnitude >= 0."""
        if magnitude < Fraction(float(_EPSILON)):
            return self.lowest
        if self.most is not None:
            magnitude = min(magnitude, Fraction(float(self.most)))
        whole = _floor_log2(magnitude)
        if self.quadratic:
            rounded = whole // 2 if self.floor else _round_half_log2(magnitude, whole)
        else:
            rounded = whole if self.floor else whole + (magnitude**2 >= two_to(2 * whole + 1))
        return (1 + self.quadratic) * min(max(rounded, self.lowest), self.highest)

    def exponents(self, magnitudes: Float32Array, log: Log, *, inverse: bool = False) -> IntArray:
        """The same in QKeras' float32, with `log` for its logarithm.

        TensorFlow divides by log 2; a compiled graph (`inverse`) multiplies by its float32 reciprocal.
        """
        chosen = np.maximum(magnitudes, _EPSILON)
        if self.most is not None:
            chosen = np.minimum(chosen, self.most)
        natural = log(np.sqrt(chosen) if self.quadratic else chosen)
        logs = natural * (np.float32(1) / LN2) if inverse else natural / LN2
        rounded = np.floor(logs) if self.floor else np.rint(logs)
        result = (1 + self.quadratic) * np.clip(rounded, self.lowest, self.highest)
        return np.where(magnitudes < _EPSILON, self.lowest, result).astype(np.int64)

    def signed(self, x: Float32Array, log: Log, *, inverse: bool = False) -> tuple[IntArray, IntArray]:
        """(sign, exponent) of each number, as `exponents`."""
        magnitudes = np.abs(x)
        if self.slope is not None:
            magnitudes = np.where(x < 0, magnitudes * np.float32(self.slope), x)
        sign = np.where((x < 0) & (self.slope != 0), -1, 1)
        return sign.astype(np.int64), self.exponents(magnitudes, log, inverse=inverse)

    def sure(self, x: Float32Array) -> BoolArray:
        """Where both of TensorFlow's logarithms (an element's place chooses) and both quotients agree."""
        first, *others = (self.signed(x, log, inverse=inverse)[1] for log, inverse in _WAYS)
        return np.logical_and.reduce([first == other for other in others])

    def through(self, x: Float32Array) -> Float32Array:
        """What the straight-through form adds the quantized value to."""
        if self.slope is None:
            return x
        leaky = np.where(x < 0, x * np.float32(self.slope), x)
        return leaky if self.most is None else np.minimum(leaky, self.most)

    def edges(self) -> Iterator[Fraction]:
        """Magnitudes where the exponent may change; irrational ones within 2**-129 of themselves."""
        yield Fraction(float(_EPSILON))
        if self.most is not None:
            yield Fraction(float(self.most))
        for step in range(max(self.lowest, _FIRST) + 1, min(self.highest, _LAST) + 1):
            if self.quadratic:
                yield two_to(2 * step if self.floor else 2 * step - 1)
            else:
                yield two_to(step) * (1 if self.floor else _SQRT_HALF)

    def ends(self) -> tuple[int, int]:
        """The smallest and the largest exponent that any number gets."""
        top = two_to(128) if self.most is None else Fraction(float(self.most))
        reached = (self.lowest, self.exponent(Fraction(float(_EPSILON))), self.exponent(top))
        return min(reached), max(reached)


def read_po2(fields: Fields) -> Po2:
    """quantized_po2. Stochastic rounding needs no refusal: at inference QKeras rounds as without it."""
    return _read("quantized_po2", fields, sign_bits=1, slope=None)


def read_relu_po2(fields: Fields) -> Po2:
    """quantized_relu_po2."""
    slope = fields.number("negative_slope", 0.0)
    if slope != 0 and not (2.0**-32 <= slope <= 2.0**8 and is_po2(slope)):
        raise Unsupported(
            f"negative_slope {slope:g} is not a power of two from 2^-32 to 2^8",
            where=fields.where,
            fix="use a power of two, such as 0.25",
        )
    return _read("quantized_relu_po2", fields, sign_bits=0, slope=slope)


def _read(name: str, fields: Fields, *, sign_bits: int, slope: float | None) -> Po2:
    reject_noise(fields)
    rounding = fields.text("log2_rounding", "rnd")
    if rounding not in ("rnd", "floor"):
        raise fields.wrong("log2_rounding", "'rnd' or 'floor'")
    most = None if fields.raw("max_value") is None else np.float32(fields.number("max_value"))
    if most is not None and not 2.0**-32 <= most <= 2.0**32:
        raise Unsupported(
            f"max_value {shown(fields.raw('max_value'))} is not a number from 2^-32 to 2^32",
            where=fields.where,
            fix="use max_value=1, or leave it out",
        )
    bits = fields.integer("bits", 1, MOST_BITS, 8)
    exponent_bits = bits - sign_bits - (most is None or fields.number("max_value") > 1)
    if exponent_bits < 0:
        raise Unsupported(
            f"{name}({bits}) has no bit for its exponent", where=fields.where, fix="use 2 bits or more, or max_value=1"
        )
    quadratic = fields.flag("quadratic_approximation", False)
    highest = (1 << exponent_bits) - 1
    return Po2(
        name=name,
        lowest=-(1 << exponent_bits),
        highest=2 * (highest // 2) if quadratic else highest,
        most=most,
        quadratic=quadratic,
        floor=rounding == "floor",
        slope=slope,
    )


def po2_activation(fields: Fields) -> Curve:
    """quantized_po2 as an activation; 0 counts as positive and gives 2**lowest."""
    return _activation(read_po2(fields), fields.where)


def relu_po2_activation(fields: Fields) -> Curve:
    """quantized_relu_po2 as an activation."""
    return _activation(read_relu_po2(fields), fields.where)


def _activation(po2: Po2, where: str) -> Curve:
    low, high = po2.ends()
    if high - low > MOST_SPREAD:
        raise spread_too_wide(po2.name, low, high, where)

    def exact(x: Fraction) -> int:
        slope = Fraction(1 if po2.slope is None else po2.slope)
        code = 1 << (po2.exponent(abs(x) if x >= 0 else -x * slope) - low)
        return -code if x < 0 and slope else code

    def float32(x: Float32Array) -> IntArray:
        sign, exponent = po2.signed(x, packet_log)
        return sign << (exponent - low)

    def held(x: Float32Array) -> BoolArray:
        sign, exponent = po2.signed(x, packet_log)
        return po2.sure(x) & kept(po2.through(x), np.ldexp(sign.astype(np.float32), exponent))

    points = [Fraction(0)]
    for edge in po2.edges():
        points.append(edge)
        if po2.slope != 0:
            points.append(-edge / Fraction(1 if po2.slope is None else po2.slope))
    return curve(Outline(po2.name, points, exact, -low), where, straight_through=True, float32=float32, held=held)


def spread_too_wide(name: str, low: int, high: int, where: str) -> Unsupported:
    """The error for powers of two that no common unit holds; not raised here."""
    return Unsupported(
        f"the values of this {name} lie between 2^{low} and 2^{high}, and integers for them hold at most "
        f"{MOST_SPREAD} powers of two",
        where=where,
        fix=f"use fewer bits, such as {name}(4)",
    )


def _floor_log2(x: Fraction) -> int:
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    return guess if x >= two_to(guess) else guess - 1


def _round_half_log2(x: Fraction, whole: int) -> int:
    """round(log2(x) / 2), ties (odd powers of two) to even; `whole` is floor(log2 x)."""
    half = whole // 2
    tie = two_to(2 * half + 1)
    return half + (half % 2 if x == tie else x > tie)
