"""AVERAGE_POOL_2D, MAX_POOL_2D and MEAN.

Sources: tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h, and QuantizedMeanOrSum in
tensorflow/lite/kernels/internal/reference/reduce.h. The pools take the integers as they are, whatever their scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgeflow.backends.tflm.arithmetic import Multiplier, averaging, clamped
from edgeflow.frontends.tflite.arithmetic import AGAIN, finish_multiplied, output_ends, require_alike, reshaped
from edgeflow.frontends.tflite.importer import Handler, Importer, graph_axis
from edgeflow.frontends.tflite.linear import image, window_pads
from edgeflow.frontends.tflite.model import Operator
from edgeflow.frontends.tflite.scaling import flushed, scaled_ends
from edgeflow.ir.types import Shape, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.window import Pads, window_counts

_LARGEST_SHIFT = 32
_SCALES_APART = 1e-6


def _window(importer: Importer, operator: Operator) -> tuple[str, Shape, Shape, Pads]:
    """What a pool reads, its window, strides and padding."""
    require_alike(importer, operator, (*operator.inputs, *operator.outputs))
    _require_same_unit(importer, operator)
    spatial = image(importer, operator)[:2]
    window = importer.integer(operator, "filter_height"), importer.integer(operator, "filter_width")
    strides = importer.integer(operator, "stride_h"), importer.integer(operator, "stride_w")
    pads = window_pads(operator, spatial, window, strides, (1, 1))
    return importer.named(operator.inputs[0], importer.place(operator)), window, strides, pads


def _require_same_unit(importer: Importer, operator: Operator) -> None:
    """TFLite-Micro's pools (pooling_common.cc) do not rescale: scales up to 1e-6 apart, and one zero point."""
    source, target = scaled_ends(importer, operator)
    apart = abs(np.float32(source.scale) - np.float32(target.scale))
    if apart > _SCALES_APART or source.zero_point != target.zero_point:
        what = f"it brings the scale {source.scale:g} and zero point {source.zero_point} to {target.scale:g} and "
        raise importer.refuse(operator, f"{what}{target.zero_point}; TFLite-Micro's pools do not rescale", AGAIN)


def _average_pool(importer: Importer, operator: Operator) -> None:
    """The sum over the elements that are no padding by their number, rounded half away from zero."""
    source, window, strides, pads = _window(importer, operator)
    ends = output_ends(importer, operator)
    kind = importer.builder.type(source)
    label = importer.builder.label(source)
    sums = importer.add(SumPool(window, strides, pads), (source,), label, operator, end="_sums")
    counts = window_counts(kind.shape[:2], window, strides, pads)[..., None]
    op = averaging(counts, max(-kind.lo, kind.hi), ends.lo, ends.hi)
    importer.define(operator.outputs[0], importer.add(op, (sums,), ends.scaled.label, operator))


def _max_pool(importer: Importer, operator: Operator) -> None:
    source, window, strides, pads = _window(importer, operator)
    ends = output_ends(importer, operator)
    clamps = (ends.lo, ends.hi) != importer.range(operator.outputs[0], operator)
    pool, end = MaxPool(window, strides, pads), "_largest" if clamps else ""
    result = importer.add(pool, (source,), ends.scaled.label, operator, end=end)
    if clamps:
        result = importer.add(clamped(ends.lo, ends.hi), (result,), ends.scaled.label, operator)
    importer.define(operator.outputs[0], result)


def _mean(importer: Importer, operator: Operator) -> None:
    """Sums over the axes; their number divides the multiplier. A sum over channels is a Dense of ones."""
    place = importer.place(operator)
    source_index, target_index = operator.inputs[0], operator.outputs[0]
    require_alike(importer, operator, (source_index, target_index))
    ends, source = output_ends(importer, operator), importer.scaled(source_index, place)
    name, axes = importer.named(source_index, place), _axes(importer, operator)
    shape = importer.builder.type(name).shape
    count = math.prod(shape[axis] for axis in axes)
    sums = _summed(importer, operator, name, axes)
    factor = flushed(source.scale / ends.scaled.scale)
    shift = min(count.bit_length() - 1, _LARGEST_SHIFT, 31 + factor.exponent)
    multiplier = Multiplier((factor.significand << shift) // count, factor.exponent - shift)
    result = finish_multiplied(importer, operator, sums, (multiplier,), ends, -source.zero_point * count)
    importer.define(target_index, reshaped(importer, operator, result, importer.shape(target_index)))


def _axes(importer: Importer, operator: Operator) -> tuple[int, ...]:
    """The graph's axes to be reduced: each once, the batch left out."""
    tensor = importer.tensor(operator.inputs[0])
    rank = len(tensor.shape)
    numbers = [int(one) for one in importer.constant(operator.inputs[1], operator).reshape(-1)]
    if importer.tensor(operator.inputs[1]).kind != "INT32" or not all(-rank <= one < rank for one in numbers):
        raise importer.refuse(operator, f"it reduces the axes {numbers} of {rank}", "the file is damaged")
    axes = {graph_axis(tensor, one) for one in numbers}
    return tuple(sorted(one for one in axes if one >= 0))


def _summed(importer: Importer, operator: Operator, name: str, axes: tuple[int, ...]) -> str:
    """The sums over axes, which keep a length of 1."""
    shape, label = importer.builder.type(name).shape, importer.builder.label(name)
    last = len(shape) - 1
    window = tuple(length if axis in axes else 1 for axis, length in enumerate(shape[:-1]))
    if any(one > 1 for one in window):
        pool = SumPool(window, (1,) * last, ((0, 0),) * last)
        name = importer.add(pool, (name,), label, operator, end="_sums")
    if last in axes and shape[-1] > 1:
        ones, zero = np.ones((shape[-1], 1), dtype=np.int64), frozen_array([0])
        name = importer.add(Dense(frozen_array(ones), zero), (name,), label, operator, end="_channels")
    return name


POOLING: Mapping[str, Handler] = {
    "AVERAGE_POOL_2D": _average_pool,
    "MAX_POOL_2D": _max_pool,
    "MEAN": _mean,
}
