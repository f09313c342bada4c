"""The graph: inputs, nodes in order, outputs, states. Frozen; a pass makes a new one."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from edgeflow.ir.types import IntArray, Label, Shape, TensorType


@dataclass(frozen=True)
class Bounds:
    """Lower and upper bounds of a tensor's elements. Both arrays broadcast against the tensor's shape.

    They have the tensor's rank; an axis of length 1 stands for the whole axis. Tighter than the type's
    one interval: usually one entry a channel.
    """

    lo: IntArray
    hi: IntArray


class Op(Protocol):
    """An operation: a frozen dataclass whose fields are its parameters (integers, enums, integer arrays).

    Samples travel together: `evaluate` takes and gives arrays with one leading batch axis.
    """

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The result's shape. Raises InvalidGraph when the inputs do not fit."""
        ...

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """Bounds of the result that hold for any input within the inputs' bounds.

        Raises InvalidGraph when a value on the way could leave 64 bits.
        """
        ...

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """The reference meaning. `bounds` are the inputs' bounds (they allow faster exact arithmetic)."""
        ...


@dataclass(frozen=True)
class Input:
    """A named tensor that the caller provides."""

    name: str
    type: TensorType
    label: Label


@dataclass(frozen=True)
class Node:
    """One op. `name` is also the name of the tensor that it makes; `layer` is the source layer's name."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    type: TensorType
    label: Label
    layer: str


@dataclass(frozen=True)
class Output:
    """A result under the name that the model gave it; `tensor` is an input's, state's or node's name.

    `logits`: the model applies a softmax to it, which is left out; the largest stays the largest.
    """

    name: str
    tensor: str
    logits: bool = False


@dataclass(frozen=True)
class State:
    """A tensor that lives from one call to the next: read as `name`, then replaced by the tensor `next`."""

    name: str
    type: TensorType
    label: Label
    next: str


class Meaning(enum.Enum):
    """What a graph equals.

    EXACT: the trained model's own predictions, bit for bit. REAL: the trained model in real arithmetic on its
    stored parameters; its float32 predictions differ within their rounding error. OWN: itself (a calibrated
    float model).
    """

    EXACT = "exact"
    REAL = "real"
    OWN = "own"


@dataclass(frozen=True)
class Graph:
    """One model. Nodes stand in an order in which each comes after the tensors that it reads."""

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    states: tuple[State, ...] = ()
    meaning: Meaning = Meaning.EXACT

    def tensors(self) -> Iterator[Input | State | Node]:
        """Everything that has a tensor's name, type and label, sources first."""
        yield from self.inputs
        yield from self.states
        yield from self.nodes

    def tensor(self, name: str) -> Input | State | Node:
        """The tensor called `name`. Raises KeyError."""
        for one in self.tensors():
            if one.name == name:
                return one
        raise KeyError(name)

    def readers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read a tensor."""
        return tuple(node for node in self.nodes if name in node.inputs)
