"""Every file in boards/ is valid, complete and honest about its sources. A new board needs no edit here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.board import Boot, Core, RegionKind, all_boards, board_files, load_board, read_board
from edgeflow.board.validate import figures
from edgeflow.resource import SourceKind

FILES = sorted(Path(__file__).resolve().parents[2].joinpath("boards").glob("*.toml"))


def test_boards_are_found() -> None:
    assert [path.stem for path in FILES] == list(board_files())
    assert [board.name for board in all_boards()] == list(board_files())
    assert {"nucleo-f446re", "rpi-pico", "stm32f103c8", "microbit-v2"} <= set(board_files())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_board_is_valid(path: Path) -> None:
    board = read_board(path)
    assert board.name == path.stem
    assert board == load_board(board.name)
    assert board.flash > 0
    assert board.ram > 0


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
        ("microbit-v2", Core.CORTEX_M4F, 64, 512 * 1024, 128 * 1024),
    ],
)
def test_the_figures_are_the_chips(name: str, core: Core, megahertz: int, flash: int, ram: int) -> None:
    board = load_board(name)
    assert (board.core, board.clock, board.flash, board.ram) == (core, megahertz * 1_000_000, flash, ram)


def test_the_pico_starts_through_its_second_stage() -> None:
    board = load_board("rpi-pico")
    boot = board.region("boot2")
    assert board.boot is Boot.RP2040_BOOT2
    assert (boot.kind, boot.origin, boot.end) == (RegionKind.BOOT, 0x10000000, board.region("flash").origin)
