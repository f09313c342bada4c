"""Does it fit? Resources against a board, line by line, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edgeflow.backends.protocol import Backend, Remedy
from edgeflow.board import Board, FpgaBoard, McuBoard, all_boards
from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph
from edgeflow.resource import MemoryMap, Resource, Source, SourceKind, Unit
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
    """The answer for one board. `costly` and `remedies` are filled when it does not fit.

    `memory` is RAM over time, where the backend plans it; `parts` the layers' own figures behind a measured verdict.
    """

    board: Board
    lines: tuple[BudgetLine, ...]
    costly: tuple[Resource, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    larger_board: str | None = None
    memory: MemoryMap | None = None
    parts: tuple[Resource, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every line fits."""
        return all(line.fits for line in self.lines)

    @property
    def certain(self) -> bool:
        """Whether no estimate lies so close to its limit that its error could turn the answer round."""
        return all(line.certain for line in self.lines)

    @property
    def hopeless(self) -> bool:
        """Whether the board lacks memory for it beyond any error of an estimate: building it would be in vain."""
        return any(not line.fits and line.certain for line in self.lines if line.unit is Unit.BYTES)


def judge(board: Board, resources: Iterable[Resource], limits: Limits) -> Verdict:
    """What a board has, and latency, against a model's resources and the user's limits.

    Measured parts (`static RAM`, `stack`, `stack reserve`) become one RAM line.
    """
    totals = {one.name: one for one in resources if one.layer is None}
    if "RAM" not in totals and "static RAM" in totals:
        totals["RAM"] = _measured_ram(totals)
    limited = {"flash": limits.flash, "RAM": limits.ram}
    lines = [
        _line(totals[one.name], one.amount, one.source, limited.get(one.name))
        for one in capacities(board)
        if one.name in totals
    ]
    if "latency" in totals:
        lines.append(_line(totals["latency"], None, None, limits.latency))
    if "initiation interval" in totals:
        lines.append(_line(totals["initiation interval"], None, None, None))
    return Verdict(board, tuple(lines))


@dataclass(frozen=True)
class Capacity:
    """What a board has of one resource, and who says so."""

    name: str
    amount: float
    source: str | None


def capacities(board: Board) -> tuple[Capacity, ...]:
    """Everything on a board that a model uses up, in the order in which a verdict lists it."""
    if isinstance(board, McuBoard):
        flash, ram = board.flash_regions[0], board.ram_regions[0]  # what the linker script uses
        return (
            Capacity("flash", flash.size, _said(board, flash.name)),
            Capacity("RAM", ram.size, _said(board, ram.name)),
        )
    if isinstance(board, FpgaBoard):
        return (
            Capacity("LUT", board.luts, _said(board, "luts")),
            Capacity("FF", board.ffs, _said(board, "ffs")),
            Capacity("DSP", board.dsps, _said(board, "dsps")),
            Capacity("BRAM", board.brams, _said(board, "brams")),
        )
    return ()


def _said(board: Board, figure: str) -> str | None:
    source = board.sources.get(figure)
    return None if source is None else str(source)


def _line(used: Resource, has: float | None, source: str | None, limit: float | None) -> BudgetLine:
    available = has
    if limit is not None and (has is None or limit < has):
        available, source = limit, "your budget"
    return BudgetLine(used.name, used.value, available, used.unit, used.source, source)


def _measured_ram(totals: dict[str, Resource]) -> Resource:
    """Static data and the stack: what is reserved for it, or what it was seen to use where that is more."""
    static = totals["static RAM"]
    stack = max((totals[name].value for name in ("stack", "stack reserve") if name in totals), default=0)
    told = f"{static.value:,.0f} B static in the linked image + {stack:,.0f} B stack"
    if "stack" in totals:
        told += f" ({totals['stack'].value:,.0f} B of it used, painted under QEMU)"
    return Resource("RAM", static.value + stack, Unit.BYTES, Source(SourceKind.MEASURED, told))


def early_verdict(backend: Backend, graph: Graph, board: Board, options: object, limits: Limits) -> Verdict:
    """The verdict from estimates, before anything is built; explained when the answer is no."""
    resources = backend.estimate(graph, board, options)
    verdict = replace(judge(board, resources, limits), memory=backend.memory(graph, board, options))
    return explain(verdict, backend, graph, options, limits)


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


def _larger_board(board: Board, backend: Backend, graph: Graph, options: object, limits: Limits) -> str | None:
    """The smallest known board of the same kind that fits."""
    others = [one for one in all_boards() if type(one) is type(board) and one.name != board.name]
    for other in sorted(others, key=lambda one: [have.amount for have in reversed(capacities(one))]):
        try:
            resources = backend.estimate(graph, other, options)
        except EdgeflowError:
            continue
        if judge(other, resources, limits).fits:
            return other.name
    return None
