"""Board files are read strictly, and an error names the file, the line and the near word."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeflow.board import (
    Board,
    BoardKind,
    Boot,
    Core,
    Family,
    FpgaBoard,
    McuBoard,
    RegionKind,
    board_text,
    load_board,
    parse_board,
)
from edgeflow.errors import EdgeflowError
from edgeflow.resource import Source, SourceKind

KNOWN = "icebreaker, longan-nano, microbit-v2, nucleo-f446re, pynq-z2, rpi-pico, stm32f103c8"


@pytest.fixture
def tiny(data: Path) -> Path:
    return data / "boards" / "tiny-2k.toml"


def test_a_file_becomes_a_board(tiny: Path) -> None:
    board = load_board(str(tiny))
    assert isinstance(board, McuBoard)
    assert board.kind is BoardKind.MCU
    assert (board.name, board.title, board.chip) == ("tiny-2k", "Tiny 2k", "TINY0002")
    assert (board.core, board.clock, board.boot) == (Core.CORTEX_M0PLUS, 16_000_000, Boot.VECTORS)
    assert (board.flash, board.ram) == (65536, 2048)
    assert [region.name for region in board.flash_regions] == ["flash"]
    assert [region.kind for region in board.ram_regions] == [RegionKind.RAM]
    assert board.source("ram") == Source(SourceKind.UNVERIFIED, "made up for edgeflow's tests")
    assert board == load_board(tiny)


def test_a_board_is_frozen(tiny: Path) -> None:
    board = load_board(tiny)
    assert isinstance(board, McuBoard)
    with pytest.raises(dataclasses.FrozenInstanceError):
        board.clock = board.clock  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        board.sources["ram"] = board.source("ram")  # pyright: ignore[reportIndexIssue]
    with pytest.raises(KeyError):
        board.region("ccm")


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("nucleo-f446", 'unknown board "nucleo-f446"; did you mean "nucleo-f446re"?'),
        ("Rpi-Pico", 'unknown board "Rpi-Pico"; did you mean "rpi-pico"?'),
        ("", 'unknown board ""'),
        ("esp32", 'unknown board "esp32"'),
    ],
)
def test_an_unknown_name_gets_the_near_one(asked: str, first: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        load_board(asked)
    fix = f"choose one of {KNOWN}, or give the path of a board file such as my-board.toml"
    assert str(caught.value) == f"{first}\n  fix: {fix}"


def test_a_path_that_does_not_exist() -> None:
    with pytest.raises(EdgeflowError) as caught:
        load_board("boards/none.toml")
    assert str(caught.value) == "boards/none.toml: no such file\n  fix: check the path"


CASES = {
    "misspelt key": (
        'clock = "16 MHz"', 'clok = "16 MHz"',
        'x.toml:6: unknown key "clok"; did you mean "clock"?',
    ),
    "misspelt key of a memory": (
        'size = "2 KiB"', 'size = "2 KiB"\nnotes = "small"',
        'x.toml:19: unknown key "notes" in [[memories]]; did you mean "note"?',
    ),
    "missing key": (
        'chip = "TINY0002"\n', "",
        'x.toml:1: key "chip" is missing\n  fix: add chip = ...',
    ),
    "no unit": (
        'size = "2 KiB"', 'size = "2048"',
        ('x.toml:18: "2048" is not a quantity such as "512 KiB" (units: B, kB, MB, KiB, MiB)'
        "\n  fix: write a number and a unit"),
    ),
    "wrong unit": (
        'clock = "16 MHz"', 'clock = "16 Mhz"',
        ('x.toml:6: "16 Mhz" is not a quantity such as "180 MHz" (units: Hz, kHz, MHz, GHz)'
        "\n  fix: write a number and a unit"),
    ),
    "size as a number": (
        'size = "2 KiB"', "size = 2048",
        'x.toml:18: key "size" in [[memories]]: must be text in quotes, not 2048',
    ),
    "address as text": (
        "origin = 0x20000000", 'origin = "0x20000000"',
        'x.toml:17: key "origin" in [[memories]]: must be a whole number, not "0x20000000"',
    ),
    "not TOML": (
        'kind = "mcu"', "kind = mcu",
        "x.toml:2: not valid TOML: Invalid value (at line 2, column 8)\n  fix: correct that line",
    ),
    "rule broken": (
        'size = "2 KiB"', 'size = "0 KiB"',
        'x.toml:18: memory "ram" is empty\n  fix: give its size, such as 64 KiB',
    ),
    "source misspelt": (
        "[sources.ram]", "[sources.rom]",
        ('x.toml:20: "ram" has no source\n'
        '  fix: add [sources.ram] with kind = "unverified" and a detail that says where it was read'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_explained(case: str, tiny: Path) -> None:
    before, after, message = CASES[case]
    text = tiny.read_text(encoding="utf-8")
    assert before in text
    with pytest.raises(EdgeflowError) as caught:
        parse_board(text.replace(before, after), "x", "x.toml")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("before", "after", "key", "choice"),
    [
        ('kind = "mcu"', 'kind = "gpu"', 'x.toml:2: key "kind"', "mcu"),
        ("cortex-m0plus", "cortex-m0+", 'x.toml:5: key "core"', "cortex-m0plus"),
        ('kind = "ram"', 'kind = "rom"', 'x.toml:16: key "kind" in [[memories]]', "ram"),
    ],
)
def test_a_word_that_is_no_choice_names_the_choices(before: str, after: str, key: str, choice: str, tiny: Path) -> None:
    text = tiny.read_text(encoding="utf-8").replace(before, after)
    with pytest.raises(EdgeflowError) as caught:
        parse_board(text, "x", "x.toml")
    assert str(caught.value).startswith(key)
    assert choice in str(caught.value)


FPGA = """kind = "fpga"
title = "Small FPGA"
chip = "XC7Z020"
part = "xc7z020clg400-1"
family = "amd-7-series"
clock = "100 MHz"
luts = 1000
ffs = 2000
dsps = 0
brams = 4
bram_bits = 36864
""" + "".join(
    f'\n[sources.{one}]\nkind = "unverified"\ndetail = "made up for tests"\n'
    for one in ("part", "clock", "luts", "ffs", "dsps", "brams")
)


def test_a_file_becomes_an_fpga_board() -> None:
    board = parse_board(FPGA, "small", "small.toml")
    assert isinstance(board, FpgaBoard)
    assert board.kind is BoardKind.FPGA
    assert (board.part, board.family, board.clock) == ("xc7z020clg400-1", Family.SERIES_7, 100_000_000)
    assert (board.luts, board.ffs, board.dsps, board.brams, board.bram_bits) == (1000, 2000, 0, 4, 36864)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("luts = 1000", "luts = 0", "x.toml:7: 0 luts is no FPGA's figure\n  fix: write a count from 1 on"),
        ("luts = 1000", 'luts = "1000"', 'x.toml:7: key "luts": must be a whole number, not "1000"'),
        ("luts = 1000", "lutz = 1000", 'x.toml:7: unknown key "lutz"; did you mean "luts"?'),
        ("bram_bits = 36864\n", "", 'x.toml:1: key "bram_bits" is missing\n  fix: add bram_bits = ...'),
    ],
)
def test_a_wrong_fpga_file_is_explained(before: str, after: str, message: str) -> None:
    assert before in FPGA
    with pytest.raises(EdgeflowError) as caught:
        parse_board(FPGA.replace(before, after), "x", "x.toml")
    assert str(caught.value) == message


def test_a_family_that_is_unknown_gets_the_near_one() -> None:
    with pytest.raises(EdgeflowError) as caught:
        parse_board(FPGA.replace("amd-7-series", "amd-7-serie"), "x", "x.toml")
    assert str(caught.value).startswith('x.toml:5: key "family"')
    assert str(caught.value).endswith('; did you mean "amd-7-series"?')


@pytest.mark.parametrize("title", ['a "b" \\ c', "µController Größe", "emoji \N{ROCKET}", "tab? no"])
def test_any_text_survives_being_written(title: str, tiny: Path) -> None:
    boards: tuple[Board, ...] = (load_board(tiny), parse_board(FPGA, "small", "small.toml"))
    for board in boards:
        source = Source(SourceKind.DATASHEET, "line\nbreak, DEL \x7f and \x01")
        changed = dataclasses.replace(board, title=title, price="5 USD", sources={**board.sources, "price": source})
        assert parse_board(board_text(changed), board.name, "board.toml") == changed
