"""Every file in boards/ is valid, complete and honest about its sources. A new board needs no edit here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.board import (
    Boot,
    Core,
    Family,
    FpgaBoard,
    McuBoard,
    RegionKind,
    all_boards,
    board_files,
    board_text,
    load_board,
    parse_board,
    read_board,
)
from edgeflow.board.validate import figures
from edgeflow.resource import SourceKind

FILES = sorted(Path(__file__).resolve().parents[2].joinpath("boards").glob("*.toml"))


def test_boards_are_found() -> None:
    assert [path.stem for path in FILES] == list(board_files())
    assert [board.name for board in all_boards()] == list(board_files())
    assert {"nucleo-f446re", "rpi-pico", "stm32f103c8", "microbit-v2"} <= {one.name for one in all_boards(McuBoard)}
    assert {"pynq-z2", "icebreaker"} <= {one.name for one in all_boards(FpgaBoard)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_board_is_valid(path: Path) -> None:
    board = read_board(path)
    assert board.name == path.stem
    assert board == load_board(board.name)
    if isinstance(board, McuBoard):
        assert board.flash > 0
        assert board.ram > 0
    else:
        assert isinstance(board, FpgaBoard)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_board_written_as_text_reads_back_equal(path: Path) -> None:
    board = read_board(path)
    assert parse_board(board_text(board), board.name, "board.toml") == board


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_figure_has_a_source_that_can_be_followed(path: Path) -> None:
    board = read_board(path)
    for figure in figures(board):
        source = board.source(figure)
        assert source.kind in (SourceKind.DATASHEET, SourceKind.UNVERIFIED)
        assert len(source.detail) > 10


@pytest.mark.parametrize(
    ("name", "core", "megahertz", "flash", "ram"),
    [
        ("nucleo-f446re", Core.CORTEX_M4F, 180, 512 * 1024, 128 * 1024),
        ("rpi-pico", Core.CORTEX_M0PLUS, 125, 2 * 1024 * 1024 - 256, 264 * 1024),
        ("stm32f103c8", Core.CORTEX_M3, 72, 64 * 1024, 20 * 1024),
        ("longan-nano", Core.RV32IMAC, 108, 128 * 1024, 32 * 1024),
        ("microbit-v2", Core.CORTEX_M4F, 64, 512 * 1024, 128 * 1024),
    ],
)
def test_the_figures_are_the_chips(name: str, core: Core, megahertz: int, flash: int, ram: int) -> None:
    board = load_board(name)
    assert isinstance(board, McuBoard)
    assert (board.core, board.clock, board.flash, board.ram) == (core, megahertz * 1_000_000, flash, ram)


@pytest.mark.parametrize(
    ("name", "family", "megahertz", "fabric"),
    [
        ("pynq-z2", Family.SERIES_7, 100, (53200, 106400, 220, 140, 36 * 1024)),
        ("icebreaker", Family.ICE40_ULTRAPLUS, 12, (5280, 5280, 8, 30, 4 * 1024)),
    ],
)
def test_the_fabric_is_the_chips(name: str, family: Family, megahertz: int, fabric: tuple[int, ...]) -> None:
    board = load_board(name)
    assert isinstance(board, FpgaBoard)
    assert (board.family, board.clock) == (family, megahertz * 1_000_000)
    assert (board.luts, board.ffs, board.dsps, board.brams, board.bram_bits) == fabric


def test_the_pico_starts_through_its_second_stage() -> None:
    board = load_board("rpi-pico")
    assert isinstance(board, McuBoard)
    boot = board.region("boot2")
    assert board.boot is Boot.RP2040_BOOT2
    assert (boot.kind, boot.origin, boot.end) == (RegionKind.BOOT, 0x10000000, board.region("flash").origin)
