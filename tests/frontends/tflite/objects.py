"""A small `.tflite` file as objects of TFLite's own schema, and changes to it: what a `TfliteFile` cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from edgeflow.backends.tflm.flatbuffer import schema

flatbuffers = pytest.importorskip("flatbuffers")
Change = Callable[[Any], None]


def tensor(name: str, shape: tuple[int, ...], kind: str, buffer: int = 0, scales: tuple[float, ...] = ()) -> Any:
    one = schema().TensorT()
    one.name, one.shape, one.buffer = name, np.array(shape, np.int32), buffer
    one.type = getattr(schema().TensorType, kind)
    if scales:
        one.quantization = schema().QuantizationParametersT()
        one.quantization.scale = np.array(scales, np.float32)
        one.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    return one


def ints(*values: int) -> Any:
    return np.array(values, np.int32)


def model() -> Any:
    """A FULLY_CONNECTED from 4 values to 3 with a bias, then a LOGISTIC, as the schema's objects."""
    fb = schema()
    root, graph = fb.ModelT(), fb.SubGraphT()
    root.version, root.description = 3, "hand-made"
    for name in ("FULLY_CONNECTED", "LOGISTIC"):
        code = fb.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(fb.BuiltinOperator, name)
        root.operatorCodes = [*(root.operatorCodes or []), code]
    contents = (b"", bytes(range(12)), bytes(12))
    root.buffers = [fb.BufferT() for _ in contents]
    for buffer, content in zip(root.buffers, contents, strict=True):
        buffer.data = np.frombuffer(content, np.uint8) if content else None
    graph.name = "dense"
    graph.tensors = [
        tensor("x", (1, 4), "INT8", scales=(0.5,)),
        tensor("w", (3, 4), "INT8", 1, (0.25, 0.5, 1.0)),
        tensor("b", (3,), "INT32", 2, (0.125, 0.25, 0.5)),
        tensor("y", (1, 3), "INT8", scales=(1.0,)),
        tensor("z", (1, 3), "INT8", scales=(1 / 256,)),
    ]
    graph.inputs, graph.outputs = ints(0), ints(4)
    dense, curve = fb.OperatorT(), fb.OperatorT()
    dense.opcodeIndex, dense.inputs, dense.outputs = 0, ints(0, 1, 2), ints(3)
    dense.builtinOptionsType, dense.builtinOptions = (
        fb.BuiltinOptions.FullyConnectedOptions,
        fb.FullyConnectedOptionsT(),
    )
    dense.builtinOptions.fusedActivationFunction = fb.ActivationFunctionType.RELU
    curve.opcodeIndex, curve.inputs, curve.outputs = 1, ints(3), ints(4)
    graph.operators = [dense, curve]
    root.subgraphs = [graph]
    return root


def packed(root: Any) -> bytes:
    builder = flatbuffers.Builder(0)
    builder.Finish(root.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def changed(change: Change) -> bytes:
    root = model()
    change(root)
    return packed(root)


def at_model(**fields: Any) -> Change:
    """Other fields of the model."""
    return _setting(lambda root: root, fields)


def at_graph(**fields: Any) -> Change:
    """Other fields of its graph."""
    return _setting(lambda root: root.subgraphs[0], fields)


def at_tensor(index: int, **fields: Any) -> Change:
    """Other fields of a tensor."""
    return _setting(lambda root: root.subgraphs[0].tensors[index], fields)


def at_scales(index: int, **fields: Any) -> Change:
    """Other fields of a tensor's quantization."""
    return _setting(lambda root: root.subgraphs[0].tensors[index].quantization, fields)


def at_operator(index: int, **fields: Any) -> Change:
    """Other fields of an operator."""
    return _setting(lambda root: root.subgraphs[0].operators[index], fields)


def _setting(place: Callable[[Any], Any], fields: Mapping[str, Any]) -> Change:
    def change(root: Any) -> None:
        for name, value in fields.items():
            setattr(place(root), name, value)

    return change
