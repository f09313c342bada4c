"""One TFLite operator after the other becomes ops of the graph, with TFLite-Micro's arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph, Unsupported
from edgeflow.frontends.tflite.model import Operator, Tensor, TfliteFile
from edgeflow.ir.graph import Graph, Meaning, Op
from edgeflow.ir.types import Affine, IntArray, Label, Shape, TensorType
from edgeflow.semantics.builder import GraphBuilder

RANGES = {"INT8": (-128, 127), "INT16": (-32768, 32767)}
"""The activations' element types, and their values."""
END_RANGES = {**RANGES, "UINT8": (0, 255)}
"""What an input or output of the model may be as well: a QUANTIZE stands between it and the other operators."""
_DTYPES = {"INT8": "<i1", "UINT8": "<u1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8"}

MOST_LETTERS = 80
"""Of a layer's name: converters write the names of all that they fused."""

Handler = Callable[["Importer", Operator], None]


@dataclass(frozen=True)
class Scaled:
    """A tensor's one scale and zero point."""

    scale: float
    zero_point: int

    @property
    def label(self) -> Label:
        """What one unit of the tensor means."""
        return Affine(self.scale, self.zero_point)


class Importer:
    """What the handlers share: the file, the graph so far, and which tensor of the graph each tensor of the file is."""

    def __init__(self, file: TfliteFile) -> None:
        self.file = file
        self.builder = GraphBuilder(file.name, Meaning.EXACT)
        self._names: dict[int, str] = {}
        self._numbers = _numbered(file.operators)

    def run(self, handlers: Mapping[str, Handler]) -> Graph:
        """The graph. Raises Unsupported, naming operator and place, for what it cannot say."""
        for index in self.file.inputs:
            self._input(index)
        for operator in self.file.operators:
            handler = handlers.get(operator.code)
            if handler is None or operator.custom:
                raise unknown(operator, handlers)
            handler(self, operator)
        for index, name in zip(self.file.outputs, self._output_names(), strict=True):
            self.builder.output(name, self._tensor(index, f"output '{self.tensor(index).name}'"))
        return self.builder.finish()

    def _output_names(self) -> list[str]:
        """The outputs' names, a repeated one with _2, _3 ... added."""
        taken: list[str] = []
        for index in self.file.outputs:
            name = self._end_name(index)
            candidate, number = name, 1
            while candidate in taken:
                number += 1
                candidate = f"{name}_{number}"
            taken.append(candidate)
        return taken

    def _end_name(self, index: int) -> str:
        """What an input or output is called: by the signature, else by its tensor."""
        return plain(self.file.names.get(index, "")) or readable(self.tensor(index).name)

    def _input(self, index: int) -> None:
        """Adds an input of the model. Float values become integers in the QUANTIZE that reads them: its result then is
        the graph's input."""
        tensor = self.tensor(index)
        place = f"input '{tensor.name}'"
        for axis in tensor.dynamic:
            if axis > 0 or len(tensor.shape) < 2:
                what = f"tensor {index} ('{tensor.name}') has an axis {axis} without a fixed length"
                raise Unsupported(what, where=place, fix="convert the model with a fixed shape; the batch may be open")
        integers = self._quantized(tensor, place) if tensor.kind == "FLOAT32" else [index]
        first = self.tensor(integers[0])
        if first.kind not in END_RANGES:
            raise _no_integers(first, place)
        if len(first.shape) > 1 and first.shape[0] != 1:
            what = f"tensor {first.index} ('{first.name}') has a batch of {first.shape[0]}"
            raise Unsupported(what, where=place, fix="convert the model with a batch of 1")
        kind = TensorType(graph_shape(first), *END_RANGES[first.kind])
        name = self._end_name(index)
        added = self.builder.input(name, kind, self.scaled(first.index, place).label)
        self._names.update(dict.fromkeys(integers, added))

    def _quantized(self, tensor: Tensor, place: str) -> list[int]:
        """The results of the QUANTIZE operators that read a float input; all have one type and scale."""
        readers = [one for one in self.file.operators if tensor.index in one.inputs]
        results = [self.tensor(one.outputs[0]) for one in readers if one.code == "QUANTIZE" and one.outputs]
        alike = {(one.kind, one.shape, one.quantization) for one in results}
        if len(alike) != 1 or len(results) != len(readers) or tensor.shape != results[0].shape:
            raise _no_integers(tensor, place)
        return [one.index for one in results]

    def place(self, operator: Operator) -> str:
        """Where an operator stands, for messages: "operator 3 (CONV_2D)"."""
        return f"operator {operator.index} ({operator.code})"

    def refuse(self, operator: Operator, what: str, fix: str | None = None) -> Unsupported:
        """The error for an operator that the graph cannot say; to be raised."""
        return Unsupported(what, where=self.place(operator), fix=fix)

    def integer(self, operator: Operator, name: str) -> int:
        """An operator's option that is a whole number or a flag; the reader has checked it."""
        value = operator.options[name]
        assert isinstance(value, int)
        return value

    def real(self, operator: Operator, name: str) -> float:
        """An operator's option that is a finite float32; the reader has checked it."""
        value = operator.options[name]
        assert isinstance(value, (int, float))
        return float(value)

    def tensor(self, index: int) -> Tensor:
        """A tensor of the file."""
        return self.file.tensors[index]

    def layer(self, operator: Operator) -> str:
        """The layer's name in the graph: that of the operator's first output, made readable.

        Where the converter gave that none, its weights', else the operator's own with its number: "conv_2d_1".
        """
        given = layer_name(self.tensor(operator.outputs[0]).name)
        return given or self._weights_layer(operator) or self._numbers[operator.index]

    def _weights_layer(self, operator: Operator) -> str:
        """The layer of the second input, where its name says what that is for: "dense" for "net/dense/MatMul"."""
        index = operator.inputs[1] if len(operator.inputs) > 1 else -1
        if index < 0 or not self.is_constant(index):
            return ""
        name = self.tensor(index).name
        return layer_name(name) if _bare(name.rpartition("/")[2]) in _FUNCTIONS else ""

    def is_defined(self, index: int) -> bool:
        """Whether the graph has the file's tensor already."""
        return index in self._names

    def shape(self, index: int) -> Shape:
        """The shape of an activation in the graph."""
        return graph_shape(self.tensor(index))

    def named(self, index: int, place: str) -> str:
        """The tensor of the graph for an activation of the file. Raises Unsupported for another type."""
        name = self._tensor(index, place)
        self._range(self.tensor(index), place)
        return name

    def end(self, index: int, operator: Operator) -> str:
        """What a QUANTIZE may read: a tensor of the graph, uint8 too. Raises Unsupported for floats."""
        name = self._tensor(index, self.place(operator))
        self.end_range(index, operator)
        return name

    def end_range(self, index: int, operator: Operator) -> tuple[int, int]:
        """The least and largest value of what a QUANTIZE reads or makes. Raises Unsupported for floats."""
        tensor = self.tensor(index)
        if tensor.kind not in END_RANGES:
            raise _no_integers(tensor, self.place(operator))
        return END_RANGES[tensor.kind]

    def _tensor(self, index: int, place: str) -> str:
        name = self._names.get(index)
        if name is None:
            tensor = self.tensor(index)
            kind = "a constant" if tensor.data is not None else "read before it is computed"
            raise Unsupported(f"tensor {index} ('{tensor.name}') is {kind}", where=place)
        return name

    def is_constant(self, index: int) -> bool:
        """Whether a tensor of the file is a constant."""
        return self.tensor(index).data is not None

    def constant(self, index: int, operator: Operator) -> IntArray:
        """A constant's integers in its shape. Raises Unsupported for one that is computed, or of another type."""
        tensor = self.tensor(index)
        if tensor.data is None:
            raise self.refuse(
                operator, f"tensor {index} ('{tensor.name}') must be a constant", "save the model with it"
            )
        if tensor.sparse:
            what = f"tensor {index} ('{tensor.name}') is stored sparse"
            raise self.refuse(operator, what, "convert the model without sparsity")
        if tensor.kind == "INT4":
            return _nibbles(tensor)
        dtype = _DTYPES.get(tensor.kind)
        if dtype is None:
            raise self.refuse(operator, f"tensor {index} ('{tensor.name}') has the type {tensor.kind}")
        return np.frombuffer(tensor.data, dtype=dtype).astype(np.int64).reshape(tensor.shape)

    def scaled(self, index: int, place: str) -> Scaled:
        """The one scale and zero point of an activation. Raises Unsupported for one without, or with a scale of 0."""
        tensor = self.tensor(index)
        found = tensor.quantization
        if found is None or len(found.scales) != 1:
            how = "has no scale" if found is None else "has a scale for every channel"
            raise Unsupported(f"tensor {index} ('{tensor.name}') {how}", where=place, fix="quantize the model in full")
        scale, zero = found.scales[0], found.zero_points[0] if found.zero_points else 0
        if not scale:
            what = f"tensor {index} ('{tensor.name}') has the scale 0"
            raise Unsupported(what, where=place, fix="quantize the model again")
        return Scaled(scale, zero)

    def range(self, index: int, operator: Operator) -> tuple[int, int]:
        """The least and largest value of an activation's type. Raises Unsupported for floats and others."""
        return self._range(self.tensor(index), self.place(operator))

    def add(
        self,
        op: Op,
        inputs: tuple[str, ...],
        label: Label,
        operator: Operator,
        *,
        end: str = "",
        name: str | None = None,
    ) -> str:
        """Adds a node, called as the operator's layer with `end` behind it. Returns its tensor."""
        layer = self.layer(operator)
        try:
            return self.builder.add(op, inputs, label, layer, name or f"{layer}{end}")
        except InvalidGraph as error:
            raise Unsupported(error.what, where=self.place(operator), fix=error.fix) from None

    def define(self, index: int, name: str) -> None:
        """Says which tensor of the graph is the file's tensor `index`. Raises Unsupported where their shapes differ."""
        tensor, shape = self.tensor(index), self.builder.type(name).shape
        place = f"tensor {index} ('{tensor.name}')"
        if graph_shape(tensor) != shape:
            raise Unsupported(f"the file gives it the shape {tensor.shape}, its operator makes {shape}", where=place)
        self._names[index] = name

    def _range(self, tensor: Tensor, place: str) -> tuple[int, int]:
        if tensor.kind not in RANGES:
            raise _no_integers(tensor, place)
        return RANGES[tensor.kind]


