"""What the generated C will cost, before anything is compiled: exact where bytes are planned, else a model."""

from __future__ import annotations

import math
from dataclasses import replace

from edgeflow.backends.c import largest, plain_cost, products
from edgeflow.backends.c.coded import CodedKernel, CodeKernel
from edgeflow.backends.c.cost import DSP, CoreCost, core_cost
from edgeflow.backends.c.ctypes import INT64
from edgeflow.backends.c.dsp.dense import DspDenseKernel
from edgeflow.backends.c.dsp.layers import DepthwiseKernel, RowTileKernel, TileKernel
from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.dsp.total import WordTotalKernel
from edgeflow.backends.c.dsp.window_gather import POSITIONS
from edgeflow.backends.c.elements import ElementKernel
from edgeflow.backends.c.emit import Emitted, emit_model, shared_of
from edgeflow.backends.c.epilogue import FEW_LEVELS
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.largest import LargestKernel
from edgeflow.backends.c.lower import Step
from edgeflow.backends.c.moves import MoveKernel
from edgeflow.backends.c.mve import cost as mve
from edgeflow.backends.c.objects import Kind
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.packed import PackedDenseKernel
from edgeflow.backends.c.plan import groups_of, plan_memory
from edgeflow.backends.c.planes import PlaneKernel
from edgeflow.backends.c.rows import InterpolatedSoftmaxKernel, RowKernel, SoftmaxKernel
from edgeflow.backends.c.v6m import work
from edgeflow.backends.c.v6m.layers import ProductKernel, ThumbDepthwiseKernel
from edgeflow.backends.c.windows import Geometry, TotalKernel, WindowKernel
from edgeflow.backends.protocol import Remedy
from edgeflow.board import McuBoard
from edgeflow.ir.graph import Graph
from edgeflow.ops.threshold import Threshold
from edgeflow.resource import Resource, Source, SourceKind, Unit

_UNROLLED = 0.75
"""What a tap costs where the fields of a word of weights are written out: they save more loop than they cost shifts."""
_WIDE_AGAIN = 11
"""Bytes of code that a 64-bit statement takes once more for each further output of a block: compilers unroll them."""
_CODED_CODE, _CODED_STACK = 100, 48
"""Bytes of code and of stack of what packs and unpacks the rows of a layer, without the functions that do."""
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


def estimate(graph: Graph, board: McuBoard, stack: int, optimize: Optimize = Optimize.BALANCED) -> tuple[Resource, ...]:
    """Totals first, then every layer's part (`flash`, `RAM` alive while it runs, `instructions`)."""
    emitted = emit_model(graph, core=board.core, optimize=optimize)
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
    return _code(kernel, cost) + sum(table.size for table in kernel.tables)


def _code(kernel: Kernel, cost: CoreCost) -> int:
    if isinstance(kernel, CodedKernel):
        return _CODED_CODE + _code(kernel.inner, cost)
    if isinstance(kernel, CodeKernel):
        return cost.code_per_call
    more = cost.code_per_wide_step if kernel.wide else 0
    more += cost.code_softmax if isinstance(kernel, SoftmaxKernel) else 0
    more += cost.code_exponential if isinstance(kernel, SoftmaxKernel) and not kernel.table else 0
    more += cost.code_interpolated if isinstance(kernel, InterpolatedSoftmaxKernel) else 0
    return _step_code(kernel, cost) + more


def _step_code(kernel: Kernel, cost: CoreCost) -> int:
    match kernel:
        case TileKernel() | DepthwiseKernel() | DspDenseKernel():
            return DSP.code_per_layer
        case mve.ProductKernel() | mve.ColumnsKernel() | mve.TotalKernel():
            return mve.code(kernel)
        case ProductKernel() | ThumbDepthwiseKernel():
            return work.code(kernel)
        case LargestKernel():
            return largest.code_bytes(kernel)
        case WordTotalKernel():
            return cost.code_per_element_step
        case WindowKernel(kind="Depthwise"):
            return cost.code_per_window_step + cost.code_per_product * kernel.geometry.k_h * kernel.geometry.k_w
        case WindowKernel():
            return cost.code_per_window_step + _fields_code(kernel)
        case PackedDenseKernel():
            return cost.code_per_dense_step + _fields_code(kernel)
        case products.ProductKernel():
            written = sum((kernel.step + kernel.left) * one.count for one in kernel.blocks)
            again = max(one.count for one in kernel.blocks) - 1
            again *= sum(wide for one in kernel.epilogues for _, wide in one.pieces)
            return cost.code_per_dense_step + cost.code_per_product * written + _WIDE_AGAIN * again
        case _:
            return cost.code_per_element_step


def _fields_code(kernel: WindowKernel | PackedDenseKernel) -> int:
    """Bytes of code of the fields that are written out: four instructions each."""
    return 8 * (kernel.fields.each + kernel.fields.rest) if kernel.fields else 0


