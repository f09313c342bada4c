"""One live line a stage, one summary line left behind. Without a terminal only the summaries."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from edgeflow.budget import Verdict
from edgeflow.report.terminal import line

_WIDTH = 28


class Terminal:
    """Shows a run on a terminal (or, when `live` is off, as plain lines)."""

    def __init__(self, console: Console, bar: Progress | None, *, quiet: bool) -> None:
        self._console = console
        self._bar = bar
        self._quiet = quiet
        self._task: TaskID | None = None
        self._name = ""

    def stage(self, name: str, what: str) -> None:
        """A step begins, or goes on with something else."""
        self._name = name
        if self._bar is None:
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=None, what=what)

    def epoch(self, stage: str, epoch: int, epochs: int, metric: str, value: float) -> None:
        """A training epoch ended."""
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, total=epochs, completed=epoch, what=f"epoch {epoch} of {epochs}, {metric} {value:.4f}"
            )

    def part(self, done: int, of: int) -> None:
        """So much of the step is done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=of, completed=done)

    def done(self, name: str, result: str) -> None:
        """A step ended."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        if not self._quiet:
            line(self._console, f"  {name.ljust(_WIDTH)} {result}")

    def verdict(self, verdict: Verdict, title: str) -> None:
        """A board's early verdict, as one summary line."""
        parts = [f"{one.name} {one.percent:.0f} %" for one in verdict.lines if one.percent is not None]
        self.done(f"check {title}", f"{'fits' if verdict.fits else 'does not fit'}, estimated: {', '.join(parts)}")


@contextlib.contextmanager
def watcher(console: Console, *, quiet: bool) -> Generator[Terminal]:
    """A Terminal for the length of a run; animated only on a real terminal."""
    if quiet or not console.is_terminal:
        yield Terminal(console, None, quiet=quiet)
        return
    columns = (
        TextColumn("  {task.description:28}"),
        TextColumn("{task.fields[what]}"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Terminal(console, bar, quiet=quiet)
