"""What a model costs under TFLite-Micro, before anything is compiled.

Calibrated on benchmarks/baselines/tflm-cortex-m.json: TFLite-Micro with its reference kernels and with CMSIS-NN, two
models, QEMU Cortex-M4. Code is split between kernels by us; a linked image of your own decides.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from edgeflow.backends.protocol import Remedy
from edgeflow.backends.tflm.model import ConvOptions, Kernel, Operator, TfliteModel
from edgeflow.backends.tflm.plan import align, plan_memory
from edgeflow.board import Core, McuBoard
from edgeflow.resource import Resource, Source, SourceKind, Unit

FLASH_BAND, RAM_BAND, TIME_BAND = 0.25, 0.15, 0.5
BASELINE = "from TFLite-Micro on a Cortex-M4 (benchmarks/baselines)"


class Kernels(enum.Enum):
    """Which implementation of the operators is linked."""

    REFERENCE = "reference"
    CMSIS_NN = "cmsis-nn"


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

# Bytes of TFLite-Micro's structures on a 32-bit target: they bring both baselines' arenas to within 1 %.
_ARENA_BASE, _EVAL_TENSOR, _NODE = 160, 12, 32
_STRUCTURES = {
    Kernel.FULLY_CONNECTED: 64,
    Kernel.CONV_2D: 92,
    Kernel.DEPTHWISE_CONV_2D: 92,
    Kernel.AVERAGE_POOL_2D: 64,
    Kernel.MAX_POOL_2D: 64,
    Kernel.RESHAPE: 36,
}
_OTHER_STRUCTURE, _PER_CHANNEL, _CMSIS_DENSE = 80, 8, 32
# Bytes of the file beside its constants, to within a few percent of what the writer makes.
_FILE_BASE, _FILE_TENSOR, _FILE_OPERATOR, _FILE_SCALE = 430, 98, 58, 12


def chosen_kernels(option: str, board: McuBoard) -> Kernels:
    """The option's kernels; `auto` takes CMSIS-NN but on cores without its instructions (ARMv6-M)."""
    if option != "auto":
        return Kernels(option)
    return Kernels.REFERENCE if board.core.traps_unaligned else Kernels.CMSIS_NN


def arena_bytes(model: TfliteModel, kernels: Kernels) -> int:
    """The arena on a 32-bit target: planned tensors and the interpreter's structures."""
    return plan_memory(model, scratch(model, kernels)).size + _structures(model, kernels)


def scratch(model: TfliteModel, kernels: Kernels) -> dict[int, int]:
    """Bytes that CMSIS-NN wants while an operator runs: two columns of int16 inputs for every CONV_2D but 1x1."""
    if kernels is Kernels.REFERENCE:
        return {}
    found: dict[int, int] = {}
    for index, operator in enumerate(model.operators):
        if operator.kernel is Kernel.CONV_2D:
            _, height, width, channels = model.tensors[operator.inputs[1]].shape
            if height * width > 1:
                found[index] = 4 * height * width * channels
    return found


def _structures(model: TfliteModel, kernels: Kernels) -> int:
    total = _ARENA_BASE + _EVAL_TENSOR * len(model.tensors) + _NODE * len(model.operators)
    for operator in model.operators:
        total += _STRUCTURES.get(operator.kernel, _OTHER_STRUCTURE)
        if isinstance(operator.options, ConvOptions):
            total += align(_PER_CHANNEL * model.tensors[operator.output].shape[-1])
        elif operator.kernel is Kernel.FULLY_CONNECTED:
            scales = model.tensors[operator.inputs[1]].quantization
            total += _CMSIS_DENSE if kernels is Kernels.CMSIS_NN else 0
            total += align(_PER_CHANNEL * len(scales.scales)) if scales and len(scales.scales) > 1 else 0
    return total


def file_bytes(model: TfliteModel) -> int:
    """The size of the .tflite file, near enough for a verdict."""
    total = _FILE_BASE + _FILE_TENSOR * len(model.tensors) + _FILE_OPERATOR * len(model.operators)
    for tensor in model.tensors:
        total += 0 if tensor.data is None else align(tensor.size)
        total += len(tensor.name.encode())
        total += _FILE_SCALE * (len(tensor.quantization.scales) - 1) if tensor.quantization else 0
    return total


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


