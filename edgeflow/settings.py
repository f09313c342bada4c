"""Strict TOML: a file becomes a frozen dataclass, or an error that names the file, the line and the near key."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from pathlib import Path

from edgeflow.errors import EdgeflowError, did_you_mean

if typing.TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_LARGEST = 1 << 20
_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*([A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*=""")

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
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise _explain(error.errors()[0], kind, text, name) from None


def _explain(problem: ErrorDetails, kind: type[object], text: str, name: str) -> EdgeflowError:
    location = tuple(part for part in problem["loc"])
    where = f"{name}:{line_of(text, location)}"
    keys = [part for part in location if isinstance(part, str)]
    section = f" in [{'.'.join(keys[:-1])}]" if keys[:-1] else ""
    key = keys[-1] if keys else ""
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _known_keys(kind, location[:-1])
        hint = did_you_mean(key, known)
        fix = None if hint else f"known keys here: {', '.join(known)}"
        return EdgeflowError(f'unknown key "{key}"{section}{hint}', where=where, fix=fix)
    if problem["type"] in ("missing", "missing_argument"):
        return EdgeflowError(f'key "{key}"{section} is missing', where=where, fix=f"add {key} = ...")
    said = problem["msg"].removeprefix("Value error, ")
    subject = f'key "{key}"{section}: ' if key else ""
    return EdgeflowError(f"{subject}{said[:1].lower()}{said[1:]}", where=where)


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
    """The 1-based line of a key path such as ("prune", "sparsity"); the nearest enclosing line if not found."""
    wanted = [str(part) for part in location]
    best, best_depth = 1, 0
    prefix: list[str] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            prefix = [part.strip().strip("\"'") for part in header[1].split(".")]
            if line.lstrip().startswith("[["):
                index = counts.get(header[1], 0)
                counts[header[1]] = index + 1
                prefix.append(str(index))
            path = prefix
        elif key := _KEY.match(line):
            path = [*prefix, key[1].strip("\"'")]
        else:
            continue
        depth = len(path)
        if depth > best_depth and wanted[:depth] == path:
            best, best_depth = number, depth
    return best
