"""The bare-metal project around the generated model: start-up, memory, build files, verification programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow.backends.c.emit import Emitted, Model
from edgeflow.backends.c.files import sources
from edgeflow.backends.c.validation import images, validation_files
from edgeflow.board import Architecture, Boot, Core, McuBoard, Region, RegionKind
from edgeflow.render import identifier, render
from edgeflow.toolchain.qemu import ICOUNT_SHIFT, MACHINES

COMPILE_FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections")
_LINK_FLAGS = ("-nostartfiles", "-Wl,--gc-sections")
_LIBRARY = {Architecture.ARM: ("--specs=nano.specs",), Architecture.RISCV: ()}
"""What makes the linker take the small C library; for RISC-V the flags of the core do."""

_BOOT2 = bytes.fromhex(
    "00b50d4b00209860042058610b4818600b480c490860002058600120986001bc002800d000470848"
    "08490860016881f3088840680047c0460000001800031f0018020003f40000180001001008ed00e0"
)
"""What boot2.S assembles to, without its padding; a test assembles it again."""


@dataclass(frozen=True)
class LinkRegion:
    """A MEMORY entry of the linker script."""

    name: str
    flash: bool
    origin: int
    size: int


def link_flags(core: Core) -> tuple[str, ...]:
    """What links a bare-metal image for a core."""
    return (*_LIBRARY[core.architecture], *_LINK_FLAGS)


def firmware_files(
    emitted: Emitted, texts: Mapping[str, str], board: McuBoard, stack: int, validation: bool = False
) -> dict[str, bytes]:
    """Relative path -> content of the whole project but the graph and the manifest. `texts`: the model's own files.

    With `validation` also of the firmware that `edgeflow verify --port` talks to.
    """
    model, boot2 = emitted.model, board.boot is Boot.RP2040_BOOT2
    toolchain, riscv = board.core.architecture.value, board.core.architecture is Architecture.RISCV
    shared = {
        "model": model,
        "made": emitted,
        "sources": sources(texts),
        "board": board,
        "boot2": boot2,
        "core_flags": board.core.gcc_flags,
        "compile_flags": COMPILE_FLAGS,
        "link_flags": link_flags(board.core),
        "toolchain": toolchain,
        "validation": validation,
        "images": images(board),
    }
    files = {f"model/{name}": text for name, text in texts.items()} | {
        "src/main.c": render("firmware/main.c.j2", **shared),
        "src/startup.c": render(f"firmware/startup{'_riscv' if riscv else ''}.c.j2", **shared),
        "memory.ld": _memory(model, board, stack),
        "CMakeLists.txt": render("firmware/CMakeLists.txt.j2", **shared),
        f"{toolchain}.cmake": render("firmware/toolchain.cmake.j2", toolchain=toolchain),
        "verify/host.c": render("firmware/host.c.j2", **shared),
        "README.md": render("firmware/README.md.j2", **shared),
    }
    if boot2:
        files["src/boot2.S"] = render("firmware/boot2.S.j2", checksum=boot2_checksum())
    emulator = MACHINES.get(board.core.qemu_machine)
    if emulator:
        files["verify/semihost.c"] = render(
            "firmware/semihost.c.j2",
            **shared,
            machine=emulator.name,
            timer=emulator.timer,
            icount_shift=ICOUNT_SHIFT,
            traps_unaligned=board.core.traps_unaligned,
        )
        files["verify/qemu.ld"] = _emulated_memory(model, board, stack)
    if validation:
        files |= validation_files(emitted, texts, board)
    return {name: text.encode("ascii", "backslashreplace") for name, text in files.items()}


def _memory(model: Model, board: McuBoard, stack: int) -> str:
    regions = [_link_region(one, one.kind is not RegionKind.RAM) for one in board.memories]
    boot = next((identifier(one.name) for one in board.memories if one.kind is RegionKind.BOOT), None)
    return render(
        "firmware/memory.ld.j2",
        model=model,
        board=board,
        emulated=False,
        regions=regions,
        boot2=boot if board.boot is Boot.RP2040_BOOT2 else None,
        flash=identifier(board.flash_regions[0].name),
        ram=identifier(board.ram_regions[0].name),
        stack=stack,
    )


def _emulated_memory(model: Model, board: McuBoard, stack: int) -> str:
    emulator = MACHINES[board.core.qemu_machine]
    flash, ram = board.flash_regions[0], board.ram_regions[0]
    regions = (
        LinkRegion(identifier(flash.name), True, emulator.flash, min(flash.size, emulator.flash_size)),
        LinkRegion(identifier(ram.name), False, emulator.ram, min(ram.size, emulator.ram_size)),
    )
    return render(
        "firmware/memory.ld.j2",
        model=model,
        board=board,
        emulated=True,
        machine=emulator.name,
        regions=regions,
        boot2=None,
        flash=regions[0].name,
        ram=regions[1].name,
        stack=stack,
    )


def _link_region(region: Region, flash: bool) -> LinkRegion:
    return LinkRegion(identifier(region.name), flash, region.origin, region.size)


def boot2_checksum() -> int:
    """The RP2040 boot ROM's CRC-32 (polynomial 04c11db7, no reflection, start ffffffff) of boot2.S's code."""
    code = _BOOT2 + bytes(252 - len(_BOOT2))
    crc = 0xFFFFFFFF
    for byte in code:
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc
