"""Reads board files: one TOML file a board, in `boards/` or anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar, overload

from edgeflow.board.cores import Core
from edgeflow.board.families import Family
from edgeflow.board.model import Board, BoardKind, Boot, FpgaBoard, McuBoard, Region, RegionKind
from edgeflow.board.validate import Rejected, validate
from edgeflow.datafiles import data_folder
from edgeflow.errors import EdgeflowError, did_you_mean
from edgeflow.resource import Source, SourceKind
from edgeflow.settings import convert, line_of, read_text
from edgeflow.units import parse_bytes, parse_hertz

_STRICT = {"extra": "forbid"}
Q = TypeVar("Q")
B = TypeVar("B", bound=Board)


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


@dataclass(frozen=True)
class _FpgaFile:
    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT
    kind: BoardKind
    title: str
    chip: str
    part: str
    family: Family
    clock: str
    luts: int
    ffs: int
    dsps: int
    brams: int
    bram_bits: int
    sources: dict[str, _SourceFile] = field(default_factory=dict[str, _SourceFile])
    price: str | None = None


def load_board(name_or_path: str | Path) -> Board:
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


@overload
def all_boards() -> tuple[Board, ...]: ...
@overload
def all_boards(kind: type[B]) -> tuple[B, ...]: ...
def all_boards(kind: type[Board] = Board) -> tuple[Board, ...]:
    """Every board in `boards/` of a kind (`McuBoard`, `FpgaBoard`; else all), by name."""
    boards = (read_board(path) for path in board_files().values())
    return tuple(board for board in boards if isinstance(board, kind))


def board_files() -> dict[str, Path]:
    """Name to file of every board in `boards/`, in name order."""
    return {path.stem: path for path in sorted(data_folder("boards").glob("*.toml"))}


def read_board(path: Path) -> Board:
    """One board file, validated. Raises EdgeflowError naming the file and the line."""
    return parse_board(read_text(path), path.stem, str(path))


def parse_board(text: str, name: str, where: str) -> Board:
    """A board from TOML text; `where` stands for the file in error messages."""
    try:
        board = _READERS[convert(text, _Kind, where).kind](text, name, where)
        validate(board)
    except Rejected as problem:
        raise EdgeflowError(problem.what, where=f"{where}:{line_of(text, problem.key)}", fix=problem.fix) from None
    return board


def _read_mcu(text: str, name: str, where: str) -> McuBoard:
    file = convert(text, _McuFile, where)
    return McuBoard(
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
        sources=_sources(file.sources),
    )


def _read_fpga(text: str, name: str, where: str) -> FpgaBoard:
    file = convert(text, _FpgaFile, where)
    return FpgaBoard(
        name=name,
        title=file.title,
        chip=file.chip,
        part=file.part,
        family=file.family,
        clock=_quantity(parse_hertz, file.clock, ("clock",)),
        luts=file.luts,
        ffs=file.ffs,
        dsps=file.dsps,
        brams=file.brams,
        bram_bits=file.bram_bits,
        price=file.price,
        sources=_sources(file.sources),
    )


def _sources(given: Mapping[str, _SourceFile]) -> dict[str, Source]:
    return {figure: Source(source.kind, source.detail) for figure, source in given.items()}


def _quantity(parse: Callable[[str], Q], text: str, key: tuple[str | int, ...]) -> Q:
    try:
        return parse(text)
    except ValueError as error:
        raise Rejected(key, str(error), "write a number and a unit") from None


_READERS: dict[BoardKind, Callable[[str, str, str], Board]] = {BoardKind.MCU: _read_mcu, BoardKind.FPGA: _read_fpga}
