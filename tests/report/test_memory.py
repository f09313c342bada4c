"""The picture of RAM over time shows what the map says, and the table of layers what each contributes."""

from __future__ import annotations

import re

from edgeflow.report.memory import PLOT, layer_table, picture
from edgeflow.report.record import ResourceRecord
from edgeflow.resource import Held, MemoryMap, Moment, Placed

MAP = MemoryMap(
    100,
    90,
    (Moment("first", 90, 1, (Held("in", 60), Held("first", 30))), Moment("second", 40, 2, (Held("first", 30),))),
    ("first", "second", "second"),
    (Placed("in", 0, 60, 0, 0), Placed("first", 70, 30, 0, 2), Placed("second", 0, 10, 1, 2)),
    64,
)


def test_a_box_is_as_wide_as_it_lives_and_as_high_as_it_is_large() -> None:
    drawn = picture(MAP)
    assert drawn is not None
    column, byte = PLOT.width / 3, PLOT.height / 100
    wanted = [(0, 60, 1, 60), (0, 100, 3, 30), (1, 10, 2, 10)]
    for box, (born, top, calls, size) in zip(drawn.boxes, wanted, strict=True):
        expected = (PLOT.x + born * column, PLOT.bottom - top * byte, calls * column, size * byte)
        assert [round(one, 1) for one in (box.x, box.y, box.width, box.height)] == [round(one, 1) for one in expected]
    assert drawn.boxes[1].title == "first: 30 B, bytes 70 to 99, calls 1 to 3"
    assert [box.label for box in drawn.boxes] == ["in", "first", "second"]
    assert len({box.color for box in drawn.boxes}) == 3


def test_the_row_below_says_what_runs_and_the_line_where_most_is_alive() -> None:
    drawn = picture(MAP)
    assert drawn is not None
    assert [one.title for one in drawn.running] == ["first runs, call 1", "second runs, calls 2 to 3"]
    assert [one.color for one in drawn.running] == [drawn.boxes[1].color, drawn.boxes[2].color]
    assert drawn.peak_text == "peak 90 B, in 'first'"
    assert PLOT.x < drawn.peak < PLOT.x + PLOT.width / 3
    assert [(one.name, one.most) for one in drawn.owners] == [("in", 60), ("first", 30), ("second", 10)]
    assert [one.text for one in drawn.ticks] == ["0 B", "32 B", "64 B", "100 B"]


def test_bytes_over_one_another_count_once() -> None:
    over = MemoryMap(8, 8, (), ("a",), (Placed("x", 0, 8, 0, 0), Placed("a", 0, 8, 0, 0)))
    drawn = picture(over)
    assert drawn is not None
    assert drawn.peak_text == "peak 8 B, in 'a'"


def test_a_map_without_places_has_no_picture() -> None:
    assert picture(MemoryMap(100, 90, MAP.moments)) is None


def test_layers_have_a_row_each_with_the_maps_ram() -> None:
    estimated = [
        ResourceRecord("flash", 900.0, "B", "estimated ±15 %", "first"),
        ResourceRecord("RAM", 123.0, "B", "estimated ±15 %: much", "first"),
        ResourceRecord("flash", 20.0, "B", "estimated ±15 %", "second"),
        ResourceRecord("flash", 5.0, "B", "estimated ±15 %", "second"),
        ResourceRecord("flash", 5000.0, "B", "measured"),
    ]
    table = layer_table(estimated, MAP)
    assert table is not None
    assert (table.names, table.units) == (("flash", "RAM"), ("B", "B"))
    assert table.rows == (("first", (900.0, 90)), ("second", (25.0, 40)))
    assert re.match("flash estimated ±15 %$", table.sources[0])
    assert layer_table(estimated[4:], MAP) is None
    without = layer_table(estimated, None)
    assert without is not None
    assert without.rows[0] == ("first", (900.0, 123.0))
