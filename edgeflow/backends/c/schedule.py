"""The order in which steps make groups of rows, so that few rows are alive at any time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from edgeflow.backends.c.flow import Flow, Read, Reuse, Step, Task, rows_needed, rows_possible, rows_read
from edgeflow.backends.c.objects import Kind, Object, live_bytes, objects_of


@dataclass(frozen=True)
class Schedule:
    """Tasks in the order in which they run, every object that they keep in memory, and the names of the steps that
    wait for their whole operands.
    """

    flow: Flow
    tasks: tuple[Task, ...]
    objects: tuple[Object, ...]
    held: frozenset[str] = frozenset()

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


def floor(flow: Flow) -> int:
    """Bytes that no order of the steps' tasks and no placement can do without; `Schedule.peak` knows the order.

    The largest of: all inputs with the smallest first task, all outputs, and each step's task of one row: the rows
    that it reads and makes, less what may lie over one another, and its scratch.
    """
    whole = {name: one.rows * one.row_bytes for name, one in flow.tensors.items()}
    calls = [sum(whole[name] for name in flow.outputs)]
    firsts: list[int] = []
    for step, extent in _needed(flow):
        beside = _own_bytes(flow, step)
        calls.append(beside + _read_bytes(flow, step, extent))
        if all(read.tensor in flow.inputs or _reads_nothing(flow, read) for read in step.reads):
            firsts.append(beside)
    return max(sum(whole[name] for name in flow.inputs) + min(firsts, default=0), *calls)


def _reads_nothing(flow: Flow, read: Read) -> bool:
    """Whether the first row of a result lies beside all that the operand has."""
    return all(row is None for row in rows_read(flow, read, 0, 1))


def _needed(flow: Flow) -> Iterator[tuple[Step, int]]:
    """The steps that an output waits for, the last first, and how many rows of their extent."""
    wanted = {name: flow.tensors[name].rows for name in flow.outputs}
    for step in reversed(flow.steps):
        if wanted.get(step.result):
            extent = flow.extent(step) if step.accumulates else wanted[step.result]
            for read in step.reads:
                wanted[read.tensor] = max(wanted.get(read.tensor, 0), rows_needed(flow, read, extent))
            yield step, extent


def _own_bytes(flow: Flow, step: Step) -> int:
    """Bytes of a task of one row beside what it reads: of its result what cannot lie over that, and scratch."""
    made = step.accumulator or flow.tensors[step.result].row_bytes
    for read in step.reads:
        tensor = flow.tensors[read.tensor]
        if read.reuse is not Reuse.NEVER and not step.accumulates:
            made -= tensor.row_bytes * (min(read.window.size, tensor.rows) if read.window else tensor.rows)
    return max(made, 0) + step.scratch


def _read_bytes(flow: Flow, step: Step, extent: int) -> int:
    """Bytes of the rows that the task of one of `extent` rows reads which reads most."""
    most = 0
    for row in range(extent):
        rows = {(read.tensor, one) for read in step.reads for one in rows_read(flow, read, row, 1) if one is not None}
        most = max(most, sum(flow.tensors[tensor].row_bytes for tensor, _ in rows))
    return most


Ends = tuple[int, ...]
"""The rows behind the last of each of a step's groups."""


def whole(flow: Flow) -> Schedule:
    """Every step runs once, over all its rows."""
    return _scheduled(flow, _Order(tuple((flow.extent(step),) for step in flow.steps), frozenset()))


def stream(flow: Flow, group: int | Mapping[str, int], budget_tasks: int = 60_000) -> Schedule:
    """Every step makes at most `group` rows a task, as late as possible; the first and last task may make fewer.

    `group` is one number or one for each step's name. A step at a time, two things are tried, and what lowers the
    peak, or needs fewer tasks at the same peak, stays, again and again until nothing does or `budget_tasks` tasks were
    tried: how many rows a step's first task makes, which decides how its later groups lie against its operands'
    groups; and whether a step is held until its operands are there whole, which pays where they are small and what
    goes on before them is large: the rows of what comes behind do not wait in memory meanwhile. A step that
    accumulates takes its operand's groups as they are, and one that needs whole operands only is left to its group.
    """
    sizes = [group if isinstance(group, int) else group[step.name] for step in flow.steps]
    order = _Order(tuple(_likely_ends(flow, sizes)), frozenset())
    best = _scheduled(flow, order)
    peak, count, budget, improved = best.peak(), len(best.tasks), budget_tasks, True
    while improved:
        improved = False
        for number in range(len(flow.steps)):
            for other in _others(flow, sizes, order, number, peak):
                if budget <= 0:
                    return best
                tried = _scheduled(flow, other)
                budget -= len(tried.tasks)
                if (tried.peak(), len(tried.tasks)) < (peak, count):
                    best, order, improved = tried, other, True
                    peak, count = tried.peak(), len(tried.tasks)
    return best


