"""What a tensor is: a shape, an interval of integers, and a label that says what one unit means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.int64]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """A block of integers, channels last, no batch axis. Every element lies in the closed interval [lo, hi]."""

    shape: Shape
    lo: int
    hi: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def signed(self) -> bool:
        """Whether the interval reaches below zero."""
        return self.lo < 0

    @property
    def bits(self) -> int:
        """Bits of the narrowest two's complement (or unsigned) integer that holds the interval, at least 1."""
        return interval_bits(self.lo, self.hi)

    def __str__(self) -> str:
        shape = "x".join(str(axis) for axis in self.shape)
        return f"{'i' if self.signed else 'u'}{self.bits}[{self.lo}, {self.hi}] {shape}"


def interval_bits(lo: int, hi: int) -> int:
    """Bits that hold every integer in [lo, hi], sign included when lo < 0."""
    if lo < 0:
        return max((-lo - 1).bit_length(), hi.bit_length() if hi > 0 else 0) + 1
    return max(hi.bit_length(), 1)


@dataclass(frozen=True, slots=True)
class Dyadic:
    """One unit means 2**-frac. A tuple gives one frac a channel (the last axis)."""

    frac: int | tuple[int, ...]

    def __str__(self) -> str:
        if isinstance(self.frac, int):
            return f"2^{-self.frac}"
        return f"2^{-min(self.frac)}..2^{-max(self.frac)} per channel"


@dataclass(frozen=True, slots=True)
class Affine:
    """real = scale * (unit - zero_point): the label of models that came from TFLite."""

    scale: float
    zero_point: int

    def __str__(self) -> str:
        return f"{self.scale:.9g} (q - {self.zero_point})"


Label: TypeAlias = Dyadic | Affine


def frozen_array(values: npt.ArrayLike) -> IntArray:
    """A read-only int64 copy. Raises TypeError for values that are not integers."""
    array = np.asarray(values)
    if array.dtype.kind not in "iub":
        raise TypeError(f"an integer array is needed, not {array.dtype}")
    copy = np.array(array, dtype=np.int64, order="C")
    copy.flags.writeable = False
    return copy
