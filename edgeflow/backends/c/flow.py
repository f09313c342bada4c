"""What runs row by row: tensors as rows of bytes, and the rows of its operands that each row of a step needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Window:
    """Row r of the result reads the operand's rows r * stride - before ... + size - 1; those outside are padding.

    `before` is negative where the first rows are skipped.
    """

    size: int
    stride: int = 1
    before: int = 0


class Reuse(Enum):
    """How a step's result may lie over an operand that nothing reads afterwards."""

    NEVER = "never"
    SAME_ROWS = "same rows"
    """The kernel walks up the rows and has read all of a position's bytes before it writes that position.

    Needs a window of one row. A result of longer rows ends where the operand ends, one of shorter rows starts
    where the operand starts: what is written is never ahead of what has been read."""
    ANY_ROWS = "any rows"
    """The kernel has read a column of all its rows before it writes that column: rows may be swapped.

    Needs rows of one length."""


@dataclass(frozen=True)
class Read:
    """An operand; without a window the step needs all its rows at once."""

    tensor: str
    window: Window | None = None
    reuse: Reuse = Reuse.NEVER


@dataclass(frozen=True)
class Tensor:
    """`rows` rows of `row_bytes` bytes; what has no rows is one row. Any object of it starts at `alignment` bytes."""

    rows: int
    row_bytes: int
    alignment: int = 1


@dataclass(frozen=True)
class Step:
    """One kernel. `scratch` are bytes that it needs while a task runs.

    With `accumulates` a task takes rows of the first operand as they come and the result, one row, is there
    after the last. `accumulator` are the bytes that live from the first task to the last; 0 says that the
    result itself accumulates. `writes` is how many rows it writes at a time: where a task ends with fewer, what lies
    behind them is spoilt.
    """

    name: str
    reads: tuple[Read, ...]
    result: str
    scratch: int = 0
    accumulates: bool = False
    accumulator: int = 0
    writes: int = 1

    def spoilt(self, task: Task) -> int:
        """How many rows behind its own a task spoils."""
        return -task.count % self.writes


@dataclass(frozen=True)
class Flow:
    """Steps, each after those that make its operands. Inputs exist from the start, outputs live to the end."""

    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]

    def extent(self, step: Step) -> int:
        """How many rows a step works through: its result's, or its operand's where it accumulates."""
        return self.tensors[step.reads[0].tensor if step.accumulates else step.result].rows

    def in_one_piece(self, tensor: str) -> bool:
        """Whether all rows of a tensor must lie behind one another."""
        reads = (read for step in self.steps for read in step.reads)
        fixed = tensor in self.inputs or tensor in self.outputs
        return fixed or any(read.tensor == tensor and read.window is None for read in reads)


@dataclass(frozen=True)
class Task:
    """One run of a step: `count` rows of its extent from `first`, and the rows (None: padding) of each operand read."""

    step: int
    first: int
    count: int
    reads: tuple[tuple[int | None, ...], ...]

    @property
    def end(self) -> int:
        """The row behind the last."""
        return self.first + self.count


def rows_needed(flow: Flow, read: Read, end: int) -> int:
    """How many of an operand's first rows must exist before the rows up to `end` of the extent can be made."""
    rows = flow.tensors[read.tensor].rows
    if read.window is None:
        return rows
    window = read.window
    return min(rows, max(0, (end - 1) * window.stride - window.before + window.size))


def rows_possible(flow: Flow, step: Step, read: Read, have: int) -> int:
    """How many rows of a step's extent can be made once `have` rows of an operand exist."""
    if have >= flow.tensors[read.tensor].rows:
        return flow.extent(step)
    if read.window is None:
        return 0
    window = read.window
    return min(flow.extent(step), max(0, (have + window.before - window.size) // window.stride + 1))


def rows_read(flow: Flow, read: Read, first: int, count: int) -> tuple[int | None, ...]:
    """The operand's rows, lowest first, that `count` rows of the extent from `first` read."""
    rows = flow.tensors[read.tensor].rows
    if read.window is None:
        return tuple(range(rows))
    window = read.window
    start = first * window.stride - window.before
    stop = (first + count - 1) * window.stride - window.before + window.size
    return tuple(row if 0 <= row < rows else None for row in range(start, stop))
