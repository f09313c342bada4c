"""Writes a TFLite model as the flatbuffer that it is, through the object API of TFLite's own schema."""

from __future__ import annotations

import importlib
import json
from typing import Any, Protocol, cast

import numpy as np

from edgeflow import __version__
from edgeflow.backends.tflm.model import (
    ConvOptions,
    DenseOptions,
    Kernel,
    NoOptions,
    Operator,
    Options,
    PoolOptions,
    Quantization,
    ReshapeOptions,
    Tensor,
    TfliteModel,
)
from edgeflow.errors import MissingTool

ALIGNMENT = 16
"""Bytes: what kernels may expect of weights (tensorflow/lite/micro/micro_arena_constants.h)."""
METADATA = "edgeflow"
_SCHEMAS = ("tflite_micro.tensorflow.lite.micro.python.schema_py_generated", "ai_edge_litert.schema_py_generated")
_SCHEMA_VERSION, _IDENTIFIER = 3, b"TFL3"


class _Packs(Protocol):
    def Pack(self, builder: Any) -> int: ...  # noqa: N802


def schema() -> Any:
    """The generated module of TFLite's schema. Raises MissingTool."""
    for name in _SCHEMAS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingTool("the TFLite schema is not installed", fix='pip install "edgeflow[tflm]"')


def write_flatbuffer(model: TfliteModel, digest: str) -> bytes:
    """The file's bytes: the same model gives the same. `digest` (of the graph) goes into the metadata."""
    import flatbuffers  # pyright: ignore[reportMissingTypeStubs]

    fb = schema()
    metadata = json.dumps({"edgeflow": __version__, "graph": digest}).encode()
    contents = [b"", *(tensor.data for tensor in model.tensors if tensor.data is not None), metadata]
    root = fb.ModelT()
    root.version, root.description = _SCHEMA_VERSION, "edgeflow"
    codes = list(dict.fromkeys((one.kernel, one.version) for one in model.operators))
    root.operatorCodes = [_code(fb, kernel, version) for kernel, version in codes]
    root.subgraphs = [_subgraph(fb, model, codes)]
    root.buffers = [_aligned(fb, content) for content in contents]
    entry = fb.MetadataT()
    entry.name, entry.buffer = METADATA, len(contents) - 1
    root.metadata = [entry]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(cast(_Packs, root).Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _code(fb: Any, kernel: Kernel, version: int) -> object:
    code = fb.OperatorCodeT()
    number = int(getattr(fb.BuiltinOperator, kernel.value))
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
    return code


def _subgraph(fb: Any, model: TfliteModel, codes: list[tuple[Kernel, int]]) -> object:
    graph = fb.SubGraphT()
    graph.name = model.name
    buffers = iter(range(1, len(model.tensors) + 1))
    graph.tensors = [_tensor(fb, one, 0 if one.data is None else next(buffers)) for one in model.tensors]
    graph.inputs, graph.outputs = _int32(model.inputs), _int32(model.outputs)
    graph.operators = [_operator(fb, one, codes.index((one.kernel, one.version))) for one in model.operators]
    return graph


def _tensor(fb: Any, tensor: Tensor, buffer: int) -> object:
    one = fb.TensorT()
    one.name, one.shape, one.buffer = tensor.name, _int32(tensor.shape), buffer
    one.type = int(getattr(fb.TensorType, tensor.kind.value))
    if tensor.quantization is not None:
        one.quantization = _quantization(fb, tensor.quantization)
    return one


def _quantization(fb: Any, quantization: Quantization) -> object:
    one = fb.QuantizationParametersT()
    one.scale = np.array(quantization.scales, dtype=np.float32)
    one.zeroPoint = np.full(len(quantization.scales), quantization.zero_point, dtype=np.int64)
    one.quantizedDimension = quantization.axis if len(quantization.scales) > 1 else 0
    return one


def _operator(fb: Any, operator: Operator, code: int) -> object:
    one = fb.OperatorT()
    one.opcodeIndex, one.inputs, one.outputs = code, _int32(operator.inputs), _int32((operator.output,))
    table, options = _options(fb, operator.kernel, operator.options)
    one.builtinOptionsType = int(getattr(fb.BuiltinOptions, table))
    one.builtinOptions = options
    return one


def _options(fb: Any, kernel: Kernel, options: Options) -> tuple[str, Any]:
    """The name and the filled table of an operator's options."""
    match options:
        case ConvOptions():
            table = "Conv2DOptions" if kernel is Kernel.CONV_2D else "DepthwiseConv2DOptions"
            one = getattr(fb, f"{table}T")()
            one.dilationHFactor, one.dilationWFactor = options.dilation
            one.depthMultiplier = options.multiplier
        case PoolOptions():
            table, one = "Pool2DOptions", fb.Pool2DOptionsT()
            one.filterHeight, one.filterWidth = options.window
        case DenseOptions():
            table, one = "FullyConnectedOptions", fb.FullyConnectedOptionsT()
            one.keepNumDims = options.keep_axes
        case ReshapeOptions():
            table, one = "ReshapeOptions", fb.ReshapeOptionsT()
            one.newShape = _int32(options.shape)
        case NoOptions():
            table = _TABLES[kernel]
            one = getattr(fb, f"{table}T")()
    if isinstance(options, ConvOptions | PoolOptions):
        one.padding = int(fb.Padding.SAME if options.same else fb.Padding.VALID)
        one.strideH, one.strideW = options.strides
    if isinstance(options, ConvOptions | PoolOptions | DenseOptions):
        one.fusedActivationFunction = int(getattr(fb.ActivationFunctionType, options.activation.value))
    return table, one


_TABLES = {
    Kernel.PAD: "PadOptions",
    Kernel.PADV2: "PadV2Options",
    Kernel.MAXIMUM: "MaximumMinimumOptions",
    Kernel.MINIMUM: "MaximumMinimumOptions",
}


def _int32(values: tuple[int, ...]) -> object:
    return np.array(values, dtype=np.int32)


class _Aligned:
    """A buffer whose content starts at a multiple of `ALIGNMENT`, which the object API's BufferT does not give."""

    def __init__(self, fb: Any, content: bytes) -> None:
        self._fb, self._content = fb, content

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """Writes the buffer; called by the schema's ModelT."""
        content, data = self._content, 0
        if content:
            builder.StartVector(1, len(content), ALIGNMENT)
            start = builder.Head() - len(content)
            builder.head = start
            builder.Bytes[start : start + len(content)] = content
            data = builder.EndVector()
        self._fb.BufferStart(builder)
        if content:
            self._fb.BufferAddData(builder, data)
        return int(self._fb.BufferEnd(builder))


def _aligned(fb: Any, content: bytes) -> _Aligned:
    return _Aligned(fb, content)
