"""TFLite-Micro's memory plan for a model's tensors: largest first, each at the lowest free offset, 16 bytes aligned.

(GreedyMemoryPlanner in tensorflow/lite/micro/memory_planner, fed by micro_allocation_info.cc.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeflow.backends.tflm.describe import Description
from edgeflow.backends.tflm.structures import round_up

ALIGNMENT = 16
"""Of every buffer (MicroArenaBufferAlignment)."""


@dataclass(frozen=True)
class Scratch:
    """Memory that an operator (by its number) asks for while it runs."""

    operator: int
    size: int


@dataclass(frozen=True)
class Placed:
    """A tensor (or, with `tensor` -1, an operator's scratch memory) and the operators during which it is alive.

    Inputs are alive before the first operator: from -1.
    """

    tensor: int
    title: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Where everything lies, and the bytes that it takes."""

    placed: tuple[Placed, ...]
    size: int

    def alive(self, operator: int) -> tuple[Placed, ...]:
        """What exists while an operator runs."""
        return tuple(one for one in self.placed if one.first <= operator <= one.last)

    def peak(self) -> int:
        """The operator during which most bytes are alive."""
        steps = range(max((one.last for one in self.placed), default=0) + 1)
        return max(steps, key=lambda step: sum(one.size for one in self.alive(step)), default=0)


def plan_memory(model: Description, scratch: Sequence[Scratch], sizes: Mapping[int, int] | None = None) -> Plan:
    """The plan. `sizes` overrides tensors' bytes (what if)."""
    wanted = [
        Placed(place, model.tensors[place].name, 0, round_up(size, ALIGNMENT), *life)
        for place, life in _lives(model).items()
        if (size := (sizes or {}).get(place, model.tensors[place].size))
    ]
    wanted += [
        Placed(-1, f"scratch of {model.operators[one.operator].layer}", 0, size, one.operator, one.operator)
        for one in scratch
        if (size := round_up(one.size, ALIGNMENT))
    ]
    placed: list[Placed] = []
    wanted.reverse()  # of equal sizes the planner takes the last first
    for one in sorted(wanted, key=lambda one: -one.size):
        others = [other for other in placed if other.first <= one.last and one.first <= other.last]
        offset = _lowest_gap(others, one.size)
        placed.append(Placed(one.tensor, one.title, offset, one.size, one.first, one.last))
    return Plan(tuple(placed), max((one.offset + one.size for one in placed), default=0))


def _lives(model: Description) -> dict[int, tuple[int, int]]:
    """First and last operator of every tensor that is not a constant, in the tensors' order."""
    first = dict.fromkeys((*model.inputs, *model.outputs), -1)
    last = dict(first)
    for index, operator in enumerate(model.operators):
        first |= dict.fromkeys(operator.outputs, index)
        last |= dict.fromkeys((*operator.inputs, *operator.outputs), index)
    last |= dict.fromkeys(model.outputs, len(model.operators) - 1)
    return {
        place: (first.get(place, -1), last.get(place, -1))
        for place, tensor in enumerate(model.tensors)
        if not tensor.constant
    }


def _lowest_gap(others: list[Placed], size: int) -> int:
    offset = 0
    for one in sorted(others, key=lambda one: one.offset):
        if offset + size <= one.offset:
            break
        offset = max(offset, one.offset + one.size)
    return offset
