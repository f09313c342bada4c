"""One self-contained HTML page of a run."""

from __future__ import annotations

from pathlib import Path

from edgeflow.artifacts import write_file
from edgeflow.render import render
from edgeflow.report.memory import HEIGHT, PLOT, WIDTH, layer_table, picture
from edgeflow.report.record import RunRecord
from edgeflow.report.terminal import mismatch_text, moved_text, show_value, why_other

NAME = "report.html"


def write_page(folder: Path, record: RunRecord) -> Path:
    """Writes `report.html` beside run.json. It needs no network and runs no script."""
    path = folder / NAME
    write_file(path, page(record).encode(errors="replace"))
    return path


def page(record: RunRecord) -> str:
    """The page's text; everything that comes from a model is escaped."""
    texts = {"show": show_value, "mismatch": mismatch_text, "moved": moved_text, "why": why_other}
    drawn = {"picture": picture, "layer_table": layer_table, "size": (WIDTH, HEIGHT), "plot": PLOT}
    return render("report/report.html.j2", record=record, **texts, **drawn)
