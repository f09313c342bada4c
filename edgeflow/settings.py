"""Strict TOML: a file becomes a frozen dataclass, or an error that names the file, the line and the near key."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import tomllib
import typing
from pathlib import Path

from edgeflow.errors import EdgeflowError, did_you_mean

if typing.TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_LARGEST = 1 << 20
_ABSENT = object()
_EXTRA = ("unexpected_keyword_argument", "extra_forbidden")
_MISSING = ("missing", "missing_argument")
_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "dataclass_type": "a table",
    "dict_type": "a table",
    "tuple_type": "an array",
}

Location: typing.TypeAlias = tuple[str | int, ...]
T = typing.TypeVar("T")


def load_toml(path: Path, kind: type[T]) -> T:
    """Reads `path` into the dataclass `kind`. Unknown keys and wrong types are errors with their line.

    Raises EdgeflowError for a file that is missing, not TOML, or does not fit the dataclass.
    """
    return convert(read_text(path), kind, str(path))


def read_text(path: Path) -> str:
    """The text of a configuration file of up to 1 MiB. Raises EdgeflowError when it cannot be read."""
    try:
        if path.stat().st_size > _LARGEST:
            raise EdgeflowError("larger than 1 MiB, so not a configuration file", where=str(path))
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EdgeflowError("no such file", where=str(path), fix="check the path") from None
    except IsADirectoryError:
        raise EdgeflowError("a folder, not a file", where=str(path), fix="name the .toml file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeflowError(f"cannot be read as text: {error}", where=str(path)) from None


def convert(text: str, kind: type[T], name: str) -> T:
    """TOML text into the dataclass `kind`; `name` stands for the file in error messages."""
    from pydantic import TypeAdapter, ValidationError

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{name}:{line[1]}" if line else name
        raise EdgeflowError(f"not valid TOML: {error}", where=where, fix="correct that line") from None
    except RecursionError:
        raise EdgeflowError("not valid TOML: nested too deeply", where=name) from None
    try:
        # As JSON, because that is where pydantic's strict mode takes a list for a tuple and a table for a dataclass,
        # and still refuses "8", 8.0 or true for an integer.
        return TypeAdapter(kind).validate_json(json.dumps(data, default=lambda date: [str(date)]), strict=True)
    except RecursionError:
        raise EdgeflowError("not valid TOML: nested too deeply", where=name) from None
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise EdgeflowError("not valid TOML: nested too deeply", where=name) from None
        raise _explain(error.errors(), kind, text, name) from None


def _explain(problems: list[ErrorDetails], kind: type[object], text: str, name: str) -> EdgeflowError:
    """The first problem as an error. Unknown keys come first: a misspelt key is also a missing one."""
    data = tomllib.loads(text)
    found = [(one, _real_part(one, data)) for one in problems]
    problem, location = min(found, key=lambda one: (one[0]["type"] not in _EXTRA, line_of(text, one[1])))
    where = f"{name}:{line_of(text, location)}"
    key = next((part for part in reversed(location) if isinstance(part, str)), "")
    section = section_of(location)
    if problem["type"] in _EXTRA:
        known = _known_keys(kind, location[:-1])
        hint = did_you_mean(key, known)
        fix = None if hint else f"known keys here: {', '.join(known)}"
        return EdgeflowError(f'unknown key "{key}"{section}{hint}', where=where, fix=fix)
    if problem["type"] in _MISSING:
        return EdgeflowError(f'key "{key}"{section} is missing', where=where, fix=_addition(kind, location))
    subject = f'key "{key}"{section}: ' if key else ""
    wanted = [_WANTED.get(one["type"]) for one, place in found if place == location]
    if all(wanted):
        given = _shown(problem["input"])
        what = f"{subject}must be {' or '.join(str(one) for one in wanted)}{given}"
        return EdgeflowError(what, where=where, fix=_header(location, problem["type"]))
    said = problem["msg"].removeprefix("Value error, ")
    hint = did_you_mean(problem["input"], _choices(problem)) if isinstance(problem["input"], str) else ""
    return EdgeflowError(f"{subject}{said[:1].lower()}{said[1:]}{hint}", where=where)


def _choices(problem: ErrorDetails) -> tuple[str, ...]:
    """The words that a key takes, where it takes only some."""
    expected = str(problem.get("ctx", {}).get("expected", ""))
    return tuple(re.findall(r"'([^']*)'", expected))


def _addition(kind: object, location: Location) -> str:
    """What to write for a missing key: a value, a table or an array of tables."""
    for part in location:
        kind = _descend(kind, part)
    name = ".".join(part for part in location if isinstance(part, str))
    if _dataclass_in(kind) is None:
        return f"add {location[-1]} = ..."
    return f"add a [[{name}]] table" if typing.get_origin(kind) is tuple else f"add a [{name}] table"


def _shown(value: object) -> str:
    """`, not "ten"` for a short value that can be shown, else an empty string."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, bool | int | float | str) else ""
    return f", not {text}" if 0 < len(text) <= 40 else ""