def _instructions(operator: Operator, kernels: Kernels, core: Core) -> float:
    cost = _cost(kernels)
    dense, window = cost.dense, cost.window
    if core is Core.CORTEX_M55 and kernels is Kernels.CMSIS_NN:
        dense, window = _HELIUM_DENSE, _HELIUM_WINDOW
    return _PER_OPERATOR + operator.macs * (dense if operator.kernel is Kernel.FULLY_CONNECTED else window)


def estimate(model: TfliteModel, board: McuBoard, kernels: Kernels) -> tuple[Resource, ...]:
    """Totals first, then every layer's part (`flash`, `RAM` alive while it runs, `instructions`)."""
    file, code, stack = file_bytes(model), _code(model, kernels), _stack(model, kernels)
    arena = arena_bytes(model, kernels)
    work = sum(_instructions(one, kernels, board.core) for one in model.operators)
    flash = Source(
        SourceKind.ESTIMATED,
        f"{file:,} B model + {code:,} B interpreter and {kernels.value} kernels {BASELINE}",
        FLASH_BAND,
    )
    ram = Source(SourceKind.ESTIMATED, f"{arena:,} B arena + {stack:,} B stack {BASELINE}", RAM_BAND)
    counted = Source(SourceKind.ESTIMATED, f"{kernels.value} kernels, instructions a MAC {BASELINE}", TIME_BAND)
    return (
        Resource("flash", file + code, Unit.BYTES, flash),
        Resource("RAM", arena + stack, Unit.BYTES, ram),
        Resource("instructions", work, Unit.INSTRUCTIONS, counted),
        _latency(work, board),
        *_per_layer(model, board, kernels),
    )


def _latency(instructions: float, board: McuBoard) -> Resource:
    cycles = 1.5 if board.core.traps_unaligned else 1.4
    detail = f"{instructions:,.0f} estimated instructions x {cycles:g} cycles, no flash wait states"
    source = Source(SourceKind.ESTIMATED, detail, TIME_BAND)
    return Resource("latency", instructions * cycles / board.clock, Unit.SECONDS, source)


def _per_layer(model: TfliteModel, board: McuBoard, kernels: Kernels) -> tuple[Resource, ...]:
    plan = plan_memory(model, scratch(model, kernels))
    found: list[Resource] = []
    for index, operator in enumerate(model.operators):
        layer, alive = operator.layer, plan.alive(index)
        detail = " + ".join(f"{one.title} {one.size} B" for one in alive) + " alive together"
        work = _instructions(operator, kernels, board.core)
        flash, ram = (Source(SourceKind.ESTIMATED, text, band) for text, band in (("", FLASH_BAND), (detail, RAM_BAND)))
        found += [
            Resource("flash", model.constants(operator), Unit.BYTES, flash, layer),
            Resource("RAM", sum(one.size for one in alive), Unit.BYTES, ram, layer),
            Resource("instructions", work, Unit.INSTRUCTIONS, Source(SourceKind.ESTIMATED, "", TIME_BAND), layer),
        ]
    return tuple(found)


def remedies(model: TfliteModel, kernels: Kernels) -> tuple[Remedy, ...]:
    """What halving the channels of the tensors at the arena's peak, or of the largest weights, would leave."""
    extra = scratch(model, kernels)
    plan = plan_memory(model, extra)
    ram = plan.size + _structures(model, kernels) + _stack(model, kernels)
    makers = {one.output: one.layer for one in model.operators}
    found: list[Remedy] = []
    for one in sorted(plan.alive(plan.peak()), key=lambda one: -one.size):
        smaller = plan_memory(model, extra, {one.tensor: -(-one.size // 2)})
        if one.tensor in makers and smaller.size < plan.size:
            change = f"halve the channels of '{makers[one.tensor]}'"
            found.append(Remedy(change, "RAM", ram - plan.size + smaller.size))
    flash = file_bytes(model) + _code(model, kernels)
    for operator in sorted(model.operators, key=lambda one: -model.constants(one))[:2]:
        if model.constants(operator) > 1:
            change = f"halve the outputs of '{operator.layer}'"
            found.append(Remedy(change, "flash", flash - model.constants(operator) // 2))
    return tuple(found)
