"""What generated C shall be best at."""

from __future__ import annotations

import enum


class Optimize(enum.Enum):
    """SIZE: the least flash. SPEED: the fewest instructions. BALANCED: less flash where it costs few instructions."""

    SIZE = "size"
    BALANCED = "balanced"
    SPEED = "speed"
