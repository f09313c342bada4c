"""The validation firmware: the model behind a serial port on the user's own board, with the cycles of each layer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from edgeflow.backends.c.emit import Emitted
from edgeflow.board import Boot, McuBoard
from edgeflow.render import render
from edgeflow.toolchain.qemu import MACHINES

VERSION = 1
"""Of what is said over the serial port: both sides name it."""

BAUD = 115200
FOLDER = "validation"

DRIVERS = {
    "STM32F446RE": "port_stm32f446",
    "STM32F103C8": "port_stm32f103",
    "nRF52833": "port_nrf52833",
    "RP2040": "port_rp2040",
}
"""A board's chip -> the template of its serial port. For any other chip the three functions are the user's to write."""


def identity(emitted: Emitted, texts: Mapping[str, str]) -> bytes:
    """64 bytes: SHA-256 of the graph, and of the model's own files."""
    source = hashlib.sha256("".join(texts.values()).encode()).digest()
    return bytes.fromhex(emitted.model.digest) + source


def validation_files(emitted: Emitted, texts: Mapping[str, str], board: McuBoard) -> dict[str, str]:
    """Relative path -> text of the validation firmware beside the model and its start-up code."""
    emulator = MACHINES.get(board.core.qemu_machine)
    shared = {"board": board, "baud": BAUD}
    main = render(
        "firmware/validation/main.c.j2",
        model=emitted.model,
        board=board,
        kernels=emitted.kernels,
        version=VERSION,
        has_dwt=not board.core.traps_unaligned,
        identity=[f"0x{byte:02x}" for byte in identity(emitted, texts)],
        crc_table=[f"0x{word:08x}u" for word in _crc_table()],
    )
    driver = DRIVERS.get(board.chip, "port_yours")
    files = {
        "main.c": main,
        "port.c": render(f"firmware/validation/{driver}.c.j2", **shared),
        "port.h": render("firmware/validation/port.h.j2"),
        "profile.h": render("firmware/validation/profile.h.j2"),
    }
    if emulator and emulator.uart:
        files["port_qemu.c"] = render("firmware/validation/port_qemu.c.j2", machine=emulator.name, uart=emulator.uart)
    return {f"{FOLDER}/{name}": text for name, text in files.items()}


def images(board: McuBoard) -> tuple[tuple[str, str, str, bool, bool], ...]:
    """What CMake can build of it: name, source of the serial port, linker script, has a boot stage, is for QEMU."""
    found = [("validation", "port.c", "memory.ld", board.boot is Boot.RP2040_BOOT2, False)]
    if board.core.qemu_machine in MACHINES and MACHINES[board.core.qemu_machine].uart:
        found.append(("validation_qemu", "port_qemu.c", "verify/qemu.ld", False, True))
    return tuple(found)


def _crc_table() -> list[int]:
    """CRC-32 (zlib's polynomial, reflected: edb88320) of every four bits."""
    table: list[int] = []
    for nibble in range(16):
        crc = nibble
        for _ in range(4):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        table.append(crc)
    return table