def _total_flash(emitted: Emitted, cost: CoreCost) -> int:
    shared = cost.code_base + (cost.code_wide if any(kernel.wide for kernel in emitted.kernels) else 0)
    calls, functions = emitted.calls, emitted.functions
    driven = sum(one.table.size + cost.code_per_call * len(one.cases(functions)) for one in calls.stretches)
    swept = cost.code_per_sweep * len(calls.swept)
    common = sum(one.size for one in shared_of(emitted.kernels))
    again = sum(_code(one, cost) for one in emitted.kernels if functions[one.name].name != one.name)
    return shared + common + driven + swept + sum(_flash(one, cost) for one in emitted.kernels) - again


def _ram(emitted: Emitted, arena: int, cost: CoreCost, stack: int) -> int:
    return arena + max(stack, stack_bytes(emitted, cost))


def stack_bytes(emitted: Emitted, cost: CoreCost) -> int:
    """Bytes of stack of a run."""
    deep = WindowKernel | SoftmaxKernel | InterpolatedSoftmaxKernel
    inner = [one.inner if isinstance(one, CodedKernel) else one for one in emitted.kernels]
    windows = any(isinstance(kernel, deep) for kernel in inner)
    wide = cost.stack_wide if any(kernel.wide for kernel in emitted.kernels) else 0
    own = cost.stack_window if windows else cost.stack
    pointers = max((4 * _pointers(kernel) for kernel in emitted.kernels), default=0)
    coded = max((_CODED_STACK + 4 * one.pointers for one in emitted.kernels if isinstance(one, CodedKernel)), default=0)
    return max(own, *map(_dsp_stack, inner)) + wide + pointers + coded


def _dsp_stack(kernel: Kernel) -> int:
    if isinstance(kernel, LargestKernel):
        return DSP.stack + 4 * kernel.geometry.k_h
    if isinstance(kernel, mve.VectorKernel):
        return mve.stack(kernel)
    if isinstance(kernel, ProductKernel | ThumbDepthwiseKernel):
        return work.stack(kernel)
    if not isinstance(kernel, TileKernel | DepthwiseKernel | DspDenseKernel):
        return 0
    return DSP.stack if kernel.by_rows is None else DSP.stack_window


def _pointers(kernel: Kernel) -> int:
    """Row pointers that a call of a layer needs."""
    form = kernel.by_rows
    return sum(form.reach(index) for index in range(len(form.windows))) if form else 0


def _instructions(kernel: Kernel, step: Step, graph: Graph, cost: CoreCost) -> float:
    if isinstance(kernel, CodeKernel):
        return cost.per_call + kernel.work
    if isinstance(kernel, CodedKernel):
        return kernel.work + _instructions(kernel.inner, step, graph, cost)
    if step.node is None:
        return 20.0 + graph.tensor(step.copies or "").type.size / 2
    if isinstance(kernel, TileKernel | DepthwiseKernel | DspDenseKernel):
        return cost.per_call + _dsp(kernel)
    if isinstance(kernel, mve.VectorKernel):
        return cost.per_call + mve.work(kernel)
    if isinstance(kernel, ProductKernel | ThumbDepthwiseKernel):
        return cost.per_call + work.instructions(kernel, cost)
    if isinstance(kernel, LargestKernel):
        return kernel.geometry.out_h * (cost.per_call + kernel.work)
    if isinstance(kernel, WordTotalKernel):
        return cost.per_call + kernel.geometry.in_h * kernel.work
    if isinstance(kernel, MoveKernel):
        return cost.per_call + _moved(kernel, cost)
    return (
        cost.per_call + _loops(kernel, graph.tensor(step.node.inputs[0]).type.size, cost) + _values(kernel, step, cost)
    )


def _dsp(kernel: TileKernel | DepthwiseKernel | DspDenseKernel) -> float:
    """Instructions of a layer that the DSP instructions make."""
    results = kernel.y.elements
    if isinstance(kernel, DspDenseKernel):
        if kernel.work is not None:
            return float(kernel.rows * kernel.work)
        each = DSP.per_spread_product if kernel.spread or kernel.packing else DSP.per_dense_product
        made = results * (DSP.per_product_result + each * kernel.values)
        made += _unpacked(kernel, kernel.packing, kernel.rows, 1)
        made += _spread_again(kernel, each) if kernel.packing and not kernel.spread else 0.0
        return made + kernel.rows * DSP.per_spread * (kernel.values if kernel.scratch else 0)
    if isinstance(kernel, DepthwiseKernel):
        assert kernel.by_rows is not None
        calls = math.ceil(kernel.geometry.out_h / kernel.by_rows.group)
        return calls * (DSP.per_depthwise_call + kernel.work)
    positions = _positions(kernel)
    made = positions * kernel.outputs * (DSP.per_product_result + DSP.per_product * kernel.values)
    made += _unpacked(kernel, kernel.product.packing, positions, DSP.positions)
    return made + positions * _gathered(kernel, kernel.geometry) + _padded(kernel, kernel.geometry)


