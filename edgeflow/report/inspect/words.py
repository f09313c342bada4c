"""Types, labels and ranges of tensors in words."""

from __future__ import annotations

import numpy as np

from edgeflow.ir.graph import Input, Node, State
from edgeflow.ir.types import Affine, Label, Shape, TensorType
from edgeflow.semantics.labels import to_reals

Tensor = Input | State | Node


def shape_words(shape: Shape) -> str:
    """`8x8x32`; `one value` for a tensor without axes."""
    return "x".join(str(axis) for axis in shape) or "one value"


def type_words(kind: TensorType) -> str:
    """`int8 [-128, 127]`, `uint5 [0, 31]`: the narrowest integer and the interval."""
    return f"{'int' if kind.signed else 'uint'}{kind.bits} {interval_words(kind.lo, kind.hi)}"


def interval_words(lo: int, hi: int) -> str:
    """`[-6834, 5978]`."""
    return f"[{lo}, {hi}]"


def label_words(label: Label) -> str:
    """What one step of a tensor means: `one step = 2^-7`."""
    if isinstance(label, Affine):
        return f"one step = {label.scale:.6g}, zero at {label.zero_point}"
    fracs = {label.frac} if isinstance(label.frac, int) else set(label.frac)
    finest = f"one step = {power_words(-max(fracs))}"
    return finest if len(fracs) == 1 else f"{finest} to {power_words(-min(fracs))}, by channel"


def power_words(exponent: int) -> str:
    """`2^-7`; `1` for 2^0."""
    return f"2^{exponent}" if exponent else "1"


def real_range(tensor: Tensor) -> tuple[float, float]:
    """The least and the largest real value that a tensor's interval stands for, over all channels."""
    kind = tensor.type
    width = (1,) * (len(kind.shape) - 1) + (kind.shape[-1],) if kind.shape else ()
    ends = [to_reals(np.full(width, end, dtype=np.int64), tensor.label) for end in (kind.lo, kind.hi)]
    return float(ends[0].min()), float(ends[1].max())


def number(value: float) -> str:
    """A real number with up to six significant digits: `0.0078125`, `-30.12`, `0`."""
    return f"{value:.6g}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 weight`, `3 weights`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
