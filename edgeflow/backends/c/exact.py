"""Searches all placements of a few objects: a proof that an arena cannot be smaller, or a smaller arena."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.backends.c.gaps import Gaps
from edgeflow.backends.c.objects import Object

_Apart = tuple[int, int, int]
"""(i, j, distance): offset[i] >= offset[j] + distance."""


def prove(
    objects: Sequence[Object], gaps: Gaps, bound: int, known: Sequence[int], budget_nodes: int
) -> tuple[list[int], bool]:
    """The best offsets found, starting from the placement `known`, and whether no better ones exist.

    A node of the search is a set of distances that some pairs keep, and the lowest offsets that keep them. Where
    a pair still meets, each of the ways to part it (above, below, at a distance that the two share) is a branch.
    The search ends when `bound` is met or after `budget_nodes` nodes.
    """
    search = _Proof(objects, gaps, bound, known, budget_nodes)
    search.run()
    return search.best, search.complete


class _Proof:
    def __init__(
        self, objects: Sequence[Object], gaps: Gaps, bound: int, known: Sequence[int], budget_nodes: int
    ) -> None:
        self.objects, self.gaps, self.bound = objects, gaps, bound
        self.best = list(known)
        self.size = self._end(known)
        self.nodes = budget_nodes
        self.complete = True
        self.pairs = [(i, j) for i in range(len(objects)) for j in sorted(gaps[i]) if i < j]
        self.crowds = self._crowds()

    def run(self) -> None:
        """Depth first, without recursion: how deep it goes depends on the number of pairs."""
        stack: list[tuple[list[_Apart], list[int]]] = [([], [0] * len(self.objects))]
        while stack and self.size > self.bound:
            if self.nodes == 0:
                self.complete = False
                return
            self.nodes -= 1
            apart, offsets = stack.pop()
            if self._hopeless(offsets):
                continue
            pair = self._meeting(offsets)
            if pair is None:
                self.best, self.size = offsets, self._end(offsets)
                continue
            stack.extend(reversed(self._branches(apart, offsets, pair)))

    def _end(self, offsets: Sequence[int]) -> int:
        return max((at + one.size for at, one in zip(offsets, self.objects, strict=True)), default=0)

    def _crowds(self) -> list[list[tuple[int, int, int]]]:
        """For each task without shared bytes, what is alive: (object, offset in it, bytes)."""
        sharing = {one.born for one in self.objects if one.shares}
        tasks = sorted({span.born for one in self.objects for span in one.spans} - sharing)
        spans = [(index, span) for index, one in enumerate(self.objects) for span in one.spans]
        crowds = [[(i, s.offset, s.size) for i, s in spans if s.born <= task <= s.last] for task in tasks]
        return [crowd for crowd in crowds if len(crowd) > 1]

    def _hopeless(self, offsets: Sequence[int]) -> bool:
        """Whether these lowest offsets cannot lead to a smaller arena.

        Bytes that are alive together and start at h or higher end at h plus their sum or higher.
        """
        if self._end(offsets) >= self.size:
            return True
        for crowd in self.crowds:
            total = 0
            for start, size in sorted(((offsets[i] + at, size) for i, at, size in crowd), reverse=True):
                total += size
                if start + total >= self.size:
                    return True
        return False

    def _meeting(self, offsets: Sequence[int]) -> tuple[int, int] | None:
        """The pair at a forbidden distance that has most bytes."""
        worst: tuple[int, int] | None = None
        most = -1
        for i, j in self.pairs:
            distance = offsets[i] - offsets[j]
            if any(low < distance < high for low, high in self.gaps[i][j]):
                size = min(self.objects[i].size, self.objects[j].size)
                if size > most:
                    worst, most = (i, j), size
        return worst

    def _branches(
        self, apart: list[_Apart], offsets: list[int], pair: tuple[int, int]
    ) -> list[tuple[list[_Apart], list[int]]]:
        """The nodes in which a pair keeps one of its allowed distances, those of the smallest arena first."""
        i, j = pair
        ranges = self.gaps[i][j]
        nodes: list[tuple[list[_Apart], list[int]]] = []
        for low, high in zip((None, *(high for _, high in ranges)), (*(low for low, _ in ranges), None), strict=True):
            more = [*apart]
            if low is not None:
                more.append((i, j, low))
            if high is not None:
                more.append((j, i, -high))
            lowest = self._settle(more, offsets)
            if lowest is not None:
                nodes.append((more, lowest))
        return sorted(nodes, key=lambda node: (self._end(node[1]), sum(node[1])))

    def _settle(self, apart: list[_Apart], offsets: list[int]) -> list[int] | None:
        """The lowest offsets from the given ones upwards that keep all distances; None if the arena is not smaller."""
        lowest = [*offsets]
        changed = True
        while changed:
            changed = False
            for i, j, distance in apart:
                least = lowest[j] + distance
                if lowest[i] < least:
                    alignment = self.objects[i].alignment
                    lowest[i] = -(-least // alignment) * alignment
                    if lowest[i] + self.objects[i].size >= self.size:
                        return None
                    changed = True
        return lowest
