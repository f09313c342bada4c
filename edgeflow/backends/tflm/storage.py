"""How a tensor's integers become bytes: which integer means zero, and what is added to store it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.arithmetic import only_value, scale_of
from edgeflow.backends.tflm.model import Activation
from edgeflow.backends.tflm.widths import INT8, Width
from edgeflow.ir.types import Affine, Label
from edgeflow.ops.requant import Requant


@dataclass(frozen=True, slots=True)
class Storage:
    """stored = value + shift. `zero` is the value that TFLite takes as 0: pads hold it, kernels subtract it."""

    zero: int
    shift: int
    width: Width = INT8

    @property
    def zero_point(self) -> int:
        """The stored integer that means 0, as the file says it."""
        return self.zero + self.shift

    @property
    def lowest(self) -> int:
        """The smallest value that is stored."""
        return self.width.lo - self.shift

    @property
    def highest(self) -> int:
        """The largest value that is stored."""
        return self.width.hi - self.shift

    def holds(self, lo: int, hi: int) -> bool:
        """Whether it holds [lo, hi] and the zero point. int16 has no zero point but 0."""
        inside = self.lowest <= lo and hi <= self.highest and self.width.lo <= self.zero_point <= self.width.hi
        return inside and (self.width.narrow or self.zero_point == 0)


def zero_of(label: Label) -> int:
    """The integer that means the real 0."""
    return label.zero_point if isinstance(label, Affine) else 0


def _storages(zero: int, width: Width, *ends: tuple[int, int]) -> Iterator[Storage]:
    """Those that put one end of an interval on an end of the type; int16 has but one, without a zero point."""
    for shift in [shift for lo, hi in ends for shift in (width.hi - hi, width.lo - lo)] if width.narrow else [-zero]:
        yield Storage(zero, shift, width)


def input_storage(lo: int, hi: int, zero: int, width: Width) -> Storage | None:
    """How a tensor in [lo, hi] is stored: the values themselves where they fit, else shifted; None if nothing fits."""
    storages = (Storage(zero, 0, width), *_storages(zero, width, (lo, hi)))
    return next((one for one in storages if one.holds(lo, hi)), None)


def fused_clamps(storage: Storage, scale: float) -> dict[Activation, tuple[int, int]]:
    """What a kernel's activations clamp its result to (CalculateActivationRangeQuantized in kernel_util.cc)."""
    lo, hi, zero = storage.lowest, storage.highest, storage.zero
    six, one = (math.floor(float(np.float32(real) / np.float32(scale)) + 0.5) for real in (6.0, 1.0))
    return {
        Activation.NONE: (lo, hi),
        Activation.RELU: (max(lo, zero), hi),
        Activation.RELU6: (max(lo, zero), min(hi, zero + six)),
        Activation.RELU_N1_TO_1: (max(lo, zero - one), min(hi, zero + one)),
    }


def stored_result(requant: Requant, label: Label, width: Width) -> tuple[Storage, Activation] | None:
    """The storage and the activation that the clamp of a kernel's Requant stands for; None if none."""
    lo, hi, scale, zero = only_value(requant.lo), only_value(requant.hi), scale_of(label), zero_of(label)
    if lo is None or hi is None or scale is None:
        return None
    plain = Storage(zero, 0 if width.narrow else -zero, width)
    for storage in (plain, Storage(zero, width.hi - hi, width)):
        for activation, clamp in fused_clamps(storage, scale).items():
            if clamp == (lo, hi) and storage.holds(zero, zero) and (activation in _MOVABLE or storage is plain):
                return storage, activation
    return None


_MOVABLE = (Activation.NONE, Activation.RELU)
"""Activations that go with bytes shifted so that saturation is the upper clamp."""


@dataclass(frozen=True, slots=True)
class Clamp:
    """A kernel's clamp in values: what saturation and a fused activation do. `rest` asks for a clamp behind it."""

    lo: int
    hi: int
    rest: bool


def kernel_clamp(
    wanted: tuple[int, int], reach: tuple[int, int], label: Label, width: Width, *, fused: bool
) -> Clamp | None:
    """A clamp that TFLite's kernels have and that equals `wanted` on every value within `reach`.

    Saturation clamps to the type's values, which int8's zero point moves; activations are there if `fused`. Where
    neither can be left to them, `rest` is set. None when the values need more steps than the type has.
    """
    lo, hi = wanted
    zero, scale = zero_of(label), scale_of(label)
    if scale is None:
        return None
    least, most = min(max(reach[0], lo), hi), max(min(reach[1], hi), lo)
    plain = Storage(zero, 0 if width.narrow else -zero, width)
    for storage in (plain, *_storages(zero, width, (lo, hi), (least, most))):
        if not storage.holds(least, most):
            continue
        for activation, (a, b) in fused_clamps(storage, scale).items():
            there = activation is Activation.NONE or (fused and (activation in _MOVABLE or storage == plain))
            lower = a == lo or (reach[0] >= lo and reach[0] >= a)
            if there and lower and (b == hi or (reach[1] <= hi and reach[1] <= b)):
                return Clamp(a, b, rest=False)
    for storage in _storages(zero, width, (least, most)):
        if storage.holds(least, most):
            floor = max(storage.lowest, zero) if fused and lo == zero else storage.lowest
            return Clamp(floor, storage.highest, rest=True)
    return None
