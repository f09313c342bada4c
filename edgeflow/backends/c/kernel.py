"""What every layer function of the generated C has, and what its makers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeflow.backends.c.ctypes import INT64, CType, Record, Table, literal, table, working_type
from edgeflow.backends.c.dsp.packed_taps import HALF
from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.epilogue import POINTWISE, Epilogue, write_epilogue
from edgeflow.backends.c.flow import Reuse, Window
from edgeflow.backends.c.lower import Buffer, Lowered, Step
from edgeflow.backends.c.optimize import Optimize
from edgeflow.board import Core
from edgeflow.ir.graph import Bounds, Node
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.requant import Requant
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold


@dataclass(frozen=True)
class RowForm:
    """How a layer function works by rows: a call makes up to `group` rows of the result.

    It gets pointers to the rows of each input that it reads, null where one lies outside, and where the rows that it
    makes lie one behind the other. `windows`: the rows of each input that a row of the result reads. `reuse`: whether
    the result may lie over an input. `accumulates`: the result is one row, and each call adds up to `group` rows of the
    input to it. `whole`: a call always writes `group` rows, so that one for fewer spoils what lies behind.
    """

    windows: tuple[Window, ...]
    group: int = 1
    reuse: Reuse = Reuse.NEVER
    accumulates: bool = False
    whole: bool = False

    def reach(self, index: int) -> int:
        """How many rows of input `index` a whole group reads."""
        window = self.windows[index]
        return (self.group - 1) * window.stride + window.size


@dataclass(frozen=True)
class Shared:
    """C text at file scope that layers may share, under a name that stands for the text; `size` in bytes of flash."""

    name: str
    text: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One layer function of the generated source. `what` is its comment, `template` the loop nest.

    `by_rows` None: it reads and writes whole tensors, and `reuse` says whether the result may lie over an input.
    `scratch`: words of working memory.
    """

    name: str
    layer: str
    what: str
    template: str
    inputs: tuple[Buffer, ...]
    y: Buffer
    acc: str = "int32_t"
    epilogue: Epilogue | None = None
    own_tables: tuple[Table, ...] = ()
    records: tuple[Record, ...] = ()
    uses_string: bool = False
    by_rows: RowForm | None = None
    reuse: Reuse = Reuse.NEVER
    scratch: int = 0
    shared: tuple[Shared, ...] = ()

    @property
    def x(self) -> Buffer:
        """The first operand."""
        return self.inputs[0]

    @property
    def epilogues(self) -> tuple[Epilogue, ...]:
        """What is done to values while they are in a register."""
        return (self.epilogue,) if self.epilogue else ()

    @property
    def wide(self) -> bool:
        """Whether the function computes with 64 bits."""
        return self.acc == INT64.name or any(one.wide for one in self.epilogues)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every constant array that the function reads."""
        return (*self.own_tables, *(table for one in self.epilogues for table in one.tables))

    @property
    def table_bytes(self) -> int:
        """Bytes of flash that these take."""
        return sum(one.size for one in self.tables)


@dataclass(frozen=True)
class Axis:
    """A loop of a loop nest."""

    name: str
    length: int


@dataclass(frozen=True)
class Context:
    """What a kernel builder may look at.

    `shift` is the one by which requantizations shall end where they can, so that layers share their code.
    `packings` are those that pay for this model under its aim; depthwise weights are stored in `depthwise_bits`.
    """

    lowered: Lowered
    bounds: Mapping[str, Bounds]
    shapes: Mapping[str, Shape]
    core: Core
    shift: int | None = None
    optimize: Optimize = Optimize.BALANCED
    packings: frozenset[Packing] = frozenset()
    depthwise_bits: int = HALF
    names: dict[tuple[str, object], str] = field(default_factory=dict[tuple[str, object], str])

    def named(self, stem: str, what: object) -> str:
        """A C name for shared text, the same for the same `what`."""
        return self.names.setdefault((stem, what), f"{stem}_{sum(one == stem for one, _ in self.names) + 1}")


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


def requant_of(step: Step, inputs: tuple[Buffer, ...], y: Buffer) -> Requant | None:
    """The one Requant behind a layer of bytes; None where there is another op, or any value is wider."""
    fused = [one.op for one in step.fused]
    if inputs[0].ctype.size != 1 or y.ctype.size != 1 or len(fused) != 1 or not isinstance(fused[0], Requant):
        return None
    return fused[0]


def ends_of(node: Node, context: Context) -> tuple[int, int]:
    """The interval of a layer's input values, padding included."""
    bounds = context.bounds[node.inputs[0]]
    ends = [int(bounds.lo.min()), int(bounds.hi.max())]
    if isinstance(node.op, Conv) and any(map(any, node.op.pads)):
        ends.append(node.op.pad_value)
    return min(ends), max(ends)


def bias_of(name: str, bias: IntArray, index: str) -> tuple[str, tuple[Table, ...]]:
    """The C expression of output `index`'s bias, and the table behind it."""
    if (bias == bias.flat[0]).all():
        return literal(int(bias.flat[0])), ()
    entry = table(f"{name}_bias", bias)
    return f"{entry.name}[{index}]", (entry,)


def epilogue_of(
    nodes: Sequence[Node], name: str, context: Context, acc: CType, axes: Sequence[str | None]
) -> Epilogue | None:
    """The pointwise nodes of a step as C; None without any."""
    return write_epilogue(nodes, name, context.bounds, acc, axes) if nodes else None


def finished(nodes: Sequence[Node]) -> list[str]:
    """What pointwise nodes do, in words."""
    return [_WORDS[type(node.op)] for node in nodes]


_WORDS: dict[type, str] = {Requant: "requantize", Lut: "look up", Threshold: "count thresholds"}
