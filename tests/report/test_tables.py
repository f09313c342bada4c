"""What the tables on a terminal say of differences and counts."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgeflow.report.record import ComparisonRecord, MismatchRecord, TargetRecord
from edgeflow.report.terminal import show_comparisons

SAME = ComparisonRecord("predict", "QKeras predict", 10, 1000, 0, True)
TIES = replace(SAME, mismatches=40, bit_exact=False, tolerated=40, judged=True, decisions=2, layers=("conv", "x/d"))
ODD = replace(TIES, tolerated=0, unexplained=3, first_mismatch=MismatchRecord("conv", 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("found", "told", "verdict"),
    [
        (SAME, "0 of 1000 values differ\n", "  bit-exact\n"),
        (replace(SAME, judged=True), "0 of 1000 values differ\n", "  bit-exact\n"),
        (
            TIES,
            "40 of 1000 values differ, 2 of 10 decisions; all within float32's rounding error, in 'conv', 'x/d'\n",
            "  bit-exact\n",
        ),
        (replace(TIES, layers=tuple("abcdefg")), "in 'a', 'b', 'c', 'd' ...\n", "  bit-exact\n"),
        (
            ODD,
            "2 of 10 decisions; 3 values lie beyond float32's rounding error\n",
            "  NOT bit-exact: first at layer 'conv', sample 1, element 2: graph 3, QKeras predict 4\n",
        ),
        (
            replace(TIES, tolerated=0, judged=False, layers=()),
            "decisions; vectors of edgeflow predict would tell whether float32's rounding explains them\n",
            "  NOT bit-exact\n",
        ),
        (replace(TIES, tolerated=0, judged=None, layers=()), "40 of 1000 values differ\n", "  NOT bit-exact\n"),
    ],
)
def test_why_a_prediction_differs_is_told_where_it_does(found: ComparisonRecord, told: str, verdict: str) -> None:
    stream = io.StringIO()
    show_comparisons(Console(file=stream, width=200), 10, found, ())
    assert told in stream.getvalue()
    assert stream.getvalue().endswith(verdict)


@pytest.mark.parametrize(("moved", "told"), [(None, False), (0, False), (2, False), (3, True), (12, True)])
def test_a_target_that_changes_more_than_a_hundredth_of_the_decisions_gets_a_warning(
    moved: int | None, told: bool
) -> None:
    target = TargetRecord(
        "b", "A board", "tflm", "wheel", "TFLite-Micro, built file", 200, 2000, 0, True, (), True, "x", moved=moved
    )
    stream = io.StringIO()
    show_comparisons(Console(file=stream, width=200), 200, None, (replace(target, decisions_moved=moved),))
    warning = (
        f"  bit-exact\n  warning: TFLite-Micro, built file decides otherwise than the model in {moved} of 200 samples:"
        " its arithmetic or its output's unit is coarser\n  fix: build --backend c, which computes the model's own"
        " integers\n"
    )
    assert stream.getvalue().endswith(warning if told else "  bit-exact\n")
