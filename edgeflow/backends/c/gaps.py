"""How far apart two objects must start: the distances at which they would overwrite one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeflow.backends.c.objects import Object

Ranges = tuple[tuple[int, int], ...]
"""Open ranges of distances, ascending; they may touch, and where they do that one distance is allowed."""

Gaps = list[dict[int, Ranges]]
"""For object i, each object j that it meets: the distances offset[i] - offset[j] that are forbidden."""


def forbidden(objects: Sequence[Object]) -> Gaps:
    """The forbidden distances of all pairs of objects of which some bytes are alive in the same task.

    Bytes a of i and b of j meet where offset[i] + a.offset < offset[j] + b.offset + b.size and the other way round.
    Distances that `Share` allows split a range in two.
    """
    found: list[dict[int, list[tuple[int, int]]]] = [{} for _ in objects]
    spans = [(span.born, index, span) for index, one in enumerate(objects) for span in one.spans]
    spans.sort(key=lambda entry: (entry[0], entry[1], entry[2].offset))
    alive: list[tuple[int, int, int, int]] = []
    for born, index, span in spans:
        alive = [entry for entry in alive if entry[0] >= born]
        for _, other, offset, size in alive:
            if other != index:
                low, high = offset - span.offset - span.size, offset + size - span.offset
                found[index].setdefault(other, []).append((low, high))
        alive.append((span.last, index, span.offset, span.size))
    gaps: Gaps = [{} for _ in objects]
    for index, others in enumerate(found):
        for other, ranges in others.items():
            _add(objects, gaps, index, other, ranges)
    return gaps


def _add(objects: Sequence[Object], gaps: Gaps, index: int, other: int, ranges: list[tuple[int, int]]) -> None:
    """Adds a pair's ranges, seen from both; an object pair may come twice, once from each side."""
    known = [*ranges, *gaps[index].get(other, ())]
    allowed = {share.shift for share in objects[index].shares if share.other == other}
    allowed |= {-share.shift for share in objects[other].shares if share.other == index}
    merged = tuple(_split(_union(known), sorted(allowed)))
    gaps[index][other] = merged
    gaps[other][index] = tuple((-high, -low) for low, high in reversed(merged))


def _union(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _split(ranges: Iterable[tuple[int, int]], allowed: Sequence[int]) -> Iterable[tuple[int, int]]:
    for low, high in ranges:
        for distance in allowed:
            if low < distance < high:
                yield (low, distance)
                low = distance
        yield (low, high)
