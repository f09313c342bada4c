"""What every quantizer's configuration shares: alpha, noise, bits."""

from __future__ import annotations

import math
from enum import Enum
from typing import TypeAlias, cast

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.fields import Fields, shown

MOST_BITS = 24
MOST_INTEGER = 32
_MOST_SCALES = 1 << 20
_SMALLEST, _LARGEST = 2.0**-32, 2.0**32


class Auto(Enum):
    """An alpha that QKeras computes from the weights at every call."""

    FLOAT = "auto"
    PO2 = "auto_po2"


Alpha: TypeAlias = tuple[float, ...] | Auto | None
"""None (1), one float32 number for all, one for each entry of the last axis, or automatic."""


def read_alpha(fields: Fields) -> Alpha:
    """The alpha of a configuration. Raises Unsupported for what is no positive scale."""
    alpha = fields.raw("alpha")
    if alpha is None:
        return None
    if isinstance(alpha, str):
        if alpha not in {one.value for one in Auto}:
            raise Unsupported(
                f"alpha '{shown(alpha)}' is not one that QKeras knows", where=fields.where, fix="use alpha=1"
            )
        return Auto(alpha)
    return read_scales(fields, "alpha")


def read_scales(fields: Fields, key: str) -> tuple[float, ...]:
    """A number or an array that varies along its last axis only; float32, positive.

    A NumPy array is stored as a list (QKeras 0.9) or as a `__numpy__` object (qkeras-v3).
    """
    value = fields.raw(key)
    if isinstance(value, dict):
        stored = cast(dict[str, object], value).get("config")
        value = cast(dict[str, object], stored).get("value") if isinstance(stored, dict) else None
    try:
        array = np.asarray("" if value is None else value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise fields.wrong(key, "a number or a list of numbers") from None
    if not 0 < array.size <= _MOST_SCALES or array.size != (array.shape[-1] if array.ndim else 1):
        raise Unsupported(
            f"{key} of shape {array.shape} varies along another axis than the last",
            where=fields.where,
            fix=f"give it one {key} for each output channel",
        )
    if not ((array >= _SMALLEST) & (array <= _LARGEST)).all():
        worst = float(array.min() if array.min() < _SMALLEST else array.max())
        raise Unsupported(f"{key} {worst:g} is not a number from 2^-32 to 2^32", where=fields.where, fix=f"use {key}=1")
    return tuple(float(one) for one in array.astype(np.float32).reshape(-1))


def is_po2(value: float) -> bool:
    """Whether a positive number is a power of two."""
    return math.frexp(value)[0] == 0.5


def activation_exponent(name: str, fields: Fields) -> int:
    """log2 of an activation's alpha. Raises Unsupported where it is automatic or no power of two."""
    alpha = read_alpha(fields)
    if isinstance(alpha, Auto):
        raise Unsupported(
            f"alpha='{alpha.value}' on an activation depends on the batch, so no fixed integers equal it",
            where=fields.where,
            fix=f"give the activation's {name} alpha=1",
        )
    if not alpha:
        return 0
    if len(alpha) > 1:
        raise Unsupported(
            "alpha is a list, and an activation has one step", where=fields.where, fix="use alpha=1 or a power of two"
        )
    scale = max(alpha)
    if not is_po2(scale):
        raise Unsupported(
            f"alpha {scale:g} is not a power of two", where=fields.where, fix="use alpha=1 or a power of two"
        )
    return math.frexp(scale)[1] - 1


def reject_noise(fields: Fields) -> None:
    """Refuses a quantizer that blends its unquantized input in."""
    if fields.number("qnoise_factor", 1.0) != 1.0:
        raise Unsupported(
            f"qnoise_factor {fields.number('qnoise_factor'):g} blends unquantized values in",
            where=fields.where,
            fix="set qnoise_factor to 1 before saving",
        )


def reject_set(fields: Fields, *keys: str) -> None:
    """Refuses keys that only a quantizer spelled as text can carry, and that change its scales."""
    for key in keys:
        if fields.raw(key) is not None:
            raise Unsupported(f"{key} is not supported", where=fields.where, fix=f"leave {key} out")


def fails_in_qkeras(what: str, fields: Fields, fix: str) -> EdgeflowError:
    """The error for a configuration that no QKeras model can have run with; not raised here."""
    return Unsupported(f"{what} fails in QKeras itself", where=fields.where, fix=fix)
