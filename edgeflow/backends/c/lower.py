"""From a graph to the steps that the generated C performs: fused ops, buffers and their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow.backends.c.ctypes import CType, storage_type
from edgeflow.backends.c.epilogue import varies_along
from edgeflow.ir.graph import Graph, Node
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape


@dataclass(frozen=True)
class Step:
    """One loop nest: `node`'s op, then `requant` on each result while it is still in a register.

    It reads the buffers of `node.inputs` and writes the tensor `result`. `node` None is a plain copy
    of the tensor `copies` into an output.
    """

    result: str
    node: Node | None
    requant: Node | None = None
    copies: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that the step reads."""
        return self.node.inputs if self.node else (self.copies or "",)

    @property
    def last(self) -> Node | None:
        """The node whose tensor is stored."""
        return self.requant or self.node

    @property
    def layer(self) -> str:
        """The source layer that the step belongs to."""
        return self.node.layer if self.node else self.result


@dataclass(frozen=True)
class Buffer:
    """Storage of one tensor. `place` is `input`, `output` or `arena`; names that are views share it."""

    tensor: str
    ctype: CType
    elements: int
    place: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.ctype.size * self.elements


@dataclass(frozen=True)
class Lowered:
    """Steps in order, the buffer that each stored tensor lives in, and views (`view -> owner`)."""

    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    views: Mapping[str, str]

    def buffer(self, tensor: str) -> Buffer:
        """The buffer that holds a tensor, through any views."""
        while tensor in self.views:
            tensor = self.views[tensor]
        return self.buffers[tensor]


def lower(graph: Graph) -> Lowered:
    """Fuses each Requant into its producer where nothing else reads the value between; Reshape is a view."""
    results = {output.tensor for output in graph.outputs}
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        if isinstance(node.op, Requant) and node.inputs[0] not in results:
            producer = _node(graph, node.inputs[0])
            if producer and len(graph.readers(producer.name)) == 1 and _can_fuse(producer, node.op):
                fused[producer.name] = node
    steps: list[Step] = []
    views: dict[str, str] = {}
    taken = {node.name for node in fused.values()}
    for node in graph.nodes:
        if node.name in taken:
            continue
        if isinstance(node.op, Reshape):
            views[node.name] = node.inputs[0]
            continue
        requant = fused.get(node.name)
        steps.append(Step((requant or node).name, node, requant))
    return _place(graph, steps, views)


def _node(graph: Graph, name: str) -> Node | None:
    return next((node for node in graph.nodes if node.name == name), None)


def _can_fuse(producer: Node, requant: Requant) -> bool:
    """Whether the producer's loop has a variable for every axis that the parameters vary along."""
    if isinstance(producer.op, Requant | Reshape):
        return False
    rank = len(producer.type.shape)
    varying = varies_along(requant, rank)
    return varying <= {rank - 1} if isinstance(producer.op, Dense) else True


def _place(graph: Graph, steps: list[Step], views: dict[str, str]) -> Lowered:
    buffers: dict[str, Buffer] = {}
    for source in graph.inputs:
        kind = storage_type(source.type.lo, source.type.hi)
        buffers[source.name] = Buffer(source.name, kind, source.type.size, "input")
    for step in steps:
        kind = graph.tensor(step.result).type
        buffers[step.result] = Buffer(step.result, storage_type(kind.lo, kind.hi), kind.size, "arena")
    extra: list[Step] = []
    for output in graph.outputs:
        owner = output.tensor
        while owner in views:
            owner = views[owner]
        here = buffers[owner]
        key = output_key(output.name)
        if here.place == "arena":
            buffers[owner] = Buffer(owner, here.ctype, here.elements, "output")
            views[key] = owner
        else:
            buffers[key] = Buffer(key, here.ctype, here.elements, "output")
            extra.append(Step(key, None, copies=owner))
    return Lowered((*steps, *extra), buffers, views)


def output_key(name: str) -> str:
    """The buffer name of an output, apart from all tensor names."""
    return f"\0output {name}"


def multiplications(node: Node) -> int:
    """Multiply-accumulates of one sample, padding taps counted; for pools and adds, elements read."""
    match node.op:
        case Conv() as conv:
            return node.type.size * conv.weight.size // conv.weight.shape[-1]
        case Dense() as dense:
            return node.type.size * dense.weight.shape[0]
        case _:
            window = getattr(node.op, "window", ())
            count = node.type.size
            for length in window:
                count *= length
            return count
