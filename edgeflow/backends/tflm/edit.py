"""The adapted graph in the making: nodes added so far, and where each tensor of the model went."""

from __future__ import annotations

from dataclasses import replace

from edgeflow.backends.tflm.arithmetic import clamped, is_clamp, scale_of
from edgeflow.backends.tflm.chains import identity_conv
from edgeflow.backends.tflm.rescale import Given, Kernel, kernel_for, quantize_form
from edgeflow.backends.tflm.storage import Storage, input_storage, stored_result, zero_of
from edgeflow.backends.tflm.widths import Width
from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import Label
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder

_MOST_AXES = 3


class Edit:
    """`names` says which tensor stands for one of the model; `done` are the model's nodes that are dealt with."""

    def __init__(self, graph: Graph, width: Width) -> None:
        self.graph, self.width = graph, width
        self.builder = GraphBuilder(graph.name, graph.meaning)
        self.names: dict[str, str] = {}
        self.done: set[str] = set()
        self._stored: dict[str, Storage | None] = {}
        for source in graph.inputs:
            name = self.builder.input(source.name, source.type, source.label)
            self.names[source.name] = name
            self._stored[name] = input_storage(source.type.lo, source.type.hi, zero_of(source.label), width)

    def finish(self) -> Graph:
        """The graph, with the model's outputs."""
        for output in self.graph.outputs:
            self.builder.output(output.name, self.names[output.tensor], logits=output.logits)
        return self.builder.finish()

    def inputs(self, node: Node) -> tuple[str, ...]:
        """What a node of the model reads now."""
        return tuple(self.names[name] for name in node.inputs)

    def label(self, name: str) -> Label:
        """The label that a tensor of the model has now."""
        return self.builder.label(self.names[name])

    def given(self, tensor: str) -> Given:
        """What a kernel knows of a tensor that it reads."""
        return Given(
            self.builder.bounds(tensor), self.builder.type(tensor).shape, self.builder.label(tensor), self.width
        )

    def stored(self, tensor: str) -> Storage | None:
        """How a tensor's values will become bytes, where that is known."""
        return self._stored.get(tensor)

    def copy(self, node: Node) -> None:
        """A node as it is."""
        try:
            inputs = self.inputs(node)
            at = self.builder.add(node.op, inputs, node.label, node.layer, node.name)
        except InvalidGraph:  # a rounding has moved an input out of what the op takes, a table's range say
            inputs = tuple(self._as_before(name, node) for name in node.inputs)
            at = self.builder.add(node.op, inputs, node.label, node.layer, node.name)
        self._place(node, at, inputs)

    def follow(self, node: Node, label: Label) -> None:
        """A node as it is, in the label that holds for its input."""
        inputs = self.inputs(node)
        self._place(node, self.builder.add(node.op, inputs, label, node.layer, node.name), inputs)

    def keep(self, node: Node, op: Requant, storage: Storage) -> None:
        """A node with another Requant, whose result has its input's bytes."""
        at = self.builder.add(op, self.inputs(node), node.label, node.layer, node.name)
        self.names[node.name] = at
        self.done.add(node.name)
        self._stored[at] = storage

    def _place(self, node: Node, at: str, inputs: tuple[str, ...]) -> None:
        self.names[node.name] = at
        self.done.add(node.name)
        self._remember(at, node.op, inputs)

    def _remember(self, at: str, op: object, inputs: tuple[str, ...]) -> None:
        """A Requant that is a kernel's ends at its bytes' end; what only moves or clamps keeps its input's bytes."""
        before = self._stored.get(inputs[0])
        if isinstance(op, Requant) and not is_clamp(op):
            self._stored[at] = self._stored_by(op, self.builder.label(at))
        else:
            self._stored[at] = before

    def _stored_by(self, requant: Requant, label: Label) -> Storage | None:
        found = stored_result(requant, label, self.width)
        return None if found is None else found[0]

    def _as_before(self, name: str, reader: Node) -> str:
        """A tensor, clamped to the interval that it has in the model."""
        at, kind = self.names[name], self.graph.tensor(name).type
        found, label = self.builder.type(at), self.builder.label(at)
        if kind.lo <= found.lo and found.hi <= kind.hi:
            return at
        clamp = clamped(max(kind.lo, found.lo), min(kind.hi, found.hi))
        return self.builder.add(clamp, (at,), label, reader.layer, f"{name}_within")

    def alone(self, node: Node) -> None:
        """A node that no kernel fuses. A Requant among them gets QUANTIZE, or a depthwise 1x1 Conv of ones."""
        op = node.op
        rescales = isinstance(op, Requant) and node.type.shape and not self._only_clamps(node, op)
        if not rescales or not (self._as_quantize(node) or self._as_conv(node)):
            self.copy(node)

    def _only_clamps(self, node: Node, requant: Requant) -> bool:
        """Whether a Requant leaves values within its clamp as they are, and what they mean."""
        label = self.label(node.inputs[0])
        same = scale_of(node.label) == scale_of(label) and zero_of(node.label) == zero_of(label)
        return is_clamp(requant) and same

    def _storable(self, tensor: str) -> bool:
        """Whether the file can hold a tensor's values."""
        kind = self.builder.type(tensor)
        return input_storage(kind.lo, kind.hi, zero_of(self.builder.label(tensor)), self.width) is not None

    def _as_quantize(self, node: Node) -> bool:
        (source,) = self.inputs(node)
        found = quantize_form(node, self.given(source)) if self._storable(source) else None
        if found is None:
            return False
        self.names[node.name] = self.requant(node.name, node.layer, node.label, source, *found)
        self.done.add(node.name)
        return True

    def _as_conv(self, node: Node) -> bool:
        builder, (source,) = self.builder, self.inputs(node)
        label, shape = builder.label(source), node.type.shape
        if len(shape) > _MOST_AXES or not self._storable(source):
            return False
        rank = max(len(shape), 2)
        kind = replace(node.type, shape=(1,) * (rank - len(shape)) + shape)
        spread = Node(f"{node.name}_in", identity_conv(shape[-1], rank - 1), node.inputs, kind, label, node.layer)
        kernel = kernel_for(spread, replace(node, type=kind), self.given(source))
        if kernel is None:
            return False
        if len(shape) < 2:
            source = builder.add(Reshape(spread.type.shape), (source,), label, node.layer, f"{node.name}_row")
        flat = len(shape) < 2
        at = self.kernel(spread, source, kernel, replace(node, name=f"{node.name}_wide" if flat else node.name))
        if flat:
            row = at
            at = builder.add(Reshape(shape), (row,), node.label, node.layer, node.name)
            self._remember(at, Reshape(shape), (row,))
        self.names[node.name] = at
        self.done.add(node.name)
        return True

    def kernel(self, node: Node, source: str, kernel: Kernel, after: Node) -> str:
        """Adds a linear op with its Requant, which gets `after`'s name, layer and label. Returns the last tensor."""
        sums = self.builder.add(kernel.op, (source,), kernel.label, node.layer, node.name)
        self._stored[sums] = None
        return self.requant(after.name, after.layer, after.label, sums, kernel.requant, kernel.clamp)

    def requant(self, name: str, layer: str, label: Label, wide: str, requant: Requant, clamp: Requant | None) -> str:
        """Adds a Requant, and perhaps a clamp behind it, of which the last takes the name."""
        first = name if clamp is None else f"{name}_unclamped"
        at = self.builder.add(requant, (wide,), label, layer, first)
        self._stored[at] = self._stored_by(requant, label)
        if clamp is None:
            return at
        last = self.builder.add(clamp, (at,), label, layer, name)
        self._stored[last] = self._stored[at]
        return last
