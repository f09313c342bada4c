"""What the generated C will cost, before anything is compiled: exact where bytes are planned, else a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.kernels import Kernel, WindowKernel
from edgeflow.backends.c.lower import Step, multiplications
from edgeflow.backends.c.plan import plan_memory
from edgeflow.backends.protocol import Remedy
from edgeflow.board import Core, McuBoard
from edgeflow.ir.graph import Graph
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.resource import Resource, Source, SourceKind, Unit


@dataclass(frozen=True)
class CoreCost:
    """Instructions and code bytes of the plain loops on one kind of core; `cycles` per instruction.

    A tap is one multiply-accumulate (one element of a pool); a window is one kernel position of one result.

    Fitted to what `make bench-mcu` measures under QEMU; cycles from the cores' instruction timing
    (one, two for a load, two to three for a taken branch), flash wait states not counted.
    """

    per_tap: float
    per_window: float
    per_pool_tap: float
    per_result: float
    per_call: float
    code_base: int
    code_per_step: int
    stack: int
    stack_window: int
    cycles: float


_ARMV7 = CoreCost(
    per_tap=5.0,
    per_window=8.0,
    per_pool_tap=12.0,
    per_result=14.0,
    per_call=40.0,
    code_base=360,
    code_per_step=170,
    stack=56,
    stack_window=110,
    cycles=1.4,
)
_ARMV6 = CoreCost(
    per_tap=7.1,
    per_window=14.0,
    per_pool_tap=16.0,
    per_result=12.0,
    per_call=50.0,
    code_base=400,
    code_per_step=200,
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
    work = sum(_instructions(step, graph, cost) for step in emitted.lowered.steps)
    ram = _ram(emitted, emitted.plan.size, cost, stack)
    totals = (
        Resource("flash", flash, Unit.BYTES, Source(SourceKind.ESTIMATED, "", FLASH_BAND)),
        Resource("RAM", ram, Unit.BYTES, Source(SourceKind.ESTIMATED, "", RAM_BAND)),
        Resource("instructions", work, Unit.INSTRUCTIONS, Source(SourceKind.ESTIMATED, "", TIME_BAND)),
        latency(work, board, measured=False),
    )
    return (*totals, *_per_layer(emitted, graph, cost))


def _flash(kernel: Kernel, cost: CoreCost) -> int:
    return cost.code_per_step + sum(table.size for table in kernel.tables)


def _ram(emitted: Emitted, arena: int, cost: CoreCost, stack: int) -> int:
    ports = sum(one.size for one in emitted.lowered.buffers.values() if one.place != "arena")
    windows = any(isinstance(kernel, WindowKernel) for kernel in emitted.kernels)
    return arena + ports + max(stack, cost.stack_window if windows else cost.stack)


def _instructions(step: Step, graph: Graph, cost: CoreCost) -> float:
    if step.node is None:
        return 20.0 + graph.tensor(step.copies or "").type.size / 2
    taps, results = multiplications(step.node), step.node.type.size
    work = cost.per_call + cost.per_result * results
    match step.node.op:
        case Conv() as conv:
            return work + cost.per_tap * taps + cost.per_window * results * math.prod(conv.window)
        case Dense():
            return work + cost.per_tap * taps
        case _:
            return work + cost.per_pool_tap * taps


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
        work = _instructions(step, graph, cost)
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
