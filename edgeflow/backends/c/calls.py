"""What the run function does: calls with fixed places, and stretches of calls that a table of places drives."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.c.ctypes import UNSIGNED, Table
from edgeflow.backends.c.flow import Task
from edgeflow.backends.c.functions import Function
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.lower import Lowered
from edgeflow.backends.c.plan import Plan
from edgeflow.ir.types import Shape


@dataclass(frozen=True)
class Direct:
    """One call. `sweep`: the function that calls a layer by rows for all of its rows."""

    kernel: Kernel
    sweep: bool
    inputs: tuple[int, ...]
    y: int
    scratch: int


@dataclass(frozen=True)
class CaseTable:
    """A table that calls of a case pass: the names of all layers' tables, and a name for the list of them."""

    ctype: str
    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """Layers of a stretch that one function makes, numbered from `first` on; its name, and what it is passed."""

    name: str
    first: int
    kernels: tuple[Kernel, ...]
    tables: tuple[CaseTable, ...]


@dataclass(frozen=True)
class Stretch:
    """Calls of several layers in turn: `table` holds, for each call, its layer's number and its places.

    Layers that share a function have numbers in a row.
    """

    kernels: tuple[Kernel, ...]
    table: Table

    def cases(self, functions: Mapping[str, Function]) -> tuple[Case, ...]:
        """What there is to call, in the order of numbers."""
        found: list[Case] = []
        for name, group in itertools.groupby(self.kernels, key=lambda one: functions[one.name].name):
            kernels, function = tuple(group), functions[name]
            passed = zip(function.parameters, zip(*(function.tables(one) for one in kernels), strict=True), strict=True)
            tables = tuple(CaseTable(one.ctype, f"{one.name}s", tuple(names)) for one, names in passed)
            found.append(Case(name, sum(len(case.kernels) for case in found), kernels, tables))
        return tuple(found)


