"""TRANSPOSE_CONV: zeros between the positions, then a convolution whose kernel lies the other way round.

The kernel adds each input position, weighted, to a window of the result that starts at position * stride - padding;
the file says the result's size (reference/integer_ops/transpose_conv.h). It has no fused activation.
"""

from __future__ import annotations

import numpy as np

from edgeflow.backends.tflm.arithmetic import only_value, scale_of
from edgeflow.backends.tflm.chains import Spread
from edgeflow.backends.tflm.model import Activation, Kernel, NoOptions, TensorKind, TransposeConvOptions
from edgeflow.backends.tflm.storage import Storage, zero_of
from edgeflow.backends.tflm.sums import check_sums_of, kernel_bias, sum_of, sum_operands
from edgeflow.backends.tflm.windows import Pair, pair, same_padding
from edgeflow.backends.tflm.writer import Refused, Writer
from edgeflow.ir.graph import Node
from edgeflow.ir.types import Label, Shape, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.requant import Requant
from edgeflow.ops.upsample import Upsample


def transposable(spread: Spread, source: Label) -> bool:
    """Whether one kernel does it; `source` is the label of what it reads."""
    conv = spread.conv.op
    if not isinstance(conv, Conv) or conv.groups != 1 or conv.pad_value or {*conv.strides, *conv.dilation} != {1}:
        return False
    if any(before > size - 1 for (before, _), size in zip(conv.pads, conv.window, strict=True)):
        return False
    taken_off = 0 if spread.part is None or not isinstance(spread.part.op, Requant) else _offset(spread.part.op)
    return taken_off == -zero_of(source) and scale_of(spread.upsample.label) == scale_of(source)


def _offset(requant: Requant) -> int | None:
    """What a Requant adds, if that is all it does."""
    plain = only_value(requant.pre) == 0 and only_value(requant.multiplier) == 1
    return only_value(requant.offset) if plain else None


def lower_transposed(writer: Writer, spread: Spread, after: Node) -> None:
    """Adds the operator, and one that cuts the result's front off where TFLite's padding does not. Raises Refused."""
    conv, upsample = spread.conv.op, spread.upsample.op
    assert isinstance(conv, Conv)
    assert isinstance(upsample, Upsample)
    place, stored = writer.place(spread.source)
    source = Storage(0, stored.shift, stored.width)
    check_sums_of(writer, spread.conv, source)
    sums = sum_of(writer, spread.conv, after, place, source)
    if sums.activation is not Activation.NONE or sums.form is not writer.width:
        raise Refused("round or clamp like this in a transposed convolution: its kernel has no activation")
    size, strides, pads = pair(conv.window, 1), pair(upsample.factors, 1), pair(conv.pads, (0, 0))
    whole = writer.shape(spread.conv)
    same, cut = _padding((whole[1], whole[2]), size, strides, (pads[0][0], pads[1][0]))
    weight = np.flip(conv.weight.reshape(*size, *conv.weight.shape[-2:]), axis=(0, 1))
    operands = sum_operands(
        writer, sums, np.ascontiguousarray(np.moveaxis(weight, -1, 0)), kernel_bias(writer, sums, conv), 0
    )
    result = writer.result(after, sums.result)
    full = (1, whole[1] + cut[0], whole[2] + cut[1], whole[3])
    target = result if not any(cut) else writer.like(result, f"{spread.conv.layer}/whole", full)
    shape = writer.constant(f"{spread.conv.layer}/shape", frozen_array(full), TensorKind.INT32, None)
    options = TransposeConvOptions(same, strides)
    macs = spread.upsample.type.size // spread.upsample.type.shape[-1] * conv.weight.size
    inputs = (shape, operands[0], place, operands[1])
    writer.operator(Kernel.TRANSPOSE_CONV, inputs, target, options, spread.conv.layer, macs)
    if any(cut):
        _cut(writer, spread.conv.layer, target, result, (0, *cut, 0), full)


def _padding(result: Pair, size: Pair, strides: Pair, before: Pair) -> tuple[bool, Pair]:
    """Whether SAME starts where it should, and else what is to be cut off in front with VALID."""
    wanted = (size[0] - 1 - before[0], size[1] - 1 - before[1])
    axes = zip(result, size, strides, strict=True)
    same = tuple(same_padding(length, window, stride, 1)[0] for length, window, stride in axes)
    return (True, (0, 0)) if same == wanted and any(wanted) else (False, wanted)


def _cut(writer: Writer, layer: str, whole: int, result: int, begin: Shape, end: Shape) -> None:
    parts = (("begin", begin), ("end", end), ("step", (1, 1, 1, 1)))
    operands = (writer.constant(f"{layer}/{name}", frozen_array(one), TensorKind.INT32, None) for name, one in parts)
    writer.operator(Kernel.STRIDED_SLICE, (whole, *operands), result, NoOptions(), layer)
