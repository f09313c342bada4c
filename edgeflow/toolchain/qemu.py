"""QEMU's Arm and RISC-V machines: where they have memory and a timer, and how a bare-metal image runs on them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from edgeflow.errors import ToolFailed, Unsupported
from edgeflow.toolchain.process import Limits, Tool, check, run

QEMU = Tool("qemu-system-arm", "EDGEFLOW_QEMU_ARM", "apt install qemu-system-arm")
QEMU_RISCV = Tool("qemu-system-riscv32", "EDGEFLOW_QEMU_RISCV", "apt install qemu-system-misc")
ICOUNT_SHIFT = 7
"""One instruction takes 2**7 ns of QEMU's time: longer than a timer's tick of 100 ns at most, so rounding is exact."""


@dataclass(frozen=True)
class Timer:
    """A counter of 32 bits or more with registers of 32 bits from address `base` on.

    It reads as `now` and ticks once in `tick` quarters of a nanosecond. `start` sets it going; `restart` lets it count
    from its beginning and forget that it has `wrapped`. These are C expressions over `TIMER`, its registers.
    """

    base: int
    tick: int
    start: str
    restart: str
    now: str
    wrapped: str


@dataclass(frozen=True)
class Machine:
    """An emulated board: origins and sizes of its code and data memory, a timer, its first UART (Arm's CMSDK; 0 where
    edgeflow knows none), and what emulates it."""

    name: str
    flash: int
    flash_size: int
    ram: int
    ram_size: int
    timer: Timer
    uart: int = 0
    emulator: Tool = QEMU
    options: tuple[str, ...] = ()


def _cmsdk_timer(base: int, tick: int) -> Timer:
    """Arm's APB timer, which counts down: control, value, reload, flag. No interrupt is enabled in the core."""
    start = "TIMER[1] = 0xffffffffu, TIMER[2] = 0xffffffffu, TIMER[0] = 9u"
    return Timer(base, tick, start, "TIMER[1] = 0xffffffffu, TIMER[3] = 1u", "~TIMER[1]", "(TIMER[3] & 1u)")


def _system_counter(base: int, tick: int) -> Timer:
    """Arm's SSE-300 system counter, 64 bits, which is set while it stands: control, status, low and high word."""
    restart = "TIMER[0] = 0u, TIMER[2] = 0u, TIMER[3] = 0u, TIMER[0] = 1u"
    return Timer(base, tick, "TIMER[0] = 1u", restart, "TIMER[2]", "(TIMER[3] != 0u)")


def _machine_timer(base: int, tick: int) -> Timer:
    """RISC-V's machine timer: 64 bits, always on."""
    return Timer(base, tick, "TIMER[1] = 0u", "TIMER[1] = 0u, TIMER[0] = 0u", "TIMER[0]", "(TIMER[1] != 0u)")


_MPS2 = (0, 4 << 20, 0x20000000, 4 << 20, _cmsdk_timer(0x40000000, 160), 0x40004000)
_MPS2_SECURE = (0x10000000, 4 << 20, 0x38000000, 4 << 20, _cmsdk_timer(0x50000000, 200), 0x50200000)
_MPS3_SECURE = (0, 512 << 10, 0x21000000, 2 << 20, _system_counter(0x58100000, 125), 0x59303000)
_VIRT = (0x80000000, 16 << 20, 0x81000000, 16 << 20, _machine_timer(0x0200BFF8, 400), 0)
MACHINES = {
    name: Machine(name, *layout)
    for name, layout in (
        ("mps2-an385", _MPS2),
        ("mps2-an386", _MPS2),
        ("mps2-an500", _MPS2),
        ("mps2-an505", _MPS2_SECURE),
        ("mps3-an547", _MPS3_SECURE),
    )
} | {"virt": Machine("virt", *_VIRT, QEMU_RISCV, ("-bios", "none"))}
"""An Armv8-M core wakes up in the secure state, so its boards are seen at secure addresses. The timers run at 25, 20,
32 and 10 MHz. The images of mps3-an547 lie in its ITCM, those of virt where its boot ROM jumps to."""

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


def version(tool: Tool = QEMU) -> str:
    """QEMU's version line. Raises MissingTool."""
    done = check(run([tool.path(), "--version"], Limits(seconds=30)), "QEMU does not answer")
    return done.stdout.decode(errors="replace").splitlines()[0].strip()


def command(image: Path, machine_name: str) -> tuple[str, ...]:
    """What starts a bare-metal image that speaks through semihosting. Raises MissingTool, or Unsupported."""
    board = machine(machine_name)
    silent = ("-display", "none", "-monitor", "none", "-serial", "none")
    semihosting = ("-semihosting-config", "enable=on,target=native")
    return (
        board.emulator.path(),
        "-M",
        board.name,
        *board.options,
        *silent,
        *semihosting,
        "-kernel",
        str(image.resolve()),
    )


def run_image(image: Path, machine_name: str, work: Path, *, seconds: float) -> Figures:
    """Runs a verification image in `work`, which holds inputs.bin; it leaves outputs.bin there.

    Raises MissingTool, or ToolFailed when the image faults, hangs or answers nothing.
    """
    argv = (*command(image, machine_name), "-icount", f"shift={ICOUNT_SHIFT},sleep=off")
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
