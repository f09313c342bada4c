"""The rules every board obeys: one small function a rule, named by the sentence it enforces."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from edgeflow.board.model import Board, Boot, FpgaBoard, McuBoard, Region, RegionKind
from edgeflow.units import show_bytes, show_hertz

_ADDRESS_SPACE = 1 << 32
_SLOWEST, _FASTEST, _FASTEST_FABRIC = 100_000, 2_000_000_000, 1_000_000_000
_LARGEST_COUNT = 100_000_000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_BOARD_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_-]{0,63}")
_BOOT2_SIZE = 256


class Rejected(ValueError):
    """A board breaks a rule. `key` is the path of the guilty key in its file, `fix` what to do."""

    def __init__(self, key: tuple[str | int, ...], what: str, fix: str) -> None:
        super().__init__(what)
        self.key = key
        self.what = what
        self.fix = fix


def validate(board: Board) -> None:
    """Applies every rule for this kind of board. Raises Rejected for the first that is broken."""
    for rule in FIRST_RULES:
        rule(board)
    if isinstance(board, McuBoard):
        for mcu_rule in MCU_RULES:
            mcu_rule(board)
    if isinstance(board, FpgaBoard):
        for fpga_rule in FPGA_RULES:
            fpga_rule(board)
    for rule in LAST_RULES:
        rule(board)


def reject_unusable_board_name(board: Board) -> None:
    """A board's name is typed on the command line and stands in file names."""
    if not _BOARD_NAME.fullmatch(board.name):
        raise Rejected(
            (),
            f'"{board.name}" cannot be a board\'s name',
            "name the file with small letters, digits and hyphens, such as my-board.toml",
        )


def reject_empty_text(board: Board) -> None:
    """A title and a chip are there for people to read."""
    for key, text in (("title", board.title), ("chip", board.chip)):
        if not text.strip() or not text.isprintable():
            raise Rejected((key,), f'key "{key}" is empty or not printable', f"give {key} a name on one line")


def reject_absurd_clock(board: Board) -> None:
    """A clock outside 100 kHz to 2 GHz (an FPGA's: 1 GHz) is a typing error."""
    mcu = isinstance(board, McuBoard)
    fastest = _FASTEST if mcu else _FASTEST_FABRIC
    if not _SLOWEST <= board.clock <= fastest:
        owner = "a microcontroller's" if mcu else "an FPGA design's"
        raise Rejected(
            ("clock",),
            f"a clock of {show_hertz(board.clock)} is not {owner}",
            f"write a clock between {show_hertz(_SLOWEST)} and {show_hertz(fastest)}",
        )


def reject_unsafe_memory_names(board: McuBoard) -> None:
    """A memory's name goes into linker scripts."""
    for index, region in enumerate(board.memories):
        if not _NAME.fullmatch(region.name):
            raise Rejected(
                ("memories", index, "name"),
                f'"{region.name}" cannot be a memory\'s name',
                "use small letters, digits and underscores, such as sram1",
            )


def reject_memories_named_like_a_figure(board: McuBoard) -> None:
    """A memory's name is also the name of its source."""
    for index, region in enumerate(board.memories):
        if region.name in ("core", "clock", "price"):
            raise Rejected(
                ("memories", index, "name"),
                f'a memory cannot be named "{region.name}": that is another figure\'s name',
                "rename it",
            )


def reject_duplicate_memory_names(board: McuBoard) -> None:
    """Two memories never share a name."""
    seen: set[str] = set()
    for index, region in enumerate(board.memories):
        if region.name in seen:
            raise Rejected(("memories", index, "name"), f'two memories are named "{region.name}"', "rename one")
        seen.add(region.name)


def reject_empty_memory(board: McuBoard) -> None:
    """A memory holds at least one byte."""
    for index, region in enumerate(board.memories):
        if region.size <= 0:
            raise Rejected(
                ("memories", index, "size"), f'memory "{region.name}" is empty', "give its size, such as 64 KiB"
            )


def reject_memory_outside_the_address_space(board: McuBoard) -> None:
    """Addresses have 32 bits."""
    for index, region in enumerate(board.memories):
        if region.origin < 0 or region.end > _ADDRESS_SPACE:
            raise Rejected(
                ("memories", index, "origin"),
                f'memory "{region.name}" reaches beyond the 32-bit address space: {_span(region)}',
                "correct its origin or size",
            )


def reject_overlapping_memories(board: McuBoard) -> None:
    """No byte belongs to two memories."""
    order = sorted(enumerate(board.memories), key=lambda item: item[1].origin)
    for (_, low), (index, high) in itertools.pairwise(order):
        if low.end > high.origin:
            raise Rejected(
                ("memories", index, "origin"),
                f'memories "{low.name}" and "{high.name}" overlap: {_span(low)} and {_span(high)}',
                "correct an origin or a size",
            )


