"""What every layer function of the generated C has, and what its makers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeflow.backends.c.ctypes import INT64, CType, Table, working_type
from edgeflow.backends.c.epilogue import POINTWISE, Epilogue, write_epilogue
from edgeflow.backends.c.lower import Buffer, Lowered, Step
from edgeflow.ir.graph import Bounds, Node
from edgeflow.ir.types import Shape
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.requant import Requant
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One layer function of the generated source. `what` is its comment, `template` the loop nest."""

    name: str
    layer: str
    what: str
    template: str
    inputs: tuple[Buffer, ...]
    y: Buffer
    acc: str = "int32_t"
    epilogue: Epilogue | None = None
    own_tables: tuple[Table, ...] = ()
    uses_string: bool = False

    @property
    def x(self) -> Buffer:
        """The first operand."""
        return self.inputs[0]

    @property
    def wide(self) -> bool:
        """Whether the function computes with 64 bits."""
        return self.acc == INT64.name or (self.epilogue is not None and self.epilogue.wide)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every constant array that the function reads."""
        return (*self.own_tables, *(self.epilogue.tables if self.epilogue else ()))


@dataclass(frozen=True)
class Axis:
    """A loop of a loop nest."""

    name: str
    length: int


@dataclass(frozen=True)
class Context:
    """What a kernel builder may look at."""

    lowered: Lowered
    bounds: Mapping[str, Bounds]
    shapes: Mapping[str, Shape]


Maker = Callable[[Step, Node, str, Context, tuple[Buffer, ...], Buffer], Kernel]
"""Makes the kernel of a step, whose node it gets as well, under a C identifier, from the buffers that it reads."""


def _reach(node: Node, context: Context) -> tuple[int, int]:
    """The interval of every value that a node's loop has in its accumulator."""
    sources = tuple(context.bounds[one] for one in node.inputs)
    own = context.bounds[node.name]
    ends = [(int(one.lo.min()), int(one.hi.max())) for one in (*sources, own)]
    match node.op:
        case Conv() as conv:
            sums = conv.sums(sources[0], context.shapes[node.inputs[0]][-1])
        case Dense() as dense:
            sums = dense.sums(sources[0])
        case SumPool():
            return min(ends[-1][0], 0), max(ends[-1][1], 0)
        case Add():
            reach = sum(max(abs(lo), abs(hi)) for lo, hi in ends[:-1])
            return -reach, reach
        case op if isinstance(op, POINTWISE):
            return ends[0]
        case _:
            return min(lo for lo, _ in ends), max(hi for _, hi in ends)
    return int(sums.partial_lo.min()), int(sums.partial_hi.max())


def accumulator(node: Node, context: Context) -> CType:
    """The type of a node's results before pointwise ops, and of everything on the way to them."""
    return working_type(*_reach(node, context))


def epilogue_of(
    nodes: Sequence[Node], name: str, context: Context, acc: CType, axes: Sequence[str | None]
) -> Epilogue | None:
    """The pointwise nodes of a step as C; None without any."""
    return write_epilogue(nodes, name, context.bounds, acc, axes) if nodes else None


def finished(nodes: Sequence[Node]) -> list[str]:
    """What pointwise nodes do, in words."""
    return [_WORDS[type(node.op)] for node in nodes]


_WORDS: dict[type, str] = {Requant: "requantize", Lut: "look up", Threshold: "count thresholds"}