@dataclass(frozen=True)
class _Order:
    """What decides a streamed schedule: the groups of every step, and the steps that wait for their whole operands."""

    ends: tuple[Ends, ...]
    held: frozenset[int]


def _others(flow: Flow, sizes: Sequence[int], order: _Order, number: int, peak: int) -> Iterator[_Order]:
    """The orders that differ in one step, but for those that cannot lower the peak: what a held step reads is whole."""
    step = flow.steps[number]
    windows = [flow.tensors[read.tensor] for read in step.reads if read.window]
    if not windows:
        return
    if any(one.rows > 1 for one in windows) and all(one.rows * one.row_bytes < peak for one in windows):
        yield replace(order, held=order.held ^ {number})
    for first in range(1, min(sizes[number], flow.extent(step)) + 1):
        ends = _ends(flow.extent(step), sizes[number], first)
        if not step.accumulates and ends != order.ends[number]:
            yield replace(order, ends=(*order.ends[:number], ends, *order.ends[number + 1 :]))


def alike(flow: Flow, other: Schedule) -> Schedule:
    """A schedule of the groups, and with the waiting, that another has for steps of the same names and rows; each
    other step runs once.
    """
    ends = {name: tuple(other.tasks[index].end for index in tasks) for name, tasks in other.runs.items()}
    held = frozenset(number for number, step in enumerate(flow.steps) if step.name in other.held)
    once = {step.name: (flow.extent(step),) for step in flow.steps}
    same = {name: ends[name] for name, end in once.items() if ends.get(name, ())[-1:] == end}
    return _scheduled(flow, _Order(tuple(same.get(step.name, once[step.name]) for step in flow.steps), held))


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


def _scheduled(flow: Flow, order: _Order) -> Schedule:
    run = _Run(flow, order)
    while (number := run.next_step()) is not None:
        run.perform(number)
    tasks = tuple(run.tasks)
    return Schedule(flow, tasks, objects_of(flow, tasks), frozenset(flow.steps[number].name for number in order.held))


class _Run:
    """What has been made so far, and what is to be made next."""

    def __init__(self, flow: Flow, order: _Order) -> None:
        self.flow, self.held = flow, order.held
        self.tasks: list[Task] = []
        self.have = dict.fromkeys(flow.tensors, 0) | {name: flow.tensors[name].rows for name in flow.inputs}
        self.done = [0] * len(flow.steps)
        makers = {step.result: order.ends[number] for number, step in enumerate(flow.steps) if not step.accumulates}
        self.ends = [
            makers.get(step.reads[0].tensor, (flow.extent(step),)) if step.accumulates else order.ends[number]
            for number, step in enumerate(flow.steps)
        ]
        self.groups = [0] * len(flow.steps)
        self.waits = [self._waits(number) for number in range(len(flow.steps))]

    def next_step(self) -> int | None:
        """The last step, in the flow's order, that can run and whose result an output waits for."""
        wanted = set(self.flow.outputs)
        for number in reversed(range(len(self.flow.steps))):
            if not self.waits[number] or self.flow.steps[number].result not in wanted:
                continue
            missing = [tensor for tensor, rows in self.waits[number] if self.have[tensor] < rows]
            if not missing:
                return number
            wanted.update(missing)
        return None

    def _waits(self, number: int) -> list[tuple[str, int]]:
        """How many rows of each operand a step's next group needs; nothing when all is made."""
        step = self.flow.steps[number]
        if self.done[number] == self.flow.extent(step):
            return []
        if number in self.held:
            return [(read.tensor, self.flow.tensors[read.tensor].rows) for read in step.reads]
        end = self.ends[number][self.groups[number]]
        return [(read.tensor, rows_needed(self.flow, read, end)) for read in step.reads]

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
        self.waits[number] = self._waits(number)
