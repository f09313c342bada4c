"""What the generated C will cost, before anything is compiled: exact where bytes are planned, else a model."""

from __future__ import annotations

import math

from edgeflow.backends.c.cost import CoreCost, core_cost
from edgeflow.backends.c.ctypes import INT64
from edgeflow.backends.c.elements import ElementKernel
from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.epilogue import FEW_LEVELS
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.kernels import DenseKernel, WindowKernel
from edgeflow.backends.c.lower import Step
from edgeflow.backends.c.moves import MoveKernel
from edgeflow.backends.c.plan import plan_memory
from edgeflow.backends.c.rows import RowKernel, SoftmaxKernel
from edgeflow.backends.protocol import Remedy
from edgeflow.board import McuBoard
from edgeflow.ir.graph import Graph
from edgeflow.ops.threshold import Threshold
from edgeflow.resource import Resource, Source, SourceKind, Unit

FLASH_BAND, RAM_BAND, WORK_BAND, TIME_BAND = 0.15, 0.15, 0.25, 0.4


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
    flash = _total_flash(emitted, cost)
    steps = zip(emitted.kernels, emitted.lowered.steps, strict=True)
    work = sum(_instructions(kernel, step, graph, cost) for kernel, step in steps)
    ram = _ram(emitted, emitted.plan.size, cost, stack)
    totals = (
        Resource("flash", flash, Unit.BYTES, Source(SourceKind.ESTIMATED, "", FLASH_BAND)),
        Resource("RAM", ram, Unit.BYTES, Source(SourceKind.ESTIMATED, "", RAM_BAND)),
        Resource("instructions", work, Unit.INSTRUCTIONS, Source(SourceKind.ESTIMATED, "", WORK_BAND)),
        latency(work, board, measured=False),
    )
    return (*totals, *_per_layer(emitted, graph, cost))


def _flash(kernel: Kernel, cost: CoreCost) -> int:
    more = cost.code_per_wide_step if kernel.wide else 0
    more += cost.code_softmax if isinstance(kernel, SoftmaxKernel) else 0
    more += cost.code_exponential if isinstance(kernel, SoftmaxKernel) and not kernel.table else 0
    return _step_code(kernel, cost) + more + sum(table.size for table in kernel.tables)


def _step_code(kernel: Kernel, cost: CoreCost) -> int:
    match kernel:
        case WindowKernel():
            return cost.code_per_window_step
        case DenseKernel():
            return cost.code_per_dense_step
        case _:
            return cost.code_per_element_step


def _total_flash(emitted: Emitted, cost: CoreCost) -> int:
    shared = cost.code_base + (cost.code_wide if any(kernel.wide for kernel in emitted.kernels) else 0)
    return shared + sum(_flash(one, cost) for one in emitted.kernels)


def _ram(emitted: Emitted, arena: int, cost: CoreCost, stack: int) -> int:
    ports = sum(one.size for one in emitted.lowered.buffers.values() if one.place != "arena")
    windows = any(isinstance(kernel, WindowKernel | SoftmaxKernel) for kernel in emitted.kernels)
    wide = cost.stack_wide if any(kernel.wide for kernel in emitted.kernels) else 0
    return arena + ports + max(stack, (cost.stack_window if windows else cost.stack) + wide)


def _instructions(kernel: Kernel, step: Step, graph: Graph, cost: CoreCost) -> float:
    if step.node is None:
        return 20.0 + graph.tensor(step.copies or "").type.size / 2
    if isinstance(kernel, MoveKernel):
        return cost.per_call + _moved(kernel, cost)
    return (
        cost.per_call + _loops(kernel, graph.tensor(step.node.inputs[0]).type.size, cost) + _values(kernel, step, cost)
    )


def _values(kernel: Kernel, step: Step, cost: CoreCost) -> float:
    """Instructions of what is done to each value of the result, and of storing it."""
    each = cost.per_element * len(kernel.inputs) if isinstance(kernel, ElementKernel) else cost.per_result
    if kernel.epilogue is not None:
        each += sum(cost.pieces[piece][wide] for piece, wide in kernel.epilogue.pieces)
    thresholds = (node.op for node in (step.node, *step.fused) if node and isinstance(node.op, Threshold))
    each += sum(cost.per_compare * _compares(one.thresholds.shape[1]) for one in thresholds)
    return each * kernel.y.elements


def _compares(levels: int) -> float:
    """How many thresholds a value is compared with; a search by halves takes two comparisons' time a level."""
    return levels if levels <= FEW_LEVELS else 2 * math.log2(levels)


def _loops(kernel: Kernel, read: int, cost: CoreCost) -> float:
    """Instructions of an op's own loops over the `read` elements of its input."""
    match kernel:
        case WindowKernel(kind="Conv"):
            return _conv(kernel, cost)
        case WindowKernel():
            tap = cost.per_checked_pool_tap if kernel.padded else cost.per_pool_tap
            return tap * _windows(kernel)
        case DenseKernel():
            return _tap(kernel, cost) * kernel.rows * kernel.in_c * kernel.out_c
        case SoftmaxKernel():
            each = 0.0 if kernel.table else 2 * cost.per_exponential
            return (4 * cost.per_compare + each) * read + cost.per_reciprocal * kernel.rows
        case RowKernel():
            return cost.per_compare * read
        case _:
            return 0.0


def _tap(kernel: Kernel, cost: CoreCost) -> float:
    return cost.per_wide_tap if kernel.acc == INT64.name else cost.per_tap


def _windows(kernel: WindowKernel) -> int:
    """Kernel positions of all results."""
    return kernel.y.elements * kernel.k_h * kernel.k_w


def _conv(kernel: WindowKernel, cost: CoreCost) -> float:
    """A padded input is checked at every kernel position; padding with 0 takes no taps outside.

    A kernel of one position is a matrix product.
    """
    windows = _windows(kernel)
    taken = _inside(kernel) if kernel.padded and kernel.pad_value == "0" else windows
    tap, grouped = _tap(kernel, cost), cost.per_grouped_window if kernel.groups > 1 else 0.0
    if kernel.each == 1:
        single = cost.per_checked_single_window if kernel.padded else cost.per_single_window
        return windows * (single + grouped) + taken * (tap - cost.per_tap)
    position = 0.0 if kernel.k_h * kernel.k_w == 1 else cost.per_window
    window = cost.per_checked_window if kernel.padded else position
    return windows * (window + grouped) + taken * kernel.each * tap


def _inside(kernel: WindowKernel) -> int:
    """Kernel positions of all results that lie inside of the input."""
    k = kernel
    rows = _positions_inside(k.in_h, k.out_h, k.k_h, k.stride_h, k.dilation_h, k.pad_top)
    return k.out_c * rows * _positions_inside(k.in_w, k.out_w, k.k_w, k.stride_w, k.dilation_w, k.pad_left)


def _positions_inside(length: int, results: int, taps: int, stride: int, dilation: int, pad: int) -> int:
    """The same along one axis."""
    return sum(0 <= at * stride + tap * dilation - pad < length for at in range(results) for tap in range(taps))


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
        counted = Source(SourceKind.ESTIMATED, "", WORK_BAND)
        found.append(Resource("instructions", work, Unit.INSTRUCTIONS, counted, step.layer))
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
    flash = _total_flash(emitted, cost)
    for kernel in sorted(emitted.kernels, key=lambda one: -_flash(one, cost))[:2]:
        half = sum(table.size for table in kernel.tables) // 2
        if half:
            found.append(Remedy(f"halve the outputs of '{kernel.layer}'", "flash", flash - half))
    return tuple(found)
