"""What generated C shall be best at."""

from __future__ import annotations

import enum


class Optimize(enum.Enum):
    """SIZE: the least flash and RAM. SPEED: the fewest instructions. BALANCED: less of both where that costs few
    instructions.
    """

    SIZE = "size"
    BALANCED = "balanced"
    SPEED = "speed"
