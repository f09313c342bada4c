"""What the tables on a terminal say of differences and counts."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeflow.report.record import ComparisonRecord
from edgeflow.report.terminal import show_comparisons


def shown(mismatches: int) -> str:
    stream = io.StringIO()
    found = ComparisonRecord("predict", "QKeras predict", 10, 1000, mismatches, mismatches == 0, tolerated=10)
    show_comparisons(Console(file=stream, width=200), 10, found, ())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("mismatches", "told", "verdict"),
    [
        (0, "0 of 1000 values differ\n", "  bit-exact\n"),
        (10, "float32 rounds otherwise now and then\n", "  bit-exact\n"),
        (11, "more than the 10 that float32 may round otherwise; ", "  NOT bit-exact\n"),
    ],
)
def test_why_a_prediction_differs_is_told_where_it_does(mismatches: int, told: str, verdict: str) -> None:
    text = shown(mismatches)
    assert told in text
    assert text.endswith(verdict)
