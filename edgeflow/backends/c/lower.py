"""From a graph to the steps that the generated C performs: fused ops, buffers and their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow.backends.c.coding import Coding
from edgeflow.backends.c.ctypes import CType, storage_type
from edgeflow.backends.c.epilogue import POINTWISE, varies_along
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import Shape
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample

_SUMS = (Add, Multiply)
"""The ops whose loops read one value of each operand, so that a pointwise op may be done on it as it is read."""

_LOOPS = (Conv, Dense, Add, Multiply, MaxPool, SumPool, *POINTWISE)
"""The ops whose loops have each finished value in a variable."""

WINDOWS = (Conv, MaxPool, SumPool)
"""The ops that slide a window over rows."""


@dataclass(frozen=True)
class Step:
    """One loop nest: `node`'s op, then the `fused` ones on each result while it is still in a register.

    It reads the buffers of `node.inputs` and writes the tensor `result`. What a node of `before` would make of another
    tensor is made of each value of that one as it is read. `node` None is a plain copy of the tensor `copies` into an
    output, or packs or unpacks it for the layer `of`.
    """

    result: str
    node: Node | None
    fused: tuple[Node, ...] = ()
    copies: str | None = None
    before: tuple[Node, ...] = ()
    of: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that the step reads."""
        sources = {one.name: one.inputs[0] for one in self.before}
        return tuple(sources.get(name, name) for name in self.node.inputs) if self.node else (self.copies or "",)

    @property
    def layer(self) -> str:
        """The source layer that the step belongs to."""
        return self.node.layer if self.node else self.of or self.result


@dataclass(frozen=True)
class Buffer:
    """Storage of one tensor. `place` is `input`, `output` or `arena`; names that are views share it.

    With a `coding` the elements are words of packed values.
    """

    tensor: str
    ctype: CType
    elements: int
    place: str
    coding: Coding | None = None

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
    """Pointwise ops join the loop that makes their input where nothing else reads it; what moves nothing is a view."""
    results = {output.tensor for output in graph.outputs}
    steps: list[Step] = []
    views: dict[str, str] = {}
    before = {node.name: _before(graph, node, results) for node in graph.nodes}
    taken = {one.name for nodes in before.values() for one in nodes}
    for node in graph.nodes:
        if node.name in taken:
            continue
        if _moves_nothing(graph, node):
            views[node.name] = node.inputs[0]
            continue
        fused = _chain(graph, node, results, taken)
        taken.update(one.name for one in fused)
        steps.append(Step((node, *fused)[-1].name, node, fused, before=before[node.name]))
    return _place(graph, steps, views)


def _moves_nothing(graph: Graph, node: Node) -> bool:
    """Whether the result's elements are the input's, in the same order."""
    match node.op:
        case Reshape():
            return True
        case Transpose() as transpose:
            source = graph.tensor(node.inputs[0]).type.shape
            order = [axis for axis in transpose.order if source[axis] > 1]
            return order == sorted(order)
        case Concat() | Pad() | Slice() | Upsample():
            return graph.tensor(node.inputs[0]).type.shape == node.type.shape
        case _:
            return False


def sums_everything(shapes: Mapping[str, Shape], node: Node) -> bool:
    """Whether a node is a SumPool over all rows and columns, which can be added as they come."""
    op = node.op
    return isinstance(op, SumPool) and op.window == shapes[node.inputs[0]][:-1] and not any(map(any, op.pads))


def _before(graph: Graph, node: Node, results: set[str]) -> tuple[Node, ...]:
    """The pointwise nodes that make operands of a sum or product for it alone, and no smaller than what they read.

    The operand waits for the other one in fewer bytes then, and what makes it ends with one pointwise op fewer.
    """
    if not isinstance(node.op, _SUMS):
        return ()
    makers = {one.name: one for one in graph.nodes if isinstance(one.op, POINTWISE)}
    found = [makers[name] for name in dict.fromkeys(node.inputs) if name in makers and name not in results]
    return tuple(one for one in found if len(graph.readers(one.name)) == 1 and _widens(graph, one, node))


def _widens(graph: Graph, node: Node, reader: Node) -> bool:
    """Whether a pointwise node's values take more bytes than its input's, or as many where nothing computes those.

    Its parameters must be ones that the reader's loop knows.
    """
    source, result = (graph.tensor(name).type for name in (node.inputs[0], node.name))
    old, new = (storage_type(one.lo, one.hi).size for one in (source, result))
    computed = any(one.name == node.inputs[0] and isinstance(one.op, _LOOPS) for one in graph.nodes)
    known = result.shape == reader.type.shape or not varies_along(node.op, len(result.shape))
    return known and (old < new or (old == new and not computed))


def _chain(graph: Graph, head: Node, results: set[str], taken: set[str]) -> tuple[Node, ...]:
    """The pointwise nodes behind a node, up to a tensor that something else reads or that is an output.

    Those that are `taken` are part of another chain.
    """
    chain: list[Node] = []
    at = head
    alone = sums_everything({name: graph.tensor(name).type.shape for name in head.inputs}, head)
    while isinstance(head.op, _LOOPS) and not alone and at.name not in results:
        readers = graph.readers(at.name)
        if len(readers) != 1 or readers[0].name in taken or not _can_fuse(head, readers[0]):
            break
        at = readers[0]
        chain.append(at)
    return tuple(chain)


def _can_fuse(head: Node, node: Node) -> bool:
    """Whether the head's loop has a variable for every axis that the parameters vary along.

    Windows and matrix products know the channel alone: their loops serve every row and position.
    """
    rank = len(node.type.shape)
    knows_all = not isinstance(head.op, (Dense, *WINDOWS))
    return isinstance(node.op, POINTWISE) and (knows_all or varies_along(node.op, rank) <= {rank - 1})


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
