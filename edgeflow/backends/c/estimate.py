"""What the generated C will cost, before anything is compiled: exact where bytes are planned, else a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeflow.backends.c.elements import ElementKernel
from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.epilogue import FEW_LEVELS
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.kernels import DenseKernel, WindowKernel
from edgeflow.backends.c.lower import Step
from edgeflow.backends.c.moves import MoveKernel
from edgeflow.backends.c.plan import plan_memory
from edgeflow.backends.c.rows import SoftmaxKernel
from edgeflow.backends.protocol import Remedy
from edgeflow.board import Core, McuBoard
from edgeflow.ir.graph import Graph, Node
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.resource import Resource, Source, SourceKind, Unit


@dataclass(frozen=True)
class CoreCost:
    """Instructions and code bytes of the plain loops on one kind of core; `cycles` per instruction.

    A tap is one multiply-accumulate (one element of a pool); a window is one kernel position of one result; a
    compare is one threshold of a result, or one element that is looked at; a softmax computes two exponentials of
    each channel (or reads them) and one reciprocal; an element is one that is read and stored, `per_moved` one of a
    short run, a longer run is a memcpy and its bytes.

    Fitted to what `make bench-mcu` measures under QEMU; cycles from the cores' instruction timing
    (one, two for a load, two to three for a taken branch), flash wait states not counted.
    """

    per_tap: float
    per_window: float
    per_pool_tap: float
    per_result: float
    per_element: float
    per_moved: float
    per_memcpy: float
    per_byte: float
    per_compare: float
    per_exponential: float
    per_reciprocal: float
    per_call: float
    code_base: int
    code_per_step: int
    code_per_element_step: int
    code_wide: int
    code_softmax: int
    code_exponential: int
    stack: int
    stack_window: int
    cycles: float


_ARMV7 = CoreCost(
    per_tap=5.0,
    per_window=8.0,
    per_pool_tap=12.0,
    per_result=14.0,
    per_element=6.0,
    per_moved=4.5,
    per_memcpy=7.0,
    per_byte=0.5,
    per_compare=6.0,
    per_exponential=130.0,
    per_reciprocal=90.0,
    per_call=40.0,
    code_base=360,
    code_per_step=170,
    code_per_element_step=110,
    code_wide=200,
    code_softmax=420,
    code_exponential=300,
    stack=56,
    stack_window=110,
    cycles=1.4,
)
_ARMV6 = CoreCost(
    per_tap=7.1,
    per_window=14.0,
    per_pool_tap=16.0,
    per_result=12.0,
    per_element=8.0,
    per_moved=6.0,
    per_memcpy=48.0,
    per_byte=0.7,
    per_compare=8.5,
    per_exponential=590.0,
    per_reciprocal=500.0,
    per_call=50.0,
    code_base=400,
    code_per_step=200,
    code_per_element_step=120,
    code_wide=400,
    code_softmax=450,
    code_exponential=400,
    stack=60,
    stack_window=125,
    cycles=1.5,
)
FLASH_BAND, RAM_BAND, TIME_BAND = 0.15, 0.15, 0.4


def core_cost(core: Core) -> CoreCost:
    """The cost model of a core."""
    return _ARMV6 if core.traps_unaligned else _ARMV7


def latency(instructions: float, board: McuBoard, *, measured: bool) -> Resource:
    """Seconds of one inference at the board's clock, from an instruction count."""
    cycles = core_cost(board.core).cycles
    how = "measured" if measured else "estimated"
    source = Source(
        SourceKind.ESTIMATED,
        f"{instructions:,.0f} {how} instructions x {cycles:g} cycles, no flash wait states",
        band=0.3 if measured else TIME_BAND,
    )
    return Resource("latency", instructions * cycles / board.clock, Unit.SECONDS, source)


def estimate(graph: Graph, board: McuBoard, stack: int) -> tuple[Resource, ...]:
    """Totals first, then every layer's part (`flash`, `RAM` alive while it runs, `instructions`)."""
    emitted = emit_model(graph)
    cost = core_cost(board.core)
    flash = cost.code_base + sum(_flash(one, cost) for one in emitted.kernels)
    steps = zip(emitted.kernels, emitted.lowered.steps, strict=True)
    work = sum(_instructions(kernel, step, graph, cost) for kernel, step in steps)
    ram = _ram(emitted, emitted.plan.size, cost, stack)
    totals = (
        Resource("flash", flash, Unit.BYTES, Source(SourceKind.ESTIMATED, "", FLASH_BAND)),
        Resource("RAM", ram, Unit.BYTES, Source(SourceKind.ESTIMATED, "", RAM_BAND)),
        Resource("instructions", work, Unit.INSTRUCTIONS, Source(SourceKind.ESTIMATED, "", TIME_BAND)),
        latency(work, board, measured=False),
    )
    return (*totals, *_per_layer(emitted, graph, cost))


def _flash(kernel: Kernel, cost: CoreCost) -> int:
    more = cost.code_wide if kernel.wide else 0
    more += cost.code_softmax if isinstance(kernel, SoftmaxKernel) else 0
    more += cost.code_exponential if isinstance(kernel, SoftmaxKernel) and not kernel.table else 0
    sums = isinstance(kernel, WindowKernel | DenseKernel)
    step = cost.code_per_step if sums else cost.code_per_element_step
    return step + more + sum(table.size for table in kernel.tables)


