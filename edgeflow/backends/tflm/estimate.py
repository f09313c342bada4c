"""What a model costs under TFLite-Micro, before anything is compiled.

The arena follows from TFLite-Micro's structures (`arena.py`). Code, stack and instructions are calibrated on
benchmarks/baselines/tflm-cortex-m.json: TFLite-Micro with its reference kernels and with CMSIS-NN, two models, QEMU
Cortex-M4. Code is split between kernels by us; a linked image of your own decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow.backends.protocol import Remedy
from edgeflow.backends.tflm.arena import Arena, arena, scratch
from edgeflow.backends.tflm.describe import describe
from edgeflow.backends.tflm.model import ConvOptions, Kernel, Operator, TfliteModel
from edgeflow.backends.tflm.plan import ALIGNMENT, plan_memory
from edgeflow.backends.tflm.structures import Build, Extension, Kernels, extension_of, round_up
from edgeflow.board import McuBoard
from edgeflow.resource import Resource, Source, SourceKind, Unit

FLASH_BAND, RAM_BAND, TIME_BAND = 0.25, 0.1, 0.5
BASELINE = "measured on a Cortex-M4 (benchmarks/baselines)"
STRUCTURES = "TFLite-Micro's 32-bit structures"


@dataclass(frozen=True)
class KernelCost:
    """Code bytes (interpreter and FULLY_CONNECTED, then each further kernel), stack bytes, instructions a MAC.

    `dense` and `window` are instructions per multiply-accumulate of FULLY_CONNECTED and of the others.
    """

    code_base: int
    code: Mapping[Kernel, int]
    stack_dense: int
    stack_window: int
    dense: float
    window: float


_START_UP = 7000
"""Bytes of the baselines' code that are start-up and printf (stated in the file)."""
_PER_KERNEL = {Kernel.AVERAGE_POOL_2D: 1800, Kernel.MAX_POOL_2D: 1800, Kernel.RESHAPE: 600}
_OTHER_KERNEL, _PER_OPERATOR = 1500, 600
_REFERENCE = KernelCost(
    code_base=27508 - _START_UP,
    code={**_PER_KERNEL, Kernel.CONV_2D: 8000, Kernel.DEPTHWISE_CONV_2D: 7000},
    stack_dense=440,
    stack_window=712,
    dense=1953000 / 264192,
    window=43040000 / 2656768,
)
_CMSIS_NN = KernelCost(
    code_base=35316 - _START_UP,
    code={**_PER_KERNEL, Kernel.CONV_2D: 9500, Kernel.DEPTHWISE_CONV_2D: 9500},
    stack_dense=604,
    stack_window=892,
    dense=583000 / 264192,
    window=7698000 / 2656768,
)
_HELIUM_DENSE, _HELIUM_WINDOW = 150000 / 264192, 1814000 / 2656768

# Bytes of the file beside its constants, to within a few percent of what the writer makes.
_FILE_BASE, _FILE_TENSOR, _FILE_OPERATOR = 413, 60, 61


def chosen_build(option: str, board: McuBoard) -> Build:
    """The option's kernels on the board's core; `auto` takes CMSIS-NN, but the reference kernels for ARMv6-M."""
    kernels = Kernels.REFERENCE if board.core.traps_unaligned else Kernels.CMSIS_NN
    return Build(kernels if option == "auto" else Kernels(option), extension_of(board.core))


def file_bytes(model: TfliteModel) -> int:
    """The size of the .tflite file, near enough for a verdict."""
    total = _FILE_BASE + _FILE_TENSOR * len(model.tensors) + _FILE_OPERATOR * len(model.operators)
    for tensor in model.tensors:
        total += 0 if tensor.data is None else round_up(tensor.size, ALIGNMENT)
        total += len(tensor.name.encode())
    return total + _vector_bytes(model)


def _vector_bytes(model: TfliteModel) -> int:
    """Shapes, scales and zero points: equal ones are written once, each with its length in front."""
    told = [one.quantization for one in model.tensors if one.quantization is not None]
    shapes, scales = {one.shape for one in model.tensors}, {one.scales for one in told}
    zeros = {(one.zero_point, len(one.scales)) for one in told}
    short = sum(4 + 4 * len(one) for one in (*shapes, *scales))
    return short + sum(4 + 8 * count for _, count in zeros)


def _cost(kernels: Kernels) -> KernelCost:
    return _REFERENCE if kernels is Kernels.REFERENCE else _CMSIS_NN


def _code(model: TfliteModel, kernels: Kernels) -> int:
    cost = _cost(kernels)
    return cost.code_base + sum(
        cost.code.get(kernel, _OTHER_KERNEL) for kernel in model.kernels if kernel is not Kernel.FULLY_CONNECTED
    )


def _stack(model: TfliteModel, kernels: Kernels) -> int:
    cost = _cost(kernels)
    windows = any(isinstance(one.options, ConvOptions) for one in model.operators)
    return cost.stack_window if windows else cost.stack_dense


