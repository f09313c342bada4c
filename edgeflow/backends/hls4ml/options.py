"""What a user may choose for an HLS project."""

from __future__ import annotations

from dataclasses import dataclass

IO_TYPES = ("io_stream", "io_parallel")
STRATEGIES = ("latency", "resource")
_MOST_REUSE = 1 << 20


@dataclass(frozen=True)
class Hls4mlOptions:
    """hls4ml's own choices, in its words.

    `io_type`: `io_stream` (a pixel at a time between layers) or `io_parallel` (whole tensors in registers).
    `reuse_factor`: how many multiplications of a layer share one multiplier.
    `strategy`: `latency` (weights in logic, zeros cost nothing) or `resource` (weights in block RAM).
    `prefix` names the top function and project instead of the model's name.
    """

    io_type: str = "io_stream"
    reuse_factor: int = 1
    strategy: str = "latency"
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.io_type not in IO_TYPES:
            raise ValueError(f'io_type "{self.io_type}" is none of: {", ".join(IO_TYPES)}')
        if self.strategy not in STRATEGIES:
            raise ValueError(f'strategy "{self.strategy}" is none of: {", ".join(STRATEGIES)}')
        if not 1 <= self.reuse_factor <= _MOST_REUSE:
            raise ValueError(f"reuse_factor {self.reuse_factor} is not between 1 and {_MOST_REUSE}")