def _spread_again(kernel: DspDenseKernel, each: float) -> float:
    """Instructions of packed weights' functions that spread bytes for every group of outputs and for the sum of x, and
    that make whole groups, the last of which reaches back.
    """
    assert kernel.packing is not None
    group = 4 if kernel.outputs >= 4 else 2
    groups = math.ceil(kernel.outputs / group)
    again = groups * group - kernel.outputs
    unpacking = (kernel.packing.instructions - 1) / 4
    return kernel.rows * kernel.values * (DSP.per_byte_spread * (groups + 1) + again * (each + unpacking))


def _positions(kernel: TileKernel) -> int:
    """Positions that a layer makes, some more than once."""
    shape = kernel.geometry
    again = -shape.out_w % POSITIONS if isinstance(kernel, RowTileKernel) and kernel.back else 0
    return shape.out_h * (shape.out_w + again)


def _unpacked(kernel: TileKernel | DspDenseKernel, packing: Packing | None, positions: int, at_once: float) -> float:
    """Instructions that packed weights cost besides: a word of codes serves two lanes, two outputs, and all positions
    of a tile, mostly 4.
    """
    if packing is None:
        return 0.0
    codes = kernel.values * kernel.y.elements / (4 * at_once)
    return codes * (packing.instructions - 1) + DSP.per_sum * positions * kernel.values


def _gathered(kernel: TileKernel, shape: Geometry) -> float:
    """Instructions that bring the values of a position together."""
    if isinstance(kernel, RowTileKernel):
        runs = 1 if kernel.by_window else shape.k_h
        return DSP.per_row_position + DSP.per_row_run * runs + DSP.per_row_value * kernel.values
    values = DSP.per_position + DSP.per_gathered * kernel.values
    if kernel.step != 4 or not (shape.k_h > 1 or kernel.own):
        return values
    run = DSP.per_run + (DSP.per_copied * kernel.run if kernel.run % 4 else 0.0)
    run += DSP.per_checked_run if shape.padded and not kernel.line else 0.0
    return values + run * shape.k_h


