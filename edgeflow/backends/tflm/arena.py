"""The tensor arena of a model: TFLite-Micro's own allocations, one after the other, in another pointer size.

MicroInterpreter (micro_interpreter.cc, micro_allocator.cc) keeps structures at the arena's end, tensors at its start.
Before the tensors are planned, their place holds what planning needs, and that can be more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeflow.backends.tflm.describe import Description, OperatorFacts, TensorFacts
from edgeflow.backends.tflm.plan import ALIGNMENT, Scratch, plan_memory
from edgeflow.backends.tflm.structures import (
    ALLOCATION_INFO,
    EVAL_TENSOR,
    NODE,
    PLANNED_BUFFER,
    QUANTIZATION,
    REQUESTS,
    SCRATCH_REQUEST,
    TENSOR,
    Build,
    Extension,
    Kernels,
    round_up,
)

_EXP_TABLE = 513 * 2
"""Bytes of each of the two tables of a 16-bit SOFTMAX."""
_LOOKED_AT_TWICE = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_HELIUM_BLOCK = 124
"""Channels that CMSIS-NN's Helium depthwise convolution takes at once (CH_IN_BLOCK_MVE)."""


@dataclass(frozen=True)
class Arena:
    """Bytes of an arena: `tensors` (planned, with scratch), `structures`, and the most that was in use meanwhile."""

    tensors: int
    structures: int
    setup: int

    @property
    def used(self) -> int:
        """What MicroInterpreter::arena_used_bytes() answers once tensors are allocated."""
        return self.tensors + self.structures

    @property
    def needed(self) -> int:
        """The smallest arena with which AllocateTensors() succeeds; a multiple of 16."""
        return round_up(max(self.used, self.setup), ALIGNMENT)


class _Tail:
    """The arena's end: grows downward, each allocation at a multiple of its alignment."""

    def __init__(self, build: Build) -> None:
        self._abi = build.abi
        self.used = 0

    def take(self, size: int, alignment: int = ALIGNMENT) -> None:
        """Allocates bytes."""
        self.used = round_up(self.used + size, alignment)

    def take_structures(self, fields: str, count: int = 1) -> None:
        """Allocates a row of structures."""
        if fields:
            self.take(self._abi.size(fields) * count, self._abi.alignment(fields))

    def take_tensor(self, scales: int) -> None:
        """Allocates what describes an input or output of the model."""
        self.take_structures(TENSOR)
        if scales:
            self.take_structures(QUANTIZATION)
            self.take(4 + 4 * scales, 4)


def arena(model: Description, build: Build) -> Arena:
    """The arena of a model."""
    asked = scratch(model, build)
    tail = _Tail(build)
    for fields in build.allocators:
        tail.take_structures(fields)
    tail.take_structures(EVAL_TENSOR, len(model.tensors))
    tail.take_structures(NODE, len(model.operators))
    for operator in model.operators:
        tail.take_structures(build.kept(operator.code).options)
    for operator in model.operators:
        if data := build.kept(operator.code).data:
            tail.take(build.abi.size(data))
    setup = _prepare(model, build, asked, tail)
    tail.take_structures("p", len(asked))
    plan = plan_memory(model, asked)
    setup = max(setup, _planning(model, build, len(asked), len(plan.placed)) + round_up(tail.used, ALIGNMENT))
    for places in (model.inputs, model.outputs):
        tail.take(build.abi.pointer * len(places))
        for place in places:
            tail.take_tensor(model.tensors[place].scales)
    return Arena(plan.size, tail.used, setup)


def _prepare(model: Description, build: Build, asked: list[Scratch], tail: _Tail) -> int:
    """Takes what the kernels keep for their channels. Returns the most bytes that the arena held meanwhile.

    A kernel looks at its tensors through temporary structures; those of convolutions take them again for their scales.
    """
    most, abi = 0, build.abi
    for index, operator in enumerate(model.operators):
        for size in _lists(model, operator, build):
            tail.take(size)
        requests = REQUESTS + sum(1 for one in asked if one.operator < index)
        tensors = [model.tensors[place] for place in (*operator.inputs, *operator.outputs) if place >= 0]
        looked_at = sum(abi.size(TENSOR) + abi.size(QUANTIZATION) + 4 + 4 * one.scales for one in tensors)
        times = 2 if operator.code in _LOOKED_AT_TWICE else 1
        most = max(most, requests * abi.size(SCRATCH_REQUEST) + times * looked_at + tail.used)
    return most


def _lists(model: Description, operator: OperatorFacts, build: Build) -> list[int]:
    """Bytes of the lists and tables that a kernel keeps."""
    kept = build.kept(operator.code)
    if operator.code == "SOFTMAX" and model.tensors[operator.inputs[0]].bits == 16:
        return [_EXP_TABLE, _EXP_TABLE]
    if not kept.lists and not kept.lists_of_scales:
        return []
    weight = model.tensors[operator.inputs[1]]
    channels = weight.shape[-1 if operator.code == "DEPTHWISE_CONV_2D" else 0]
    count = kept.lists + (kept.lists_of_scales if weight.scales > 1 else 0)
    if operator.code == "FULLY_CONNECTED" and _helium(build) and not _as_convolution(model, operator):
        count += 1
    return [4 * channels] * count


