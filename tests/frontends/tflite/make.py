"""Makes `.tflite` files for tests: a `TfliteFile` piece by piece, its bytes through TFLite's own schema, its graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow.backends.tflm.flatbuffer import schema
from edgeflow.errors import Unsupported
from edgeflow.frontends.tflite import import_tflite
from edgeflow.frontends.tflite.model import Operator, Quantization, Tensor, TfliteFile
from edgeflow.ir.graph import Graph

Value = int | float | bool | str | tuple[int, ...]

_DTYPES = {"INT8": "<i1", "UINT8": "<u1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FLOAT32": "<f4"}
_ENUMS = {
    "padding": "Padding",
    "fused_activation_function": "ActivationFunctionType",
    "weights_format": "FullyConnectedOptionsWeightsFormat",
    "quantized_bias_type": "TensorType",
    "output_type": "TensorType",
}
TABLES = {
    "ADD": "AddOptions",
    "ARG_MAX": "ArgMaxOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "EXPAND_DIMS": "ExpandDimsOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "SQUEEZE": "SqueezeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE": "TransposeOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "UNPACK": "UnpackOptions",
}
"""The option tables; operators that are not here are written without."""


class Making:
    """A file that grows tensor by tensor. Methods return tensor numbers; -1 stands for an input that is left out."""

    def __init__(self, name: str = "made") -> None:
        self.name = name
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.inputs: list[int] = []

    def input(
        self, shape: Sequence[int], kind: str = "INT8", scale: float = 0.05, zero: int = 0, name: str = ""
    ) -> int:
        """An input of the model."""
        index = self.tensor(name or f"input{len(self.inputs)}", shape, kind, scale, zero)
        self.inputs.append(index)
        return index

    def constant(
        self,
        values: npt.ArrayLike,
        kind: str = "INT8",
        scale: float | Sequence[float] | None = None,
        zero: int = 0,
        axis: int = 0,
        name: str = "",
    ) -> int:
        """A constant in its shape. Several scales stand along `axis`; None: no quantization."""
        array = np.asarray(values)
        name = name or f"constant{len(self.tensors)}"
        return self.tensor(name, array.shape, kind, scale, zero, axis, stored(array, kind))

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        kind: str,
        scale: float | Sequence[float] | None,
        zero: int = 0,
        axis: int = 0,
        data: bytes | None = None,
    ) -> int:
        """Any tensor."""
        quantization = None
        if scale is not None:
            scales = tuple(float(np.float32(one)) for one in np.atleast_1d(scale))
            quantization = Quantization(scales, (zero,) * len(scales), axis)
        at = len(self.tensors)
        self.tensors.append(Tensor(at, name, tuple(int(one) for one in shape), kind, quantization, data))
        return at

    def add(
        self,
        code: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        scale: float | None = None,
        zero: int | None = None,
        *,
        kind: str | None = None,
        version: int = 1,
        settings: Mapping[str, Value] | None = None,
        **options: Value,
    ) -> int:
        """An operator with one output. Type, scale and zero point are the first input's unless given.

        `settings` are more options.
        """
        first = self.tensors[inputs[0]]
        known = first.quantization
        if known is not None:
            scale = known.scales[0] if scale is None else scale
            zero = known.zero_points[0] if zero is None else zero
        output = self.tensor(f"{code.lower()}{len(self.operators)}", shape, kind or first.kind, scale, zero or 0)
        self.operator(code, inputs, (output,), version=version, settings=settings, **options)
        return output

    def operator(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        version: int = 1,
        settings: Mapping[str, Value] | None = None,
        **options: Value,
    ) -> None:
        """An operator on tensors that exist already. `settings` are more options."""
        at = len(self.operators)
        every = {**(settings or {}), **options}
        self.operators.append(Operator(at, code, version, tuple(inputs), tuple(outputs), every))

    def file(self, *outputs: int) -> TfliteFile:
        """The file with these outputs; of the last operator if none are given."""
        ends = outputs or self.operators[-1].outputs
        return TfliteFile(self.name, tuple(self.tensors), tuple(self.operators), tuple(self.inputs), ends)

    def write(self, *outputs: int) -> bytes:
        """The file's bytes."""
        return write(self.file(*outputs))


def stored(values: npt.NDArray[np.generic], kind: str) -> bytes:
    """A constant's bytes; int4 two a byte, the lower half first."""
    if kind == "INT4":
        halves = values.astype(np.int64).reshape(-1) & 15
        halves = np.append(halves, np.zeros(len(halves) % 2, dtype=np.int64))
        return (halves[::2] | halves[1::2] << 4).astype(np.uint8).tobytes()
    return values.astype(_DTYPES[kind]).tobytes()


