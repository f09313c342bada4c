"""Whether a file's operators can run in the order in which they stand, each tensor once."""

from __future__ import annotations

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.tflite.flatbuffer import FIX
from edgeflow.frontends.tflite.model import Operator, Tensor, TfliteFile

MOST_READ = 256 << 20
"""Bytes of constants that all operators together may read."""
_LEFT_OUT = -1


def check_order(file: TfliteFile, where: str) -> None:
    """Raises EdgeflowError, naming the operator, unless each reads what is given, constant or computed before it.

    A tensor is computed once, and none keeps its values from one call to the next (Unsupported). The model has an
    input and an output.
    """
    _check_ends(file, where)
    known = {one.index for one in file.tensors if one.data is not None} | set(file.inputs)
    read = 0
    for operator in file.operators:
        place = f"operator {operator.index} ({operator.code})"
        for tensor in (file.tensors[index] for index in operator.inputs if index != _LEFT_OUT):
            _check_input(tensor, known, place, where)
            read += len(tensor.data or b"")
        if read > MOST_READ:
            raise _damaged("its operators read the same constants over and over", where)
        _check_outputs(file, operator, known, place, where)
        known.update(operator.outputs)
    for index in file.outputs:
        if index not in known:
            raise _damaged(f"output {_shown(file.tensors[index])} is never computed", where)


def _check_ends(file: TfliteFile, where: str) -> None:
    for kind, ends in (("input", file.inputs), ("output", file.outputs)):
        if not ends:
            raise _damaged(f"the model has no {kind}", where)
    if len(set(file.inputs)) != len(file.inputs):
        raise _damaged("a tensor is twice an input of the model", where)
    for tensor in (file.tensors[index] for index in file.inputs):
        if tensor.data is not None:
            raise _damaged(f"input {_shown(tensor)} is a constant", where)


def _check_input(tensor: Tensor, known: set[int], place: str, where: str) -> None:
    if tensor.variable:
        raise Unsupported(
            f"{place} keeps {_shown(tensor)} from one call to the next",
            where=where,
            fix="give a model without states",
        )
    if tensor.index not in known:
        raise _damaged(f"{place} reads {_shown(tensor)} before it is computed", where)


def _check_outputs(file: TfliteFile, operator: Operator, known: set[int], place: str, where: str) -> None:
    for index in operator.outputs:
        tensor = file.tensors[index]
        if index not in known and operator.outputs.count(index) == 1:
            continue
        if tensor.data is not None:
            kind = "a constant" if tensor.data else "which has no elements"
            raise _damaged(f"{place} computes {_shown(tensor)}, {kind}", where)
        how = "an input of the model" if index in file.inputs else "which is computed already"
        raise _damaged(f"{place} computes {_shown(tensor)}, {how}", where)


def _shown(tensor: Tensor) -> str:
    return f"tensor {tensor.index} ('{tensor.name}')"


def _damaged(what: str, where: str) -> EdgeflowError:
    return EdgeflowError(f"damaged TFLite file: {what}", where=where, fix=FIX)