def _no_integers(tensor: Tensor, place: str) -> Unsupported:
    what = f"tensor {tensor.index} ('{tensor.name}') has the type {tensor.kind}"
    return Unsupported(what, where=place, fix="convert the model with full integer quantization (int8 or 16x8)")


def graph_shape(tensor: Tensor) -> Shape:
    """The shape without the batch axis of 1. A single axis stays, and a first axis of another length: rows, say."""
    batch = len(tensor.shape) > 1 and tensor.shape[0] == 1
    return tensor.shape[1:] if batch else tensor.shape or (1,)


def graph_axis(tensor: Tensor, axis: int) -> int:
    """An axis of the file's tensor (negative ones count from the end) as an axis of the graph's; -1 for the batch."""
    axis += len(tensor.shape) if axis < 0 else 0
    return axis - (len(tensor.shape) - len(graph_shape(tensor)))


def readable(name: str) -> str:
    """A tensor's name as a layer's, of letters, digits, '_', '.', '-': "conv1" for "net/conv1/Relu;net/conv1/Conv2D1".

    Of the names that a converter joins by ';' the last is that of the main operation: layer, then what it does.
    """
    parts = [part for part in re.sub(r":\d*$", "", name).rpartition(";")[2].split("/") if part]
    while len(parts) > 1 and _bare(parts[-1]) in _VARIABLES:
        del parts[-1]
    if len(parts) > 1 and _bare(parts[-1]) in _FUNCTIONS:
        del parts[-1]
    return plain(parts[-1] if parts else "") or "tensor"


