"""Builds a graph node by node; shapes and intervals follow from the ops."""

from __future__ import annotations

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds, Graph, Input, Meaning, Node, Op, Output
from edgeflow.ir.types import Label, TensorType
from edgeflow.semantics.verify import type_bounds, verify


class GraphBuilder:
    """Collects inputs, nodes and outputs, then gives a verified graph of the given meaning."""

    def __init__(self, name: str, meaning: Meaning = Meaning.EXACT) -> None:
        self.meaning = meaning
        self._name = name
        self._inputs: list[Input] = []
        self._nodes: list[Node] = []
        self._outputs: list[Output] = []
        self._tensors: dict[str, Input | Node] = {}
        self._bounds: dict[str, Bounds] = {}
        self._numbers: dict[str, int] = {}

    def input(self, name: str, kind: TensorType, label: Label) -> str:
        """Adds an input and returns its tensor name (made unique)."""
        tensor = Input(self._unique(name), kind, label)
        self._inputs.append(tensor)
        self._tensors[tensor.name] = tensor
        self._bounds[tensor.name] = type_bounds(kind)
        return tensor.name

    def add(self, op: Op, inputs: tuple[str, ...], label: Label, layer: str, name: str | None = None) -> str:
        """Adds a node whose type is inferred, and returns its tensor name (made unique).

        Raises InvalidGraph, naming the layer, when the op does not fit its inputs.
        """
        shapes = tuple(self._tensors[one].type.shape for one in inputs)
        try:
            shape = op.shape(shapes)
            bounds = op.bounds(tuple(self._bounds[one] for one in inputs), shapes)
        except InvalidGraph as error:
            raise InvalidGraph(error.what, where=f"layer '{layer}'", fix=error.fix) from None
        kind = TensorType(shape, int(bounds.lo.min()), int(bounds.hi.max()))
        node = Node(self._unique(name or layer), op, inputs, kind, label, layer)
        self._nodes.append(node)
        self._tensors[node.name] = node
        self._bounds[node.name] = bounds
        return node.name

    def output(self, name: str, tensor: str, *, logits: bool = False) -> None:
        """Names a tensor as an output; `logits` when the model's own softmax behind it is left out."""
        self._outputs.append(Output(name, tensor, logits))

    def type(self, tensor: str) -> TensorType:
        """The type of a tensor added so far."""
        return self._tensors[tensor].type

    def label(self, tensor: str) -> Label:
        """The label of a tensor added so far."""
        return self._tensors[tensor].label

    def bounds(self, tensor: str) -> Bounds:
        """The proven bounds of a tensor added so far."""
        return self._bounds[tensor]

    def finish(self) -> Graph:
        """The graph, verified. Raises InvalidGraph."""
        graph = Graph(self._name, tuple(self._inputs), tuple(self._nodes), tuple(self._outputs), meaning=self.meaning)
        verify(graph)
        return graph

    def _unique(self, name: str) -> str:
        candidate, number = name, self._numbers.get(name, 1)
        while candidate in self._tensors:
            number += 1
            candidate = f"{name}_{number}"
        self._numbers[name] = number
        return candidate