@dataclass(frozen=True)
class Calls:
    """All calls in order. `nowhere` is the place of a row outside of its tensor.

    By layer function: how many rows it works through, of each input the rows and the elements of each, and its number.
    """

    parts: tuple[Direct | Stretch, ...]
    nowhere: int
    extents: Mapping[str, int]
    read_rows: Mapping[str, Sequence[tuple[int, int]]]
    numbers: Mapping[str, int]

    @property
    def swept(self) -> tuple[Kernel, ...]:
        """The layers that one call makes row by row."""
        return tuple(part.kernel for part in self.parts if isinstance(part, Direct) and part.sweep)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The stretches alone."""
        return tuple(part for part in self.parts if isinstance(part, Stretch))


def calls_of(
    plan: Plan,
    lowered: Lowered,
    kernels: Sequence[Kernel],
    functions: Mapping[str, Function],
    shapes: Mapping[str, Shape],
) -> Calls:
    """The calls of a plan.

    A stretch is what runs more than once, and all between its first and last run, and a call whose rows lie apart.
    """
    writer = _Writer(plan, lowered, kernels, functions, shapes, 0xFFFF if plan.size < 0xFFFF else 0xFFFFFFFF)
    numbered = list(enumerate(plan.tasks()))
    parts: list[Direct | Stretch] = []
    for first, end in _ranges(plan.tasks()):
        chosen = numbered[first:end]
        alone = len(chosen) == 1 and writer.in_order(chosen[0][1])
        parts.append(writer.direct(*chosen[0]) if alone else writer.stretch(chosen, len(parts)))
    steps = plan.schedule.flow.steps
    extents = {step.name: plan.schedule.flow.extent(step) for step in steps}
    reads = {
        kernel.name: [writer.as_read(kernel, index) for index in range(len(kernel.inputs))]
        for kernel in kernels
        if kernel.by_rows
    }
    numbers = {kernel.name: number for number, kernel in enumerate(kernels)}
    return Calls(tuple(parts), writer.nowhere, extents, reads, numbers)


def _ranges(tasks: Sequence[Task]) -> list[tuple[int, int]]:
    """Stretches (first, end) of tasks that no step leaves; a single task has one of its own."""
    last = {task.step: index for index, task in enumerate(tasks)}
    found: list[tuple[int, int]] = []
    at = 0
    while at < len(tasks):
        end = here = at
        while here <= end:
            end = max(end, last[tasks[here].step])
            here += 1
        found.append((at, here))
        at = here
    return found


@dataclass(frozen=True)
class _Writer:
    plan: Plan
    lowered: Lowered
    kernels: Sequence[Kernel]
    functions: Mapping[str, Function]
    shapes: Mapping[str, Shape]
    nowhere: int

    def in_order(self, task: Task) -> bool:
        """Whether a task makes all rows, and those that it reads lie one behind the other, from the first of all."""
        kernel = self.kernels[task.step]
        if kernel.by_rows is None:
            return True
        flow = self.plan.schedule.flow
        if task.count != flow.extent(flow.steps[task.step]):
            return False
        for index, one in enumerate(kernel.inputs):
            rows, elements = self.as_read(kernel, index)
            size = elements * one.ctype.size
            if not self.plan.has_row(one.tensor):
                return False
            for row in self._wanted(kernel, index, task):
                if 0 <= row < rows and self._place(one.tensor, row, size) != self.plan.row(one.tensor) + row * size:
                    return False
        return True

    def direct(self, number: int, task: Task) -> Direct:
        kernel = self.kernels[task.step]
        inputs = tuple(self.plan.row(one.tensor) for one in kernel.inputs)
        return Direct(
            kernel, kernel.by_rows is not None, inputs, self.plan.row(kernel.y.tensor), self._scratch(number, kernel)
        )

    def stretch(self, tasks: Sequence[tuple[int, Task]], part: int) -> Stretch:
        """One layer may be both here and nowhere else: its number counts within the stretch."""
        order = {name: place for place, name in enumerate(self.functions)}
        own = (self.functions[kernel.name].name for kernel in self.kernels)
        first = [order[name] for name in own]
        steps = sorted({task.step for _, task in tasks}, key=lambda step: (first[step], step))
        entries = [[steps.index(task.step), *self._places(number, task)] for number, task in tasks]
        values = np.array(list(itertools.chain.from_iterable(entries)), dtype=np.int64)
        kind = next(one for one in UNSIGNED if self.nowhere >> 8 * one.size == 0)
        return Stretch(tuple(self.kernels[step] for step in steps), Table(f"schedule_{part + 1}", kind, values))

    def _places(self, number: int, task: Task) -> list[int]:
        """Rows of every input, result, scratch, count of rows and whether they are the first: what the layer needs."""
        kernel = self.kernels[task.step]
        places: list[int] = []
        for index, one in enumerate(kernel.inputs):
            if kernel.by_rows is None:
                places.append(self.plan.row(one.tensor))
            else:
                places += self._rows(kernel, index, task)
        row = 0 if kernel.by_rows is None or kernel.by_rows.accumulates else task.first
        places.append(self.plan.row(kernel.y.tensor, row))
        if kernel.scratch:
            places.append(self._scratch(number, kernel))
        if kernel.by_rows is not None:
            places += [task.count] if kernel.by_rows.group > 1 else []
            places += [int(task.first == 0)] if kernel.by_rows.accumulates else []
        return places

    def _rows(self, kernel: Kernel, index: int, task: Task) -> list[int]:
        """The places of the rows that a task reads of an input, as many as a whole group reads."""
        form, buffer = kernel.by_rows, kernel.inputs[index]
        assert form is not None
        rows, elements = self.as_read(kernel, index)
        size = elements * buffer.ctype.size
        wanted = self._wanted(kernel, index, task)
        found = [self._place(buffer.tensor, row, size) if 0 <= row < rows else self.nowhere for row in wanted]
        return found + [self.nowhere] * (form.reach(index) - len(found))

    def _wanted(self, kernel: Kernel, index: int, task: Task) -> range:
        """The rows that a task reads of an input, also those beside it."""
        assert kernel.by_rows is not None
        window = kernel.by_rows.windows[index]
        first = task.first * window.stride - window.before
        return range(first, first + (task.count - 1) * window.stride + window.size)

    def as_read(self, kernel: Kernel, index: int) -> tuple[int, int]:
        """Rows of an input, and elements of each, as the kernel sees it."""
        step = self.lowered.steps[self.kernels.index(kernel)]
        shape = self.shapes.get(step.reads[index], ())
        rows = shape[0] if len(shape) > 1 else 1
        return rows, kernel.inputs[index].elements // rows

    def _place(self, tensor: str, row: int, size: int) -> int:
        rows = self.plan.schedule.flow.tensors[tensor]
        return self.plan.row(tensor, row) if rows.row_bytes == size else self.plan.row(tensor) + row * size

    def _scratch(self, number: int, kernel: Kernel) -> int:
        return self.plan.scratch(number) if kernel.scratch else 0
