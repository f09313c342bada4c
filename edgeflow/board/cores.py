"""The processor cores that boards carry, and what a compiler and an emulator call them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Architecture(enum.Enum):
    """What a core's instructions are of. The value is the prefix of its GNU tools."""

    ARM = "arm-none-eabi"
    RISCV = "riscv64-unknown-elf"


@dataclass(frozen=True)
class _Traits:
    title: str
    cpu: str
    machine: str
    fpu: bool = False
    architecture: Architecture = Architecture.ARM


class Core(enum.Enum):
    """An Arm Cortex-M or a RISC-V core of 32 bits. The value is its name in a board file."""

    CORTEX_M0 = "cortex-m0"
    CORTEX_M0PLUS = "cortex-m0plus"
    CORTEX_M3 = "cortex-m3"
    CORTEX_M4 = "cortex-m4"
    CORTEX_M4F = "cortex-m4f"
    CORTEX_M7 = "cortex-m7"
    CORTEX_M33 = "cortex-m33"
    CORTEX_M55 = "cortex-m55"
    RV32IMAC = "rv32imac"

    @property
    def title(self) -> str:
        """As people write it: `Cortex-M0+`."""
        return _TRAITS[self].title

    @property
    def cpu(self) -> str:
        """As compilers call it."""
        return _TRAITS[self].cpu

    @property
    def architecture(self) -> Architecture:
        """Which compiler and emulator its code takes."""
        return _TRAITS[self].architecture

    @property
    def has_dsp(self) -> bool:
        """Whether it has the DSP instructions and a floating-point unit (Armv7E-M or later)."""
        return self.has_fpu

    @property
    def has_mve(self) -> bool:
        """Whether it has the vector instructions of Armv8.1-M (Helium): a Cortex-M55 counts as one with them."""
        return self is Core.CORTEX_M55

    @property
    def is_plain_thumb(self) -> bool:
        """Whether Armv6-M's instructions are the best that this backend knows for it: no DSP instructions."""
        return self in (Core.CORTEX_M0, Core.CORTEX_M0PLUS, Core.CORTEX_M3, Core.CORTEX_M4)

    @property
    def has_fpu(self) -> bool:
        """Whether there are floating-point registers: generated code keeps integers in them.

        True for the cores that are nearly always made with the unit: a chip that lacks it is described by
        the core without it (Cortex-M4, Cortex-M3). A Cortex-M33 counts as one with the DSP extension too,
        a Cortex-M55 as one with Helium.
        """
        return _TRAITS[self].fpu

    @property
    def gcc_flags(self) -> tuple[str, ...]:
        """What selects this core in its GNU compiler.

        With floating-point registers the calling convention stays the one without them (softfp): such objects
        link with those of a project that does not use them. Start-up code must switch the unit on. For
        a RISC-V core picolibc is selected as well: the compiler has no C library of its own.
        """
        if self.architecture is Architecture.RISCV:
            return (f"-march={self.cpu}", "-mabi=ilp32", "--specs=picolibc.specs")
        fpu = ("-mfpu=auto", "-mfloat-abi=softfp") if self.has_fpu else ()
        return (f"-mcpu={_TRAITS[self].cpu}", "-mthumb", *fpu)

    @property
    def qemu_machine(self) -> str:
        """The `qemu-system-arm -M` or `qemu-system-riscv32 -M` machine that runs this core's code.

        QEMU has no Cortex-M0+ machine. ARMv6-M code runs on its Cortex-M3 unchanged; that core accepts
        unaligned access, which a real Cortex-M0+ faults on, unless start-up code sets CCR.UNALIGN_TRP.
        """
        return _TRAITS[self].machine

    @property
    def traps_unaligned(self) -> bool:
        """Whether the real core faults on unaligned access and start-up code can make QEMU's do so (ARMv6-M)."""
        return self in (Core.CORTEX_M0, Core.CORTEX_M0PLUS)


_TRAITS = {
    Core.CORTEX_M0: _Traits("Cortex-M0", "cortex-m0", "mps2-an385"),
    Core.CORTEX_M0PLUS: _Traits("Cortex-M0+", "cortex-m0plus", "mps2-an385"),
    Core.CORTEX_M3: _Traits("Cortex-M3", "cortex-m3", "mps2-an385"),
    Core.CORTEX_M4: _Traits("Cortex-M4", "cortex-m4", "mps2-an386"),
    Core.CORTEX_M4F: _Traits("Cortex-M4F", "cortex-m4", "mps2-an386", fpu=True),
    Core.CORTEX_M7: _Traits("Cortex-M7", "cortex-m7", "mps2-an500", fpu=True),
    Core.CORTEX_M33: _Traits("Cortex-M33", "cortex-m33", "mps2-an505", fpu=True),
    Core.CORTEX_M55: _Traits("Cortex-M55", "cortex-m55", "mps3-an547", fpu=True),
    Core.RV32IMAC: _Traits("RV32IMAC", "rv32imac", "virt", architecture=Architecture.RISCV),
}
