"""How training tells the outside how far it is. Nothing here prints."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called after every finished epoch."""

    def __call__(self, stage: str, epoch: int, epochs: int, metric: str, value: float) -> None:
        """`stage` is "teacher" or "student"; `epoch` counts from 1 to `epochs`; `metric` names `value`."""
        ...


def silent(stage: str, epoch: int, epochs: int, metric: str, value: float) -> None:
    """A Progress that says nothing."""
