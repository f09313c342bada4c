"""Folders that backends emit: packed with what they were made from, and read back; options given as text."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_type_hints

from edgeflow import __version__
from edgeflow.artifacts import MANIFEST, Bundle, file_digest, sha256
from edgeflow.backends import BACKENDS
from edgeflow.backends.protocol import OTHER_BACKEND, Artefact, Backend
from edgeflow.board import Board, all_boards, board_text, parse_board
from edgeflow.errors import EdgeflowError, Unsupported, did_you_mean
from edgeflow.ir.graph import Graph
from edgeflow.resource import Finding, Severity
from edgeflow.semantics.serialize import MODEL, graph_digest, load_graph, to_files

_SCHEMA = 1
_LARGEST_MANIFEST = 1 << 20
_OTHER_KINDS = {
    "graph": ("an imported graph, not a built project", "edgeflow build {} --board B -o firmware"),
    "vectors": ("a folder of vectors, not a built project", "give the folder that edgeflow build made"),
    "run": ("a run's output, not one built project", "give the folder of one target inside it"),
}
"""Folders that edgeflow made and that are taken for a built one: what each is, and what to do."""


def backend_named(name: str) -> Backend:
    """The backend of that name. Raises EdgeflowError with the near one."""
    if name not in BACKENDS:
        raise EdgeflowError(
            f'unknown backend "{name}"{did_you_mean(name, BACKENDS)}', fix=f"choose one of: {', '.join(BACKENDS)}"
        )
    return BACKENDS[name]


def parse_options(backend: Backend, given: Mapping[str, object]) -> object:
    """A backend's options from names and values (text is converted). Raises EdgeflowError for a bad one."""
    hints = get_type_hints(backend.Options)
    values: dict[str, object] = {}
    for name, value in given.items():
        if name not in hints:
            known = ", ".join(f"{one.name}={one.default!r}" for one in dataclasses.fields(backend.Options))
            raise EdgeflowError(
                f'backend {backend.name} has no option "{name}"{did_you_mean(name, hints)}', fix=f"options: {known}"
            )
        values[name] = _convert(name, value, hints[name])
    try:
        return backend.Options(**values)
    except ValueError as error:
        raise EdgeflowError(f"backend {backend.name}: {error}") from None


def _convert(name: str, value: object, kind: type) -> object:
    if isinstance(value, bool) or not isinstance(value, str) or kind is str:
        if isinstance(value, kind) and (kind is bool) == isinstance(value, bool):
            return value
    elif kind is bool and value in ("true", "false"):
        return value == "true"
    elif kind is int:
        with contextlib.suppress(ValueError):
            return int(value)
    raise EdgeflowError(f'option "{name}" needs a value of type {kind.__name__}, not {value!r}')


def package(
    backend: Backend, source: Graph, board: Board, options: object, beside: Mapping[str, bytes] = MappingProxyType({})
) -> Bundle:
    """A backend's project with what it was made from: `graph/` (and in it `beside`), `board.toml` and the manifest.

    Where the target needs other arithmetic, `adapted/` holds the graph that it computes.
    Raises Unsupported for the first finding that makes `emit` impossible.
    """
    adapted = backend.adapt(source, board, options)
    refuse(backend.check(adapted, board, options), backend.name, source, board)
    files = dict(backend.emit(adapted, board, options).files)
    files |= {f"graph/{name}": content for name, content in {**to_files(source), **beside}.items()}
    if graph_digest(adapted) != graph_digest(source):
        files |= {f"adapted/{name}": content for name, content in to_files(adapted).items()}
    files["board.toml"] = board_text(board).encode()
    manifest = {
        "edgeflow": __version__,
        "schema": _SCHEMA,
        "backend": backend.name,
        "board": board.name,
        "options": dataclasses.asdict(cast(Any, options)),
        "graph": graph_digest(source),
        "files": {name: sha256(content) for name, content in sorted(files.items())},
    }
    return Bundle({**files, MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()})


