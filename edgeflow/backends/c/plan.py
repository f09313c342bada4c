"""The static memory plan: an offset in the arena for every tensor between layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeflow.backends.c.lower import Lowered


@dataclass(frozen=True)
class Placed:
    """A tensor in the arena: alive from the step that writes it to the last step that reads it."""

    tensor: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Where every arena tensor lies, the arena's size and the size that no plan can go below, in bytes."""

    placed: tuple[Placed, ...]
    size: int
    lower_bound: int

    def alive(self, step: int) -> tuple[Placed, ...]:
        """The tensors that exist while a step runs."""
        return tuple(one for one in self.placed if one.first <= step <= one.last)

    def peak(self) -> int:
        """The step at which most bytes are alive."""
        steps = range(max((one.last for one in self.placed), default=0) + 1)
        return max(steps, key=lambda step: sum(one.size for one in self.alive(step)), default=0)


def plan_memory(lowered: Lowered, sizes: Mapping[str, int] | None = None) -> Plan:
    """Places tensors largest first, each at the lowest offset free during its life.

    `sizes` overrides the bytes of some tensors (to ask "what if").
    """
    lives = _lifetimes(lowered)
    wanted: list[tuple[str, int, int, int]] = []
    for tensor, (first, last) in lives.items():
        size = (sizes or {}).get(tensor, lowered.buffers[tensor].size)
        wanted.append((tensor, size, first, last))
    wanted.sort(key=lambda one: (-one[1], one[2], one[0]))
    placed: list[Placed] = []
    for tensor, size, first, last in wanted:
        others = [one for one in placed if one.first <= last and first <= one.last]
        offset = _lowest_gap(others, size, lowered.buffers[tensor].ctype.size)
        placed.append(Placed(tensor, offset, size, first, last))
    placed.sort(key=lambda one: (one.first, one.offset))
    total = max((one.offset + one.size for one in placed), default=0)
    steps = range(len(lowered.steps))
    bound = max((sum(one.size for one in placed if one.first <= step <= one.last) for step in steps), default=0)
    return Plan(tuple(placed), total, bound)


def _lifetimes(lowered: Lowered) -> dict[str, tuple[int, int]]:
    lives: dict[str, tuple[int, int]] = {}
    for index, step in enumerate(lowered.steps):
        if lowered.buffers[step.result].place == "arena":
            lives[step.result] = (index, index)
        for name in step.reads:
            owner = lowered.buffer(name)
            if owner.place == "arena":
                lives[owner.tensor] = (lives[owner.tensor][0], index)
    return lives


def _lowest_gap(others: Sequence[Placed], size: int, alignment: int) -> int:
    offset = 0
    for one in sorted(others, key=lambda one: one.offset):
        if offset + size <= one.offset:
            break
        offset = max(offset, one.offset + one.size)
        offset = -(-offset // alignment) * alignment
    return offset
