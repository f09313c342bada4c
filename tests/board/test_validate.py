"""Each rule of a board rejects what its name says, in these words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeflow.board import Board, Boot, Core, Family, FpgaBoard, McuBoard, Region, RegionKind
from edgeflow.board.validate import FIRST_RULES, FPGA_RULES, LAST_RULES, MCU_RULES, Rejected, validate
from edgeflow.resource import Source, SourceKind
from edgeflow.units import Bytes, Hertz

READ = Source(SourceKind.UNVERIFIED, "a public source")
FLASH = Region("flash", RegionKind.FLASH, 0x08000000, Bytes(64 * 1024))
RAM = Region("ram", RegionKind.RAM, 0x20000000, Bytes(20 * 1024))
GOOD = McuBoard(
    name="good",
    title="Good",
    chip="GOOD1",
    core=Core.CORTEX_M3,
    clock=Hertz(72_000_000),
    memories=(FLASH, RAM),
    sources={"core": READ, "clock": READ, "flash": READ, "ram": READ},
)
FABRIC = ("part", "clock", "luts", "ffs", "dsps", "brams")
GOOD_FPGA = FpgaBoard(
    name="good-fpga",
    title="Good FPGA",
    chip="XC7Z020",
    clock=Hertz(100_000_000),
    part="xc7z020clg400-1",
    family=Family.SERIES_7,
    luts=53200,
    ffs=106400,
    dsps=220,
    brams=140,
    bram_bits=36864,
    sources=dict.fromkeys(FABRIC, READ),
)
ADD_BOOT = 'add [[memories]] with kind = "boot" and size = "256 B" where the chip expects its second stage'


def memories(*regions: Region) -> McuBoard:
    return replace(GOOD, memories=regions, sources={**GOOD.sources, **{region.name: READ for region in regions}})


BROKEN: dict[str, tuple[Board, tuple[str | int, ...], str, str]] = {
    "reject_unusable_board_name": (
        replace(GOOD, name="My Board"), (),
        '"My Board" cannot be a board\'s name',
        "name the file with small letters, digits and hyphens, such as my-board.toml",
    ),
    "reject_empty_text": (
        replace(GOOD, chip=" "), ("chip",),
        'key "chip" is empty or not printable',
        "give chip a name on one line",
    ),
    "reject_absurd_clock": (
        replace(GOOD, clock=Hertz(72)), ("clock",),
        "a clock of 72 Hz is not a microcontroller's",
        "write a clock between 100 kHz and 2 GHz",
    ),
    "reject_unsafe_memory_names": (
        memories(FLASH, replace(RAM, name="ram } x")), ("memories", 1, "name"),
        '"ram } x" cannot be a memory\'s name',
        "use small letters, digits and underscores, such as sram1",
    ),
    "reject_memories_named_like_a_figure": (
        memories(FLASH, replace(RAM, name="core")), ("memories", 1, "name"),
        'a memory cannot be named "core": that is another figure\'s name',
        "rename it",
    ),
    "reject_duplicate_memory_names": (
        memories(FLASH, RAM, replace(RAM, origin=0x10000000)), ("memories", 2, "name"),
        'two memories are named "ram"',
        "rename one",
    ),
    "reject_empty_memory": (
        memories(replace(FLASH, size=Bytes(0)), RAM), ("memories", 0, "size"),
        'memory "flash" is empty',
        "give its size, such as 64 KiB",
    ),
    "reject_memory_outside_the_address_space": (
        memories(FLASH, replace(RAM, origin=0xFFFFFF00)), ("memories", 1, "origin"),
        'memory "ram" reaches beyond the 32-bit address space: 0xffffff00 to 0x100004eff',
        "correct its origin or size",
    ),
    "reject_overlapping_memories": (
        memories(FLASH, replace(RAM, origin=0x0800FFFF)), ("memories", 1, "origin"),
        'memories "flash" and "ram" overlap: 0x08000000 to 0x0800ffff and 0x0800ffff to 0x08014ffe',
        "correct an origin or a size",
    ),
    "reject_board_without_flash_or_ram": (
        memories(FLASH), ("memories",),
        "no memory of kind ram",
        'add [[memories]] with kind = "ram"',
    ),
    "reject_boot_stage_without_its_memory": (
        replace(GOOD, boot=Boot.RP2040_BOOT2), ("boot",),
        "boot rp2040-boot2 needs one memory of kind boot with 256 bytes; found: none",
        ADD_BOOT,
    ),
    "reject_unsafe_part": (
        replace(GOOD_FPGA, part="xc7; exit"), ("part",),
        '"xc7; exit" cannot be a part\'s name',
        "write the vendor's full part number, such as xc7z020clg400-1",
    ),
    "reject_absurd_fabric": (
        replace(GOOD_FPGA, luts=0), ("luts",),
        "0 luts is no FPGA's figure",
        "write a count from 1 on",
    ),
    "reject_block_rams_of_no_size": (
        replace(GOOD_FPGA, bram_bits=36), ("bram_bits",),
        "a block RAM of 36 bits is no FPGA's",
        "write the bits of one block RAM, such as 36864",
    ),
    "reject_figures_without_a_source": (
        replace(GOOD, price="under 5 USD"), ("sources",),
        '"price" has no source',
        'add [sources.price] with kind = "unverified" and a detail that says where it was read',
    ),
    "reject_sources_without_a_figure": (
        replace(GOOD, sources={**GOOD.sources, "rom": READ}), ("sources", "rom"),
        'source "rom" belongs to no figure',
        "figures here: core, clock, flash, ram",
    ),
}  # fmt: skip


def test_a_good_board_passes() -> None:
    validate(GOOD)
    validate(GOOD_FPGA)
    validate(replace(GOOD_FPGA, dsps=0, brams=0))


def test_every_rule_has_a_case() -> None:
    rules = (*FIRST_RULES, *MCU_RULES, *FPGA_RULES, *LAST_RULES)
    assert [rule.__name__ for rule in rules] == list(BROKEN)


@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_rejects(rule: str) -> None:
    board, key, what, fix = BROKEN[rule]
    with pytest.raises(Rejected) as caught:
        validate(board)
    assert (caught.value.key, caught.value.what, caught.value.fix) == (key, what, fix)


def test_a_source_that_says_nothing_is_none() -> None:
    board = replace(GOOD, sources={**GOOD.sources, "ram": Source(SourceKind.UNVERIFIED, " ")})
    with pytest.raises(Rejected, match='the source of "ram" says nothing') as caught:
        validate(board)
    assert caught.value.key == ("sources", "ram", "detail")


def test_memories_may_touch_and_come_in_any_order() -> None:
    validate(memories(RAM, replace(FLASH, origin=RAM.end)))


def test_a_second_stage_of_another_size_is_named() -> None:
    boot = Region("boot2", RegionKind.BOOT, 0x10000000, Bytes(512))
    board = replace(memories(boot, FLASH, RAM), boot=Boot.RP2040_BOOT2)
    with pytest.raises(Rejected, match="with 256 bytes; found: 512 B") as caught:
        validate(board)
    assert caught.value.fix == ADD_BOOT
    validate(replace(board, memories=(replace(boot, size=Bytes(256)), FLASH, RAM)))


def test_boot_memory_is_not_for_models() -> None:
    boot = Region("boot2", RegionKind.BOOT, 0x10000000, Bytes(256))
    board = memories(boot, FLASH, RAM)
    assert (board.flash, board.ram) == (FLASH.size, RAM.size)


@pytest.mark.parametrize(
    ("board", "message"),
    [
        (replace(GOOD_FPGA, clock=Hertz(1_500_000_000)), "a clock of 1.5 GHz is not an FPGA design's"),
        (replace(GOOD_FPGA, dsps=-1), "-1 dsps is no FPGA's figure"),
        (replace(GOOD_FPGA, brams=10**9), "1000000000 brams is no FPGA's figure"),
        (replace(GOOD_FPGA, sources={"part": READ}), '"clock" has no source'),
        (replace(GOOD_FPGA, sources={**GOOD_FPGA.sources, "flash": READ}), 'source "flash" belongs to no figure'),
    ],
)
def test_an_fpga_board_is_held_to_the_rules(board: FpgaBoard, message: str) -> None:
    with pytest.raises(Rejected) as caught:
        validate(board)
    assert caught.value.what == message
