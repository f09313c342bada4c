"""Tiny bare-metal programs in assembly for QEMU's machines."""

from __future__ import annotations

from pathlib import Path

from edgeflow.board import Core
from edgeflow.toolchain import gcc
from edgeflow.toolchain.qemu import machine

_SCRIPT = """ENTRY(reset)
SECTIONS
{
    . = @FLASH@;
    .text : { *(.vectors) *(.text) *(.rodata) }
    . = @RAM@;
    .bss (NOLOAD) : { *(.bss) . += 1024; stack = .; }
}
"""
_START = """    .syntax unified
    .thumb
    .section .vectors, "a"
    .word stack, reset
    .text
    .thumb_func
reset:
    bl infer
    movs r0, #32
    adr r1, 1f
    bkpt 0xab
    .align 2
1:  .word 0x20026, 0
"""


def function(name: str, body: str) -> str:
    """A function in assembly, one instruction a line."""
    lines = "\n".join(f"    {line.strip()}" for line in body.strip().splitlines())
    return f"    .thumb_func\n    .type {name}, %function\n{name}:\n{lines}\n    .size {name}, . - {name}\n"


def image(folder: Path, core: Core, *parts: str) -> Path:
    """A program that calls `infer` once and ends. Parts are functions and other sections."""
    place = machine(core.qemu_machine)
    script, source = folder / "bare.ld", folder / "bare.S"
    script.write_text(_SCRIPT.replace("@FLASH@", hex(place.flash)).replace("@RAM@", hex(place.ram)))
    source.write_text(_START + "".join(parts))
    flags = (*core.gcc_flags, "-nostdlib", "-nostartfiles")
    return gcc.compile_image([source], folder, script, folder / "bare.elf", flags)
