"""The FPGA families that boards carry, and what their fabric is made of."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True)
class _Traits:
    title: str
    lut_inputs: int
    multiplier: tuple[int, int]
    vitis: bool


class Family(enum.Enum):
    """An FPGA fabric. The value is its name in a board file."""

    SERIES_7 = "amd-7-series"
    ULTRASCALE = "amd-ultrascale"
    ULTRASCALE_PLUS = "amd-ultrascale-plus"
    ECP5 = "lattice-ecp5"
    ICE40_ULTRAPLUS = "lattice-ice40-ultraplus"

    @property
    def title(self) -> str:
        """As people write it: `AMD 7 series`."""
        return _TRAITS[self].title

    @property
    def lut_inputs(self) -> int:
        """Inputs of one look-up table."""
        return _TRAITS[self].lut_inputs

    @property
    def multiplier(self) -> tuple[int, int]:
        """Bits of the two signed factors that one DSP block multiplies."""
        return _TRAITS[self].multiplier

    @property
    def vitis(self) -> bool:
        """Whether AMD's Vitis HLS makes designs for it."""
        return _TRAITS[self].vitis


# The multipliers are AMD's DSP48E1 and DSP48E2, Lattice's MULT18X18D and SB_MAC16.
_TRAITS = {
    Family.SERIES_7: _Traits("AMD 7 series", 6, (25, 18), vitis=True),
    Family.ULTRASCALE: _Traits("AMD UltraScale", 6, (27, 18), vitis=True),
    Family.ULTRASCALE_PLUS: _Traits("AMD UltraScale+", 6, (27, 18), vitis=True),
    Family.ECP5: _Traits("Lattice ECP5", 4, (18, 18), vitis=False),
    Family.ICE40_ULTRAPLUS: _Traits("Lattice iCE40 UltraPlus", 4, (16, 16), vitis=False),
}