def write(file: TfliteFile, names: Mapping[int, str] | None = None) -> bytes:
    """The bytes of a file. `names` (else the file's own) become a signature; every option has its default or is given.

    Operators called as no operator of the schema become custom ones.
    """
    import flatbuffers  # pyright: ignore[reportMissingTypeStubs]

    fb = schema()
    file = replace(file, names=file.names if names is None else names)
    root, buffers = fb.ModelT(), _Buffers(fb)
    root.version, root.description = 3, "made for a test"
    codes = list(dict.fromkeys((one.code, one.version) for one in file.operators))
    root.operatorCodes = [_code(fb, *one) for one in codes]
    root.subgraphs = [_subgraph(fb, file, codes, buffers)]
    root.metadata = [_metadata(fb, name, buffers.add(content)) for name, content in file.metadata.items()]
    root.signatureDefs = [_signature(fb, file)] if file.names else None
    root.buffers = buffers.made
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(root.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def imported(file: TfliteFile) -> Graph:
    """The graph of a file."""
    return import_tflite(write(file), "made.tflite")


def ops(file: TfliteFile) -> list[str]:
    """The kinds of its graph's nodes, in order."""
    return [type(node.op).__name__ for node in imported(file).nodes]


def assert_refused(file: TfliteFile, text: str) -> None:
    """The file is one that no graph equals, with this whole message."""
    with pytest.raises(Unsupported) as caught:
        imported(file)
    assert str(caught.value) == text


class _Buffers:
    def __init__(self, fb: Any) -> None:
        self._fb, self.made = fb, [fb.BufferT()]

    def add(self, content: bytes | None) -> int:
        """The number of a buffer with this content."""
        if content is None:
            return 0
        one = self._fb.BufferT()
        one.data = np.frombuffer(content, dtype=np.uint8)
        self.made.append(one)
        return len(self.made) - 1


def _code(fb: Any, name: str, version: int) -> Any:
    one = fb.OperatorCodeT()
    number = int(getattr(fb.BuiltinOperator, name, fb.BuiltinOperator.CUSTOM))
    one.builtinCode, one.deprecatedBuiltinCode, one.version = number, min(number, 127), version
    one.customCode = name if number == fb.BuiltinOperator.CUSTOM else None
    return one


def _subgraph(fb: Any, file: TfliteFile, codes: list[tuple[str, int]], buffers: _Buffers) -> Any:
    one = fb.SubGraphT()
    one.name = file.name
    one.tensors = [_tensor(fb, tensor, buffers) for tensor in file.tensors]
    one.inputs, one.outputs = _int32(file.inputs), _int32(file.outputs)
    one.operators = [_operator(fb, each, codes.index((each.code, each.version))) for each in file.operators]
    return one


def _tensor(fb: Any, tensor: Tensor, buffers: _Buffers) -> Any:
    one = fb.TensorT()
    one.name, one.shape, one.isVariable = tensor.name, _int32(tensor.shape), tensor.variable
    one.buffer = buffers.add(tensor.data)
    one.type = int(getattr(fb.TensorType, tensor.kind))
    if tensor.dynamic:
        signature = (-1 if axis in tensor.dynamic else length for axis, length in enumerate(tensor.shape))
        one.shapeSignature = _int32(tuple(signature))
    if tensor.quantization is not None:
        one.quantization = fb.QuantizationParametersT()
        one.quantization.scale = np.array(tensor.quantization.scales, dtype=np.float32)
        one.quantization.zeroPoint = np.array(tensor.quantization.zero_points, dtype=np.int64)
        one.quantization.quantizedDimension = tensor.quantization.axis
    return one


def _operator(fb: Any, operator: Operator, code: int) -> Any:
    one = fb.OperatorT()
    one.opcodeIndex = code
    one.inputs, one.outputs = _int32(operator.inputs), _int32(operator.outputs)
    table = TABLES.get(operator.code)
    if table is not None:
        one.builtinOptionsType = int(getattr(fb.BuiltinOptions, table))
        one.builtinOptions = getattr(fb, f"{table}T")()
        for name, value in operator.options.items():
            attribute = re.sub(r"_(\w)", lambda found: found[1].upper(), name)
            assert hasattr(one.builtinOptions, attribute), f"{operator.code} has no option {name}"
            setattr(one.builtinOptions, attribute, _option(fb, name, value))
    else:
        assert not operator.options, f"{operator.code} has no options"
    return one


def _option(fb: Any, name: str, value: Value) -> Any:
    if isinstance(value, str):
        return int(getattr(getattr(fb, _ENUMS[name]), value))
    return _int32(value) if isinstance(value, tuple) else value


def _metadata(fb: Any, name: str, buffer: int) -> Any:
    one = fb.MetadataT()
    one.name, one.buffer = name, buffer
    return one


def _signature(fb: Any, file: TfliteFile) -> Any:
    one = fb.SignatureDefT()
    one.signatureKey, one.subgraphIndex = "serving_default", 0
    one.inputs = [_entry(fb, index, file.names[index]) for index in file.inputs if index in file.names]
    one.outputs = [_entry(fb, index, file.names[index]) for index in file.outputs if index in file.names]
    return one


def _entry(fb: Any, index: int, name: str) -> Any:
    one = fb.TensorMapT()
    one.name, one.tensorIndex = name, index
    return one


def _int32(values: Sequence[int]) -> Any:
    return np.array(values, dtype=np.int32)