def reject_board_without_flash_or_ram(board: McuBoard) -> None:
    """A model needs somewhere for its weights and somewhere for its activations."""
    for kind in (RegionKind.FLASH, RegionKind.RAM):
        if not any(region.kind is kind for region in board.memories):
            raise Rejected(
                ("memories",), f"no memory of kind {kind.value}", f'add [[memories]] with kind = "{kind.value}"'
            )


def reject_boot_stage_without_its_memory(board: McuBoard) -> None:
    """The RP2040's second stage takes exactly 256 bytes."""
    if board.boot is not Boot.RP2040_BOOT2:
        return
    sizes = [region.size for region in board.memories if region.kind is RegionKind.BOOT]
    if sizes != [_BOOT2_SIZE]:
        found = ", ".join(map(show_bytes, sizes)) or "none"
        raise Rejected(
            ("boot",),
            f"boot {board.boot.value} needs one memory of kind boot with 256 bytes; found: {found}",
            'add [[memories]] with kind = "boot" and size = "256 B" where the chip expects its second stage',
        )


def reject_unsafe_part(board: FpgaBoard) -> None:
    """A part's name goes into the vendor's Tcl scripts."""
    if not _PART.fullmatch(board.part):
        raise Rejected(
            ("part",),
            f'"{board.part}" cannot be a part\'s name',
            "write the vendor's full part number, such as xc7z020clg400-1",
        )


def reject_absurd_fabric(board: FpgaBoard) -> None:
    """An FPGA has look-up tables and flip-flops; DSP blocks and block RAMs it may lack."""
    for key, count in (("luts", board.luts), ("ffs", board.ffs), ("dsps", board.dsps), ("brams", board.brams)):
        least = 1 if key in ("luts", "ffs") else 0
        if not least <= count <= _LARGEST_COUNT:
            raise Rejected((key,), f"{count} {key} is no FPGA's figure", f"write a count from {least} on")


def reject_block_rams_of_no_size(board: FpgaBoard) -> None:
    """A block RAM holds at least a few hundred bits and at most a few million."""
    if not 256 <= board.bram_bits <= 1 << 22:
        raise Rejected(
            ("bram_bits",),
            f"a block RAM of {board.bram_bits} bits is no FPGA's",
            "write the bits of one block RAM, such as 36864",
        )


def reject_figures_without_a_source(board: Board) -> None:
    """Every figure says where it comes from, in words that can be followed."""
    for figure in figures(board):
        if figure not in board.sources:
            raise Rejected(
                ("sources",),
                f'"{figure}" has no source',
                f'add [sources.{figure}] with kind = "unverified" and a detail that says where it was read',
            )
        if not board.sources[figure].detail.strip():
            raise Rejected(
                ("sources", figure, "detail"),
                f'the source of "{figure}" says nothing',
                "name the document or file that was read",
            )


def reject_sources_without_a_figure(board: Board) -> None:
    """A source that belongs to nothing is a misspelt one."""
    known = figures(board)
    for name in board.sources:
        if name not in known:
            raise Rejected(
                ("sources", name), f'source "{name}" belongs to no figure', f"figures here: {', '.join(known)}"
            )


def figures(board: Board) -> tuple[str, ...]:
    """The names of all figures of a board that need a source."""
    price = ("price",) if board.price is not None else ()
    if isinstance(board, McuBoard):
        return ("core", "clock", *(region.name for region in board.memories), *price)
    return ("part", "clock", "luts", "ffs", "dsps", "brams", *price)


def _span(region: Region) -> str:
    return f"0x{region.origin:08x} to 0x{region.end - 1:08x}"


FIRST_RULES: tuple[Callable[[Board], None], ...] = (
    reject_unusable_board_name,
    reject_empty_text,
    reject_absurd_clock,
)
MCU_RULES: tuple[Callable[[McuBoard], None], ...] = (
    reject_unsafe_memory_names,
    reject_memories_named_like_a_figure,
    reject_duplicate_memory_names,
    reject_empty_memory,
    reject_memory_outside_the_address_space,
    reject_overlapping_memories,
    reject_board_without_flash_or_ram,
    reject_boot_stage_without_its_memory,
)
FPGA_RULES: tuple[Callable[[FpgaBoard], None], ...] = (
    reject_unsafe_part,
    reject_absurd_fabric,
    reject_block_rams_of_no_size,
)
LAST_RULES: tuple[Callable[[Board], None], ...] = (
    reject_figures_without_a_source,
    reject_sources_without_a_figure,
)
