"""How a tensor's integers become int8 bytes: which integer means zero, and what is added to store it."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.backends.tflm.arithmetic import INT8_HI, INT8_LO
from edgeflow.ir.types import Affine, Label


@dataclass(frozen=True, slots=True)
class Storage:
    """byte = value + shift. `zero` is the value that TFLite takes as 0: pads hold it, kernels subtract it."""

    zero: int
    shift: int

    @property
    def zero_point(self) -> int:
        """The byte that means 0, as the file says it."""
        return self.zero + self.shift

    @property
    def lowest(self) -> int:
        """The smallest value that a byte holds."""
        return INT8_LO - self.shift

    @property
    def highest(self) -> int:
        """The largest value that a byte holds."""
        return INT8_HI - self.shift

    def holds(self, lo: int, hi: int) -> bool:
        """Whether bytes hold [lo, hi] and the zero point."""
        return self.lowest <= lo and hi <= self.highest and INT8_LO <= self.zero_point <= INT8_HI


def zero_of(label: Label) -> int:
    """The integer that means the real 0."""
    return label.zero_point if isinstance(label, Affine) else 0


def input_storage(lo: int, hi: int, zero: int) -> Storage | None:
    """Bytes for a tensor in [lo, hi]: the values themselves where they fit, else shifted; None if nothing fits."""
    for shift in (0, INT8_HI - hi, INT8_LO - lo):
        storage = Storage(zero, shift)
        if storage.holds(lo, hi):
            return storage
    return None


@dataclass(frozen=True, slots=True)
class Clamp:
    """A kernel's clamp in values: what its int8 result and fused activation do. `rest` asks for a clamp behind it."""

    lo: int
    hi: int
    rest: bool


def kernel_clamp(wanted: tuple[int, int], reach: tuple[int, int], zero: int, *, relu: bool) -> Clamp | None:
    """A clamp that TFLite's kernels have and that equals `wanted` on every value within `reach`.

    int8 saturation clamps to 256 values that the zero point moves; a fused RELU also clamps below at `zero`.
    Where neither end can be left to them, `rest` is set. None when the values need more than 256 steps.
    """
    lo, hi = wanted
    least, most = min(max(reach[0], lo), hi), max(min(reach[1], hi), lo)
    for shift in (0, INT8_HI - hi, INT8_LO - lo, INT8_HI - most, INT8_LO - least):
        storage = Storage(zero, shift)
        if not storage.holds(least, most):
            continue
        upper = storage.highest == hi or (reach[1] <= hi and reach[1] <= storage.highest)
        for floor in (storage.lowest, max(storage.lowest, zero)) if relu else (storage.lowest,):
            if upper and (floor == lo or (reach[0] >= lo and reach[0] >= floor)):
                return Clamp(floor, storage.highest, rest=False)
    for shift in (INT8_HI - most, INT8_LO - least):
        storage = Storage(zero, shift)
        if storage.holds(least, most):
            return Clamp(storage.lowest, storage.highest, rest=True)
    return None
