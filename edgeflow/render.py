"""Text generation: strict templates, and the only ways for a model's name to reach generated code."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from typing import TYPE_CHECKING

from edgeflow import __version__
from edgeflow.datafiles import data_folder

if TYPE_CHECKING:
    import jinja2

_RESERVED_WORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long"
    " register restrict return short signed sizeof static struct switch typedef union unsigned void volatile"
    " while bool true false class namespace template this new delete operator public private protected"
    " virtual friend using try catch throw explicit export mutable typename and or not xor main asm"
    " int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t null"
)
_RESERVED = frozenset(_RESERVED_WORDS.split())
_LONGEST = 48


def identifier(name: str) -> str:
    """A C, C++, Verilog and CMake identifier that resembles `name`: [a-z][a-z0-9_]*, at most 48 characters."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    text = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_").lower()[:_LONGEST].rstrip("_")
    if not text or text[0].isdigit():
        text = f"n_{text}".rstrip("_")
    return f"{text}_" if text in _RESERVED else text


class Identifiers:
    """Hands out identifiers that never repeat; the same key always gets the same one."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, key: str) -> str:
        """The identifier of a tensor or layer name."""
        if key not in self._given:
            base = candidate = identifier(key)
            number = 1
            while candidate in self._taken:
                number += 1
                candidate = f"{base}_{number}"
            self._taken.add(candidate)
            self._given[key] = candidate
        return self._given[key]


def comment(text: object) -> str:
    """`text` made harmless inside a one-line C, Verilog, CMake or Tcl comment: printable ASCII, no `*/`, no `\\`."""
    plain = str(text).encode("ascii", "backslashreplace").decode()
    plain = "".join(one if " " <= one <= "~" else "?" for one in plain)
    plain = plain.replace("*/", "* /").replace("/*", "/ *").replace("\\", "|")
    return re.sub(r"\?(?=\?)", "? ", plain)


def quoted(text: object) -> str:
    """`text` as a C string literal: printable ASCII only, quotes and backslashes escaped."""
    return json.dumps(comment(text))


def toml_string(text: object) -> str:
    """`text` as a TOML basic string in ASCII. (JSON's escapes, surrogates apart, are TOML's.)"""
    plain = str(text).encode("utf-8", "replace").decode()
    return json.dumps("".join(one if ord(one) <= 0xFFFF else "?" for one in plain))


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(data_folder("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=jinja2.select_autoescape(("html.j2", "html")),
    )
    environment.filters["comment"] = comment
    environment.filters["quoted"] = quoted
    environment.filters["toml"] = toml_string
    return environment


def render(template: str, **values: object) -> str:
    """Renders `templates/<template>`; a name that the template needs and nobody gave is an error."""
    return _environment().get_template(template).render(edgeflow_version=__version__, **values)
