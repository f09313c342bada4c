"""Strict TOML: what is accepted, and the exact text of every refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.settings import convert, line_of, load_toml, section_of

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True)
class Format:
    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    bits: int
    integer: int = 0


@dataclass(frozen=True)
class Prune:
    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    sparsity: float
    layers: dict[str, Format] = field(default_factory=dict[str, Format])


@dataclass(frozen=True)
class Target:
    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    board: str
    options: dict[str, int | str | bool] = field(default_factory=dict[str, int | str | bool])


@dataclass(frozen=True)
class File:
    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    name: str
    prune: Prune
    targets: tuple[Target, ...] = ()
    weights: Format | None = None


GOOD = """\
name = "digits"

[prune]
sparsity = 1

[[targets]]
board = "a"

[[targets]]
board = "b"
options = { unroll = 4, name = "x", fast = true }
"""


def test_tables_arrays_of_tables_and_options_become_frozen_dataclasses() -> None:
    assert convert(GOOD, File, "f.toml") == File(
        name="digits",
        prune=Prune(sparsity=1.0),
        targets=(Target("a"), Target("b", {"unroll": 4, "name": "x", "fast": True})),
    )


HEAD = 'name = "digits"\n[prune]\n'
REFUSALS = {
    "misspelt key before the missing one": (
        HEAD + "sparcity = 0.5",
        'f.toml:3: unknown key "sparcity" in [prune]; did you mean "sparsity"?',
    ),
    "unknown key with nothing near": (
        HEAD + "sparsity = 0.5\nzzz = 1",
        'f.toml:4: unknown key "zzz" in [prune]\n  fix: known keys here: sparsity, layers',
    ),
    "unknown table": (
        HEAD + "sparsity = 0.5\n[wieghts]\nbits = 4",
        'f.toml:4: unknown key "wieghts"; did you mean "weights"?',
    ),
    "in the second of an array of tables": (
        GOOD.replace('board = "b"', 'bord = "b"'),
        'f.toml:10: unknown key "bord" in [[targets]]; did you mean "board"?',
    ),
    "in an inline table": (
        'name = "x"\nweights = { bits = 4, integr = 0 }\n[prune]\nsparsity = 0',
        'f.toml:2: unknown key "integr" in [weights]; did you mean "integer"?',
    ),
    "in a dotted table": (
        HEAD + "sparsity = 0.5\n[prune.layers.conv1]\nbits = 4\nintger = 1",
        'f.toml:6: unknown key "intger" in [prune.layers.conv1]; did you mean "integer"?',
    ),
    "in a dotted key": (
        HEAD + "sparsity = 0.5\nlayers.conv1.bist = 4",
        'f.toml:4: unknown key "bist" in [prune.layers.conv1]; did you mean "bits"?',
    ),
    "missing key": ("# nothing\n" + HEAD, 'f.toml:3: key "sparsity" in [prune] is missing\n  fix: add sparsity = ...'),
    "missing table": ('name = "x"', 'f.toml:1: key "prune" is missing\n  fix: add a [prune] table'),
    "text for a number": (
        HEAD + 'sparsity = "half"',
        'f.toml:3: key "sparsity" in [prune]: must be a number, not "half"',
    ),
    "float for an integer": (
        HEAD + "sparsity = 0\nlayers.a = { bits = 8.0 }",
        'f.toml:4: key "bits" in [prune.layers.a]: must be a whole number, not 8.0',
    ),
    "true for an integer": (
        HEAD + "sparsity = 0\nlayers.a = { bits = true }",
        'f.toml:4: key "bits" in [prune.layers.a]: must be a whole number, not true',
    ),
    "a number for a table": (
        'name = "x"\nprune = 3',
        'f.toml:2: key "prune": must be a table, not 3\n  fix: write [prune] above its keys, or prune = { ... }',
    ),
    "a table for an array of tables": (
        HEAD + 'sparsity = 0\n[targets]\nboard = "a"',
        'f.toml:4: key "targets": must be an array\n'
        "  fix: write [[targets]] above each one's keys, or targets = [ ... ]",
    ),
    "no member of a union": (
        GOOD.replace("unroll = 4", "unroll = 4.5"),
        'f.toml:11: key "unroll" in [targets.options]: '
        "must be a whole number or text in quotes or true or false, not 4.5",
    ),
    "not TOML": (
        'name = "digits"\n[prune\n',
        "f.toml:2: not valid TOML: Expected ']' at the end of a table declaration (at line 2, column 7)\n"
        "  fix: correct that line",
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_say_what_where_and_how_to_fix(text: str, expected: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        convert(text, File, "f.toml")
    assert str(caught.value) == expected


LINES = """\
# a comment = 1
"quoted key" = 1
a.b.c = 2
inline = { x = { y = 1 } }
many = [
    { z = 1 },
    { z = 2 },
]
text = \"\"\"
[not.a.table]
x = 1
\"\"\"

[t . 'u']
v = 1
[[r]]
[r.deep]
k = 1
[[r]]
[r.deep]
k = 2
"""


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("quoted key",), 2),
        (("a", "b", "c"), 3),
        (("inline", "x", "y"), 4),
        (("many", 1, "z"), 5),
        (("text",), 9),
        (("t",), 14),
        (("t", "u", "v"), 15),
        (("t", "u", "missing"), 14),
        (("r", 0, "deep", "k"), 18),
        (("r", 1, "deep"), 20),
        (("r", 1, "deep", "k"), 21),
        (("r", 5), 16),
        (("absent",), 1),
        ((), 1),
    ],
)
def test_a_key_has_the_line_that_toml_gives_it(location: tuple[str | int, ...], line: int) -> None:
    assert line_of(LINES, location) == line


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ((), ""),
        (("name",), ""),
        (("prune", "sparsity"), " in [prune]"),
        (("targets", 1, "board"), " in [[targets]]"),
        (("targets", 1), ""),
        (("targets", 1, "options", "x"), " in [targets.options]"),
    ],
)
def test_sections_are_written_as_in_toml(location: tuple[str | int, ...], expected: str) -> None:
    assert section_of(location) == expected


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(EdgeflowError) as caught:
        load_toml(missing, File)
    assert str(caught.value) == f"{missing}: no such file\n  fix: check the path"
    with pytest.raises(EdgeflowError) as caught:
        load_toml(tmp_path, File)
    assert str(caught.value) == f"{tmp_path}: a folder, not a file\n  fix: name the .toml file in it"


def test_deep_nesting_and_odd_values_are_refused_not_crashed_on() -> None:
    with pytest.raises(EdgeflowError, match="not valid TOML"):
        convert("name = " + "[" * 3000, File, "f.toml")
    with pytest.raises(EdgeflowError, match=r"f\.toml: not valid TOML: nested too deeply"):
        convert("name = " + "[" * 300 + "]" * 300, File, "f.toml")
    assert convert(HEAD + "sparsity = nan", File, "f.toml").prune.sparsity != 0
    with pytest.raises(EdgeflowError) as caught:
        convert("name = 1979-05-27\n[prune]\nsparsity = 1979-05-27", File, "f.toml")
    assert str(caught.value) == 'f.toml:1: key "name": must be text in quotes'
