"""The objects that a list of tasks keeps in memory: groups of rows, accumulators and scratch, each with its life."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby

from edgeflow.backends.c.flow import Flow, Read, Reuse, Task, Window

PRIVATE_ALIGNMENT = 4
"""Of accumulators and scratch, in bytes: both hold words."""


@dataclass(frozen=True)
class Span:
    """Bytes of an object, from `offset` on in it, that hold something from task `born` to task `last`."""

    offset: int
    size: int
    born: int
    last: int


@dataclass(frozen=True)
class Share:
    """The object may start `shift` bytes behind the start of object number `other`, though both are alive."""

    other: int
    shift: int


class Kind(Enum):
    """What an object holds."""

    ROWS = "rows"
    ACCUMULATOR = "accumulator"
    SCRATCH = "scratch"


@dataclass(frozen=True)
class Object:
    """Contiguous bytes: `rows` rows of the tensor `owner` from `first` on, or what the step `owner` needs for itself.

    Bytes outside the spans' lives are free for other objects: rows of an input that have been read, rows of
    an output that have not been written.
    """

    kind: Kind
    owner: str
    first: int
    rows: int
    size: int
    alignment: int
    spans: tuple[Span, ...]
    shares: tuple[Share, ...] = ()

    @property
    def born(self) -> int:
        """The first task that needs any of the bytes."""
        return min(span.born for span in self.spans)

    @property
    def last(self) -> int:
        """The last task that needs any of the bytes."""
        return max(span.last for span in self.spans)


def objects_of(flow: Flow, tasks: Sequence[Task]) -> tuple[Object, ...]:
    """All objects of a run: the tensors' groups of rows (by tensor, by row), then accumulators, then scratch."""
    lives = _row_lives(flow, tasks)
    groups: list[Object] = []
    for tensor, rows in lives.items():
        for first, end in _groups(flow, tasks, tensor):
            groups.append(_group(flow, tensor, first, rows[first:end]))
    where = {
        (one.owner, row): index for index, one in enumerate(groups) for row in range(one.first, one.first + one.rows)
    }
    shares: dict[int, list[Share]] = defaultdict(list)
    for index, task in enumerate(tasks):
        _spoil(flow, groups, where, index, task)
        for result, share in _shares(flow, groups, where, index, task):
            shares[result].append(share)
    kept, extra = _accumulators(flow, tasks, len(groups), where)
    for result, share in extra:
        shares[result].append(share)
    linked = [replace(one, shares=tuple(shares[index])) for index, one in enumerate(groups)]
    return (*linked, *kept, *_scratch(flow, tasks))


def live_bytes(objects: Sequence[Object]) -> list[int]:
    """For each task, bytes that no placement can do without: those alive, less what may lie over one another."""
    tasks = max((one.last for one in objects), default=-1) + 1
    change = [0] * (tasks + 1)
    for one in objects:
        for span in one.spans:
            change[span.born] += span.size
            change[span.last + 1] -= span.size
        if one.shares:
            saved = min(one.size, sum(_common(one, objects[share.other], share.shift) for share in one.shares))
            change[one.born] -= saved
            change[one.born + 1] += saved
    live = [0]
    for step in change:
        live.append(live[-1] + step)
    return live[1 : tasks + 1]


def _common(one: Object, other: Object, shift: int) -> int:
    return max(0, min(shift + one.size, other.size) - max(shift, 0))


def _row_lives(flow: Flow, tasks: Sequence[Task]) -> dict[str, list[tuple[int, int]]]:
    """For each tensor that exists, the first and the last task of every row."""
    end = len(tasks) - 1
    born: dict[str, dict[int, int]] = {name: dict.fromkeys(range(flow.tensors[name].rows), 0) for name in flow.inputs}
    last: dict[str, dict[int, int]] = defaultdict(dict)
    for index, task in enumerate(tasks):
        step = flow.steps[task.step]
        for read, rows in zip(step.reads, task.reads, strict=True):
            last[read.tensor].update({row: index for row in rows if row is not None})
        made = born.setdefault(step.result, {})
        if step.accumulates:
            if not made and (step.accumulator == 0 or task.end == flow.extent(step)):
                made[0] = index
            last[step.result][0] = index
        else:
            made.update(dict.fromkeys(range(task.first, task.end), index))
    lives: dict[str, list[tuple[int, int]]] = {}
    for tensor, rows in born.items():
        final = dict.fromkeys(rows, end) if tensor in flow.outputs else last[tensor]
        lives[tensor] = [(rows[row], max(rows[row], final.get(row, -1))) for row in sorted(rows)]
    return lives


