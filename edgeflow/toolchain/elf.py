"""Reads the sizes in an ELF file: what goes to flash, what takes RAM, and which symbol takes how much."""

from __future__ import annotations

import enum
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edgeflow.errors import ToolFailed

_ALLOCATED = 0x2
_WRITABLE = 0x1


class SymbolKind(enum.Enum):
    """What a symbol names. The value is ELF's own word."""

    FUNCTION = "STT_FUNC"
    OBJECT = "STT_OBJECT"


@dataclass(frozen=True)
class Symbol:
    """A function or an object of an image: its first address (a Thumb function's without the lowest bit set), bytes,
    and the section it lies in."""

    name: str
    kind: SymbolKind
    address: int
    size: int
    section: str
    writable: bool


@dataclass(frozen=True)
class Sizes:
    """Bytes of an image. `flash` is everything stored (code, constants, initial data), `ram` all writable
    static data; a reserved stack section is in neither. `symbols` are in the order of their addresses."""

    flash: int
    ram: int
    symbols: tuple[Symbol, ...]

    @property
    def tables(self) -> int:
        """Bytes of constant objects."""
        return sum(one.size for one in self.symbols if one.kind is SymbolKind.OBJECT and not one.writable)

    @property
    def code(self) -> int:
        """Bytes in flash that are no constant object: functions with their literals, and what aligns them."""
        return self.flash - self.tables


def read_sizes(path: Path) -> Sizes:
    """Section and symbol sizes of a linked image. Raises ToolFailed for a file that is not one."""
    flash = ram = 0
    with _open(path) as elf:
        sections = list(elf.iter_sections())
        for section in sections:
            if not section["sh_flags"] & _ALLOCATED or section.name == ".stack":
                continue
            size = int(section["sh_size"])
            if section["sh_type"] != "SHT_NOBITS":
                flash += size
            if section["sh_flags"] & _WRITABLE:
                ram += size
        table = elf.get_section_by_name(".symtab")
        found = [_symbol(one, sections) for one in (table.iter_symbols() if table else ())]
    symbols = sorted((one for one in found if one), key=lambda one: (one.address, one.name))
    return Sizes(flash, ram, tuple(symbols))


def processor(path: Path) -> str:
    """Whose code an image holds, in ELF's own word: EM_ARM, EM_RISCV. Raises ToolFailed for a file that is none."""
    with _open(path) as elf:
        return str(elf["e_machine"])


@contextmanager
def _open(path: Path) -> Generator[Any]:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as stream:
            yield cast(Any, ELFFile)(stream)
    except (ELFError, OSError) as error:
        raise ToolFailed(f"not a linked image: {error}", where=path.name) from None


_KINDS = {kind.value: kind for kind in SymbolKind}


def _symbol(entry: Any, sections: list[Any]) -> Symbol | None:
    """None for what is no function or object with a place and a size."""
    kind, index = _KINDS.get(entry["st_info"]["type"]), entry["st_shndx"]
    if kind is None or not entry["st_size"] or not isinstance(index, int):
        return None
    section = sections[index]
    address = int(entry["st_value"]) & (~1 if kind is SymbolKind.FUNCTION else ~0)
    writable = bool(section["sh_flags"] & _WRITABLE)
    return Symbol(str(entry.name), kind, address, int(entry["st_size"]), str(section.name), writable)
