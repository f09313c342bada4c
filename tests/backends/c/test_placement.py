from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.objects import Kind, Object, Share, Span, live_bytes
from edgeflow.backends.c.placement import Placement, place


def _object(size: int, born: int, last: int, alignment: int = 1, shares: tuple[Share, ...] = ()) -> Object:
    return Object(Kind.ROWS, "x", 0, 1, size, alignment, (Span(0, size, born, last),), shares)


@st.composite
def _few(draw: st.DrawFn, most: int, longest: int) -> list[Object]:
    """Objects of one or two spans, some of which may lie over an object that dies as they are born."""
    objects: list[Object] = []
    for _ in range(draw(st.integers(1, most))):
        size, born, life = draw(st.integers(1, longest)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
        cut = draw(st.integers(0, size - 1))
        spans = (Span(0, size, born, born + life),)
        if cut:
            spans = (Span(0, cut, born, born), Span(cut, size - cut, born, born + life))
        dying = [number for number, one in enumerate(objects) if one.last == born]
        shares: tuple[Share, ...] = ()
        if dying and draw(st.booleans()):
            shares = (Share(draw(st.sampled_from(dying)), draw(st.integers(-1, 1))),)
        objects.append(Object(Kind.ROWS, "x", 0, 1, size, draw(st.sampled_from([1, 1, 2, 4])), spans, shares))
    return objects


def _fits(objects: Sequence[Object], offsets: Sequence[int]) -> bool:
    """By bytes: no byte of the arena belongs to two objects in one task, unless they lie as one of them allows."""
    owners: dict[tuple[int, int], set[int]] = {}
    for number, (one, at) in enumerate(zip(objects, offsets, strict=True)):
        if at % one.alignment or at < 0:
            return False
        for span in one.spans:
            for key in product(range(span.born, span.last + 1), range(at + span.offset, at + span.offset + span.size)):
                owners.setdefault(key, set()).add(number)
    return all(
        Share(i, offsets[j] - offsets[i]) in objects[j].shares or Share(j, offsets[i] - offsets[j]) in objects[i].shares
        for group in owners.values()
        for i in group
        for j in group
        if i < j
    )


def _smallest(objects: Sequence[Object], below: int) -> int:
    """The smallest arena, by trying all offsets; `below` where none is smaller."""
    best = below
    for offsets in product(*(range(0, max(1, below - one.size), one.alignment) for one in objects)):
        size = max(at + one.size for at, one in zip(offsets, objects, strict=True))
        if size < best and _fits(objects, offsets):
            best = size
    return best


@settings(max_examples=40, deadline=None)
@given(objects=_few(most=4, longest=4))
def test_few_objects_are_placed_as_well_as_by_trying_all_offsets(objects: list[Object]) -> None:
    placement = place(objects)
    assert placement.optimal
    assert _fits(objects, placement.offsets)
    assert _smallest(objects, placement.size) == placement.size


@settings(max_examples=50, deadline=None)
@given(objects=_few(most=35, longest=12))
def test_objects_that_meet_do_not_overlap(objects: list[Object]) -> None:
    placement = place(objects, budget_nodes=300)
    assert _fits(objects, placement.offsets)
    assert placement.size == max(at + one.size for at, one in zip(placement.offsets, objects, strict=True))
    assert placement.size >= placement.lower_bound == max(live_bytes(objects))
    assert place(objects, budget_nodes=300) == placement


def test_nothing_needs_no_arena() -> None:
    assert place([]) == Placement((), 0, 0, True)


def test_an_object_lies_over_one_that_dies_where_it_may() -> None:
    apart = [_object(8, 0, 1), _object(8, 1, 2)]
    assert place(apart).size == 16
    over = [apart[0], _object(8, 1, 2, shares=(Share(0, 0),))]
    assert place(over) == Placement((0, 0), 8, 8, True)


def test_a_longer_result_ends_where_its_operand_ends() -> None:
    objects = [_object(8, 0, 1, 4), _object(12, 1, 2, 4, (Share(0, -4),))]
    assert place(objects) == Placement((4, 0), 12, 12, True)


def test_a_share_is_left_alone_where_it_costs_more() -> None:
    """Over the operand, the result would split what the third object needs in one piece."""
    objects = [
        _object(4, 0, 2),
        _object(4, 0, 1),
        _object(2, 2, 3, shares=(Share(0, 0),)),
        _object(6, 3, 3),
    ]
    placement = place(objects)
    assert placement.size == 8
    assert placement.optimal


def test_rows_that_are_dead_make_room() -> None:
    shrinking = Object(Kind.ROWS, "in", 0, 2, 8, 1, (Span(0, 4, 0, 0), Span(4, 4, 0, 1)))
    assert place([shrinking, _object(4, 1, 1)]).size == 8


def test_an_arena_above_the_bound_is_proven_to_be_the_smallest() -> None:
    """At most 4 bytes are alive at a time, yet no placement fits into 4."""
    lives = [(2, 6, 6), (2, 4, 6), (1, 3, 5), (1, 3, 3), (2, 0, 1), (2, 1, 2), (1, 2, 3), (1, 2, 4)]
    placement = place([_object(*one) for one in lives])
    assert (placement.size, placement.lower_bound, placement.optimal) == (5, 4, True)


def test_alignment_that_costs_bytes_is_proven_to_cost_them() -> None:
    assert place([_object(3, 0, 1, 4), _object(3, 1, 2, 4)]) == Placement((0, 4), 7, 6, True)


def test_a_proof_that_runs_out_of_nodes_says_so() -> None:
    objects = [_object(1 + 7 * i % 5, i % 6, i % 6 + 1 + i % 4, 1 + 3 * (i % 2)) for i in range(25)]
    placement = place(objects, budget_nodes=1)
    assert _fits(objects, placement.offsets)
    assert placement.optimal == (placement.size == placement.lower_bound)