def layer_name(name: str) -> str:
    """A tensor's name as a layer's; empty where it says nothing: a number, "StatefulPartitionedCall:0"."""
    found = readable(name)
    return "" if _bare(found).rstrip("_.-") in _NAMELESS else found


def _numbered(operators: tuple[Operator, ...]) -> dict[int, str]:
    """What operators are called by their kind: "conv_2d", "conv_2d_1" and so on."""
    counts: dict[str, int] = {}
    names: dict[int, str] = {}
    for one in operators:
        number = counts.get(one.code, 0)
        counts[one.code] = number + 1
        names[one.index] = plain(one.code.lower()) + (f"_{number}" if number else "")
    return names


def _bare(part: str) -> str:
    return part.lower().rstrip("0123456789")


def plain(name: str) -> str:
    """A name's first letters, with '_' for those that are no ASCII letter, digit, '_', '.' or '-'."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name[:MOST_LETTERS])


_VARIABLES = frozenset({"bias", "kernel", "readvariableop", "resource"})
_NAMELESS = _VARIABLES | {"", "const", "identity", "output", "partitionedcall", "statefulpartitionedcall", "tensor"}
_FUNCTIONS = frozenset(
    (
        *("add", "avgpool", "biasadd", "concat", "conv2d", "conv2d_transpose", "depthwise", "fusedbatchnormv"),
        *("identity", "leakyrelu", "matmul", "maxpool", "mean", "mul", "pad", "relu", "reshape", "sigmoid"),
        *("softmax", "squeeze", "sub", "tanh", "transpose"),
    )
)


def unknown(operator: Operator, handlers: Mapping[str, Handler]) -> Unsupported:
    """The error for an operator that no handler knows."""
    kind = "custom operator" if operator.custom else "operator"
    known = ", ".join(sorted(handlers))
    what = f"{kind} {operator.code} is not one that edgeflow reads"
    return Unsupported(what, where=f"operator {operator.index} ({operator.code})", fix=f"it reads {known}")


def _nibbles(tensor: Tensor) -> IntArray:
    """int4 values, two a byte, the lower half first."""
    packed = np.frombuffer(tensor.data or b"", dtype=np.uint8)
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1).astype(np.int64)
    count = int(np.prod(tensor.shape, dtype=np.int64))
    return ((halves[:count] ^ 8) - 8).reshape(tensor.shape)
