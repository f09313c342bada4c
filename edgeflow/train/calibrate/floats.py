"""A float network as frozen data: the ops that become integers, and what they compute in float32.

Ops that only move values (Reshape, Concat, MaxPool ...) are the integer graph's own: they compute the same on floats.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Op, Output
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops import OPS
from edgeflow.ops.add import Add
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.window import Pads, window_counts, window_shape
from edgeflow.train.calibrate.functions import FUNCTIONS

FloatArray: TypeAlias = npt.NDArray[np.float32]
_MOST_ELEMENTS = 1 << 23


class FloatOp(Protocol):
    """An operation on floats. `evaluate` takes and gives arrays with one leading batch axis, `shape` has none."""

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The result's shape. Raises InvalidGraph when the inputs do not fit."""
        ...

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """The result in float32."""
        ...


@dataclass(frozen=True, eq=False)
class FloatConv:
    """As the integer graph's Conv: kernel (*window, channels / groups, outputs), padding filled with `pad`."""

    kernel: FloatArray
    bias: FloatArray
    strides: Shape
    pads: Pads
    dilation: Shape
    groups: int = 1
    pad: float = 0.0

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(*spatial, channels) -> (*spatial out, outputs)."""
        (source,) = inputs
        return (
            *window_shape(source[:-1], self.kernel.shape[:-2], self.strides, self.pads, self.dilation),
            self.kernel.shape[-1],
        )

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """One matrix product a tap of the window: no copy of the input for each."""
        (x,) = inputs
        out = self.shape((x.shape[1:],))
        if any(map(any, self.pads)):
            x = np.pad(x, ((0, 0), *self.pads, (0, 0)), constant_values=self.pad)
        total: FloatArray = np.zeros((len(x), *out), dtype=np.float32)
        for tap in itertools.product(*map(range, self.kernel.shape[:-2])):
            picks = tuple(
                slice(at * step, at * step + (count - 1) * stride + 1, stride)
                for at, step, stride, count in zip(tap, self.dilation, self.strides, out[:-1], strict=True)
            )
            total += self._tap(x[(slice(None), *picks)], self.kernel[tap])
        return total + self.bias

    def _tap(self, x: FloatArray, weight: FloatArray) -> FloatArray:
        each, outputs = weight.shape[0], weight.shape[1] // self.groups
        if self.groups == 1:
            return x @ weight
        if each == 1:
            return np.repeat(x, outputs, axis=-1) * weight[0]
        parts = x.reshape(*x.shape[:-1], self.groups, 1, each)
        columns = weight.reshape(each, self.groups, outputs).transpose(1, 0, 2)
        return (parts @ columns).reshape(*x.shape[:-1], -1)


@dataclass(frozen=True, eq=False)
class FloatDense:
    """x @ kernel + bias over the last axis; kernel (inputs, outputs)."""

    kernel: FloatArray
    bias: FloatArray

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(..., inputs) -> (..., outputs)."""
        return (*inputs[0][:-1], self.kernel.shape[1])

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """The product."""
        return inputs[0] @ self.kernel + self.bias


@dataclass(frozen=True, eq=False)
class Scale:
    """x * factor + shift, both (channels,): a batch normalization, a rescaling."""

    factor: FloatArray
    shift: FloatArray

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape stays."""
        return inputs[0]

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """Element by element."""
        return inputs[0] * self.factor + self.shift


@dataclass(frozen=True)
class Clip:
    """max(lo, min(x, hi)): the ReLUs."""

    lo: float
    hi: float

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape stays."""
        return inputs[0]

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """Element by element."""
        return np.clip(inputs[0], np.float32(self.lo), np.float32(self.hi))


@dataclass(frozen=True)
class Function:
    """An element-wise function by its Keras name; `parameters` as FUNCTIONS takes them."""

    name: str
    parameters: tuple[float, ...] = ()

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape stays."""
        return inputs[0]

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """Element by element, computed in float64."""
        x = inputs[0].astype(np.float64)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return FUNCTIONS[self.name].compute(x, *self.parameters).astype(np.float32)


@dataclass(frozen=True)
class Average:
    """The mean of each window, over its real elements; `whole` means that one window covers everything."""

    window: Shape
    strides: Shape
    pads: Pads
    whole: bool = False

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(*spatial, channels) -> (*out, channels)."""
        return SumPool(self.window, self.strides, self.pads).shape(inputs)

    def counts(self, source: Shape) -> IntArray:
        """How many real elements each window holds, (*out, 1)."""
        return window_counts(source[:-1], self.window, self.strides, self.pads)[..., None]

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """Sum over the window's taps, divided."""
        (x,) = inputs
        counts = self.counts(x.shape[1:])
        if self.whole:
            return x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True, dtype=np.float32)
        out = self.shape((x.shape[1:],))
        x = np.pad(x, ((0, 0), *self.pads, (0, 0)))
        total: FloatArray = np.zeros((len(x), *out), dtype=np.float32)
        for tap in itertools.product(*map(range, self.window)):
            picks = tuple(
                slice(at, at + (count - 1) * stride + 1, stride)
                for at, stride, count in zip(tap, self.strides, out[:-1], strict=True)
            )
            total += x[(slice(None), *picks)]
        return total / counts.astype(np.float32)


