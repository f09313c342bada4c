"""Requant: the one way a linear op's result loses bits."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape, frozen_array
from edgeflow.ops.linear import INT64_SAFE

LARGEST_SHIFT = 61


class Rounding(enum.Enum):
    """What a right shift does with the bits that it drops."""

    FLOOR = "floor"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    HALF_AWAY = "half_away"


@dataclass(frozen=True, eq=False)
class Stage:
    """A right shift by `shift` (0 to 61, broadcasts against the tensor) with a named rounding."""

    shift: IntArray
    rounding: Rounding


@dataclass(frozen=True, eq=False)
class Requant:
    """y = clamp(stages((x << pre) * multiplier + bias) + offset, lo, hi).

    One or two stages, each a right shift with its rounding. All arrays broadcast against the tensor: one
    element for the whole tensor, one a channel, or one a position. `pre` and the shifts are 0 to 61.
    The bias holds what lies between two steps: a batch normalization's shift, say.
    """

    pre: IntArray
    multiplier: IntArray
    stages: tuple[Stage, ...]
    offset: IntArray
    lo: IntArray
    hi: IntArray
    bias: IntArray = field(default_factory=lambda: frozen_array(0))

    def arrays(self) -> tuple[IntArray, ...]:
        """Every parameter."""
        return (
            self.pre,
            self.multiplier,
            self.bias,
            self.offset,
            self.lo,
            self.hi,
            *(stage.shift for stage in self.stages),
        )

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape stays; every parameter must broadcast against it."""
        (source,) = inputs
        if len(self.stages) not in (1, 2):
            raise InvalidGraph(f"{len(self.stages)} rounding stages, not one or two")
        for array in self.arrays():
            if not _broadcasts(array.shape, source):
                raise InvalidGraph(f"a parameter of shape {array.shape} does not broadcast against {source}")
        for array in (self.pre, *(stage.shift for stage in self.stages)):
            if array.min() < 0 or array.max() > LARGEST_SHIFT:
                raise InvalidGraph(f"a shift lies outside 0 to {LARGEST_SHIFT}")
        for name, array in (("offset", self.offset), ("bias", self.bias)):
            if max(abs(int(array.min())), abs(int(array.max()))) >= INT64_SAFE:
                raise InvalidGraph(f"the {name} could leave 62 bits")
        if (self.lo > self.hi).any():
            raise InvalidGraph("the clamp's lower end lies above its upper end")
        return source

    def products(self, source: Bounds) -> Bounds:
        """Bounds of (x << pre) * multiplier + bias. Raises InvalidGraph beyond 62 bits."""
        factor = np.ldexp(1.0, self.pre.astype(np.int32)) * np.abs(self.multiplier.astype(np.float64))
        reach = np.maximum(np.abs(source.lo.astype(np.float64)), np.abs(source.hi.astype(np.float64)))
        largest = reach * factor + np.abs(self.bias.astype(np.float64))
        if factor.max() >= INT64_SAFE or largest.max() >= INT64_SAFE:
            raise InvalidGraph("the product before the shift could leave 62 bits")
        scale = self.multiplier << self.pre
        ends = source.lo * scale + self.bias, source.hi * scale + self.bias
        return Bounds(np.minimum(*ends), np.maximum(*ends))

    def finish(self, product: IntArray) -> IntArray:
        """Stages, offset and clamp on the product (bias included)."""
        for stage in self.stages:
            product = round_shift(product, stage.shift, stage.rounding)
        return np.clip(product + self.offset, self.lo, self.hi)

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """Every step is monotone, so the ends of the interval give the ends of the result."""
        product = self.products(inputs[0])
        rank = len(shapes[0])
        lo, hi = self.finish(product.lo), self.finish(product.hi)
        return Bounds(lo.reshape((1,) * (rank - lo.ndim) + lo.shape), hi.reshape((1,) * (rank - hi.ndim) + hi.shape))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """Element-wise."""
        return self.finish(inputs[0] * (self.multiplier << self.pre) + self.bias)


def _broadcasts(shape: Shape, target: Shape) -> bool:
    """Whether an array of `shape` broadcasts against one of `target` and leaves its shape."""
    ends = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(one in (1, axis) for one, axis in ends)


def round_shift(x: IntArray, shift: IntArray, rounding: Rounding) -> IntArray:
    """x / 2**shift rounded to an integer as named; `shift` >= 0 broadcasts against x."""
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    match rounding:
        case Rounding.FLOOR:
            return x >> shift
        case Rounding.HALF_UP:
            return (x + half) >> shift
        case Rounding.HALF_EVEN:
            odd = (x >> shift) & 1
            return (x + np.where(shift > 0, half - 1 + odd, 0)) >> shift
        case Rounding.HALF_AWAY:
            return (x + np.where(shift > 0, half - (x < 0), 0)) >> shift
