"""What hls4ml is told: a list of layers as plain data, integers with the power of two that each one counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from edgeflow.backends.hls4ml.formats import Format
from edgeflow.ir.types import IntArray, Shape

FLOAT32_EXACT = 1 << 24
Field: TypeAlias = "int | str | bool | list[int] | None"


@dataclass(frozen=True, eq=False)
class Scaled:
    """Real numbers that are integers times a power of two: `integers * 2**-exponent` (they broadcast)."""

    integers: IntArray
    exponent: IntArray


@dataclass(frozen=True)
class Quantizer:
    """A FixedPointQuantizer: `format` with its unit at 2**-unit, and hls4ml's name of the rounding."""

    format: Format
    unit: int
    rounding: str


@dataclass(frozen=True, eq=False)
class HlsLayer:
    """One layer of hls4ml. `kind` is its class there, `source` the graph's layer that it belongs to.

    `bits` is the width of each element of its result, before any rounding that joins it.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: Shape
    source: str
    bits: int
    fields: Mapping[str, Field] = field(default_factory=dict[str, Field])
    arrays: Mapping[str, Scaled] = field(default_factory=dict[str, Scaled])
    quantizer: Quantizer | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))
        object.__setattr__(self, "arrays", MappingProxyType(dict(self.arrays)))


@dataclass(frozen=True, eq=False)
class Port:
    """A graph input or output: the hls4ml layer that holds it and its elements' unit (one or one a channel)."""

    name: str
    layer: str
    shape: Shape
    unit: IntArray

    def units(self) -> IntArray:
        """The exponent of every element, flat: real value = integer * 2**-unit."""
        return np.broadcast_to(self.unit, self.shape).reshape(-1)