def _padded(kernel: TileKernel, shape: Geometry) -> float:
    """Instructions that copy rows with their padding, or the parts of them that reach beside the image."""
    form = kernel.by_rows
    assert form is not None
    if isinstance(kernel, RowTileKernel) and kernel.own:
        groups = math.ceil(shape.out_w / POSITIONS)
        above = math.ceil(shape.pad_top / shape.stride_h)
        return DSP.per_part * shape.k_h * (shape.out_h * min(groups, 2 if shape.stride_w == 1 else 1) + above * groups)
    calls = -(-shape.out_h // form.group) if kernel.line else 0
    return calls * form.reach(0) * (DSP.per_line + DSP.per_line_byte * kernel.line)


def _values(kernel: Kernel, step: Step, cost: CoreCost) -> float:
    """Instructions of what is done to each value of the result, and of storing it."""
    if isinstance(kernel, PlaneKernel):
        return kernel.work or cost.per_sum * kernel.y.elements
    each = cost.per_element * len(kernel.inputs) if isinstance(kernel, ElementKernel) else cost.per_result
    thresholds = (node.op for node in (step.node, *step.fused) if node and isinstance(node.op, Threshold))
    each += sum(cost.per_compare * _compares(one.thresholds.shape[1]) for one in thresholds)
    return plain_cost.values(kernel, cost, each)


def _compares(levels: int) -> float:
    """How many thresholds a value is compared with; a search by halves takes two comparisons' time a level."""
    return levels if levels <= FEW_LEVELS else 2 * math.log2(levels)


def _loops(kernel: Kernel, read: int, cost: CoreCost) -> float:
    """Instructions of an op's own loops over the `read` elements of its input."""
    match kernel:
        case WindowKernel(kind="Conv"):
            return _conv(kernel, cost)
        case WindowKernel(kind="Depthwise"):
            return plain_cost.depthwise(kernel, cost)
        case TotalKernel():
            return (cost.per_word_tap if kernel.by_words else cost.per_pool_tap) * read
        case WindowKernel():
            tap = cost.per_checked_pool_tap if kernel.geometry.padded else cost.per_pool_tap
            return tap * _windows(kernel)
        case products.ProductKernel():
            return plain_cost.product(kernel, cost)
        case PackedDenseKernel():
            return _tap(kernel, cost) * kernel.rows * kernel.in_c * kernel.out_c
        case SoftmaxKernel():
            each = 0.0 if kernel.table else 2 * cost.per_exponential
            return (4 * cost.per_compare + each) * read + cost.per_reciprocal * kernel.rows
        case InterpolatedSoftmaxKernel():
            return (2 * cost.per_compare + cost.per_interpolated) * read + 2 * cost.per_interpolated * kernel.rows
        case RowKernel():
            return cost.per_compare * read
        case _:
            return 0.0


def _tap(kernel: WindowKernel | PackedDenseKernel, cost: CoreCost) -> float:
    return cost.per_wide_tap if kernel.acc == INT64.name else cost.per_tap * (_UNROLLED if kernel.fields else 1)


def _windows(kernel: WindowKernel) -> int:
    """Kernel positions of all results."""
    return kernel.y.elements * kernel.geometry.k_h * kernel.geometry.k_w


def _conv(kernel: WindowKernel, cost: CoreCost) -> float:
    """A padded input is checked at every kernel position; padding with 0 takes no taps outside.

    A kernel of one position is a matrix product.
    """
    windows = _windows(kernel)
    taken = plain_cost.windows_inside(kernel) if kernel.geometry.padded and kernel.pad_value == "0" else windows
    tap, grouped = _tap(kernel, cost), cost.per_grouped_window if kernel.groups > 1 else 0.0
    if kernel.each == 1:
        single = cost.per_checked_single_window if kernel.geometry.padded else cost.per_single_window
        return windows * (single + grouped) + taken * (tap - cost.per_tap)
    position = 0.0 if kernel.geometry.k_h * kernel.geometry.k_w == 1 else cost.per_window
    window = cost.per_checked_window if kernel.geometry.padded else position
    return windows * (window + grouped) + taken * kernel.each * tap


def _moved(kernel: MoveKernel, cost: CoreCost) -> float:
    """Instructions of the runs that a kernel copies, and of the fill before them."""
    work = 0.0
    for move in kernel.moves:
        runs = kernel.rows * math.prod(axis.length for axis in move.axes)
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
    for step, kernel in zip(emitted.lowered.steps, emitted.kernels, strict=True):
        found.append(Resource("flash", _flash(kernel, cost), Unit.BYTES, source, step.layer))
        sizes = _alive(emitted, emitted.plan.busiest(kernel.name))
        detail = " + ".join(f"{_shown(name)} {size} B" for name, size in sizes.items()) + " alive together"
        ram = Source(SourceKind.ESTIMATED, detail, RAM_BAND)
        found.append(Resource("RAM", sum(sizes.values()), Unit.BYTES, ram, step.layer))
        work = _instructions(kernel, step, graph, cost)
        counted = Source(SourceKind.ESTIMATED, "", WORK_BAND)
        found.append(Resource("instructions", work, Unit.INSTRUCTIONS, counted, step.layer))
    return tuple(found)


def _alive(emitted: Emitted, task: int) -> dict[str, int]:
    """Bytes of each tensor, and of scratch, that a task needs or keeps."""
    sizes: dict[str, int] = {}
    for one in emitted.plan.alive(task):
        name = one.owner if one.kind is Kind.ROWS else "scratch"
        alive = sum(span.size for span in one.spans if span.born <= task <= span.last)
        sizes[name] = sizes.get(name, 0) + alive
    return sizes


def _shown(buffer: str) -> str:
    """A buffer's name for people: outputs have one of their own."""
    return buffer.removeprefix("\0")


def remedies(graph: Graph, board: McuBoard, stack: int, optimize: Optimize = Optimize.BALANCED) -> tuple[Remedy, ...]:
    """What halving the channels of the layers at the RAM peak, or of the largest weights, would leave."""
    emitted = emit_model(graph, core=board.core, optimize=optimize)
    cost = core_cost(board.core)
    ram = _ram(emitted, emitted.plan.size, cost, stack)
    found: list[Remedy] = []
    flow, groups = emitted.plan.schedule.flow, groups_of(emitted.kernels)
    alive = _alive(emitted, emitted.plan.peak())
    layers = {node.name: node.layer for node in graph.nodes}
    for name in sorted(alive.keys() & layers.keys(), key=lambda one: (-alive[one], one)):
        narrow = replace(flow.tensors[name], row_bytes=-(-flow.tensors[name].row_bytes // 2))
        smaller = plan_memory(replace(flow, tensors={**flow.tensors, name: narrow}), groups)
        after = ram - emitted.plan.size + smaller.size
        if after < ram:
            found.append(Remedy(f"halve the channels of '{layers[name]}'", "RAM", after))
    flash = _total_flash(emitted, cost)
    for kernel in sorted(emitted.kernels, key=lambda one: -_flash(one, cost))[:2]:
        half = sum(table.size for table in kernel.tables) // 2
        if half:
            found.append(Remedy(f"halve the outputs of '{kernel.layer}'", "flash", flash - half))
    return tuple(found)
