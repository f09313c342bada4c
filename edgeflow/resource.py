"""A number with its source, and a finding about a model on a target."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class SourceKind(enum.Enum):
    """Where a number comes from. Every number that a user sees says one of these."""

    MEASURED = "measured"
    VENDOR_REPORT = "vendor report"
    PLACE_AND_ROUTE = "place and route"
    ESTIMATED = "estimated"
    DATASHEET = "datasheet"
    UNVERIFIED = "unverified"


@dataclass(frozen=True)
class Source:
    """How a number came to be. `band` is the relative error of an estimate (0.1 is ±10 %)."""

    kind: SourceKind
    detail: str = ""
    band: float | None = None

    def __str__(self) -> str:
        text = self.kind.value
        if self.band is not None:
            text += f" ±{self.band * 100:.0f} %"
        return f"{text}: {self.detail}" if self.detail else text


class Unit(enum.Enum):
    """What a resource's value counts."""

    BYTES = "B"
    SECONDS = "s"
    HERTZ = "Hz"
    INSTRUCTIONS = "instructions"
    COUNT = "count"


@dataclass(frozen=True)
class Resource:
    """One figure of a deployment: `flash`, `ram`, `latency`, `instructions`, `stack` ..."""

    name: str
    value: float
    unit: Unit
    source: Source
    layer: str | None = None


class Severity(enum.Enum):
    """An ERROR finding means that `emit` would not succeed."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """What a backend cannot or should not do with a graph, at one layer."""

    severity: Severity
    what: str
    layer: str | None = None
    fix: str | None = None
