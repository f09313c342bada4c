"""Reads board files: one TOML file a board, in `boards/` or anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from edgeflow.board.cores import Core
from edgeflow.board.model import BoardKind, Boot, McuBoard, Region, RegionKind
from edgeflow.board.validate import Rejected, validate
from edgeflow.datafiles import data_folder
from edgeflow.errors import EdgeflowError, did_you_mean
from edgeflow.resource import Source, SourceKind
from edgeflow.settings import convert, line_of, read_text
from edgeflow.units import parse_bytes, parse_hertz

_STRICT = {"extra": "forbid"}
Q = TypeVar("Q")


@dataclass(frozen=True)
class _Kind:
    kind: BoardKind


@dataclass(frozen=True)
class _SourceFile:
    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    kind: SourceKind
    detail: str


@dataclass(frozen=True)
class _RegionFile:
    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    name: str
    kind: RegionKind
    origin: int
    size: str
    note: str = ""


@dataclass(frozen=True)
class _McuFile:
    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    kind: BoardKind
    title: str
    chip: str
    core: Core
    clock: str
    memories: tuple[_RegionFile, ...]
    sources: dict[str, _SourceFile] = field(default_factory=dict[str, _SourceFile])
    boot: Boot = Boot.VECTORS
    price: str | None = None


def load_board(name_or_path: str | Path) -> McuBoard:
    """The board of that name in `boards/`, or of that `.toml` file.

    Raises EdgeflowError for an unknown name (with the near one) and for a file that breaks a rule
    (with the file and line).
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        return read_board(Path(text))
    known = board_files()
    if text not in known:
        hint = did_you_mean(text, known)
        raise EdgeflowError(
            f'unknown board "{text}"{hint}',
            fix=f"choose one of {', '.join(known)}, or give the path of a board file such as my-board.toml",
        )
    return read_board(known[text])


def all_boards() -> tuple[McuBoard, ...]:
    """Every board in `boards/`, by name."""
    return tuple(read_board(path) for path in board_files().values())


def board_files() -> dict[str, Path]:
    """Name to file of every board in `boards/`, in name order."""
    return {path.stem: path for path in sorted(data_folder("boards").glob("*.toml"))}


def read_board(path: Path) -> McuBoard:
    """One board file, validated. Raises EdgeflowError naming the file and the line."""
    return parse_board(read_text(path), path.stem, str(path))


def parse_board(text: str, name: str, where: str) -> McuBoard:
    """A board from TOML text; `where` stands for the file in error messages."""
    return _READERS[convert(text, _Kind, where).kind](text, name, where)


def _read_mcu(text: str, name: str, where: str) -> McuBoard:
    file = convert(text, _McuFile, where)
    try:
        board = McuBoard(
            name=name,
            title=file.title,
            chip=file.chip,
            core=file.core,
            clock=_quantity(parse_hertz, file.clock, ("clock",)),
            memories=tuple(
                Region(
                    region.name,
                    region.kind,
                    region.origin,
                    _quantity(parse_bytes, region.size, ("memories", index, "size")),
                    region.note,
                )
                for index, region in enumerate(file.memories)
            ),
            boot=file.boot,
            price=file.price,
            sources={figure: Source(source.kind, source.detail) for figure, source in file.sources.items()},
        )
        validate(board)
    except Rejected as problem:
        raise EdgeflowError(problem.what, where=f"{where}:{line_of(text, problem.key)}", fix=problem.fix) from None
    return board


def _quantity(parse: Callable[[str], Q], text: str, key: tuple[str | int, ...]) -> Q:
    try:
        return parse(text)
    except ValueError as error:
        raise Rejected(key, str(error), "write a number and a unit") from None


_READERS: dict[BoardKind, Callable[[str, str, str], McuBoard]] = {BoardKind.MCU: _read_mcu}
