"""From the integer graph to hls4ml's layers: real numbers whose fixed-point arithmetic is the graph's, exactly.

Every tensor gets a *unit*: the power of two that one of its integers counts (one, or one a channel). Units follow
from the operations; where they are free (a weight's own unit) the graph's label decides, so that true labels give
the real values that the trained model had, and untrue ones still give the right integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.hls4ml.formats import holding
from edgeflow.backends.hls4ml.layers import FLOAT32_EXACT, Field, HlsLayer, Port, Quantizer, Scaled
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.backends.hls4ml.requant import Step, plan_requant
from edgeflow.backends.protocol import OTHER_BACKEND
from edgeflow.ir.graph import Bounds, Graph, Input, Meaning, Node, Op
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, Shape, TensorType
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.window import Pads
from edgeflow.render import Identifiers
from edgeflow.resource import Finding, Severity
from edgeflow.semantics.verify import verify

WIDEST = 48
"""Bits of the widest tensor: hls4ml derives its types in float64, which holds 53."""


@dataclass(frozen=True, eq=False)
class Value:
    """Where a tensor lives in hls4ml: its layer, its integers' unit, and whether a rounding may join that layer."""

    layer: str
    shape: Shape
    unit: IntArray
    fusible: bool


@dataclass(frozen=True, eq=False)
class Lowered:
    """hls4ml's layers in order, its ports, and why the graph cannot be lowered (then the layers are incomplete)."""

    layers: tuple[HlsLayer, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    findings: tuple[Finding, ...]


class Refused(Exception):
    """A node has no exact form in hls4ml: `what` continues "backend hls4ml"."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class OffGrid(Refused):
    """What a graph whose units are powers of two, and whose zero points are 0, seldom asks for."""


def lower(graph: Graph, options: Hls4mlOptions) -> Lowered:
    """Lowers a graph; findings name every layer that cannot be. Raises InvalidGraph for one that breaks its rules."""
    return _Lowering(graph, options).run()


class _Lowering:
    def __init__(self, graph: Graph, options: Hls4mlOptions) -> None:
        self.graph = graph
        self.options = options
        self.bounds = verify(graph)
        self.names = Identifiers()
        self.layers: list[HlsLayer] = []
        self.values: dict[str, Value] = {}
        self.findings: list[Finding] = []
        self.tensors: dict[str, TensorType] = {one.name: one.type for one in graph.tensors()}
        self.alive = _alive(graph)
        affine = any(isinstance(one.label, Affine) for one in graph.tensors())
        self.calibrated = affine and graph.meaning is Meaning.OWN
        self.printed = {output.tensor for output in graph.outputs}

    def run(self) -> Lowered:
        for state in self.graph.states:
            self.refuse("cannot keep states yet", state.name, OTHER_BACKEND)
        inputs = [self.input(one) for one in self.graph.inputs]
        for node in self.graph.nodes:
            if node.name not in self.alive or not all(name in self.values for name in node.inputs):
                continue
            try:
                self.values[node.name] = self.node(node)
            except Refused as error:
                fix = _POWERS_OF_TWO if self.calibrated and isinstance(error, OffGrid) else error.fix
                self.refuse(error.what, node.layer, fix)
        return Lowered(tuple(self.layers), tuple(inputs), self.outputs(), tuple(self.findings))

    def refuse(self, what: str, layer: str, fix: str) -> None:
        self.findings.append(Finding(Severity.ERROR, f"backend hls4ml {what}", layer, fix))

    def input(self, source: Input) -> Port:
        unit = _label_unit(source.label, source.type.shape)
        if unit is None or unit.ndim:
            unit = np.zeros((), dtype=np.int64)
        if max(-source.type.lo, source.type.hi) >= FLOAT32_EXACT:
            self.refuse(
                f"takes numbers of at most 24 bits; this input needs {source.type.bits}", source.name, _NARROWER
            )
        name = self.names.of(f"input {source.name}")
        shape = source.type.shape or (1,)
        self.add(HlsLayer(name, "InputLayer", (), shape, source.name, source.type.bits, {"input_shape": list(shape)}))
        quantizer = Quantizer(holding(source.type.lo, source.type.hi), int(unit), "TRN")
        inner = self.round(name, shape, quantizer, source.name)
        self.values[source.name] = Value(inner, shape, unit, fusible=False)
        return Port(source.name, name, shape, unit)

    def outputs(self) -> tuple[Port, ...]:
        ports: list[Port] = []
        inputs = {self.values[one.name].layer for one in self.graph.inputs}
        for output in self.graph.outputs:
            value = self.values.get(output.tensor)
            if value is None:
                continue
            layer = self.root(value.layer)
            if layer in inputs:
                self.refuse("cannot output an input that nothing computes on", output.name, "leave that output out")
            ports.append(Port(output.name, layer, value.shape, value.unit))
        return tuple(ports)

    def root(self, layer: str) -> str:
        """The layer whose data a chain of reshapes shows: hls4ml drops reshapes at the end."""
        known = {one.name: one for one in self.layers}
        while known[layer].kind == "Reshape":
            layer = known[layer].inputs[0]
        return layer

    def node(self, node: Node) -> Value:
        if type(node.op) not in _LOWERINGS:
            raise Refused(f"cannot do {type(node.op).__name__} yet", OTHER_BACKEND)
        if node.type.bits > WIDEST:
            raise Refused(f"derives types of at most {WIDEST} bits; this result needs {node.type.bits}", _NARROWER)
        return _LOWERINGS[type(node.op)](self, node, node.op)

    def add(self, layer: HlsLayer) -> str:
        for what, array in layer.arrays.items():
            if _reach(array) >= FLOAT32_EXACT:
                raise OffGrid(f"takes numbers of at most 24 bits; this {what} reaches {_reach(array)}", _NARROWER)
        self.layers.append(layer)
        return layer.name

    def round(self, source: str, shape: Shape, quantizer: Quantizer, layer: str) -> str:
        name = self.names.of(f"round {layer} {len(self.layers)}")
        kind = "FixedPointQuantizer"
        return self.add(HlsLayer(name, kind, (source,), shape, layer, quantizer.format.bits, quantizer=quantizer))

    def sole(self, node: Node) -> bool:
        """Whether a node's input has no other reader and is no output, so that a rounding may join its layer."""
        source = node.inputs[0]
        readers = [one for one in self.graph.readers(source) if one.name in self.alive]
        return len(readers) == 1 and source not in self.printed

    def choose_unit(self, node: Node, fallback: int) -> IntArray:
        """The unit of a result whose unit is free: its label's, else `fallback`."""
        unit = _label_unit(node.label, node.type.shape)
        return np.asarray(fallback, dtype=np.int64) if unit is None else unit

    def scaled(self, value: Value, multiplier: Scaled, offset: Scaled, bits: int, layer: str) -> Value:
        """The value times a constant plus a constant; both have shape () or (channels,)."""
        count = value.shape[-1]
        fields: dict[str, Field] = {"n_in": math.prod(value.shape), "n_filt": count if len(value.shape) > 1 else -1}
        arrays = {
            name: Scaled(_channels(one.integers, count), _channels(one.exponent, count))
            for name, one in (("scale", multiplier), ("bias", offset))
        }
        name = self.names.of(f"scale {layer} {len(self.layers)}")
        self.add(HlsLayer(name, "BatchNormalization", (value.layer,), value.shape, layer, bits, fields, arrays))
        return Value(name, value.shape, value.unit + multiplier.exponent, fusible=False)

    def renamed(self, value: Value, unit: IntArray, layer: str) -> Value:
        """The same integers in another unit: hls4ml must multiply by a power of two, which costs no logic."""
        one, none = np.ones((), dtype=np.int64), np.zeros((), dtype=np.int64)
        bits = next(one.bits for one in self.layers if one.name == value.layer)
        return self.scaled(value, Scaled(one, unit - value.unit), Scaled(none, none), bits, layer)

    def shaped(self, value: Value, shape: Shape, layer: str) -> Value:
        """The value under another shape."""
        if value.shape == shape:
            return value
        if value.unit.ndim and value.shape[-1] != shape[-1]:
            value = self.renamed(value, value.unit.max(), layer)
        name = self.names.of(f"reshape {layer} {len(self.layers)}")
        bits = next(one.bits for one in self.layers if one.name == value.layer)
        self.add(HlsLayer(name, "Reshape", (value.layer,), shape, layer, bits, {"target_shape": list(shape)}))
        return Value(name, shape, value.unit, fusible=False)


def _channels(values: IntArray, count: int) -> IntArray:
    return np.broadcast_to(values, (count,))


def _reach(array: Scaled) -> int:
    return int(np.abs(array.integers).max(initial=0))


def _alive(graph: Graph) -> set[str]:
    """The tensors that an output depends on."""
    alive = {output.tensor for output in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in alive:
            alive.update(node.inputs)
    return alive


def _label_unit(label: Label, shape: Shape) -> IntArray | None:
    """The unit that a label gives: shape () or (channels,); None for labels that are no powers of two."""
    if not isinstance(label, Dyadic):
        return None
    unit = np.asarray(label.frac, dtype=np.int64)
    if unit.ndim and (unit == unit[0]).all():
        unit = unit[0]
    return unit if not unit.ndim or (shape and unit.shape == shape[-1:]) else None


def _linear(lowering: _Lowering, node: Node, source: Value, kernel: IntArray, bias: IntArray) -> tuple[Scaled, ...]:
    """Weights and bias with their units, and the unit of the result: each weight bridges its input's and output's."""
    unit = lowering.choose_unit(node, int(source.unit.max()))
    rows = np.broadcast_to(source.unit, kernel.shape[-2:-1])[:, None]
    weight = Scaled(kernel, np.broadcast_to(unit - rows, kernel.shape[-2:]))
    return weight, Scaled(bias, np.broadcast_to(unit, bias.shape)), Scaled(bias, unit)


def _dense(lowering: _Lowering, node: Node, op: Op) -> Value:
    assert isinstance(op, Dense)
    shape = lowering.tensors[node.inputs[0]].shape
    source = lowering.shaped(lowering.values[node.inputs[0]], shape, node.layer)
    if len(shape) > 1:
        kernel = op.weight.reshape((1,) * (len(shape) - 1) + op.weight.shape)
        ones, none = (1,) * (len(shape) - 1), ((0, 0),) * (len(shape) - 1)
        return _convolution(lowering, node, source, Conv(kernel, op.bias, ones, none, ones))
    weight, bias, unit = _linear(lowering, node, source, op.weight, op.bias)
    fields: dict[str, Field] = {"n_in": op.weight.shape[0], "n_out": op.weight.shape[1]}
    arrays = {"weight": weight, "bias": bias}
    name = lowering.names.of(f"dense {node.layer} {len(lowering.layers)}")
    lowering.add(HlsLayer(name, "Dense", (source.layer,), node.type.shape, node.layer, node.type.bits, fields, arrays))
    return Value(name, node.type.shape, unit.exponent, fusible=True)


def _conv(lowering: _Lowering, node: Node, op: Op) -> Value:
    assert isinstance(op, Conv)
    if op.pad_value and any(before or after for before, after in op.pads):
        label = lowering.graph.tensor(node.inputs[0]).label
        zero = isinstance(label, Affine) and label.zero_point == op.pad_value
        raise (OffGrid if zero else Refused)(f"pads with 0, not with {op.pad_value}", OTHER_BACKEND)
    source = lowering.shaped(lowering.values[node.inputs[0]], lowering.tensors[node.inputs[0]].shape, node.layer)
    return _convolution(lowering, node, source, op)


def _convolution(lowering: _Lowering, node: Node, source: Value, op: Conv) -> Value:
    rank = len(op.window)
    if rank not in (1, 2):
        raise Refused(f"cannot slide a window over {rank} axes", _AXES)
    kernel, pads = dense_kernel(op), op.pads
    if (
        lowering.options.io_type == "io_stream"
        and rank == 2
        and kernel.shape[0] == 1 < min(kernel.shape[1], op.strides[0])
    ):
        # hls4ml streams a window of one row as if it were one-dimensional and forgets its vertical stride.
        kernel, pads = np.concatenate([kernel, np.zeros_like(kernel)]), ((pads[0][0], pads[0][1] + 1), pads[1])
    weight, bias, unit = _linear(lowering, node, source, kernel, op.bias)
    fields = _window_fields(source.shape, node.type.shape, kernel.shape[:-2], op.strides, pads, "filt")
    fields |= {"n_chan": source.shape[-1], "n_filt": node.type.shape[-1], "data_format": "channels_last"}
    name = lowering.names.of(f"conv {node.layer} {len(lowering.layers)}")
    arrays = {"weight": weight, "bias": bias}
    lowering.add(
        HlsLayer(name, f"Conv{rank}D", (source.layer,), node.type.shape, node.layer, node.type.bits, fields, arrays)
    )
    return Value(name, node.type.shape, unit.exponent, fusible=True)


def dense_kernel(op: Conv) -> IntArray:
    """The kernel without groups and dilation: zeros stand where they skip. hls4ml's unrolled code drops zeros."""
    each, outputs = op.weight.shape[-2], op.weight.shape[-1] // op.groups
    full = np.zeros((*op.window, each * op.groups, op.weight.shape[-1]), dtype=np.int64)
    for group in range(op.groups):
        columns = slice(group * outputs, (group + 1) * outputs)
        full[..., group * each : (group + 1) * each, columns] = op.weight[..., columns]
    reach = tuple(step * (length - 1) + 1 for length, step in zip(op.window, op.dilation, strict=True))
    spread = np.zeros((*reach, *full.shape[-2:]), dtype=np.int64)
    spread[tuple(slice(None, None, step) for step in op.dilation)] = full
    return spread


def _window_fields(
    source: Shape, result: Shape, window: Shape, strides: Shape, pads: Pads, what: str
) -> dict[str, Field]:
    """hls4ml's geometry keys for a window over one or two axes."""
    fields: dict[str, Field] = {"padding": "same" if any(one for pair in pads for one in pair) else "valid"}
    axes = (("height", "top", "bottom"), ("width", "left", "right"))[-len(window) :]
    for index, (axis, before, after) in enumerate(axes):
        fields |= {
            f"{what}_{axis}": window[index],
            f"stride_{axis}": strides[index],
            f"pad_{before}": pads[index][0],
            f"pad_{after}": pads[index][1],
            f"in_{axis}": source[index],
            f"out_{axis}": result[index],
        }
    if len(window) == 1:
        fields |= {"n_in": source[0], "n_out": result[0]}
    return fields


def _pool(lowering: _Lowering, node: Node, op: Op) -> Value:
    assert isinstance(op, MaxPool | SumPool)
    source = lowering.shaped(lowering.values[node.inputs[0]], lowering.tensors[node.inputs[0]].shape, node.layer)
    rank, count = len(op.window), math.prod(op.window)
    if rank not in (1, 2):
        raise Refused(f"cannot slide a window over {rank} axes", _AXES)
    if any(one for pair in op.pads for one in pair):
        # Its nnet_pooling.h pads an unsigned maximum with a large number, and divides by what lies inside.
        raise Refused("cannot pad pools exactly", 'use padding="valid"')
    if lowering.options.io_type == "io_stream" and rank == 2 and op.strides != op.window:
        raise Refused("streams a pool only if its strides are its window", _STREAM)
    unit = source.unit
    if isinstance(op, SumPool):
        if count & (count - 1):
            raise Refused(f"averages, which is exact over 2, 4, 8 ... elements; this pool sums {count}", _POOL)
        unit = unit + (count.bit_length() - 1)
    kind = "MaxPooling" if isinstance(op, MaxPool) else "AveragePooling"
    fields = _window_fields(source.shape, node.type.shape, op.window, op.strides, op.pads, "pool")
    fields |= {"n_filt": source.shape[-1], "data_format": "channels_last"}
    name = lowering.names.of(f"pool {node.layer} {len(lowering.layers)}")
    lowering.add(HlsLayer(name, f"{kind}{rank}D", (source.layer,), node.type.shape, node.layer, node.type.bits, fields))
    return Value(name, node.type.shape, unit, fusible=True)


def _add(lowering: _Lowering, node: Node, op: Op) -> Value:
    assert isinstance(op, Add)
    if len(set(node.inputs)) != len(node.inputs):
        raise Refused("cannot add a tensor to itself", "double the weights of the layer before it")
    terms = [
        (sign, lowering.shaped(lowering.values[name], node.type.shape, node.layer))
        for sign, name in sorted(zip(op.signs, node.inputs, strict=True), key=lambda one: -one[0])
    ]
    if terms[0][0] < 0:
        raise Refused("cannot subtract every input", OTHER_BACKEND)
    total = terms[0][1]
    for sign, term in terms[1:]:
        if not (total.unit == term.unit).all():
            term = lowering.renamed(term, total.unit, node.layer)
        fields: dict[str, Field] = {"op": "add" if sign > 0 else "subtract"}
        name = lowering.names.of(f"add {node.layer} {len(lowering.layers)}")
        lowering.add(
            HlsLayer(name, "Merge", (total.layer, term.layer), node.type.shape, node.layer, node.type.bits, fields)
        )
        total = Value(name, node.type.shape, total.unit, fusible=True)
    return total


def _reshape(lowering: _Lowering, node: Node, op: Op) -> Value:
    return lowering.shaped(lowering.values[node.inputs[0]], node.type.shape, node.layer)


def _requant(lowering: _Lowering, node: Node, op: Op) -> Value:
    assert isinstance(op, Requant)
    if op.bias.any():
        raise Refused("cannot add a bias between the multiplication and the rounding yet", OTHER_BACKEND)
    shape = node.type.shape
    value = lowering.shaped(lowering.values[node.inputs[0]], shape, node.layer)
    bounds: Bounds = lowering.bounds[node.inputs[0]]
    wanted = _label_unit(node.label, shape)
    plan = plan_requant(op, bounds, shape, value.unit, None if wanted is None or wanted.ndim else int(wanted))
    if isinstance(plan, str):
        raise OffGrid(plan, _REQUANT)
    for number, step in enumerate(plan):
        value = _step(lowering, node, value, step, direct=number == 0 and value.fusible and lowering.sole(node))
    return value


def _step(lowering: _Lowering, node: Node, value: Value, step: Step, *, direct: bool) -> Value:
    """One rounding: in the layer before it if that can take it, else in a layer that multiplies by a constant."""
    if not direct or step.scales:
        target = np.asarray(step.unit, dtype=np.int64)
        multiplier, offset = Scaled(step.multiplier, step.exponent), Scaled(step.offset, target)
        value = lowering.scaled(value, multiplier, offset, step.bits, node.layer)
    layer = lowering.round(value.layer, value.shape, Quantizer(step.format, step.unit, step.rounding), node.layer)
    return Value(layer, value.shape, np.asarray(step.unit, dtype=np.int64), fusible=False)


_POWERS_OF_TWO = "quantize the model again with edgeflow quantize --power-of-two"
_NARROWER = "use fewer bits"
_AXES = "reshape its input to one or two axes and channels"
_POOL = "choose a window of 2, 4, 8 ... elements"
_STREAM = "use --set io_type=io_parallel, or strides equal to the pool's window"
_REQUANT = "choose quantizers whose ends are powers of two, such as quantized_bits or quantized_relu"

_LOWERINGS: Mapping[type, Callable[[_Lowering, Node, Op], Value]] = {
    Add: _add,
    Conv: _conv,
    Dense: _dense,
    MaxPool: _pool,
    SumPool: _pool,
    Requant: _requant,
    Reshape: _reshape,
}
