"""The columns of a depthwise row: which taps they read, and which are made together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeflow.backends.c.mve.columns import Run, pad_bytes, runs
from edgeflow.backends.c.windows import Geometry

SAME = Geometry(7, 5, 16, 7, 5, 16, 3, 3, 1, 1, 1, 1, 1, 1)


def test_columns_inside_are_made_together() -> None:
    assert runs(SAME) == (Run(1, (None, 0, 1)), Run(3, (0, 1, 2)), Run(1, (3, 4, None)))


def test_pad_values_are_as_many_as_a_row_or_a_column_needs() -> None:
    beside = Geometry(7, 5, 16, 5, 5, 16, 3, 3, 1, 1, 1, 1, 0, 1)
    inside = Geometry(7, 5, 16, 5, 3, 16, 3, 3, 1, 1, 1, 1, 0, 0)
    assert [pad_bytes(one) for one in (SAME, beside, inside)] == [80, 16, 0]


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4))
def test_the_runs_read_what_every_column_reads(width: int, taps: int, stride: int, dilation: int, pad: int) -> None:
    span = (taps - 1) * dilation + 1
    columns = max(1, (width + 2 * pad - span) // stride + 1)
    geometry = Geometry(1, width, 1, 1, columns, 1, 1, taps, 1, stride, 1, dilation, 0, pad)
    found: list[tuple[int | None, ...]] = []
    for run in runs(geometry):
        found += [
            tuple(None if tap is None else tap + stride * ahead for tap in run.taps) for ahead in range(run.count)
        ]
    reads = [[column * stride + tap * dilation - pad for tap in range(taps)] for column in range(columns)]
    assert found == [tuple(at if 0 <= at < width else None for at in one) for one in reads]
