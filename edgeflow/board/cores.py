"""The processor cores that boards carry, and what a compiler and an emulator call them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True)
class _Traits:
    title: str
    cpu: str
    machine: str


class Core(enum.Enum):
    """An Arm Cortex-M core. The value is its name in a board file."""

    CORTEX_M0 = "cortex-m0"
    CORTEX_M0PLUS = "cortex-m0plus"
    CORTEX_M3 = "cortex-m3"
    CORTEX_M4 = "cortex-m4"
    CORTEX_M4F = "cortex-m4f"
    CORTEX_M7 = "cortex-m7"
    CORTEX_M33 = "cortex-m33"
    CORTEX_M55 = "cortex-m55"

    @property
    def title(self) -> str:
        """As people write it: `Cortex-M0+`."""
        return _TRAITS[self].title

    @property
    def cpu(self) -> str:
        """As compilers call it."""
        return _TRAITS[self].cpu

    @property
    def gcc_flags(self) -> tuple[str, ...]:
        """What selects this core in `arm-none-eabi-gcc`.

        Generated code is integer only, so no floating-point unit is asked for: the same objects run
        whether or not start-up code has switched it on.
        """
        return (f"-mcpu={_TRAITS[self].cpu}", "-mthumb")

    @property
    def qemu_machine(self) -> str:
        """The `qemu-system-arm -M` machine that runs this core's code.

        QEMU has no Cortex-M0+ machine. ARMv6-M code runs on its Cortex-M3 unchanged; that core accepts
        unaligned access, which a real Cortex-M0+ faults on, unless start-up code sets CCR.UNALIGN_TRP.
        """
        return _TRAITS[self].machine

    @property
    def traps_unaligned(self) -> bool:
        """Whether the real core faults on unaligned access (ARMv6-M)."""
        return self in (Core.CORTEX_M0, Core.CORTEX_M0PLUS)


_TRAITS = {
    Core.CORTEX_M0: _Traits("Cortex-M0", "cortex-m0", "mps2-an385"),
    Core.CORTEX_M0PLUS: _Traits("Cortex-M0+", "cortex-m0plus", "mps2-an385"),
    Core.CORTEX_M3: _Traits("Cortex-M3", "cortex-m3", "mps2-an385"),
    Core.CORTEX_M4: _Traits("Cortex-M4", "cortex-m4", "mps2-an386"),
    Core.CORTEX_M4F: _Traits("Cortex-M4F", "cortex-m4", "mps2-an386"),
    Core.CORTEX_M7: _Traits("Cortex-M7", "cortex-m7", "mps2-an500"),
    Core.CORTEX_M33: _Traits("Cortex-M33", "cortex-m33", "mps2-an505"),
    Core.CORTEX_M55: _Traits("Cortex-M55", "cortex-m55", "mps3-an547"),
}
