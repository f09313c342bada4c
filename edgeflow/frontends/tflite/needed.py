"""Leaves out operators whose results no output needs: converters compute shapes that TFLite-Micro never reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from edgeflow.frontends.tflite.model import Operator, TfliteFile

_SHAPE_INPUTS: Mapping[str, int] = {"RESHAPE": 1, "TRANSPOSE_CONV": 0}
"""Inputs that TFLite-Micro's kernels do not read: the file's own shape of the output counts (their Prepare)."""


def needed(file: TfliteFile) -> TfliteFile:
    """The same file without operators that nothing needs. A custom operator stays: it may do more than compute."""
    wanted, kept = set(file.outputs), list[Operator]()
    for operator in reversed(file.operators):
        if operator.custom or not wanted.isdisjoint(operator.outputs):
            kept.append(operator)
            wanted.update(_read(operator))
    return replace(file, operators=tuple(reversed(kept)))


def _read(operator: Operator) -> Iterator[int]:
    unread = _SHAPE_INPUTS.get(operator.code)
    return (index for place, index in enumerate(operator.inputs) if place != unread)
