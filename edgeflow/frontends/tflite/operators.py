"""Every operator that edgeflow reads, by its name in TFLite's schema."""

from __future__ import annotations

from collections.abc import Mapping

from edgeflow.frontends.tflite.functions import FUNCTIONS
from edgeflow.frontends.tflite.importer import Handler
from edgeflow.frontends.tflite.linear import LINEAR
from edgeflow.frontends.tflite.pooling import POOLING
from edgeflow.frontends.tflite.scaling import SCALING
from edgeflow.frontends.tflite.shaping import SHAPING
from edgeflow.frontends.tflite.sums import SUMS
from edgeflow.frontends.tflite.transposed import TRANSPOSED
from edgeflow.frontends.tflite.views import VIEWS

HANDLERS: Mapping[str, Handler] = {
    **LINEAR,
    **SUMS,
    **POOLING,
    **VIEWS,
    **FUNCTIONS,
    **SHAPING,
    **TRANSPOSED,
    **SCALING,
}
