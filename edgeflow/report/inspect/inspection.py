"""What a graph costs and holds, layer by layer: computed from the graph alone, for no target in particular."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import numpy as np

from edgeflow.ir.graph import Bounds, Graph, Meaning, Node, Op
from edgeflow.ir.types import Affine, IntArray, Shape, interval_bits
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import SumBounds
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.report.inspect.words import Tensor, interval_words, label_words, plural, real_range, type_words
from edgeflow.semantics.verify import verify

MEANINGS: Mapping[Meaning, str] = {
    Meaning.EXACT: "equals the trained model's own predictions, bit for bit",
    Meaning.REAL: "equals the trained model in real arithmetic; its float32 may differ by its rounding error",
    Meaning.OWN: "a calibrated model: equals itself on every target, the float model nearly",
}
_TFLITE = "equals the .tflite file in TFLite-Micro, byte for byte"


@dataclass(frozen=True)
class Port:
    """A named input, output or state: its shape, its type and label in words, and the real values at its ends."""

    role: str
    name: str
    shape: Shape
    type: str
    step: str
    real_lo: float
    real_hi: float


@dataclass(frozen=True)
class Row:
    """One layer: nodes that stand together and come from the same Keras layer.

    `kind` names its ops; shape, interval, bits and step are those of the tensor that leaves it.
    `weight_bits` is the width of the widest weight, `sparsity` the share of weights that are zero (0 to 1), both
    None without weights. `accumulator_bits` holds every partial sum in any order (None: the layer adds nothing).
    `parameters` counts weights and those biases that are not all zero, `table_entries` what lookup tables
    and thresholds hold.
    """

    layer: str
    kind: str
    shape: Shape
    lo: int
    hi: int
    bits: int
    step: str
    weight_bits: int | None
    sparsity: float | None
    accumulator_bits: int | None
    macs: int
    parameters: int
    table_entries: int


@dataclass(frozen=True)
class Totals:
    """The whole model.

    `weight_bits` is every parameter and table entry times its array's narrowest width, `weight_bytes` the same
    arrays in integers of 8, 16, 32 or 64 bits. `activation_bytes` is the most that tensors alive together take
    in such integers; `activation_peak` names those tensors. A sum that one Requant, Lut or Threshold alone reads
    is never stored, and a Reshape shares its input's memory.
    """

    macs: int
    parameters: int
    table_entries: int
    weight_bits: int
    weight_bytes: int
    sparsity: float | None
    accumulator_bits: int | None
    activation_bytes: int
    activation_peak: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """A graph's name, what it equals, its inputs, outputs and states, its layers in order, their sums, and notes."""

    name: str
    meaning: str
    ports: tuple[Port, ...]
    rows: tuple[Row, ...]
    totals: Totals
    notes: tuple[str, ...]


def inspect_graph(graph: Graph) -> Inspection:
    """Everything that `edgeflow inspect` shows. Raises InvalidGraph for a graph that breaks its own rules."""
    bounds = verify(graph)
    rows = tuple(_row(list(nodes), graph, bounds) for _, nodes in groupby(graph.nodes, key=lambda node: node.layer))
    notes = (*_left_out(graph), *_constant_channels(graph, bounds))
    return Inspection(graph.name, _meaning(graph), tuple(_ports(graph)), rows, _totals(graph, rows), notes)


def _meaning(graph: Graph) -> str:
    """What the graph equals: one with scales and zero points that is exact came from a `.tflite` file."""
    affine = any(isinstance(one.label, Affine) for one in graph.inputs)
    return _TFLITE if affine and graph.meaning is Meaning.EXACT else MEANINGS[graph.meaning]


def sums(node: Node, graph: Graph, bounds: Mapping[str, Bounds]) -> SumBounds | None:
    """The proven sums of a Conv or Dense, one entry an output channel; None for other ops."""
    match node.op:
        case Conv() as conv:
            return conv.sums(bounds[node.inputs[0]], graph.tensor(node.inputs[0]).type.shape[-1])
        case Dense() as dense:
            return dense.sums(bounds[node.inputs[0]])
        case _:
            return None


