"""What a user may choose about a calibration."""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.errors import EdgeflowError
from edgeflow.train.calibrate.grids import METHODS


@dataclass(frozen=True)
class Options:
    """`samples` calibrate at most; `bits` of a weight and `activation_bits` of a value are 2 to 8.

    `per_tensor`: one weight scale a layer instead of one an output channel. `power_of_two`: every scale is a power of
    two and every zero point 0. Raises EdgeflowError for a value that cannot be.
    """

    samples: int = 512
    method: str = "mse"
    bits: int = 8
    activation_bits: int = 8
    per_tensor: bool = False
    power_of_two: bool = False
    equalize: bool = True
    correct_bias: bool = True

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise EdgeflowError(f"--samples is {self.samples}", fix="give a number of samples from 1, such as 512")
        if self.method not in METHODS:
            raise EdgeflowError(f'--method is "{self.method}"', fix=f"choose from: {', '.join(METHODS)}")
        for name, value in (("--bits", self.bits), ("--activation-bits", self.activation_bits)):
            if not 2 <= value <= 8:
                raise EdgeflowError(f"{name} is {value}", fix="choose from 2 to 8; 8 keeps the most accuracy")
