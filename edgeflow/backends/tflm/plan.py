"""TFLite-Micro's memory plan for a model's tensors: largest first, each at the lowest free offset, 16 bytes aligned.

(GreedyMemoryPlanner in tensorflow/lite/micro/memory_planner; MicroArenaBufferAlignment.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow.backends.tflm.model import TfliteModel

_ALIGNMENT = 16


def align(size: int) -> int:
    """The next multiple of the arena's alignment."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True)
class Placed:
    """A tensor (or, with `tensor` -1, an operator's scratch memory) and the operators during which it is alive."""

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
        return max(steps, key=lambda step: sum(one.size for one in self.alive(step)))


def plan_memory(model: TfliteModel, scratch: Mapping[int, int], sizes: Mapping[int, int] | None = None) -> Plan:
    """The plan. `scratch` gives operators extra bytes while they run; `sizes` overrides tensors' bytes (what if)."""
    end = len(model.operators) - 1
    lives: dict[int, tuple[int, int]] = dict.fromkeys(model.inputs, (0, 0))
    for index, operator in enumerate(model.operators):
        lives[operator.output] = (index, index)
        for place in operator.inputs:
            if place in lives:
                lives[place] = (lives[place][0], index)
    for place in model.outputs:
        lives[place] = (lives[place][0], max(end, 0))
    wanted = [
        (align((sizes or {}).get(place, model.tensors[place].size)), place, model.tensors[place].name, *life)
        for place, life in lives.items()
    ]
    wanted += [
        (align(size), -1, f"scratch of {model.operators[index].layer}", index, index) for index, size in scratch.items()
    ]
    wanted.sort(key=lambda one: (-one[0], one[3], one[1]))
    placed: list[Placed] = []
    for size, place, title, first, last in wanted:
        others = [one for one in placed if one.first <= last and first <= one.last]
        placed.append(Placed(place, title, _lowest_gap(others, size), size, first, last))
    return Plan(tuple(placed), max((one.offset + one.size for one in placed), default=0))


def _lowest_gap(others: list[Placed], size: int) -> int:
    offset = 0
    for one in sorted(others, key=lambda one: one.offset):
        if offset + size <= one.offset:
            break
        offset = max(offset, one.offset + one.size)
    return offset
