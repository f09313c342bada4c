"""RESHAPE, SQUEEZE and EXPAND_DIMS: the same integers in the shape that the file gives the output."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgeflow.frontends.tflite.importer import Handler, Importer
from edgeflow.frontends.tflite.model import Operator
from edgeflow.ops.reshape import Reshape

_DAMAGED = "write the file again: it is damaged"


def _view(importer: Importer, operator: Operator) -> None:
    """TFLite-Micro copies the bytes and looks at the output's shape alone."""
    source, target = operator.inputs[0], operator.outputs[0]
    given, wanted = importer.tensor(source), importer.tensor(target)
    if given.kind != wanted.kind:
        raise importer.refuse(operator, f"it brings {given.kind} to {wanted.kind}", _DAMAGED)
    if math.prod(given.shape) != math.prod(wanted.shape):
        raise importer.refuse(operator, f"it brings the shape {given.shape} to {wanted.shape}", _DAMAGED)
    name = importer.named(source, importer.place(operator))
    label = importer.scaled(target, importer.place(operator)).label
    shape = importer.shape(target)
    if (importer.builder.type(name).shape, importer.builder.label(name)) != (shape, label):
        name = importer.add(Reshape(shape), (name,), label, operator)
    importer.define(target, name)


VIEWS: Mapping[str, Handler] = {"RESHAPE": _view, "SQUEEZE": _view, "EXPAND_DIMS": _view}
