"""The order in which steps make groups of rows, so that few rows are alive at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from edgeflow.backends.c.flow import Flow, Read, Step, Task, rows_needed, rows_possible, rows_read
from edgeflow.backends.c.objects import Kind, Object, live_bytes, objects_of


@dataclass(frozen=True)
class Schedule:
    """Tasks in the order in which they run, and every object that they keep in memory."""

    flow: Flow
    tasks: tuple[Task, ...]
    objects: tuple[Object, ...]

    def peak(self) -> int:
        """Bytes that no placement of the objects can do without."""
        return max(live_bytes(self.objects), default=0)

    @cached_property
    def holders(self) -> Mapping[tuple[str, int], int]:
        """The number of the object that holds a row of a tensor."""
        rows = (
            (index, one.owner, one.first + row) for index, one in enumerate(self.objects) for row in range(one.rows)
        )
        return {(owner, row): index for index, owner, row in rows}

    @cached_property
    def private(self) -> Mapping[int, tuple[int, ...]]:
        """The numbers of the accumulator and of the scratch that a task uses, by the task's number."""
        own: dict[int, tuple[int, ...]] = {}
        for index, one in enumerate(self.objects):
            if one.kind is not Kind.ROWS:
                own.update({at: (*own.get(at, ()), index) for at in self.runs[one.owner] if one.born <= at <= one.last})
        return own

    @cached_property
    def runs(self) -> Mapping[str, tuple[int, ...]]:
        """The numbers of a step's tasks, by the step's name."""
        found: dict[str, tuple[int, ...]] = {step.name: () for step in self.flow.steps}
        for index, task in enumerate(self.tasks):
            found[self.flow.steps[task.step].name] += (index,)
        return found


Ends = tuple[int, ...]
"""The rows behind the last of each of a step's groups."""


def whole(flow: Flow) -> Schedule:
    """Every step runs once, over all its rows."""
    return _scheduled(flow, [(flow.extent(step),) for step in flow.steps])


def stream(flow: Flow, group: int | Mapping[str, int]) -> Schedule:
    """Every step makes at most `group` rows a task, as late as possible; the first and last task may make fewer.

    `group` is one number or one for each step's name. How many rows a step's first task makes decides how its later
    groups lie against its operands' groups: all counts are tried, a step at a time, and the schedule of the lowest
    peak, and of the fewest tasks among these, stays. A step that accumulates takes its operand's groups as they
    are, and one that needs whole operands only is left to its group.
    """
    sizes = [group if isinstance(group, int) else group[step.name] for step in flow.steps]
    ends = _likely_ends(flow, sizes)
    best = _scheduled(flow, ends)
    for number, step in enumerate(flow.steps):
        for first in range(1, min(sizes[number], flow.extent(step)) + 1):
            tried = [*ends[:number], _ends(flow.extent(step), sizes[number], first), *ends[number + 1 :]]
            if step.accumulates or not any(read.window for read in step.reads) or tried == ends:
                continue
            other = _scheduled(flow, tried)
            if (other.peak(), len(other.tasks)) < (best.peak(), len(best.tasks)):
                best, ends = other, tried
    return best


def _ends(rows: int, group: int, first: int) -> Ends:
    return (*range(first, rows, group), rows)


def _likely_ends(flow: Flow, sizes: Sequence[int]) -> list[Ends]:
    """Groups that start with as many rows as the operands' first groups make possible."""
    arrivals: dict[str, Ends] = {name: (flow.tensors[name].rows,) for name in flow.inputs}
    ends: list[Ends] = []
    for step, size in zip(flow.steps, sizes, strict=True):
        rows = flow.extent(step)
        possible = min((_first_possible(flow, step, read, arrivals[read.tensor]) for read in step.reads), default=rows)
        first = size if possible == rows else (possible - 1) % size + 1
        ends.append(_ends(rows, size, first))
        arrivals[step.result] = ends[-1] if not step.accumulates else (1,)
    return ends


def _first_possible(flow: Flow, step: Step, read: Read, arrivals: Ends) -> int:
    return next(filter(None, (rows_possible(flow, step, read, have) for have in arrivals)))


def _scheduled(flow: Flow, ends: Sequence[Ends]) -> Schedule:
    run = _Run(flow, ends)
    while (number := run.next_step()) is not None:
        run.perform(number)
    tasks = tuple(run.tasks)
    return Schedule(flow, tasks, objects_of(flow, tasks))


class _Run:
    """What has been made so far, and what is to be made next."""

    def __init__(self, flow: Flow, ends: Sequence[Ends]) -> None:
        self.flow = flow
        self.tasks: list[Task] = []
        self.have = {name: flow.tensors[name].rows for name in flow.inputs}
        self.done = [0] * len(flow.steps)
        makers = {step.result: ends[number] for number, step in enumerate(flow.steps) if not step.accumulates}
        self.ends = [
            makers.get(step.reads[0].tensor, (flow.extent(step),)) if step.accumulates else ends[number]
            for number, step in enumerate(flow.steps)
        ]
        self.groups = [0] * len(flow.steps)

    def next_step(self) -> int | None:
        """The last step, in the flow's order, that can run and whose result an output waits for."""
        wanted = set(self.flow.outputs)
        for number in reversed(range(len(self.flow.steps))):
            step = self.flow.steps[number]
            if self.done[number] == self.flow.extent(step) or step.result not in wanted:
                continue
            missing = self._missing(number)
            if not missing:
                return number
            wanted.update(missing)
        return None

    def _missing(self, number: int) -> list[str]:
        """The operands that lack rows for a step's next group."""
        end = self.ends[number][self.groups[number]]
        reads = self.flow.steps[number].reads
        return [one.tensor for one in reads if self.have.get(one.tensor, 0) < rows_needed(self.flow, one, end)]

    def perform(self, number: int) -> None:
        """Makes a step's next group."""
        step = self.flow.steps[number]
        first, end = self.done[number], self.ends[number][self.groups[number]]
        reads = tuple(rows_read(self.flow, read, first, end - first) for read in step.reads)
        self.tasks.append(Task(number, first, end - first, reads))
        self.done[number] = end
        self.groups[number] += 1
        if not step.accumulates:
            self.have[step.result] = end
        elif end == self.flow.extent(step):
            self.have[step.result] = 1
