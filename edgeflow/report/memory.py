"""A picture of RAM over time, and the table of what each layer contributes, as what the page draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from edgeflow.report.record import ResourceRecord
from edgeflow.resource import MemoryMap, Placed


@dataclass(frozen=True)
class Box:
    """A rectangle of the drawing; `title` is shown when it is pointed at, `label` lies in it where there is room."""

    x: float
    y: float
    width: float
    height: float
    color: str = ""
    title: str = ""
    label: str = ""

    @property
    def right(self) -> float:
        """The x behind it."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y below it."""
        return self.y + self.height


WIDTH, HEIGHT = 920, 392
"""Of the drawing, in its own units."""
PLOT = Box(68, 22, 844, 342)
"""Where the arena is drawn; a row below says what runs."""
_STRIP = 16
_HUE = 137.508
"""Degrees from one colour to the next: the golden angle keeps neighbours apart."""
_CHARACTER = 6.4
_WORKING = "#9aa0a6"


@dataclass(frozen=True)
class Tick:
    """A height of the drawing with its number of bytes."""

    y: float
    text: str


@dataclass(frozen=True)
class Owner:
    """What has a colour, and how many bytes it holds at most."""

    name: str
    color: str
    most: int


@dataclass(frozen=True)
class Picture:
    """The arena from its first byte, at the bottom, to its last; time runs to the right, a call a column."""

    boxes: tuple[Box, ...]
    running: tuple[Box, ...]
    ticks: tuple[Tick, ...]
    owners: tuple[Owner, ...]
    peak: float
    peak_text: str


def picture(memory: MemoryMap) -> Picture | None:
    """The drawing of a map that says where everything lies; None for one that does not."""
    if not memory.calls or not memory.placed or memory.size == 0:
        return None
    names = dict.fromkeys(one.what for one in memory.placed)
    colors = {name: f"hsl({index * _HUE % 360:.0f}, 58%, 66%)" for index, name in enumerate(names)}
    if "working memory" in colors:
        colors["working memory"] = _WORKING
    used, call = max((used, -call) for call, used in enumerate(_used(memory)))
    call = -call
    columns = PLOT.width / len(memory.calls)
    most = dict.fromkeys(names, 0)
    for held in _alive(memory):
        for name in {one.what for one in held}:
            most[name] = max(most[name], sum(one.size for one in held if one.what == name))
    return Picture(
        boxes=tuple(_box(one, memory, colors[one.what]) for one in memory.placed),
        running=tuple(_running(memory.calls, colors)),
        ticks=_ticks(memory.size),
        owners=tuple(Owner(name, colors[name], most[name]) for name in names),
        peak=round(PLOT.x + (call + 0.5) * columns, 1),
        peak_text=f"peak {used:,} B, in '{memory.calls[call]}'",
    )


def _box(one: Placed, memory: MemoryMap, color: str) -> Box:
    columns, rows = PLOT.width / len(memory.calls), PLOT.height / memory.size
    width, height = (one.last + 1 - one.born) * columns, one.size * rows
    x, y = PLOT.x + one.born * columns, PLOT.bottom - (one.offset + one.size) * rows
    when = f"call {one.born + 1}" if one.born == one.last else f"calls {one.born + 1} to {one.last + 1}"
    title = f"{one.what}: {one.size:,} B, bytes {one.offset:,} to {one.offset + one.size - 1:,}, {when}"
    fits = height >= 13 and width >= _CHARACTER * (len(one.what) + 1)
    return Box(round(x, 2), round(y, 2), round(width, 2), round(height, 2), color, title, one.what if fits else "")


def _running(calls: Sequence[str], colors: dict[str, str]) -> Iterable[Box]:
    """The row below: which layer runs."""
    columns, at = PLOT.width / len(calls), 0
    for layer, group in groupby(calls):
        count = len(list(group))
        width = count * columns
        label = layer if width >= _CHARACTER * (len(layer) + 1) else ""
        x, y = round(PLOT.x + at * columns, 2), PLOT.bottom + 6
        when = f"call {at + 1}" if count == 1 else f"calls {at + 1} to {at + count}"
        yield Box(x, y, round(width, 2), _STRIP, colors.get(layer, _WORKING), f"{layer} runs, {when}", label)
        at += count


def _ticks(size: int) -> tuple[Tick, ...]:
    """Powers of two apart, at most six of them, and the arena's end."""
    step = 1
    while size / step > 5:
        step *= 2
    values = [one for one in range(0, size, step) if size - one > step / 2 or one == 0]
    return tuple(Tick(round(PLOT.y + PLOT.height * (1 - value / size), 1), f"{value:,} B") for value in (*values, size))


def _alive(memory: MemoryMap) -> Iterable[list[Placed]]:
    """What is alive in each call."""
    held: list[Placed] = []
    waiting = sorted(memory.placed, key=lambda one: -one.born)
    for call in range(len(memory.calls)):
        held = [one for one in held if one.last >= call]
        while waiting and waiting[-1].born <= call:
            held.append(waiting.pop())
        yield held


def _used(memory: MemoryMap) -> Iterable[int]:
    """Bytes that hold something in each call, each counted once."""
    for held in _alive(memory):
        total = reached = 0
        for one in sorted(held, key=lambda one: one.offset):
            total += max(0, one.offset + one.size - max(one.offset, reached))
            reached = max(reached, one.offset + one.size)
        yield total


@dataclass(frozen=True)
class LayerTable:
    """A row a layer: its name, and its figure or None for each of `names`; `sources` say how these came to be."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    sources: tuple[str, ...]


def layer_table(figures: Sequence[ResourceRecord], memory: MemoryMap | None) -> LayerTable | None:
    """What each layer contributes, in the record's order; None without any. RAM is the map's where there is one."""
    chosen = [(one.layer, one) for one in figures if one.layer is not None and (one.name != "RAM" or memory is None)]
    if not chosen:
        return None
    units = {one.name: one.unit for _, one in chosen}
    found: dict[str, dict[str, float]] = {}
    for layer, one in chosen:
        row = found.setdefault(layer, {})
        row[one.name] = row.get(one.name, 0.0) + one.value
    sources = list(dict.fromkeys(f"{one.name} {one.source.split(':')[0]}" for _, one in chosen))
    if memory is not None:
        units["RAM"] = "B"
        sources.append("RAM of the arena at the layer's fullest moment, as planned")
        for one in memory.moments:
            row = found.setdefault(one.layer, {})
            row["RAM"] = max(row.get("RAM", 0.0), one.used)
    rows = tuple((layer, tuple(row.get(name) for name in units)) for layer, row in found.items())
    return LayerTable(tuple(units), tuple(units.values()), rows, tuple(sources))
