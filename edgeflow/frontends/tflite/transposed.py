"""TRANSPOSE_CONV: zeros between the elements, then a convolution with the kernel reversed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeflow.backends.tflm.arithmetic import shifted
from edgeflow.frontends.tflite.arithmetic import AGAIN, finish_sums, output_ends, require_alike, sums_label
from edgeflow.frontends.tflite.importer import Handler, Importer, Scaled
from edgeflow.frontends.tflite.model import Operator
from edgeflow.ir.types import Affine, IntArray, Shape, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.upsample import Upsample
from edgeflow.ops.window import Pads

_FILTER, _INPUT, _BIAS = 1, 2, 3
"""Input 0 is the output's shape, which the kernel does not read."""
_BIAS_KINDS = {"INT8": ("INT32",), "INT16": ("INT64", "INT16")}


def _transpose_conv(importer: Importer, operator: Operator) -> None:
    """TransposeConv (tensorflow/lite/micro/kernels/transpose_conv.cc), int8 and 16x8, per tensor and per channel."""
    ends = output_ends(importer, operator)
    wide = require_alike(importer, operator, (operator.inputs[_INPUT], operator.outputs[0])) == "INT16"
    source = importer.scaled(operator.inputs[_INPUT], importer.place(operator))
    kernel = _kernel(importer, operator)
    scales = _weight_scales(importer, operator, len(kernel))
    strides = importer.integer(operator, "stride_h"), importer.integer(operator, "stride_w")
    pads = _pads(importer, operator, kernel.shape[1:3], strides)
    flipped = frozen_array(kernel[:, ::-1, ::-1, :].transpose(1, 2, 3, 0))
    conv = Conv(flipped, _bias(importer, operator, len(kernel)), (1, 1), pads, (1, 1))
    name = _spread(importer, operator, source, strides)
    sums = importer.add(conv, (name,), sums_label(source.scale, scales[0]), operator, end="_sums")
    factors = [source.scale * one / ends.scaled.scale for one in scales]
    importer.define(operator.outputs[0], finish_sums(importer, operator, sums, factors, ends, wide=wide))


def _spread(importer: Importer, operator: Operator, source: Scaled, strides: tuple[int, int]) -> str:
    """The input without its zero point, and zeros between its elements."""
    name = importer.named(operator.inputs[_INPUT], importer.place(operator))
    label = Affine(source.scale, 0)
    if source.zero_point:
        name = importer.add(shifted(-source.zero_point), (name,), label, operator, end="_input")
    if strides == (1, 1):
        return name
    return importer.add(Upsample(strides, zeros=True), (name,), label, operator, end="_spread")


def _kernel(importer: Importer, operator: Operator) -> IntArray:
    """(outputs, height, width, inputs), int8 around 0."""
    index = operator.inputs[_FILTER]
    kernel, depth = importer.constant(index, operator), importer.shape(operator.inputs[_INPUT])
    quantization = importer.tensor(index).quantization
    output = importer.shape(operator.outputs[0])
    fits = kernel.ndim == 4 and len(depth) == len(output) == 3 and kernel.shape[3:] == depth[2:] and kernel.size
    if not fits or importer.tensor(index).kind != "INT8":
        what = (
            f"a kernel of {importer.tensor(index).kind} of shape {kernel.shape} cannot read a tensor of shape {depth}"
        )
        raise importer.refuse(operator, what, "write the file again")
    if quantization is not None and any(quantization.zero_points):
        raise importer.refuse(operator, "its weights have a zero point that is not 0", AGAIN)
    return kernel


def _weight_scales(importer: Importer, operator: Operator, outputs: int) -> tuple[float, ...]:
    """One, or one for every output channel, along axis 0 (PopulateConvolutionQuantizationParams, kernel_util.cc)."""
    found = importer.tensor(operator.inputs[_FILTER]).quantization
    if found is None or min(found.scales) <= 0 or (len(found.scales) > 1 and found.axis != 0):
        raise importer.refuse(operator, f"its weights have no scale for each of {outputs} output channels", AGAIN)
    return found.scales


def _bias(importer: Importer, operator: Operator, outputs: int) -> IntArray:
    """int32 to int8 models; int64 or int16 to int16 models, as TFLite-Micro reads it. 0 where it is left out."""
    index = operator.inputs[_BIAS] if len(operator.inputs) > _BIAS else -1
    if index < 0:
        return frozen_array(np.zeros(outputs, dtype=np.int64))
    kinds = _BIAS_KINDS[importer.tensor(operator.inputs[_INPUT]).kind]
    kind, values = importer.tensor(index).kind, importer.constant(index, operator)
    if kind not in kinds or values.shape != (outputs,):
        what = f"its bias is {kind} of shape {values.shape}, not {' or '.join(kinds)} of shape ({outputs},)"
        raise importer.refuse(operator, what, AGAIN)
    return frozen_array(values)


def _pads(importer: Importer, operator: Operator, window: Shape, strides: Shape) -> Pads:
    """Around the elements and the zeros between them. The forward convolution's padding is cut off the output.

    It is ComputePaddingHeightWidth (kernels/padding.h) of the output: C divides towards zero.
    """
    same = operator.options["padding"] == "SAME"
    spatial = zip(
        importer.shape(operator.inputs[_INPUT])[:2],
        importer.tensor(operator.outputs[0]).shape[1:3],
        window,
        strides,
        strict=True,
    )
    pads: list[tuple[int, int]] = []
    for size, length, reach, stride in spatial:
        count = -(-length // stride) if same else int((length + stride - reach) / stride)
        cut = max((count - 1) * stride + reach - length, 0) // 2
        before = reach - 1 - cut
        pads.append((before, length + reach - 1 - before - ((size - 1) * stride + 1)))
    return tuple(pads)


TRANSPOSED: Mapping[str, Handler] = {"TRANSPOSE_CONV": _transpose_conv}
