"""A row of a depthwise layer on MVE: where the taps of its columns lie, and the calls that make them.

    static void NAME(const int8_t *const *x, const uint32_t *w, uint8_t *y);

Columns whose taps all move on alike are made by one call. A tap beside the input reads a pad value; a row above or
below it, which is null, is a row of pad values.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from edgeflow.backends.c.windows import Geometry


@dataclass(frozen=True)
class Run:
    """`count` columns; the input's column that each tap of a kernel row reads for the first, None beside the input."""

    count: int
    taps: tuple[int | None, ...]


def runs(geometry: Geometry) -> tuple[Run, ...]:
    """All columns of a result row, those that read no padding in one run."""

    def taps(column: int) -> tuple[int | None, ...]:
        first = column * geometry.stride_w - geometry.pad_left
        reads = (first + tap * geometry.dilation_w for tap in range(geometry.k_w))
        return tuple(at if 0 <= at < geometry.in_w else None for at in reads)

    found: list[Run] = []
    for inside, columns in itertools.groupby(map(taps, range(geometry.out_w)), lambda one: None not in one):
        group = list(columns)
        found += [Run(len(group), group[0])] if inside else [Run(1, one) for one in group]
    return tuple(found)


def pad_bytes(geometry: Geometry) -> int:
    """Bytes of pad values that the taps read: a row, a column, or none."""
    row = geometry.in_w * geometry.in_c
    return row if geometry.above else geometry.in_c if geometry.beside else 0


def source(name: str, geometry: Geometry, function: str, pad: str) -> str:
    """The C text of the function `name`, which calls `function` and reads the pad values `pad`."""
    lines = [f"static void {name}(const int8_t *const *x, const uint32_t *w, uint8_t *y)", "{"]
    for tap in range(geometry.k_h):
        row = f"x[{tap * geometry.dilation_h}]"
        outside = f"{row} ? {row} : (const int8_t *){pad}" if geometry.above else row
        lines.append(f"    const int8_t *const row{tap} = {outside};")
    lines.append(f"    const int8_t *taps[{geometry.k_h * geometry.k_w}];")
    done = 0
    for run in runs(geometry):
        for number, (row, at) in enumerate(itertools.product(range(geometry.k_h), run.taps)):
            place = f"(const int8_t *){pad}" if at is None else f"row{row} + {at * geometry.in_c}"
            lines.append(f"    taps[{number}] = {place};")
        lines.append(f"    {function}(taps, w, y + {done * geometry.in_c}, {run.count});")
        done += run.count
    return "\n".join([*lines, "}", ""])


def code_bytes(geometry: Geometry) -> int:
    """About the bytes of its code: two instructions a tap of a run."""
    return 40 + 14 * geometry.k_h + len(runs(geometry)) * (6 * geometry.k_h * geometry.k_w + 14)
