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
    CYCLES = "cycles"
    COUNT = "count"


@dataclass(frozen=True)
class Resource:
    """One figure of a deployment: `flash`, `ram`, `latency`, `instructions`, `stack` ..."""

    name: str
    value: float
    unit: Unit
    source: Source
    layer: str | None = None


@dataclass(frozen=True)
class Held:
    """Bytes of memory that something keeps at one moment: rows of a tensor, an accumulator, working memory."""

    what: str
    size: int


@dataclass(frozen=True)
class Moment:
    """A layer's fullest moment: `used` bytes of the arena, by `held`. What lies over one another counts once in `used`.

    `calls`: how many times the layer runs; more than once where rows are streamed.
    """

    layer: str
    used: int
    calls: int
    held: tuple[Held, ...]


@dataclass(frozen=True)
class Placed:
    """`size` bytes of the arena from `offset` on that hold something from call `born` to call `last`, both included."""

    what: str
    offset: int
    size: int
    born: int
    last: int


@dataclass(frozen=True)
class MemoryMap:
    """RAM over time: an arena of `size` bytes, layer by layer in the order of their first runs.

    `lower_bound`: bytes that no placement of this order of runs can do without. Inputs and outputs are in the arena.
    `calls`: the layer of each call in turn, by which `placed` counts time. Where two lie over one another in a call,
    one is its result and the other an input that nothing reads any more. `stack`: bytes beside the arena, estimated.
    """

    size: int
    lower_bound: int
    moments: tuple[Moment, ...]
    calls: tuple[str, ...] = ()
    placed: tuple[Placed, ...] = ()
    stack: int = 0

    @property
    def peak(self) -> Moment:
        """The fullest moment; the earliest of several."""
        return max(self.moments, key=lambda one: one.used)


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