def _planning(model: Description, build: Build, requests: int, buffers: int) -> int:
    """Bytes at the arena's start while the tensors are planned."""
    abi = build.abi
    asked = abi.size(SCRATCH_REQUEST) * (REQUESTS + requests)
    facts = abi.size(ALLOCATION_INFO) * (len(model.tensors) + requests)
    before = round_up(round_up(asked, abi.pointer) + abi.pointer + facts, ALIGNMENT)
    return round_up(before + abi.size(PLANNED_BUFFER) * buffers, ALIGNMENT)


def scratch(model: Description, build: Build) -> list[Scratch]:
    """What the kernels ask for while they run, in the order of asking."""
    table = _ASKS if build.kernels is Kernels.REFERENCE else {**_ASKS, **_CMSIS_ASKS}
    found: list[Scratch] = []
    for index, operator in enumerate(model.operators):
        if operator.code in table:
            sizes = table[operator.code](model, operator, build.extension)
            found += [Scratch(index, size) for size in sizes]
    return found


_Asks = Callable[[Description, OperatorFacts, Extension], list[int]]


def _weight(model: Description, operator: OperatorFacts) -> TensorFacts:
    return model.tensors[operator.inputs[1]]


def _source(model: Description, operator: OperatorFacts) -> TensorFacts:
    return model.tensors[operator.inputs[2 if operator.code == "TRANSPOSE_CONV" else 0]]


def _helium(build: Build) -> bool:
    return build.kernels is Kernels.CMSIS_NN and build.extension is Extension.HELIUM


def _unpacked(model: Description, operator: OperatorFacts, _: Extension) -> list[int]:
    """The reference kernels unpack 4-bit weights."""
    weight = _weight(model, operator)
    return [math.prod(weight.shape)] if weight.bits == 4 else []


def _transpose_conv(model: Description, operator: OperatorFacts, _: Extension) -> list[int]:
    """Sums, of 64 bits for 16-bit values."""
    output = model.tensors[operator.outputs[0]]
    return [math.prod(output.shape) * (8 if output.bits == 16 else 4)]


def _gather(_: Description, __: OperatorFacts, ___: Extension) -> list[int]:
    return [ALIGNMENT]


_ASKS: Mapping[str, _Asks] = {
    "CONV_2D": _unpacked,
    "DEPTHWISE_CONV_2D": _unpacked,
    "FULLY_CONNECTED": _unpacked,
    "TRANSPOSE_CONV": _transpose_conv,
    "GATHER": _gather,
}


def _columns(window: tuple[int, int], channels: int, extension: Extension) -> int:
    """arm_convolve_s8_get_buffer_size: two columns of int16 inputs, or with Helium four of int8."""
    length = window[0] * window[1] * channels
    return 4 * round_up(length, 16) if extension is Extension.HELIUM else 4 * round_up(length, 4)


def _cmsis_conv(model: Description, operator: OperatorFacts, extension: Extension) -> list[int]:
    """arm_convolve_wrapper_s8_get_buffer_size; 1x1 needs none."""
    _, height, width, _ = _weight(model, operator).shape
    source = _source(model, operator)
    if height * width == 1 and operator.dilation == (1, 1) and source.bits == 8:
        return []
    return [_columns((height, width), source.shape[-1], extension)]


def _cmsis_depthwise(model: Description, operator: OperatorFacts, extension: Extension) -> list[int]:
    """arm_depthwise_conv_wrapper_s8_get_buffer_size."""
    _, height, width, channels = _weight(model, operator).shape
    source = _source(model, operator)
    plain = source.shape[-1] == channels and operator.dilation == (1, 1)
    if source.bits != 8 or not plain or extension is Extension.NONE:
        return []
    if extension is Extension.HELIUM:
        return [4 * _HELIUM_BLOCK * height * width]
    return [] if (height, width) == (3, 3) else [2 * channels * height * width]


def _cmsis_dense(model: Description, operator: OperatorFacts, _: Extension) -> list[int]:
    """Lists of the one scale, where arm_convolve_1x1_s8_fast does the work."""
    weight = _weight(model, operator)
    return [8 * weight.shape[0]] if _as_convolution(model, operator) and weight.scales == 1 else []


def _as_convolution(model: Description, operator: OperatorFacts) -> bool:
    weight, output = _weight(model, operator), model.tensors[operator.outputs[0]]
    return len(output.shape) > 2 and weight.shape[-1] % 4 == 0 and output.bits == 8 and weight.bits == 8


def _cmsis_average(model: Description, operator: OperatorFacts, extension: Extension) -> list[int]:
    """arm_avgpool_s8_get_buffer_size: a sum a channel."""
    return [4 * _source(model, operator).shape[-1]] if extension is Extension.DSP else []


def _cmsis_transpose_conv(model: Description, operator: OperatorFacts, extension: Extension) -> list[int]:
    """arm_transpose_conv_s8_get_buffer_size: rolling sums, or the columns of a convolution; and the weights, turned."""
    source, weight = _source(model, operator), _weight(model, operator)
    if source.bits != 8:
        return _transpose_conv(model, operator, extension)
    channels, height, width, depth = weight.shape
    row = (source.shape[2] - 1) * operator.strides[1] + max(width, operator.strides[1])
    rolling = 4 * row * channels * max(height, operator.strides[0])
    return [max(rolling, _columns((height, width), depth, extension)), math.prod(weight.shape)]


_CMSIS_ASKS: Mapping[str, _Asks] = {
    "CONV_2D": _cmsis_conv,
    "DEPTHWISE_CONV_2D": _cmsis_depthwise,
    "FULLY_CONNECTED": _cmsis_dense,
    "AVERAGE_POOL_2D": _cmsis_average,
    "TRANSPOSE_CONV": _cmsis_transpose_conv,
}