def refuse(findings: tuple[Finding, ...], backend: str, source: Graph, board: Board) -> None:
    """Raises Unsupported for the first finding that makes `emit` of the graph `source` impossible."""
    for one in findings:
        if one.severity is Severity.ERROR:
            where = f"layer '{one.layer}'" if one.layer else f"backend {backend}"
            fix = _backend_that_can(source, board, backend) if one.fix == OTHER_BACKEND else one.fix
            raise Unsupported(one.what, where=where, fix=fix)


def _backend_that_can(source: Graph, board: Board, without: str) -> str:
    """What to type for another backend that takes the graph, on this board if it can, else on one that it knows."""
    for name, backend in BACKENDS.items():
        for place in (board, *all_boards()) if name != without else ():
            errors = _errors(backend, source, place)
            if not errors:
                return f"use --backend {name}{'' if place is board else f' --board {place.name}'}, which can"
            if any(one.layer for one in errors):
                break
    return "no other backend can either; change that layer"


def _errors(backend: Backend, source: Graph, board: Board) -> list[Finding]:
    """What keeps a backend from a graph; one that names a layer holds for every board."""
    options = backend.Options()
    try:
        findings = backend.check(backend.adapt(source, board, options), board, options)
    except EdgeflowError as error:
        return [Finding(Severity.ERROR, error.what, layer=error.where or source.name)]
    return [one for one in findings if one.severity is Severity.ERROR]


def load_artefact(folder: Path) -> Artefact:
    """An emitted folder with its graph, board and options. Raises EdgeflowError when it is not one."""
    path = folder / MANIFEST
    if folder.is_file():
        raise EdgeflowError(
            "a file, not a folder that edgeflow build made",
            where=str(folder),
            fix=f"edgeflow build {folder} --board B -o firmware, if it is a model; then give that folder",
        )
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise ValueError("too large")
        manifest = cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
        if manifest.get("kind") in _OTHER_KINDS:
            what, fix = _OTHER_KINDS[manifest["kind"]]
            raise EdgeflowError(what, where=str(folder), fix=fix.format(folder))
        if manifest["schema"] != _SCHEMA:
            raise ValueError(f"version {manifest['schema']}, this edgeflow reads {_SCHEMA}")
        backend = backend_named(str(manifest["backend"]))
        board = parse_board((folder / "board.toml").read_text(), str(manifest["board"]), str(folder / "board.toml"))
        options = parse_options(backend, manifest["options"])
        digest = str(manifest["graph"])
        _written(folder)
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise EdgeflowError(
            f"no {name} here, so not a folder that edgeflow build made",
            where=str(folder),
            fix=f"edgeflow build MODEL --board B -o {folder}",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EdgeflowError(f"damaged {MANIFEST}: {error}", where=str(folder), fix="build it again") from None
    if not (folder / "graph" / MODEL).is_file():
        raise EdgeflowError(f"its graph/{MODEL} is missing", where=str(folder), fix="build it again")
    source = load_graph(folder / "graph")
    if digest != graph_digest(source):
        raise EdgeflowError(
            f"the graph in it is not the one that {MANIFEST} names", where=str(folder), fix="build it again"
        )
    graph = load_graph(folder / "adapted") if (folder / "adapted").is_dir() else source
    return Artefact(folder, backend.name, graph, board, options, digest, source)


def edited_files(folder: Path) -> tuple[str, ...]:
    """Files that are no longer as edgeflow wrote them: what runs is then the user's own version."""
    return tuple(
        name
        for name, digest in _written(folder).items()
        if not (folder / name).is_file() or file_digest(folder / name) != digest
    )


def added_files(folder: Path) -> tuple[str, ...]:
    """Files that edgeflow did not write, but for its own reports and what a build leaves in `build/`."""
    known = {*_written(folder), MANIFEST, "run.json", "report.html"}
    present = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple(str(path) for path in present if path.as_posix() not in known and path.parts[0] != "build")


def _written(folder: Path) -> dict[str, str]:
    """The manifest's files and digests. Raises EdgeflowError for a damaged one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EdgeflowError(f"damaged {MANIFEST}: {error}", where=str(folder), fix="build it again") from None