def _ram(emitted: Emitted, arena: int, cost: CoreCost, stack: int) -> int:
    ports = sum(one.size for one in emitted.lowered.buffers.values() if one.place != "arena")
    windows = any(isinstance(kernel, WindowKernel | SoftmaxKernel) for kernel in emitted.kernels)
    return arena + ports + max(stack, cost.stack_window if windows else cost.stack)


def _instructions(kernel: Kernel, step: Step, graph: Graph, cost: CoreCost) -> float:
    if step.node is None:
        return 20.0 + graph.tensor(step.copies or "").type.size / 2
    if isinstance(kernel, MoveKernel):
        return cost.per_call + _moved(kernel, cost)
    node, results = step.node, step.node.type.size
    pointwise = (node, *step.fused)
    if isinstance(kernel, ElementKernel):
        each = cost.per_element + sum(_pointwise(one, cost) for one in pointwise)
    else:  # with the Requant that follows nearly every sum
        each = cost.per_result + sum(_pointwise(one, cost) for one in pointwise if not isinstance(one.op, Requant))
    return cost.per_call + each * results + _loops(node, graph.tensor(node.inputs[0]).type.size, kernel, cost)


def _loops(node: Node, read: int, kernel: Kernel, cost: CoreCost) -> float:
    """Instructions of an op's own loops over the `read` elements of its input."""
    results = node.type.size
    match node.op:
        case Conv() as conv:
            taps = results * conv.weight.size // conv.weight.shape[-1]
            return cost.per_tap * taps + cost.per_window * results * math.prod(conv.window)
        case Dense() as dense:
            return cost.per_tap * results * dense.weight.shape[0]
        case MaxPool() | SumPool() as pool:
            return cost.per_pool_tap * results * math.prod(pool.window)
        case ArgMax():
            return cost.per_compare * read
        case Softmax():
            each = 0.0 if isinstance(kernel, SoftmaxKernel) and kernel.table else 2 * cost.per_exponential
            return (4 * cost.per_compare + each) * read + cost.per_reciprocal * (results // node.type.shape[-1])
        case _:
            return 0.0


def _moved(kernel: MoveKernel, cost: CoreCost) -> float:
    """Instructions of the runs that a kernel copies, and of the fill before them."""
    work = 0.0
    for move in kernel.moves:
        runs = math.prod(axis.length for axis in move.axes)
        each = cost.per_memcpy + cost.per_byte * move.size if move.size else cost.per_moved * move.run
        work += runs * each
    if kernel.fill_byte is not None:
        work += cost.per_byte * kernel.y.size
    elif kernel.fill is not None:
        work += cost.per_moved * kernel.y.elements
    return work


def _pointwise(node: Node, cost: CoreCost) -> float:
    """Instructions a value of a pointwise op."""
    match node.op:
        case Requant():
            return cost.per_result
        case Lut():
            return 2.0
        case Threshold() as threshold:
            levels = threshold.thresholds.shape[1]
            return cost.per_compare * (levels if levels <= FEW_LEVELS else 2 * math.log2(levels))
        case _:
            return 0.0


def _per_layer(emitted: Emitted, graph: Graph, cost: CoreCost) -> tuple[Resource, ...]:
    source = Source(SourceKind.ESTIMATED, "", FLASH_BAND)
    found: list[Resource] = []
    for index, (step, kernel) in enumerate(zip(emitted.lowered.steps, emitted.kernels, strict=True)):
        found.append(Resource("flash", _flash(kernel, cost), Unit.BYTES, source, step.layer))
        operands = {one.tensor: one.size for one in (*kernel.inputs, kernel.y)}
        alive = {one.tensor: one.size for one in emitted.plan.alive(index)}
        sizes = operands | alive
        detail = " + ".join(f"{_shown(name)} {size} B" for name, size in sizes.items()) + " alive together"
        ram = Source(SourceKind.ESTIMATED, detail, RAM_BAND)
        found.append(Resource("RAM", sum(sizes.values()), Unit.BYTES, ram, step.layer))
        work = _instructions(kernel, step, graph, cost)
        timed = Source(SourceKind.ESTIMATED, "", TIME_BAND)
        found.append(Resource("instructions", work, Unit.INSTRUCTIONS, timed, step.layer))
    return tuple(found)


def _shown(buffer: str) -> str:
    """A buffer's name for people: outputs have one of their own."""
    return buffer.removeprefix("\0")


def remedies(graph: Graph, board: McuBoard, stack: int) -> tuple[Remedy, ...]:
    """What halving the channels of the layers at the RAM peak, or of the largest weights, would leave."""
    emitted = emit_model(graph)
    cost = core_cost(board.core)
    ram = _ram(emitted, emitted.plan.size, cost, stack)
    found: list[Remedy] = []
    for one in sorted(emitted.plan.alive(emitted.plan.peak()), key=lambda one: -one.size):
        smaller = plan_memory(emitted.lowered, {one.tensor: -(-one.size // 2)})
        after = ram - emitted.plan.size + smaller.size
        if after < ram:
            layer = next(node.layer for node in graph.nodes if node.name == one.tensor)
            found.append(Remedy(f"halve the channels of '{layer}'", "RAM", after))
    flash = cost.code_base + sum(_flash(one, cost) for one in emitted.kernels)
    for kernel in sorted(emitted.kernels, key=lambda one: -_flash(one, cost))[:2]:
        half = sum(table.size for table in kernel.tables) // 2
        if half:
            found.append(Remedy(f"halve the outputs of '{kernel.layer}'", "flash", flash - half))
    return tuple(found)
