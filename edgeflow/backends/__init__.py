"""Every target, by name."""

from __future__ import annotations

from edgeflow.backends.c.backend import CBackend
from edgeflow.backends.protocol import Backend

BACKENDS: dict[str, Backend] = {"c": CBackend()}