def macs(node: Node) -> int:
    """Multiply-accumulates of one sample. A Conv counts its padding taps too; ops without weights have none."""
    match node.op:
        case Conv(weight=weight) | Dense(weight=weight):
            return node.type.size * (weight.size // weight.shape[-1])
        case _:
            return 0


def op_words(op: Op) -> str:
    """An op with what sets its size: `Conv 3x3 depthwise`, `MaxPool 2x2`, `Requant`."""
    name = type(op).__name__
    return f"{name} {_DETAILS[type(op)](op)}".rstrip() if type(op) in _DETAILS else name


def _conv_words(op: Op) -> str:
    conv = cast(Conv, op)
    window = "x".join(map(str, conv.window))
    if conv.groups == 1:
        return window
    return f"{window} depthwise" if conv.weight.shape[-2] == 1 else f"{window} in {conv.groups} groups"


def _pool_words(op: Op) -> str:
    return "x".join(map(str, cast(MaxPool | SumPool, op).window))


_DETAILS: Mapping[type, Callable[[Op], str]] = {
    Conv: _conv_words,
    MaxPool: _pool_words,
    SumPool: _pool_words,
    Lut: lambda op: cast(Lut, op).function,
}


def _ports(graph: Graph) -> Iterator[Port]:
    for source in graph.inputs:
        yield _port("input", source.name, source)
    for state in graph.states:
        yield _port("state", state.name, state)
    for output in graph.outputs:
        yield _port("output", output.name, graph.tensor(output.tensor))


def _port(role: str, name: str, tensor: Tensor) -> Port:
    return Port(role, name, tensor.type.shape, type_words(tensor.type), label_words(tensor.label), *real_range(tensor))


def _row(nodes: list[Node], graph: Graph, bounds: Mapping[str, Bounds]) -> Row:
    last = nodes[-1]
    weights = [array for node in nodes for array in _weights(node.op)]
    widths = [width for node in nodes if (width := _accumulator_bits(node, graph, bounds))]
    return Row(
        layer=last.layer,
        kind=" + ".join(op_words(node.op) for node in nodes),
        shape=last.type.shape,
        lo=last.type.lo,
        hi=last.type.hi,
        bits=last.type.bits,
        step=label_words(last.label),
        weight_bits=max(map(_width, weights), default=None),
        sparsity=_sparsity(weights),
        accumulator_bits=max(widths, default=None),
        macs=sum(map(macs, nodes)),
        parameters=sum(array.size for node in nodes for array in (*_weights(node.op), *_biases(node.op))),
        table_entries=sum(array.size for node in nodes for array in _tables(node.op)),
    )


def _accumulator_bits(node: Node, graph: Graph, bounds: Mapping[str, Bounds]) -> int | None:
    found = sums(node, graph, bounds)
    if found:
        return interval_bits(int(found.partial_lo.min()), int(found.partial_hi.max()))
    return node.type.bits if isinstance(node.op, Add | SumPool | Multiply) else None


def _weights(op: Op) -> tuple[IntArray, ...]:
    return (op.weight,) if isinstance(op, Conv | Dense) else ()


def _biases(op: Op) -> tuple[IntArray, ...]:
    return (op.bias,) if isinstance(op, Conv | Dense) and op.bias.any() else ()


def _tables(op: Op) -> tuple[IntArray, ...]:
    match op:
        case Lut(table=table):
            return (table,)
        case Threshold(thresholds=thresholds):
            return (thresholds,)
        case _:
            return ()


def _width(array: IntArray) -> int:
    return interval_bits(int(array.min()), int(array.max()))


def _sparsity(weights: list[IntArray]) -> float | None:
    count = sum(array.size for array in weights)
    return sum(int((array == 0).sum()) for array in weights) / count if count else None


def _totals(graph: Graph, rows: tuple[Row, ...]) -> Totals:
    stored = [array for node in graph.nodes for array in (*_weights(node.op), *_biases(node.op), *_tables(node.op))]
    peak, alive = _activation_peak(graph)
    return Totals(
        macs=sum(row.macs for row in rows),
        parameters=sum(row.parameters for row in rows),
        table_entries=sum(row.table_entries for row in rows),
        weight_bits=sum(array.size * _width(array) for array in stored),
        weight_bytes=sum(array.size * container_bytes(_width(array)) for array in stored),
        sparsity=_sparsity([array for node in graph.nodes for array in _weights(node.op)]),
        accumulator_bits=max((row.accumulator_bits for row in rows if row.accumulator_bits), default=None),
        activation_bytes=peak,
        activation_peak=alive,
    )


def container_bytes(bits: int) -> int:
    """Bytes of the narrowest of 8, 16, 32 and 64 bits that holds `bits`."""
    return next(size for size in (1, 2, 4, 8) if bits <= 8 * size)


def _activation_peak(graph: Graph) -> tuple[int, tuple[str, ...]]:
    """The most bytes alive at one node, and the tensors that they are."""
    owners = _owners(graph)
    last = dict.fromkeys(owners.values(), -1)
    first = dict.fromkeys(owners.values(), len(graph.nodes))
    places = {node.name: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        # a sum that is not stored is made while its reader runs, so its inputs live until then
        index = places[node.name if node.name in owners else graph.readers(node.name)[0].name]
        for name in (*node.inputs, node.name):
            if name in owners:
                owner = owners[name]
                last[owner] = max(last[owner], index)
                first[owner] = min(first[owner], index)
    for source in (*graph.inputs, *graph.states):
        first[source.name] = 0
    for kept in (*(one.tensor for one in graph.outputs), *(one.next for one in graph.states)):
        last[owners[kept]] = len(graph.nodes)
    sizes = {name: graph.tensor(name).type for name in last}
    bytes_of = {name: kind.size * container_bytes(kind.bits) for name, kind in sizes.items()}
    best, names = 0, ()
    for index in range(max(1, len(graph.nodes))):
        alive = tuple(name for name in last if first[name] <= index <= last[name])
        total = sum(bytes_of[name] for name in alive)
        if total > best:
            best, names = total, alive
    return best, names


def _owners(graph: Graph) -> dict[str, str]:
    """Every tensor that is stored, with the tensor whose memory it uses (its own, or a Reshape's input's)."""
    kept = {output.tensor for output in graph.outputs} | {state.next for state in graph.states}
    owners = {source.name: source.name for source in (*graph.inputs, *graph.states)}
    for node in graph.nodes:
        if isinstance(node.op, Reshape) and node.inputs[0] in owners:
            owners[node.name] = owners[node.inputs[0]]
            continue
        readers = graph.readers(node.name)
        passing = len(readers) == 1 and isinstance(readers[0].op, Requant | Lut | Threshold)
        adds = isinstance(node.op, Conv | Dense | Add | SumPool | Multiply)
        if not (passing and adds and node.name not in kept):
            owners[node.name] = node.name
    return owners


def _left_out(graph: Graph) -> Iterator[str]:
    for output in graph.outputs:
        if output.logits:
            yield f"output '{output.name}': the model's softmax is left out; its largest class stays the largest"


def _constant_channels(graph: Graph, bounds: Mapping[str, Bounds]) -> Iterator[str]:
    """Channels that a quantizer always gives one value: they carry no information."""
    for node in graph.nodes:
        if not isinstance(node.op, Requant | Lut | Threshold) or not node.type.shape:
            continue
        known = bounds[node.name]
        width = (*known.lo.shape[:-1], node.type.shape[-1])
        same = np.broadcast_to(known.lo == known.hi, width).all(axis=tuple(range(len(width) - 1)))
        if same.any():
            values = np.broadcast_to(known.lo, width).reshape(-1, width[-1])[0][same]
            yield (
                f"'{node.layer}': {plural(int(same.sum()), 'channel')} of {same.size} "
                f"can only be {_some(values)}: training can drop {'it' if same.sum() == 1 else 'them'}"
            )


def _some(values: IntArray) -> str:
    lo, hi = int(values.min()), int(values.max())
    return str(lo) if lo == hi else f"one value in {interval_words(lo, hi)}"
