"""The sizes of a linked image, in all and symbol by symbol."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.board import Core
from edgeflow.errors import ToolFailed
from edgeflow.toolchain.elf import Symbol, SymbolKind, read_sizes
from tests.conftest import NeedTool
from tests.toolchain.bare import function, image

DATA = """    .section .rodata
    .type table, %object
table:
    .space 20
    .size table, 20
    .bss
    .type arena, %object
arena:
    .space 36
    .size arena, 36
"""


def test_code_tables_and_writable_objects_are_told_apart(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    sizes = read_sizes(image(tmp_path, Core.CORTEX_M3, function("infer", "nop\nbx lr"), DATA))
    infer, table, arena = sizes.symbols
    assert (infer.name, infer.kind, infer.size, infer.section) == ("infer", SymbolKind.FUNCTION, 4, ".text")
    assert infer.address % 2 == 0
    assert (table.kind, table.size, table.writable) == (SymbolKind.OBJECT, 20, False)
    assert arena == Symbol("arena", SymbolKind.OBJECT, 0x20000000, 36, ".bss", writable=True)
    assert (sizes.tables, sizes.code, sizes.ram) == (20, sizes.flash - 20, 36 + 1024)


def test_a_file_that_is_no_image_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.elf"
    path.write_bytes(b"no image")
    with pytest.raises(ToolFailed) as caught:
        read_sizes(path)
    assert str(caught.value) == "model.elf: not a linked image: Magic number does not match"
