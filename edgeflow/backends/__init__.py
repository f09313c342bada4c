"""Every target, by name."""

from __future__ import annotations

from edgeflow.backends.c.backend import CBackend
from edgeflow.backends.hls4ml.backend import Hls4mlBackend
from edgeflow.backends.protocol import Backend
from edgeflow.backends.tflm.backend import TflmBackend

BACKENDS: dict[str, Backend] = {
    "c": CBackend(),
    "tflm": TflmBackend(),
    "hls4ml": Hls4mlBackend(),
}
