"""Writes a TFLite model as the flatbuffer that it is, through the object API of TFLite's own schema."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import numpy as np

from edgeflow import __version__
from edgeflow.backends.tflm.model import (
    AxisOptions,
    ConvOptions,
    DenseOptions,
    JoinOptions,
    Kernel,
    NoOptions,
    Operator,
    Options,
    PoolOptions,
    Quantization,
    ReshapeOptions,
    ResizeOptions,
    SoftmaxOptions,
    Tensor,
    TfliteModel,
    TransposeConvOptions,
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
    builder = _sharing_builder()
    builder.Finish(cast(_Packs, root).Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _sharing_builder() -> Any:
    """A builder that writes equal vectors of numbers once: shapes, and the zero points of a scale a channel."""
    import flatbuffers  # pyright: ignore[reportMissingTypeStubs]

    class Sharing(flatbuffers.Builder):
        def __init__(self) -> None:
            super().__init__(1 << 16)
            self._written: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: np.ndarray[Any, Any]) -> int:  # noqa: N802
            key = (x.dtype.str, x.tobytes())
            if key not in self._written:
                self._written[key] = cast(int, super().CreateNumpyVector(x))
            return self._written[key]

    return Sharing()


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
    if operator.kernel in _TABLES:
        table, options = _options(fb, operator.kernel, operator.options)
        one.builtinOptionsType = int(getattr(fb.BuiltinOptions, table))
        one.builtinOptions = options
    return one


def _options(fb: Any, kernel: Kernel, options: Options) -> tuple[str, Any]:
    """The name and the filled table of an operator's options."""
    table = _TABLES[kernel]
    one = getattr(fb, f"{table}T")()
    for name, value in _fields(fb, options).items():
        setattr(one, name, value)
    return table, one


def _fields(fb: Any, options: Options) -> dict[str, Any]:
    """The fields of an option table as the schema's object API calls them."""
    found = dict(_OWN_FIELDS[type(options)](options))
    if isinstance(options, ConvOptions | PoolOptions | TransposeConvOptions):
        found["padding"] = int(fb.Padding.SAME if options.same else fb.Padding.VALID)
        found["strideH"], found["strideW"] = options.strides
    if isinstance(options, ConvOptions | PoolOptions | DenseOptions | JoinOptions):
        found["fusedActivationFunction"] = int(getattr(fb.ActivationFunctionType, options.activation.value))
    return found


def _conv_fields(options: ConvOptions) -> dict[str, Any]:
    more = {"depthMultiplier": options.multiplier} if options.multiplier else {}
    return {"dilationHFactor": options.dilation[0], "dilationWFactor": options.dilation[1], **more}


_OWN_FIELDS: Mapping[type, Callable[[Any], dict[str, Any]]] = {
    ConvOptions: _conv_fields,
    PoolOptions: lambda one: {"filterHeight": one.window[0], "filterWidth": one.window[1]},
    DenseOptions: lambda one: {"keepNumDims": one.keep_axes},
    ReshapeOptions: lambda one: {"newShape": _int32(one.shape)},
    AxisOptions: lambda one: {"axis": one.axis},
    ResizeOptions: lambda one: {"halfPixelCenters": one.half_pixel_centers},
    SoftmaxOptions: lambda one: {"beta": one.beta},
    JoinOptions: lambda one: {},
    TransposeConvOptions: lambda one: {},
    NoOptions: lambda one: {},
}
"""What each kind of options says besides padding, strides and activation."""


_TABLES = {
    Kernel.CONV_2D: "Conv2DOptions",
    Kernel.DEPTHWISE_CONV_2D: "DepthwiseConv2DOptions",
    Kernel.FULLY_CONNECTED: "FullyConnectedOptions",
    Kernel.AVERAGE_POOL_2D: "Pool2DOptions",
    Kernel.MAX_POOL_2D: "Pool2DOptions",
    Kernel.RESHAPE: "ReshapeOptions",
    Kernel.PAD: "PadOptions",
    Kernel.PADV2: "PadV2Options",
    Kernel.MAXIMUM: "MaximumMinimumOptions",
    Kernel.MINIMUM: "MaximumMinimumOptions",
    Kernel.ADD: "AddOptions",
    Kernel.SUB: "SubOptions",
    Kernel.MUL: "MulOptions",
    Kernel.CONCATENATION: "ConcatenationOptions",
    Kernel.TRANSPOSE: "TransposeOptions",
    Kernel.STRIDED_SLICE: "StridedSliceOptions",
    Kernel.RESIZE_NEAREST_NEIGHBOR: "ResizeNearestNeighborOptions",
    Kernel.TRANSPOSE_CONV: "TransposeConvOptions",
    Kernel.QUANTIZE: "QuantizeOptions",
    Kernel.SOFTMAX: "SoftmaxOptions",
    Kernel.GATHER: "GatherOptions",
}
"""The option table of each operator; LOGISTIC and TANH have none."""


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
