"""What a board has, as frozen data. The figures that a verdict is measured against."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from edgeflow.board.cores import Core
from edgeflow.board.families import Family
from edgeflow.resource import Source
from edgeflow.units import Bytes, Hertz


class BoardKind(enum.Enum):
    """Which sort of target a board file describes: its key `kind`."""

    MCU = "mcu"
    FPGA = "fpga"


class RegionKind(enum.Enum):
    """What a memory region may hold."""

    FLASH = "flash"
    """Code and constants."""
    RAM = "ram"
    """Data and stack."""
    BOOT = "boot"
    """A boot stage that the chip demands: it is not available to a model."""


class Boot(enum.Enum):
    """How the chip finds its first instruction."""

    VECTORS = "vectors"
    """The vector table lies at the start of flash."""
    RP2040_BOOT2 = "rp2040-boot2"
    """A checksummed 256-byte second stage sets up the external flash; the vector table follows it."""


@dataclass(frozen=True)
class Region:
    """A contiguous memory: `size` bytes from address `origin`."""

    name: str
    kind: RegionKind
    origin: int
    size: Bytes
    note: str = ""

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.origin + self.size


@dataclass(frozen=True, kw_only=True)
class Board:
    """What every kind of target has. `name` is the file's stem, `title` the maker's name for it.

    `clock` is a microcontroller's core clock, an FPGA's clock to design for. `sources` says for each figure
    (`core`, `clock`, every memory's name, `luts` ...) where it comes from.
    """

    kind: ClassVar[BoardKind]
    name: str
    title: str
    chip: str
    clock: Hertz
    sources: Mapping[str, Source]
    price: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))

    def source(self, figure: str) -> Source:
        """Where a figure comes from, such as `clock` or `flash`. Raises KeyError for an unknown one."""
        return self.sources[figure]


@dataclass(frozen=True, kw_only=True)
class McuBoard(Board):
    """A board with one microcontroller core that models run on."""

    kind = BoardKind.MCU
    core: Core
    memories: tuple[Region, ...]
    boot: Boot = Boot.VECTORS

    @property
    def flash_regions(self) -> tuple[Region, ...]:
        """The regions that may hold code and constants, in the file's order: the first is preferred."""
        return self._of(RegionKind.FLASH)

    @property
    def ram_regions(self) -> tuple[Region, ...]:
        """The regions that may hold data, in the file's order: the first is preferred."""
        return self._of(RegionKind.RAM)

    @property
    def flash(self) -> Bytes:
        """All flash that code and constants may take."""
        return Bytes(sum(region.size for region in self.flash_regions))

    @property
    def ram(self) -> Bytes:
        """All RAM that data and stack may take."""
        return Bytes(sum(region.size for region in self.ram_regions))

    def region(self, name: str) -> Region:
        """The memory of that name. Raises KeyError if the board has none."""
        for region in self.memories:
            if region.name == name:
                return region
        raise KeyError(name)

    def _of(self, kind: RegionKind) -> tuple[Region, ...]:
        return tuple(region for region in self.memories if region.kind is kind)


@dataclass(frozen=True, kw_only=True)
class FpgaBoard(Board):
    """A board with an FPGA whose fabric models are built from.

    `part` is the vendor's full part number, package and speed grade included: what the vendor's tools ask for.
    `brams` counts the family's own block RAMs, of `bram_bits` each (36 kbit on AMD's, 4 kbit on an iCE40).
    """

    kind = BoardKind.FPGA
    part: str
    family: Family
    luts: int
    ffs: int
    dsps: int
    brams: int
    bram_bits: int