def _header(location: Location, problem: str) -> str | None:
    """How to write a table, or an array of tables, that the file has in another form."""
    name = ".".join(part for part in location if isinstance(part, str))
    if problem == "tuple_type":
        return f"write [[{name}]] above each one's keys, or {name} = [ ... ]"
    return f"write [{name}] above its keys, or {name} = {{ ... }}" if problem.startswith("d") else None


def _real_part(problem: ErrorDetails, data: object) -> Location:
    """A problem's location without what pydantic adds to it, such as the members of a union."""
    location = problem["loc"]
    for depth, part in enumerate(location):
        data = _value(data, part)
        if data is _ABSENT:
            return location[: depth + 1] if problem["type"] in _MISSING else location[:depth]
    return location


def section_of(location: Location) -> str:
    """` in [prune]` or ` in [[targets]]` for a key's location, empty for a key at the top of the file."""
    parent = location[:-1]
    if location and isinstance(location[-1], int):
        parent = location[:-2]
    names = ".".join(part for part in parent if isinstance(part, str))
    if not names:
        return ""
    return f" in [[{names}]]" if isinstance(parent[-1], int) else f" in [{names}]"


def _known_keys(kind: object, location: Location) -> tuple[str, ...]:
    """The field names of the dataclass that sits at `location` inside `kind`."""
    for part in location:
        kind = _descend(kind, part)
    kind = _dataclass_in(kind)
    return tuple(field.name for field in dataclasses.fields(kind)) if kind else ()


def _dataclass_in(kind: object) -> type | None:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind
    found = (_dataclass_in(argument) for argument in typing.get_args(kind))
    return next((one for one in found if one), None)


def _descend(kind: object, part: str | int) -> object:
    here = _dataclass_in(kind) if not isinstance(part, int) else None
    if here is not None and typing.get_origin(kind) not in (dict, tuple):
        return typing.get_type_hints(here).get(str(part), kind)
    arguments = typing.get_args(kind)
    return arguments[-1] if typing.get_origin(kind) is dict and arguments else arguments[0] if arguments else kind


def line_of(text: str, location: Location) -> int:
    """The 1-based line of a key path such as ("targets", 0, "board"); that of the nearest enclosing key if not found.

    The TOML reader itself answers: it is the line whose addition brings the path into being, so dotted keys,
    inline tables, quoted keys and comments are as TOML defines them.
    """
    lines = [line + "\n" for line in text.split("\n")]

    @functools.cache
    def parsed(count: int) -> object:
        try:
            return tomllib.loads("".join(lines[:count]))
        except (tomllib.TOMLDecodeError, RecursionError):
            return None

    def whole(count: int) -> int:
        """The longest beginning of at most `count` lines that is TOML by itself (not in mid-array)."""
        while count and parsed(count) is None:
            count -= 1
        return count

    for depth in range(len(location), 0, -1):
        if not _holds(parsed(whole(len(lines))), location[:depth]):
            continue
        low, high = 0, len(lines)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _holds(parsed(whole(middle)), location[:depth]) else (middle, high)
        return whole(high - 1) + 1
    return 1


def _holds(data: object, location: Location) -> bool:
    """Whether parsed TOML has a value at `location`."""
    for part in location:
        data = _value(data, part)
    return data is not _ABSENT


def _value(data: object, part: str | int) -> object:
    """The value of a key or an array element, or `_ABSENT`."""
    if isinstance(data, dict):
        return typing.cast(dict[str | int, object], data).get(part, _ABSENT)
    if isinstance(data, list) and isinstance(part, int):
        elements = typing.cast(list[object], data)
        return elements[part] if part < len(elements) else _ABSENT
    return _ABSENT
