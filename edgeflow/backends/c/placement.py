"""Places objects in one arena: greedy orders, then a search that repairs the best, then (for few objects) a proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from edgeflow.backends.c.exact import prove
from edgeflow.backends.c.gaps import Gaps, Ranges, forbidden
from edgeflow.backends.c.objects import Object, live_bytes

EXACT_OBJECTS = 30
"""Up to so many objects the search for an optimal placement is worth its nodes."""

NODE_COST = 6
"""How many objects tried take as long as one node of the search for a proof."""

CLOSE = 1.05
"""Within so much of the bound a placement is good enough; a larger one gets `MORE` times the budget once again."""

MORE = 4

STARTS = 4
"""How many of the greedy placements are repaired: the one that is best at first is often not the best in the end."""


@dataclass(frozen=True)
class Placement:
    """Where each object starts, in bytes, the arena's size, and a size that no placement can go below.

    `optimal` says that no smaller arena exists: the size meets the bound, or all placements were searched.
    """

    offsets: tuple[int, ...]
    size: int
    lower_bound: int
    optimal: bool


def place(objects: Sequence[Object], *, budget_nodes: int = 60_000) -> Placement:
    """The smallest arena found with about `budget_nodes` objects tried (besides the first few greedy orders), or five
    times as many where it is not close to its bound.

    The same objects give the same placement. Objects whose lives do not meet may lie over one another;
    `Share` lets two that do meet lie over one another at one distance.
    """
    bound = max(live_bytes(objects), default=0)
    gaps = forbidden(objects)
    search = _Search(objects, gaps, bound)
    best = search.improve(STARTS, budget_nodes)
    proven = best.size <= bound
    if len(objects) <= EXACT_OBJECTS and not proven:
        offsets, proven = prove(objects, gaps, bound, best.offsets, budget_nodes // NODE_COST)
        best = replace(best, offsets=tuple(offsets), size=_end(objects, offsets))
    return Placement(best.offsets, best.size, bound, proven or best.size <= bound)


def _end(objects: Sequence[Object], offsets: Sequence[int]) -> int:
    return max((at + one.size for at, one in zip(offsets, objects, strict=True)), default=0)


def _orders(objects: Sequence[Object]) -> Iterator[list[int]]:
    """The greedy orders: birth, size, area, life, and what lives at the fullest task first."""
    live = live_bytes(objects)
    fullest = [max(max(live[span.born : span.last + 1]) for span in one.spans) for one in objects]
    lives = [one.last - one.born + 1 for one in objects]
    sizes = [one.size for one in objects]
    born = [one.born for one in objects]
    numbers = range(len(objects))
    yield sorted(numbers, key=lambda i: (born[i], -lives[i], -sizes[i]))
    yield sorted(numbers, key=lambda i: (born[i], -sizes[i], -lives[i]))
    yield sorted(numbers, key=lambda i: (-sizes[i], born[i]))
    yield sorted(numbers, key=lambda i: (-sizes[i] * lives[i], born[i]))
    yield sorted(numbers, key=lambda i: (-lives[i], -sizes[i], born[i]))
    yield sorted(numbers, key=lambda i: (-fullest[i], -sizes[i], born[i]))
    yield sorted(numbers, key=lambda i: (-objects[i].last, -lives[i], -sizes[i]))


@dataclass(frozen=True)
class _Packed:
    """A placement and what made it: the order of the objects and those that lie over another where they may."""

    order: tuple[int, ...]
    sharing: frozenset[int]
    offsets: tuple[int, ...]
    size: int


class _Search:
    """Greedy placements of the same objects, with a count of the objects tried."""

    def __init__(self, objects: Sequence[Object], gaps: Gaps, bound: int) -> None:
        self.objects, self.gaps, self.bound = objects, gaps, bound
        self.near: list[list[tuple[int, int]]] = [
            [(share.other, share.shift) for share in one.shares] for one in objects
        ]
        for index, one in enumerate(objects):
            for share in one.shares:
                self.near[share.other].append((index, -share.shift))
        self.tried = 0

    def improve(self, starts: int, budget: int) -> _Packed:
        """The best of the greedy orders, after the first `starts` were repaired with a part of the budget each.

        Where objects are too many to try all placements, those not close to the bound then are repaired once more.
        """
        packed: list[_Packed] = []
        for order in _orders(self.objects):
            for sharing in (frozenset(order), frozenset[int]()):
                one = self._pack(order, sharing, None, {})
                if isinstance(one, _Packed):
                    packed.append(one)
                    if one.size <= self.bound:
                        return one
        packed = sorted(packed, key=lambda one: one.size)[:starts]
        more = MORE * budget if len(self.objects) > EXACT_OBJECTS else 0
        for part, enough in ((budget, 1.0), (more, CLOSE)):
            for number, one in enumerate(packed):
                if min(one.size for one in packed) > enough * self.bound:
                    packed[number] = self._repair(one, part // starts, Random(number))
        return min(packed, key=lambda one: one.size)

    def _pack(
        self, order: Sequence[int], sharing: frozenset[int], limit: int | None, placed: dict[int, int]
    ) -> _Packed | int:
        """Each object of an order at the lowest free offset, or the first that ends behind `limit`.

        `placed` are the offsets of the order's first objects; it gets the others'.
        """
        for index in order[len(placed) :]:
            one = self.objects[index]
            ranges = _ranges(self.gaps[index], placed)
            at = self._shared(index, placed, ranges) if index in sharing else None
            if at is None:
                at = _lowest(ranges, one.alignment)
            self.tried += 1
            if limit is not None and at + one.size > limit:
                return index
            placed[index] = at
        offsets = tuple(placed[index] for index in range(len(self.objects)))
        return _Packed(tuple(order), sharing, offsets, _end(self.objects, offsets))

    def _shared(self, index: int, placed: Mapping[int, int], ranges: Sequence[tuple[int, int]]) -> int | None:
        """The lowest free offset at which an object lies over another that is placed."""
        alignment = self.objects[index].alignment
        wanted = (placed[other] + shift for other, shift in self.near[index] if other in placed)
        free = (at for at in wanted if not any(low < at < high for low, high in ranges))
        return min((at for at in free if at >= 0 and at % alignment == 0), default=None)

    def _repair(self, best: _Packed, budget: int, random: Random) -> _Packed:
        """Moves an object that ends highest, or one that leaves the arena, forward in the order, again and again.

        What comes before all that moved stays where it is.
        """
        stop = self.tried + budget
        while self.tried < stop and best.size > self.bound:
            tops = [i for i in best.order if best.offsets[i] + self.objects[i].size == best.size]
            order, sharing, top = best.order, best.sharing, random.choice(tops)
            same = len(order)
            for _ in range(8):
                order, to = _forward(order, top, random, self.gaps)
                same = min(same, to)
                sharing = sharing ^ {top} if random.random() < 0.3 else sharing
                packed = self._pack(order, sharing, best.size, {i: best.offsets[i] for i in order[:same]})
                if isinstance(packed, _Packed):
                    best = packed
                    break
                top = packed
        return best


def _forward(order: Sequence[int], index: int, random: Random, gaps: Gaps) -> tuple[tuple[int, ...], int]:
    """An order in which an object comes before one that it meets and that came earlier, or somewhere earlier; where."""
    at = order.index(index)
    earlier = [place for place in range(at) if order[place] in gaps[index]]
    to = random.choice(earlier) if earlier else random.randrange(at + 1)
    return (*order[:to], index, *order[to:at], *order[at + 1 :]), to


def _ranges(near: Mapping[int, Ranges], placed: Mapping[int, int]) -> list[tuple[int, int]]:
    """The open ranges in which an object may not start, ascending."""
    return sorted(
        (placed[other] + low, placed[other] + high)
        for other, between in near.items()
        if other in placed
        for low, high in between
    )


def _lowest(ranges: Sequence[tuple[int, int]], alignment: int) -> int:
    """The lowest aligned offset outside ascending ranges."""
    at = 0
    for low, high in ranges:
        if low >= at:
            break
        if high > at:
            at = -(-high // alignment) * alignment
    return at
