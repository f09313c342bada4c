"""Reads the sizes in an ELF file: what goes to flash, what takes RAM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edgeflow.errors import ToolFailed

_ALLOCATED = 0x2
_WRITABLE = 0x1


@dataclass(frozen=True)
class Sizes:
    """Bytes of an image. `flash` is everything stored (code, constants, initial data), `ram` all writable
    static data; a reserved stack section is in neither."""

    flash: int
    ram: int
    symbols: tuple[tuple[str, int], ...]


def read_sizes(path: Path) -> Sizes:
    """Section and symbol sizes of a linked image. Raises ToolFailed for a file that is not one."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    flash = ram = 0
    symbols: list[tuple[str, int]] = []
    try:
        with path.open("rb") as stream:
            elf = cast(Any, ELFFile)(stream)
            for section in elf.iter_sections():
                if not section["sh_flags"] & _ALLOCATED or section.name == ".stack":
                    continue
                size = int(section["sh_size"])
                if section["sh_type"] != "SHT_NOBITS":
                    flash += size
                if section["sh_flags"] & _WRITABLE:
                    ram += size
            table = elf.get_section_by_name(".symtab")
            for symbol in table.iter_symbols() if table else ():
                if symbol["st_size"]:
                    symbols.append((str(symbol.name), int(symbol["st_size"])))
    except (ELFError, OSError) as error:
        raise ToolFailed(f"not a linked image: {error}", where=path.name) from None
    return Sizes(flash, ram, tuple(symbols))
