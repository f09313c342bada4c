"""QEMU's Arm machines: where they have memory and a timer, and how a bare-metal image runs on them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from edgeflow.errors import ToolFailed, Unsupported
from edgeflow.toolchain.process import Limits, Tool, check, run

QEMU = Tool("qemu-system-arm", "EDGEFLOW_QEMU_ARM", "apt install qemu-system-arm")
ICOUNT_SHIFT = 7
"""One instruction takes 2**7 ns of QEMU's time: long against a 40 ns timer tick, so that rounding is exact."""


@dataclass(frozen=True)
class Machine:
    """An emulated board: origins and sizes of its code and data memory, address of its 25 MHz timer."""

    name: str
    flash: int
    flash_size: int
    ram: int
    ram_size: int
    timer: int


_MPS2 = {"flash": 0, "flash_size": 4 << 20, "ram": 0x20000000, "ram_size": 4 << 20, "timer": 0x40000000}
MACHINES = {name: Machine(name, **_MPS2) for name in ("mps2-an385", "mps2-an386", "mps2-an500")}

_FAULTS = {
    70: "the processor faulted",
    71: "it could not open its files",
    72: "it could not write its outputs",
    73: "its input ended in the middle of a sample",
    74: "TFLite-Micro refused the model, or the arena is too small",
    75: "TFLite-Micro's Invoke() failed",
}


@dataclass(frozen=True)
class Figures:
    """What an emulated run counted: samples, stack bytes, instructions (least, most, total over samples).

    `overflows` counts the samples that ran longer than the timer holds (2**32 ticks, 1.34e9 instructions):
    with any, the instruction counts mean nothing.
    """

    samples: int
    stack: int
    least: int
    most: int
    total: int
    overflows: int


def machine(name: str) -> Machine:
    """The machine of that name. Raises Unsupported for one whose memory map edgeflow does not know."""
    if name not in MACHINES:
        raise Unsupported(f"edgeflow cannot run code on QEMU's machine {name} yet", fix=f"known: {', '.join(MACHINES)}")
    return MACHINES[name]


def version() -> str:
    """QEMU's version line. Raises MissingTool."""
    done = check(run([QEMU.path(), "--version"], Limits(seconds=30)), "QEMU does not answer")
    return done.stdout.decode(errors="replace").splitlines()[0].strip()


def run_image(image: Path, machine_name: str, work: Path, *, seconds: float) -> Figures:
    """Runs a verification image in `work`, which holds inputs.bin; it leaves outputs.bin there.

    Raises MissingTool, or ToolFailed when the image faults, hangs or answers nothing.
    """
    argv = [
        QEMU.path(),
        *("-M", machine_name, "-display", "none", "-monitor", "none", "-serial", "none"),
        *("-icount", f"shift={ICOUNT_SHIFT},sleep=off"),
        *("-semihosting-config", "enable=on,target=native"),
        *("-kernel", str(image.resolve())),
    ]
    done = run(argv, Limits(seconds=seconds), cwd=work)
    if done.code in _FAULTS:
        raise ToolFailed(f"the firmware stopped under QEMU: {_FAULTS[done.code]}", where=image.name)
    check(done, "QEMU failed", where=image.name)
    try:
        content = (work / "figures.bin").read_bytes()
        samples, stack, least, most, low, high, overflows = struct.unpack("<7I", content)
    except (OSError, struct.error):
        raise ToolFailed("the firmware left no figures under QEMU", where=image.name) from None
    return Figures(samples, stack, least, most, low | high << 32, overflows)