@dataclass(frozen=True)
class Sum:
    """a + b, or a - b with signs (1, -1). One shape."""

    signs: tuple[int, int] = (1, 1)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Equal shapes in, the same out."""
        return Add(self.signs).shape(inputs)

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """Element by element."""
        return inputs[0] + inputs[1] if self.signs[1] > 0 else inputs[0] - inputs[1]


@dataclass(frozen=True)
class Product:
    """a * b; an axis of length 1 broadcasts."""

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Shapes that broadcast."""
        return Multiply().shape(inputs)

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """Element by element."""
        return inputs[0] * inputs[1]


@dataclass(frozen=True)
class Move:
    """An op of the integer graph that only moves values, on floats. Its pad value is left to the integers."""

    op: Op

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The op's."""
        return self.op.shape(inputs)

    def evaluate(self, inputs: tuple[FloatArray, ...]) -> FloatArray:
        """The op's."""
        result = self.op.evaluate(cast(tuple[IntArray, ...], inputs), ())
        return np.asarray(result).astype(np.float32, copy=False)


def as_float(op: FloatOp | Op) -> FloatOp:
    """A float op as it is; an op of the integer graph, which must only move values, on floats."""
    return Move(cast(Op, op)) if type(op) in OPS.values() else cast(FloatOp, op)


@dataclass(frozen=True)
class FloatNode:
    """One op; `name` is its tensor's name too, `layer` the Keras layer that it comes from."""

    name: str
    op: FloatOp
    inputs: tuple[str, ...]
    layer: str


@dataclass(frozen=True)
class FloatGraph:
    """A float network. Nodes come after those that they read; `inputs` gives each input's shape by name."""

    name: str
    inputs: Mapping[str, Shape]
    nodes: tuple[FloatNode, ...]
    outputs: tuple[Output, ...]

    def node(self, name: str) -> FloatNode | None:
        """The node that makes a tensor; None for an input."""
        return next((one for one in self.nodes if one.name == name), None)

    def readers(self, name: str) -> tuple[FloatNode, ...]:
        """The nodes that read a tensor."""
        return tuple(one for one in self.nodes if name in one.inputs)

    def sole_reader(self, name: str) -> FloatNode | None:
        """The one node that reads a tensor, if it is read once and is no output."""
        readers = self.readers(name)
        read = sum(one.inputs.count(name) for one in readers)
        return readers[0] if read == 1 and not any(one.tensor == name for one in self.outputs) else None

    def shapes(self) -> dict[str, Shape]:
        """Every tensor's shape. Raises InvalidGraph, naming the layer, when an op does not fit its inputs."""
        found: dict[str, Shape] = dict(self.inputs)
        for node in self.nodes:
            try:
                found[node.name] = node.op.shape(tuple(found[one] for one in node.inputs))
            except InvalidGraph as error:
                raise InvalidGraph(error.what, where=f"layer '{node.layer}'", fix=error.fix) from None
        return found

    def chunk(self) -> int:
        """How many samples may be computed at a time, so that the largest tensors stay small."""
        largest = max(int(np.prod(shape)) for shape in self.shapes().values())
        return int(np.clip(_MOST_ELEMENTS // largest, 1, 256))


def walk(graph: FloatGraph, inputs: Mapping[str, FloatArray]) -> Iterator[tuple[str, FloatArray]]:
    """Every tensor of the network by name, in order; each is let go after its last reader."""
    left: dict[str, int] = {}
    for node in graph.nodes:
        for name in node.inputs:
            left[name] = left.get(name, 0) + 1
    values: dict[str, FloatArray] = dict(inputs)
    yield from inputs.items()
    for node in graph.nodes:
        value = node.op.evaluate(tuple(values[name] for name in node.inputs))
        for name in node.inputs:
            left[name] -= 1
            if not left[name]:
                values.pop(name, None)
        values[node.name] = value
        yield node.name, value


def forward(graph: FloatGraph, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The outputs by name, computed a chunk of samples at a time."""
    samples, step = len(next(iter(inputs.values()))), graph.chunk()
    parts: dict[str, list[FloatArray]] = {one.name: [] for one in graph.outputs}
    for start in range(0, samples, step):
        part = {name: values[start : start + step] for name, values in inputs.items()}
        for name, value in walk(graph, part):
            for output in graph.outputs:
                if output.tensor == name:
                    parts[output.name].append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}
