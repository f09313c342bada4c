"""The `.tflite` file that a graph came from, kept beside it and run in TFLite-Micro's own interpreter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.tflite import read_bytes
from edgeflow.frontends.tflite.model import Tensor
from edgeflow.frontends.tflite.reader import read_tflite
from edgeflow.ir.graph import Graph, Input, Node, State
from edgeflow.ir.types import IntArray, Label, TensorType
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.toolchain import tflm

ORIGINAL = "original.tflite"
"""Its name in a folder that holds its graph."""
RUNNER, TITLE = "tflite-micro", "TFLite-Micro, your file"
_STORED: Mapping[str, type[np.int8 | np.uint8 | np.int16]] = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16}
_BUILD = "build the folder again"


def kept_original(folder: Path) -> Path | None:
    """The file kept in an imported folder or a built one; None for models that came from elsewhere."""
    return next((path for path in (folder / ORIGINAL, folder / "graph" / ORIGINAL) if path.is_file()), None)


def stored_type(kind: TensorType) -> str | None:
    """NumPy's name of the type in which a file stores an input of these ends: "int8"; None where there is none."""
    ends = (kind.lo, kind.hi)
    names = (np.dtype(one).name for one in _STORED.values())
    return next((name for name in names if (np.iinfo(name).min, np.iinfo(name).max) == ends), None)


def ask_original(path: Path, graph: Graph, inputs: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """The file's outputs as the graph's integers, by output name. `inputs` are the graph's, samples first.

    Raises EdgeflowError when the file is not the graph's, MissingTool without the wheel, ToolFailed when it fails.
    """
    tflm.require_wheel()
    file = read_tflite(read_bytes(path), str(path))
    if (len(file.inputs), len(file.outputs)) != (len(graph.inputs), len(graph.outputs)):
        raise EdgeflowError("is not the model of the graph beside it", where=str(path), fix=_BUILD)
    given = [
        _as_stored(inputs[source.name], source.label, file.tensors[index], path)
        for source, index in zip(graph.inputs, file.inputs, strict=True)
    ]
    answer = tflm.invoke(path, given, len(file.outputs))
    samples = len(given[0])
    return {
        output.name: _as_integers(values, samples, graph.tensor(output.tensor), path)
        for output, values in zip(graph.outputs, answer.outputs, strict=True)
    }


def _as_stored(values: IntArray, label: Label, tensor: Tensor, path: Path) -> tflm.Values:
    """Integers as the file's input stores them, samples first: the real values where it takes floats."""
    if values[0].size != math.prod(tensor.shape):
        raise EdgeflowError("is not the model of the graph beside it", where=str(path), fix=_BUILD)
    if tensor.kind in _STORED:
        return values.astype(_STORED[tensor.kind])
    return to_reals(values, label).astype(np.float32)


def _as_integers(values: tflm.Values, samples: int, tensor: Input | State | Node, path: Path) -> IntArray:
    """What the file answered as the integers of the graph's tensor."""
    shape = (samples, *tensor.type.shape)
    if values.size != math.prod(shape):
        raise EdgeflowError("is not the model of the graph beside it", where=str(path), fix=_BUILD)
    if values.dtype.kind == "f":
        return to_integers(values.astype(np.float32).reshape(shape), tensor.type, tensor.label)
    return values.astype(np.int64).reshape(shape)
