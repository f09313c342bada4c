from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.flow import Flow, Read, Reuse, Step, Tensor, Window, rows_needed, rows_possible
from edgeflow.backends.c.objects import Kind, Share
from edgeflow.backends.c.placement import place
from edgeflow.backends.c.schedule import Schedule, floor, stream, whole
from edgeflow.backends.c.simulate import simulate
from tests.backends.c.flows import flows, keyword_spotter


def _order(schedule: Schedule) -> list[tuple[str, int, int]]:
    return [(schedule.flow.steps[task.step].name, task.first, task.count) for task in schedule.tasks]


def _chain(*windows: Window, rows: int = 8, row_bytes: int = 10) -> Flow:
    """Steps a, b, ... one after another, each with rows as its operand's stride allows."""
    tensors, steps, last = {"in": Tensor(rows, row_bytes)}, list[Step](), "in"
    for name, window in zip("abcdef", windows, strict=False):
        rows = -(-rows // window.stride)
        tensors[name] = Tensor(rows, row_bytes)
        steps.append(Step(name, (Read(last, window),), name))
        last = name
    return Flow(tensors, ("in",), (last,), tuple(steps))


@pytest.mark.parametrize("window", [Window(3, 1, 1), Window(3, 2, 0), Window(10, 2, 4), Window(1), Window(2, 3, 2)])
def test_rows_possible_is_the_inverse_of_rows_needed(window: Window) -> None:
    flow = _chain(window, rows=13)
    step = flow.steps[0]
    read = step.reads[0]
    for have in range(14):
        rows = [end for end in range(1, flow.extent(step) + 1) if rows_needed(flow, read, end) <= have]
        assert rows_possible(flow, step, read, have) == max(rows, default=0)


def test_a_step_runs_as_soon_as_its_operand_has_the_rows() -> None:
    schedule = stream(_chain(Window(1), Window(3, 1, 1), rows=4), 1)
    assert _order(schedule) == [
        *(("a", 0, 1), ("a", 1, 1), ("b", 0, 1), ("a", 2, 1), ("b", 1, 1)),
        *(("a", 3, 1), ("b", 2, 1), ("b", 3, 1)),
    ]
    assert [task.reads for task in schedule.tasks if task.step == 1] == [
        *(((None, 0, 1),), ((0, 1, 2),)),
        *(((1, 2, 3),), ((2, 3, None),)),
    ]


def test_groups_shift_by_a_row_where_a_window_of_three_reads_groups_of_two() -> None:
    order = _order(stream(_chain(Window(1), Window(3, 1, 1), Window(3, 1, 1), rows=7), 2))
    assert [(first, count) for name, first, count in order if name == "b"] == [(0, 1), (1, 2), (3, 2), (5, 2)]


def test_groups_do_not_shift_where_that_takes_more_of_them_and_saves_nothing() -> None:
    order = _order(stream(_chain(Window(1), Window(3, 1, 1), Window(3, 1, 1), rows=8), 2))
    assert [(first, count) for name, first, count in order if name == "b"] == [(0, 2), (2, 2), (4, 2), (6, 2)]


def test_a_group_for_each_step_may_differ() -> None:
    schedule = stream(_chain(Window(1), Window(1), rows=6), {"a": 2, "b": 3})
    assert max(count for name, _, count in _order(schedule) if name == "a") == 2
    assert max(count for name, _, count in _order(schedule) if name == "b") == 3
    assert simulate(schedule) == ()


def test_both_branches_of_a_residual_join_stream() -> None:
    tensors = {name: Tensor(32, 16) for name in ("in", "a", "b", "c", "sum")}
    window = Window(3, 1, 1)
    steps = (
        Step("a", (Read("in", Window(1)),), "a"),
        Step("b", (Read("a", window),), "b"),
        Step("c", (Read("b", window),), "c"),
        Step("sum", (Read("a", Window(1)), Read("c", Window(1))), "sum"),
    )
    schedule = stream(Flow(tensors, ("in",), ("sum",), steps), 1)
    assert simulate(schedule) == ()
    alive = [sum(one.owner == "a" and one.born <= at <= one.last for one in schedule.objects) for at in range(128)]
    assert max(alive) <= 4


def test_two_outputs_stream_together() -> None:
    tensors = {"in": Tensor(16, 4), "a": Tensor(16, 100), "b": Tensor(16, 1), "c": Tensor(16, 1)}
    steps = (
        Step("a", (Read("in", Window(1)),), "a"),
        Step("b", (Read("a", Window(1)),), "b"),
        Step("c", (Read("a", Window(1)),), "c"),
    )
    schedule = stream(Flow(tensors, ("in",), ("b", "c"), steps), 1)
    assert schedule.peak() < 2 * 100


def test_an_operand_that_is_needed_whole_is_a_barrier() -> None:
    tensors = {"in": Tensor(4, 4), "a": Tensor(4, 4), "b": Tensor(4, 4)}
    steps = (Step("a", (Read("in", Window(1)),), "a"), Step("b", (Read("a"),), "b"))
    schedule = stream(Flow(tensors, ("in",), ("b",), steps), 1)
    assert [name for name, *_ in _order(schedule)] == ["a"] * 4 + ["b"] * 4
    assert [one.rows for one in schedule.objects if one.owner == "a"] == [4]


def test_an_accumulator_lives_from_its_first_task_to_its_last() -> None:
    schedule = stream(keyword_spotter(), 2)
    (kept,) = [one for one in schedule.objects if one.kind is Kind.ACCUMULATOR]
    assert (kept.owner, kept.size) == ("pool", 128)
    assert (kept.born, kept.last) == (schedule.runs["pool"][0], schedule.runs["pool"][-1])
    (result,) = [one for one in schedule.objects if one.owner == "pool" and one.kind is Kind.ROWS]
    assert result.born == kept.last
    assert result.shares == (Share(schedule.objects.index(kept), 0),)


def test_a_result_that_accumulates_itself_exists_from_the_first_task() -> None:
    tensors = {"in": Tensor(6, 4), "a": Tensor(6, 4), "sum": Tensor(1, 16, 4)}
    steps = (
        Step("a", (Read("in", Window(1)),), "a"),
        Step("sum", (Read("a", Window(1)),), "sum", accumulates=True),
    )
    schedule = stream(Flow(tensors, ("in",), ("sum",), steps), 2)
    (result,) = [one for one in schedule.objects if one.owner == "sum"]
    assert (result.born, result.last) == (1, 5)
    assert simulate(schedule) == ()


def test_an_input_gives_up_rows_and_an_output_takes_rows_as_it_goes() -> None:
    schedule = stream(_chain(Window(1), rows=3, row_bytes=10), 1)
    spans = {one.owner: [(span.offset, span.born, span.last) for span in one.spans] for one in schedule.objects}
    assert spans == {"in": [(0, 0, 0), (10, 0, 1), (20, 0, 2)], "a": [(0, 0, 2), (10, 1, 2), (20, 2, 2)]}
    assert schedule.peak() == 40


@pytest.mark.parametrize(("row_bytes", "shift"), [(8, 0), (6, 0), (12, -8)])
def test_a_result_row_for_row_ends_or_starts_where_its_operand_does(row_bytes: int, shift: int) -> None:
    tensors = {"in": Tensor(4, 8), "a": Tensor(4, 8), "b": Tensor(4, row_bytes), "c": Tensor(4, 1)}
    steps = (
        Step("a", (Read("in", Window(1)),), "a"),
        Step("b", (Read("a", Window(1), Reuse.SAME_ROWS),), "b"),
        Step("c", (Read("b", Window(1)),), "c"),
    )
    schedule = stream(Flow(tensors, ("in",), ("c",), steps), 2)
    first = schedule.objects[schedule.holders["b", 0]]
    assert first.shares == (Share(schedule.holders["a", 0], shift),)


def test_nothing_lies_over_an_output_or_over_rows_that_are_read_later() -> None:
    tensors = {"in": Tensor(4, 8), "a": Tensor(4, 8), "b": Tensor(4, 8), "c": Tensor(4, 8)}
    steps = (
        Step("a", (Read("in", Window(1)),), "a"),
        Step("b", (Read("a", Window(1), Reuse.SAME_ROWS),), "b"),
        Step("c", (Read("a", Window(1)), Read("b", Window(1))), "c"),
    )
    flow = Flow(tensors, ("in",), ("c",), steps)
    assert not any(one.shares for one in stream(flow, 1).objects)
    assert not any(one.shares for one in whole(replace(flow, outputs=("a", "b"))).objects)


def _wide_then_narrow() -> Flow:
    """Rows of 64 bytes, wide ones of 256 between, down to rows of 16; then wide ones again."""
    sizes = {"in": 64, "wide": 256, "deep": 256, "narrow": 16, "wide again": 256, "deep again": 256, "out": 16}
    windows = (Window(1), Window(3, 1, 1), Window(1)) * 2
    names = list(sizes)
    steps = tuple(
        Step(name, (Read(before, window),), name)
        for before, name, window in zip(names, names[1:], windows, strict=False)
    )
    return Flow({name: Tensor(8, size) for name, size in sizes.items()}, ("in",), ("out",), steps)


def test_a_step_waits_for_its_whole_operand_where_what_comes_behind_would_only_fill_memory() -> None:
    flow = _wide_then_narrow()
    schedule = stream(flow, 1)
    order = [name for name, *_ in _order(schedule)]
    assert order.index("wide again") > len(order) - 1 - order[::-1].index("narrow")
    assert simulate(schedule, place(schedule.objects).offsets) == ()
    assert (schedule.peak(), stream(flow, 1, budget_tasks=0).peak()) == (1360, 1808)


def test_a_step_does_not_wait_where_its_operand_is_large() -> None:
    schedule = stream(_chain(Window(1), Window(3, 1, 1), Window(1), rows=12), 1)
    order = [name for name, *_ in _order(schedule)]
    assert order.index("c") < len(order) - 1 - order[::-1].index("a")


@pytest.mark.parametrize(
    ("flow", "most"),
    [
        (_chain(Window(1), rows=4, row_bytes=10), 50),
        (_chain(Window(3, 1, 1), rows=1, row_bytes=10), 20),
        (_wide_then_narrow(), 1024),
        (keyword_spotter(), 1322),
    ],
)
def test_what_no_order_can_do_without(flow: Flow, most: int) -> None:
    assert floor(flow) == most


def test_a_result_over_its_operand_needs_no_more_than_the_larger() -> None:
    tensors = {"in": Tensor(1, 8), "a": Tensor(1, 100), "b": Tensor(1, 120, 4), "c": Tensor(1, 4)}
    steps = (
        Step("a", (Read("in"),), "a"),
        Step("b", (Read("a", None, Reuse.SAME_ROWS),), "b", scratch=8),
        Step("c", (Read("b"),), "c"),
    )
    assert floor(Flow(tensors, ("in",), ("c",), steps)) == 128


def test_whole_runs_each_step_once() -> None:
    schedule = whole(keyword_spotter())
    assert [task.step for task in schedule.tasks] == list(range(12))
    assert simulate(schedule) == ()


@pytest.mark.parametrize(
    ("pointwise", "depthwise", "group", "peak", "most"),
    [
        (Reuse.NEVER, Reuse.NEVER, 1, 4250, 4300),
        (Reuse.NEVER, Reuse.NEVER, 2, 4850, 4900),
        (Reuse.SAME_ROWS, Reuse.NEVER, 2, 4338, 4338),
        (Reuse.SAME_ROWS, Reuse.ANY_ROWS, 1, 3950, 3960),
        (Reuse.SAME_ROWS, Reuse.ANY_ROWS, 2, 4250, 4250),
    ],
)
def test_the_arena_of_a_keyword_spotter(pointwise: Reuse, depthwise: Reuse, group: int, peak: int, most: int) -> None:
    schedule = stream(keyword_spotter(pointwise, depthwise), group)
    placement = place(schedule.objects, budget_nodes=20_000)
    assert simulate(schedule, placement.offsets) == ()
    assert schedule.peak() == peak
    assert peak <= placement.size <= most


def test_a_simulation_finds_what_overlaps() -> None:
    schedule = stream(_chain(Window(1), Window(3, 1, 1), rows=3), 1)
    faults = simulate(schedule, [0] * len(schedule.objects))
    assert faults[:2] == (
        "task 0 (a) writes over row 0 of in, which it reads",
        "row 0 of a is overwritten at task 2 (b)",
    )
    assert simulate(schedule) == ()


def test_a_simulation_finds_scratch_that_the_result_overwrites() -> None:
    tensors = {"in": Tensor(1, 8), "a": Tensor(1, 8)}
    schedule = whole(Flow(tensors, ("in",), ("a",), (Step("a", (Read("in"),), "a", scratch=8),)))
    assert [one.kind for one in schedule.objects] == [Kind.ROWS, Kind.ROWS, Kind.SCRATCH]
    assert simulate(schedule, [0, 8, 12]) == ("the scratch of a is overwritten at the end of task 0 (a)",)
    assert simulate(schedule, [0, 8, 16]) == ()


def test_a_step_that_writes_two_rows_at_a_time_has_room_behind_an_odd_last_row() -> None:
    flow = _chain(Window(1), Window(1), rows=3, row_bytes=4)
    flow = replace(flow, steps=(replace(flow.steps[0], writes=2), flow.steps[1]))
    right = stream(flow, 2)
    assert [(one.rows, one.size) for one in right.objects if one.owner == "a"] == [(2, 8), (1, 8)]
    assert simulate(right, place(right.objects, budget_nodes=200).offsets) == ()
    assert simulate(right, [0, 12, 20, 24]) == ("row 0 of b is overwritten at the end",)


def test_room_for_rows_that_are_spoilt_costs_a_keyword_spotter_nothing() -> None:
    schedule = stream(keyword_spotter(Reuse.SAME_ROWS, Reuse.NEVER, writes=2), 2)
    placement = place(schedule.objects, budget_nodes=20_000)
    assert simulate(schedule, placement.offsets) == ()
    assert placement.size == 4338


def test_a_simulation_finds_a_row_that_is_missing_or_made_twice() -> None:
    right = stream(_chain(Window(1), Window(1), rows=2), 1)
    late = replace(right, tasks=(right.tasks[1], right.tasks[0], *right.tasks[2:]))
    assert "row 0 of a is not there at task 0 (b)" in simulate(late)
    twice = replace(right, tasks=(right.tasks[0], *right.tasks))
    assert "row 0 of a is made twice" in simulate(twice)


@settings(max_examples=80, deadline=None)
@given(flow=flows(), group=st.integers(1, 4))
def test_any_flow_streams_without_a_fault(flow: Flow, group: int) -> None:
    schedule = stream(flow, group)
    assert all(task.count <= group or flow.steps[task.step].accumulates for task in schedule.tasks)
    placement = place(schedule.objects, budget_nodes=200)
    assert simulate(schedule) == ()
    assert simulate(schedule, placement.offsets) == ()
    assert placement.size >= placement.lower_bound == schedule.peak() >= floor(flow)
    assert place(schedule.objects, budget_nodes=200) == placement


@settings(max_examples=40, deadline=None)
@given(flow=flows())
def test_any_flow_runs_whole_without_a_fault(flow: Flow) -> None:
    schedule = whole(flow)
    assert simulate(schedule, place(schedule.objects, budget_nodes=200).offsets) == ()
