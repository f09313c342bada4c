"""Typed access to a layer's JSON configuration: a wrong type is an EdgeflowError that names the layer and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard, cast

from edgeflow.errors import EdgeflowError

_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class Fields:
    """A JSON object and how an error names its owner."""

    data: Mapping[str, object]
    where: str

    def raw(self, key: str) -> object:
        """The value as it stands; None when absent."""
        return self.data.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A string. Raises EdgeflowError when it is absent and has no default."""
        value = self.data.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "text")
        return value

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number within [least, most]."""
        return self._integer(key, self.data.get(key, default), least, most)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false; 0 and 1 count."""
        value = self.data.get(key, default)
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise self.wrong(key, "true or false")
        return bool(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A number."""
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "a number")
        try:
            return float(value)
        except OverflowError:
            raise self.wrong(key, "a number") from None

    def shape(self, key: str, rank: int | None, least: int, most: int) -> tuple[int, ...]:
        """A list of whole numbers, each within [least, most]; `rank` is its length if that is known."""
        value = self.data.get(key)
        if rank is not None and isinstance(value, int):
            value = [value] * rank
        if not isinstance(value, (list, tuple)) or (rank is not None and len(cast(list[object], value)) != rank):
            raise self.wrong(key, f"a list of {rank} whole numbers" if rank else "a list of whole numbers")
        return tuple(self._integer(key, one, least, most) for one in cast(list[object], value))

    def _integer(self, key: str, value: object, least: int, most: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, (bool, int)) or not least <= int(value) <= most:
            raise self.wrong(key, f"a whole number from {least} to {most}")
        return int(value)

    def wrong(self, key: str, expected: str) -> EdgeflowError:
        """The error for a value of the wrong type; not raised here."""
        return EdgeflowError(
            f"its {key} is {shown(self.data.get(key))}, not {expected}",
            where=self.where,
            fix="correct the layer, or save the model again if the file is damaged",
        )


def as_object(value: object, where: str, what: str) -> Mapping[str, object]:
    """A JSON object, or an EdgeflowError that says what should be one."""
    if not isinstance(value, dict):
        raise EdgeflowError(f"damaged or not a Keras model: {what} is {shown(value)}, not an object", where=where)
    return cast(Mapping[str, object], value)


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a parsed JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether a parsed JSON value is a list."""
    return isinstance(value, list)


def object_or_empty(value: object) -> Mapping[str, object]:
    """A JSON object; an empty one for anything else."""
    return value if is_object(value) else {}


def as_list(value: object, where: str, what: str) -> list[object]:
    """A JSON list, or an EdgeflowError that says what should be one."""
    if not isinstance(value, list):
        raise EdgeflowError(f"damaged or not a Keras model: {what} is {shown(value)}, not a list", where=where)
    return cast(list[object], value)


def shown(value: object, most: int = _LONGEST_SHOWN) -> str:
    """A value from a file in a message: one printable line of at most `most` characters."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    text = value if isinstance(value, str) else repr(value)
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."
