"""Does it fit? Resources against a board, line by line, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edgeflow.backends.protocol import Backend, Remedy
from edgeflow.board import McuBoard, all_boards
from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph
from edgeflow.resource import Resource, Source, SourceKind, Unit
from edgeflow.units import Bytes, Seconds


@dataclass(frozen=True)
class Limits:
    """Limits tighter than the board's own; None leaves the board's (for latency: no limit)."""

    flash: Bytes | None = None
    ram: Bytes | None = None
    latency: Seconds | None = None


@dataclass(frozen=True)
class BudgetLine:
    """One resource against what there is of it. `available` None means that nothing limits it."""

    name: str
    used: float
    available: float | None
    unit: Unit
    source: Source
    available_source: str | None

    @property
    def percent(self) -> float | None:
        """Used share of what is available."""
        return None if self.available is None else 100.0 * self.used / self.available

    @property
    def fits(self) -> bool:
        """Whether the figure stays within its limit."""
        return self.available is None or self.used <= self.available

    @property
    def certain(self) -> bool:
        """Whether an estimate's error band cannot turn the answer round."""
        if self.available is None or self.source.band is None:
            return True
        low, high = self.used * (1 - self.source.band), self.used * (1 + self.source.band)
        return high <= self.available or low > self.available


@dataclass(frozen=True)
class Verdict:
    """The answer for one board. `costly` and `remedies` are filled when it does not fit."""

    board: McuBoard
    lines: tuple[BudgetLine, ...]
    costly: tuple[Resource, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    larger_board: str | None = None

    @property
    def fits(self) -> bool:
        """Whether every line fits."""
        return all(line.fits for line in self.lines)

    @property
    def certain(self) -> bool:
        """Whether no estimate lies so close to its limit that its error could turn the answer round."""
        return all(line.certain for line in self.lines)


def judge(board: McuBoard, resources: Iterable[Resource], limits: Limits) -> Verdict:
    """Flash, RAM and latency against a board and the user's limits.

    Measured parts (`static RAM`, `stack`) become one RAM line.
    """
    totals = {one.name: one for one in resources if one.layer is None}
    if "RAM" not in totals and "static RAM" in totals:
        totals["RAM"] = _measured_ram(totals)
    lines = [
        _line(totals["flash"], board.flash, _of_region(board, "flash"), limits.flash),
        _line(totals["RAM"], board.ram, _of_region(board, "ram"), limits.ram),
    ]
    if "latency" in totals:
        lines.append(_line(totals["latency"], None, None, limits.latency))
    return Verdict(board, tuple(lines))


def _line(used: Resource, has: float | None, source: str | None, limit: float | None) -> BudgetLine:
    available = has
    if limit is not None and (has is None or limit < has):
        available, source = limit, "your budget"
    return BudgetLine(used.name, used.value, available, used.unit, used.source, source)


def _measured_ram(totals: dict[str, Resource]) -> Resource:
    static, stack = totals["static RAM"], totals.get("stack")
    if stack is None:
        return replace(static, name="RAM")
    source = Source(
        SourceKind.MEASURED,
        f"{static.value:,.0f} B static in the linked image + {stack.value:,.0f} B stack painted under QEMU",
    )
    return Resource("RAM", static.value + stack.value, Unit.BYTES, source)


def _of_region(board: McuBoard, kind: str) -> str | None:
    regions = board.flash_regions if kind == "flash" else board.ram_regions
    source = board.sources.get(regions[0].name)
    return None if source is None else str(source)


def early_verdict(backend: Backend, graph: Graph, board: McuBoard, options: object, limits: Limits) -> Verdict:
    """The verdict from estimates, before anything is built; explained when the answer is no."""
    resources = backend.estimate(graph, board, options)
    return explain(judge(board, resources, limits), backend, graph, options, limits)


def explain(verdict: Verdict, backend: Backend, graph: Graph, options: object, limits: Limits) -> Verdict:
    """Adds, to a verdict that says no, the layers that cost most and what would make it fit."""
    if verdict.fits:
        return verdict
    failing = {line.name for line in verdict.lines if not line.fits}
    resources = backend.estimate(graph, verdict.board, options)
    wanted = {"instructions" if name == "latency" else name for name in failing}
    costly: list[Resource] = []
    for name in sorted(wanted):
        ranked = sorted((one for one in resources if one.layer and one.name == name), key=lambda one: -one.value)
        costly += ranked[:3]
    remedies = tuple(one for one in backend.remedies(graph, verdict.board, options) if one.resource in failing)
    larger = _larger_board(verdict.board, backend, graph, options, limits)
    return replace(verdict, costly=tuple(costly), remedies=remedies, larger_board=larger)


def _larger_board(board: McuBoard, backend: Backend, graph: Graph, options: object, limits: Limits) -> str | None:
    """The smallest known board that fits, by RAM then flash."""
    for other in sorted(all_boards(), key=lambda one: (one.ram, one.flash)):
        if other.name == board.name:
            continue
        try:
            resources = backend.estimate(graph, other, options)
        except EdgeflowError:
            continue
        if judge(other, resources, limits).fits:
            return other.name
    return None
