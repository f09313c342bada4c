"""A symbolic run of a schedule in a placed arena: is every row still there when it is read?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from edgeflow.backends.c.flow import Task
from edgeflow.backends.c.objects import PRIVATE_ALIGNMENT, Kind, Share
from edgeflow.backends.c.schedule import Schedule


def simulate(schedule: Schedule, offsets: Sequence[int] | None = None) -> tuple[str, ...]:
    """The faults of a run in an arena where object i starts at `offsets[i]`; none, if schedule and placement are right.

    Every byte of the arena remembers which row of which tensor it holds. A row that is read must be there
    whole, nothing may be written over what the same task reads unless the objects allow that, each row is made
    once, and at the end the outputs are there. Without offsets the objects lie behind one another.
    """
    memory = _Memory(schedule, offsets)
    for index, task in enumerate(schedule.tasks):
        memory.run(index, task)
    memory.judge_outputs()
    return tuple(memory.faults)


class _Memory:
    """An arena that knows for each byte the name of what was written there last."""

    def __init__(self, schedule: Schedule, offsets: Sequence[int] | None) -> None:
        self.schedule, self.flow, self.objects = schedule, schedule.flow, schedule.objects
        if offsets is None:
            offsets = [0, *accumulate(one.size + -one.size % PRIVATE_ALIGNMENT for one in self.objects)][:-1]
        self.offsets = offsets
        self.bytes = np.full(max((at + one.size for at, one in zip(offsets, self.objects, strict=True)), default=0), -1)
        self.numbers: dict[tuple[str, int], int] = {}
        self.made: set[tuple[str, int]] = set()
        self.faults: list[str] = []
        for name in self.flow.inputs:
            for row in range(self.flow.tensors[name].rows):
                self._make(name, row)

    def run(self, index: int, task: Task) -> None:
        """Takes scratch, judges what is read, writes the result's rows, judges scratch again."""
        step = self.flow.steps[task.step]
        own = [(number, self.objects[number]) for number in self.schedule.private.get(index, ())]
        when = f"task {index} ({step.name})"
        for number, one in own:
            if one.born == index:
                self._fill(number)
        for read, rows in zip(step.reads, task.reads, strict=True):
            for row in rows:
                self._judge_row(read.tensor, row, when)
        for number, _ in own:
            self._judge_own(number, when)
        results = self._results(task)
        self._judge_overlap(task, results, when)
        for row in results:
            self._make(step.result, row)
        self.bytes[self._spoilt(task)] = -1
        if step.accumulates and not step.accumulator:
            self._judge_row(step.result, 0, when)
        for number, one in own:
            if one.kind is Kind.SCRATCH:
                self._judge_own(number, f"the end of {when}")

    def _results(self, task: Task) -> range:
        """The rows that a task is the first to write."""
        step = self.flow.steps[task.step]
        if not step.accumulates:
            return range(task.first, task.end)
        there = task.end == self.flow.extent(step) if step.accumulator else task.first == 0
        return range(1 if there else 0)

    def judge_outputs(self) -> None:
        """At the end every row of every output must be there."""
        for name in self.flow.outputs:
            for row in range(self.flow.tensors[name].rows):
                self._judge_row(name, row, "the end")

    def _slice(self, tensor: str, row: int) -> slice:
        number = self.schedule.holders[tensor, row]
        size = self.flow.tensors[tensor].row_bytes
        start = self.offsets[number] + (row - self.objects[number].first) * size
        return slice(start, start + size)

    def _spoilt(self, task: Task) -> slice:
        """What a task writes behind its rows."""
        step = self.flow.steps[task.step]
        stop = 0 if step.accumulates else self._slice(step.result, task.end - 1).stop
        return slice(stop, stop + step.spoilt(task) * self.flow.tensors[step.result].row_bytes)

    def _make(self, tensor: str, row: int) -> None:
        if (tensor, row) in self.made:
            self.faults.append(f"row {row} of {tensor} is made twice")
        self.made.add((tensor, row))
        self.bytes[self._slice(tensor, row)] = self._number(tensor, row)

    def _judge_row(self, tensor: str, row: int | None, when: str) -> None:
        if row is None:
            return
        if (tensor, row) not in self.made:
            self.faults.append(f"row {row} of {tensor} is not there at {when}")
        elif bool(np.any(self.bytes[self._slice(tensor, row)] != self._number(tensor, row))):
            self.faults.append(f"row {row} of {tensor} is overwritten at {when}")

    def _judge_overlap(self, task: Task, results: range, when: str) -> None:
        """The result may lie over rows that the task reads only where its object says so."""
        step = self.flow.steps[task.step]
        written = [*(self._slice(step.result, row) for row in results), self._spoilt(task)]
        for read, rows in zip(step.reads, task.reads, strict=True):
            for row in rows:
                if row is None or not results:
                    continue
                there = self._slice(read.tensor, row)
                meets = any(one.start < there.stop and there.start < one.stop for one in written)
                if meets and not self._allowed(step.result, results[0], read.tensor, row):
                    self.faults.append(f"{when} writes over row {row} of {read.tensor}, which it reads")

    def _allowed(self, result: str, first: int, operand: str, row: int) -> bool:
        one, other = self.schedule.holders[result, first], self.schedule.holders[operand, row]
        return Share(other, self.offsets[one] - self.offsets[other]) in self.objects[one].shares

    def _fill(self, number: int) -> None:
        one, at = self.objects[number], self.offsets[number]
        self.bytes[at : at + one.size] = self._number("\0", number)

    def _judge_own(self, number: int, when: str) -> None:
        one, at = self.objects[number], self.offsets[number]
        if bool(np.any(self.bytes[at : at + one.size] != self._number("\0", number))):
            self.faults.append(f"the {one.kind.value} of {one.owner} is overwritten at {when}")

    def _number(self, name: str, row: int) -> int:
        return self.numbers.setdefault((name, row), len(self.numbers))