def _groups(flow: Flow, tasks: Sequence[Task], tensor: str) -> list[tuple[int, int]]:
    """The rows (first, end) of each object of a tensor."""
    rows = flow.tensors[tensor].rows
    if rows == 1 or flow.in_one_piece(tensor):
        return [(0, rows)]
    return [(task.first, task.end) for task in tasks if flow.steps[task.step].result == tensor]


def _group(flow: Flow, tensor: str, first: int, lives: Sequence[tuple[int, int]]) -> Object:
    kind = flow.tensors[tensor]
    spans: list[Span] = []
    for (born, last), run in groupby(range(len(lives)), key=lambda row: lives[row]):
        rows = list(run)
        spans.append(Span(rows[0] * kind.row_bytes, len(rows) * kind.row_bytes, born, last))
    return Object(Kind.ROWS, tensor, first, len(lives), len(lives) * kind.row_bytes, kind.alignment, tuple(spans))


def _spoil(flow: Flow, groups: list[Object], where: Mapping[tuple[str, int], int], index: int, task: Task) -> None:
    """Adds what a task writes behind its rows to the object that holds them."""
    step = flow.steps[task.step]
    row = flow.tensors[step.result].row_bytes
    size = step.spoilt(task) * row
    if size:
        at = where[step.result, task.first]
        one = groups[at]
        span = Span((task.end - one.first) * row, size, index, index)
        groups[at] = replace(one, size=max(one.size, span.offset + size), spans=(*one.spans, span))


def _shares(
    flow: Flow, groups: Sequence[Object], where: Mapping[tuple[str, int], int], index: int, task: Task
) -> list[tuple[int, Share]]:
    """Where the object that a task writes may lie over one that the task is the last to read."""
    step = flow.steps[task.step]
    if step.accumulates:
        return []
    result = where[step.result, task.first]
    if {span.born for span in groups[result].spans} != {index}:
        return []
    found: dict[Share, None] = {}
    for read, rows in zip(step.reads, task.reads, strict=True):
        for other in sorted({where[read.tensor, row] for row in rows if row is not None}):
            shift = _shift(flow, read, groups[result], groups[other])
            free = read.tensor not in flow.outputs and groups[other].last == index
            if shift is not None and free and shift % groups[result].alignment == 0:
                found[Share(other, shift)] = None
    return [(result, share) for share in found]


def _shift(flow: Flow, read: Read, result: Object, operand: Object) -> int | None:
    """How far behind the operand's start the result may start, None where it may not lie over it."""
    match read.reuse:
        case Reuse.NEVER:
            return None
        case Reuse.SAME_ROWS:
            same = (result.first, result.rows) == (operand.first, operand.rows) and read.window in (None, Window(1))
            longer = flow.tensors[result.owner].row_bytes - flow.tensors[operand.owner].row_bytes
            return min(0, -longer * result.rows) if same else None
        case Reuse.ANY_ROWS:
            return 0 if flow.tensors[result.owner].row_bytes == flow.tensors[operand.owner].row_bytes else None


def _accumulators(
    flow: Flow, tasks: Sequence[Task], start: int, where: Mapping[tuple[str, int], int]
) -> tuple[list[Object], list[tuple[int, Share]]]:
    """The accumulators, numbered from `start` on, and each result's leave to lie over its own."""
    kept: list[Object] = []
    shares: list[tuple[int, Share]] = []
    for number, step in enumerate(flow.steps):
        own = [index for index, task in enumerate(tasks) if task.step == number]
        if not step.accumulator or not own:
            continue
        shares.append((where[step.result, 0], Share(start + len(kept), 0)))
        span = Span(0, step.accumulator, own[0], own[-1])
        kept.append(Object(Kind.ACCUMULATOR, step.name, 0, 0, step.accumulator, PRIVATE_ALIGNMENT, (span,)))
    return kept, shares


def _scratch(flow: Flow, tasks: Sequence[Task]) -> list[Object]:
    sizes = ((index, flow.steps[task.step]) for index, task in enumerate(tasks))
    return [
        Object(Kind.SCRATCH, step.name, 0, 0, step.scratch, PRIVATE_ALIGNMENT, (Span(0, step.scratch, index, index),))
        for index, step in sizes
        if step.scratch
    ]
