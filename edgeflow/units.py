"""Bytes, hertz and seconds: types, reading from text, and the way they are shown."""

from __future__ import annotations

import math
import re
from typing import NewType

Bytes = NewType("Bytes", int)
Hertz = NewType("Hertz", int)
Seconds = NewType("Seconds", float)

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ]+)\s*")
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2}
_HERTZ = {"Hz": 1, "kHz": 1000, "MHz": 1000**2, "GHz": 1000**3}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _read(text: str, table: dict[str, int] | dict[str, float], example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in table:
        raise ValueError(f'"{text}" is not a quantity such as "{example}" (units: {", ".join(table)})')
    return float(match[1]) * table[match[2]]


def parse_bytes(text: str) -> Bytes:
    """`"512 KiB"` -> 524288. Raises ValueError for other text."""
    return Bytes(round(_read(text, _BYTES, "512 KiB")))


def parse_hertz(text: str) -> Hertz:
    """`"180 MHz"` -> 180000000. Raises ValueError for other text."""
    return Hertz(round(_read(text, _HERTZ, "180 MHz")))


def parse_seconds(text: str) -> Seconds:
    """`"50 ms"` -> 0.05. Raises ValueError for other text."""
    return Seconds(_read(text, _SECONDS, "50 ms"))


def _three_digits(value: float) -> str:
    """Three significant digits without an exponent: 1.31, 31.2, 264."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 2)}f}"


def show_bytes(value: float) -> str:
    """Binary kilobytes, so that a 264 KiB memory reads as one: `31.2 KiB`, `264 KiB`."""
    if abs(value) < 1024:
        return f"{value:.0f} B"
    unit, factor = ("KiB", 1024) if abs(value) < 1024**2 else ("MiB", 1024**2)
    return f"{value / factor:.1f}".removesuffix(".0") + f" {unit}"


def show_hertz(value: float) -> str:
    """`180 MHz`."""
    for unit, factor in (("GHz", 1e9), ("MHz", 1e6), ("kHz", 1e3)):
        if value >= factor:
            return f"{value / factor:g} {unit}"
    return f"{value:g} Hz"


def show_seconds(value: float) -> str:
    """`14.0 ms`, three significant digits in the largest fitting unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= factor:
            return f"{_three_digits(value / factor)} {unit}"
    return f"{_three_digits(value / 1e-9)} ns"


def show_count(value: float) -> str:
    """A count of things, with thousands separators."""
    return f"{value:,.0f}"
