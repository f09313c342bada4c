"""The order of calls and the static memory plan: a place in one arena for every group of rows and for scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from edgeflow.backends.c.flow import Flow, Read, Reuse, Step, Task, Tensor
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.lower import Lowered
from edgeflow.backends.c.objects import Object, live_bytes
from edgeflow.backends.c.placement import Placement, place
from edgeflow.backends.c.schedule import Schedule, floor, stream, whole
from edgeflow.ir.types import Shape


@dataclass(frozen=True)
class Plan:
    """A schedule and the place of each of its objects, in bytes from the arena's start."""

    schedule: Schedule
    placement: Placement

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return self.placement.size

    @property
    def lower_bound(self) -> int:
        """Bytes that no placement of this schedule's objects can do without."""
        return self.placement.lower_bound

    @cached_property
    def floor(self) -> int:
        """Bytes that no order of calls of these kernels can do without."""
        return floor(self.schedule.flow)

    @cached_property
    def _rows(self) -> Mapping[tuple[str, int], int]:
        """The place of every row of every tensor."""
        flow, found = self.schedule.flow, dict[tuple[str, int], int]()
        for one, offset in zip(self.schedule.objects, self.placement.offsets, strict=True):
            for row in range(one.rows):
                found[one.owner, one.first + row] = offset + row * flow.tensors[one.owner].row_bytes
        return found

    @cached_property
    def _scratch(self) -> Mapping[tuple[str, int], int]:
        """The place of a step's scratch in a task."""
        pairs = zip(self.schedule.objects, self.placement.offsets, strict=True)
        return {(one.owner, one.born): offset for one, offset in pairs if not one.rows}

    def row(self, tensor: str, row: int = 0) -> int:
        """Where a row of a tensor lies."""
        return self._rows[tensor, row]

    def has_row(self, tensor: str, row: int = 0) -> bool:
        """Whether a row has a place: one that nothing reads has none."""
        return (tensor, row) in self._rows

    def scratch(self, task: int) -> int:
        """Where the scratch of a task lies."""
        return self._scratch[self.schedule.flow.steps[self.schedule.tasks[task].step].name, task]

    def tasks(self) -> tuple[Task, ...]:
        """All tasks in order."""
        return self.schedule.tasks

    def alive(self, task: int) -> tuple[Object, ...]:
        """The objects that a task needs or keeps."""
        return tuple(one for one in self.schedule.objects if one.born <= task <= one.last)

    def peak(self) -> int:
        """The task at which most bytes are alive."""
        return max(range(len(self.schedule.tasks)), key=live_bytes(self.schedule.objects).__getitem__, default=0)

    def busiest(self, step: str) -> int:
        """The task of a step at which most bytes are alive."""
        return max(self.schedule.runs[step], key=live_bytes(self.schedule.objects).__getitem__)


def flow_of(lowered: Lowered, kernels: Sequence[Kernel], shapes: Mapping[str, Shape], inputs: Sequence[str]) -> Flow:
    """Tensors and kernels as the scheduler sees them."""
    tensors = {name: _tensor(one.size, one.ctype.size, shapes.get(name, ())) for name, one in lowered.buffers.items()}
    steps: list[Step] = []
    for kernel, step in zip(kernels, lowered.steps, strict=True):
        reads = tuple(
            _read(kernel, index, tensors[buffer.tensor], shapes.get(name, ()), buffer.tensor)
            for index, (buffer, name) in enumerate(zip(kernel.inputs, step.reads, strict=True))
        )
        accumulates = bool(kernel.by_rows and kernel.by_rows.accumulates)
        writes = kernel.by_rows.group if kernel.by_rows and kernel.by_rows.whole else 1
        steps.append(Step(kernel.name, reads, kernel.y.tensor, 4 * kernel.scratch, accumulates, writes=writes))
    outputs = tuple(name for name, one in lowered.buffers.items() if one.place == "output")
    return Flow(tensors, tuple(inputs), outputs, tuple(steps))


def _tensor(size: int, alignment: int, shape: Shape) -> Tensor:
    rows = shape[0] if len(shape) > 1 else 1
    return Tensor(rows, size // rows, alignment)


def _read(kernel: Kernel, index: int, tensor: Tensor, shape: Shape, name: str) -> Read:
    """By rows, where the tensor lies in rows as the kernel sees them."""
    if kernel.by_rows is None:
        return Read(name, None, kernel.reuse)
    same = (shape[0] if len(shape) > 1 else 1) == tensor.rows
    return Read(name, kernel.by_rows.windows[index] if same else None, kernel.by_rows.reuse if same else Reuse.NEVER)


def groups_of(kernels: Sequence[Kernel]) -> dict[str, int]:
    """How many rows a call of each kernel makes at most: all of them, where it knows no rows."""
    return {one.name: one.by_rows.group if one.by_rows else one.y.elements for one in kernels}


def plan_memory(flow: Flow, groups: Mapping[str, int]) -> Plan:
    """The schedule that needs the smaller arena: layer after layer, or streamed in groups of rows."""
    plans = [Plan(schedule, place(schedule.objects)) for schedule in (whole(flow), stream(flow, groups))]
    return min(plans, key=lambda plan: plan.size)