def _instructions(operator: Operator, build: Build) -> float:
    cost = _cost(build.kernels)
    dense, window = cost.dense, cost.window
    if build == Build(Kernels.CMSIS_NN, Extension.HELIUM):
        dense, window = _HELIUM_DENSE, _HELIUM_WINDOW
    return _PER_OPERATOR + operator.macs * (dense if operator.kernel is Kernel.FULLY_CONNECTED else window)


def estimate(model: TfliteModel, board: McuBoard, build: Build) -> tuple[Resource, ...]:
    """Totals first, then every layer's part (`flash`, `RAM` alive while it runs, `instructions`)."""
    kernels = build.kernels
    file, code, stack = file_bytes(model), _code(model, kernels), _stack(model, kernels)
    found = arena(describe(model), build)
    work = sum(_instructions(one, build) for one in model.operators)
    flash = Source(
        SourceKind.ESTIMATED,
        f"{file:,} B model + {code:,} B interpreter and {kernels.value} kernels, as {BASELINE}",
        FLASH_BAND,
    )
    ram = Source(SourceKind.ESTIMATED, f"{_told(found)} + {stack:,} B stack, as {BASELINE}", RAM_BAND)
    counted = Source(SourceKind.ESTIMATED, f"{kernels.value} kernels, instructions a MAC as {BASELINE}", TIME_BAND)
    return (
        Resource("flash", file + code, Unit.BYTES, flash),
        Resource("RAM", found.needed + stack, Unit.BYTES, ram),
        Resource("instructions", work, Unit.INSTRUCTIONS, counted),
        _latency(work, board),
        *_per_layer(model, build),
    )


def _told(found: Arena) -> str:
    """The arena in words."""
    later = "" if found.needed - found.used < ALIGNMENT else f" while it is set up, then {found.used:,} B"
    return f"{found.needed:,} B arena{later} ({STRUCTURES})"


def arena_resource(model: TfliteModel, build: Build) -> Resource:
    """What arena_used_bytes() will answer on the board, to stand beside the figure of this machine."""
    source = Source(SourceKind.ESTIMATED, f"{STRUCTURES}, {build.kernels.value} kernels", RAM_BAND)
    return Resource("arena on the board", arena(describe(model), build).used, Unit.BYTES, source)


def _latency(instructions: float, board: McuBoard) -> Resource:
    cycles = 1.5 if board.core.traps_unaligned else 1.4
    detail = f"{instructions:,.0f} estimated instructions x {cycles:g} cycles, no flash wait states"
    source = Source(SourceKind.ESTIMATED, detail, TIME_BAND)
    return Resource("latency", instructions * cycles / board.clock, Unit.SECONDS, source)


def _per_layer(model: TfliteModel, build: Build) -> tuple[Resource, ...]:
    facts = describe(model)
    plan = plan_memory(facts, scratch(facts, build))
    found: list[Resource] = []
    for index, operator in enumerate(model.operators):
        layer, alive = operator.layer, plan.alive(index)
        detail = " + ".join(f"{one.title} {one.size} B" for one in alive) + " alive together"
        work = _instructions(operator, build)
        flash, ram = (Source(SourceKind.ESTIMATED, text, band) for text, band in (("", FLASH_BAND), (detail, RAM_BAND)))
        found += [
            Resource("flash", model.constants(operator), Unit.BYTES, flash, layer),
            Resource("RAM", sum(one.size for one in alive), Unit.BYTES, ram, layer),
            Resource("instructions", work, Unit.INSTRUCTIONS, Source(SourceKind.ESTIMATED, "", TIME_BAND), layer),
        ]
    return tuple(found)


def remedies(model: TfliteModel, build: Build) -> tuple[Remedy, ...]:
    """What halving the channels of the tensors at the arena's peak, or of the largest weights, would leave."""
    facts = describe(model)
    extra = scratch(facts, build)
    plan, found = plan_memory(facts, extra), arena(facts, build)
    makers = {one.output: one.layer for one in model.operators}
    remedies: list[Remedy] = []
    for one in sorted(plan.alive(plan.peak()), key=lambda one: -one.size):
        smaller = plan_memory(facts, extra, {one.tensor: -(-one.size // 2)}).size
        left = Arena(smaller, found.structures, found.setup).needed
        if one.tensor in makers and left < found.needed:
            change = f"halve the channels of '{makers[one.tensor]}'"
            remedies.append(Remedy(change, "RAM", left + _stack(model, build.kernels)))
    flash = file_bytes(model) + _code(model, build.kernels)
    for operator in sorted(model.operators, key=lambda one: -model.constants(one))[:2]:
        if model.constants(operator) > 1:
            change = f"halve the outputs of '{operator.layer}'"
            remedies.append(Remedy(change, "flash", flash - model.constants(operator) // 2))
    return tuple(remedies)
