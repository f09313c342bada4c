"""QUANTIZE and DEQUANTIZE: integers to another scale and zero point, and the float ends of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeflow.backends.tflm.arithmetic import (
    INT32_HI,
    SMALLEST_EXPONENT,
    Multiplier,
    kernel_requant,
    quantize_multiplier,
)
from edgeflow.frontends.tflite.importer import Handler, Importer, Scaled
from edgeflow.frontends.tflite.model import Operator
from edgeflow.ir.types import frozen_array
from edgeflow.ops.requant import Requant, Rounding, Stage

_ONE = Multiplier(1 << 30, 1)


def requantize(
    importer: Importer, operator: Operator, factor: float, source: Scaled, target: Scaled, ends: tuple[int, int]
) -> Requant:
    """clamp((x - source zero point) * factor + target zero point, ends), as MultiplyByQuantizedMultiplier on int32.

    A factor below 2**-32 counts as 0, and 1 leaves the value alone, as there. Raises Unsupported for a factor with
    which TFLite-Micro's int32 would overflow.
    """
    multiplier = flushed(factor)
    lo, hi = ends
    if multiplier == _ONE:
        zero = frozen_array([0])
        shift = frozen_array([target.zero_point - source.zero_point])
        stages = (Stage(zero, Rounding.FLOOR),)
        return Requant(zero, frozen_array([1]), stages, shift, frozen_array([lo]), frozen_array([hi]))
    reach = 1 << 16 if importer.tensor(operator.inputs[0]).kind == "INT16" else 1 << 8
    if multiplier.exponent > 0 and reach << multiplier.exponent > INT32_HI + 1:
        what = f"it multiplies by {factor:.6g}, with which TFLite-Micro's 32 bits overflow"
        raise importer.refuse(operator, what, "convert the model again with more calibration data")
    op = kernel_requant([multiplier], target.zero_point, lo, hi)
    return replace(op, bias=frozen_array(-source.zero_point * (op.multiplier << op.pre)))


def flushed(factor: float) -> Multiplier:
    """QuantizeMultiplier of any factor: 0 and negative ones too, and nothing below 2**-32."""
    if factor == 0:
        return Multiplier(0, 0)
    found = quantize_multiplier(abs(factor))
    if found.exponent < SMALLEST_EXPONENT:
        return Multiplier(0, 0)
    return found if factor > 0 else Multiplier(-found.significand, found.exponent)


def scaled_ends(importer: Importer, operator: Operator) -> tuple[Scaled, Scaled]:
    """Scale and zero point of an operator's first input and output."""
    place = importer.place(operator)
    return importer.scaled(operator.inputs[0], place), importer.scaled(operator.outputs[0], place)


def _quantize(importer: Importer, operator: Operator) -> None:
    """Integers in the output's unit. Of floats only a model's input may be quantized: the graph starts behind it."""
    source_index, target_index = operator.inputs[0], operator.outputs[0]
    if importer.is_defined(target_index):
        return
    name, ends = importer.end(source_index, operator), importer.end_range(target_index, operator)
    kinds = importer.tensor(source_index).kind, importer.tensor(target_index).kind
    if "UINT8" in kinds and kinds not in (("UINT8", "INT8"), ("INT8", "UINT8")):
        raise importer.refuse(operator, f"TFLite-Micro does not bring {kinds[0]} to {kinds[1]}", "use int8 between")
    source, target = scaled_ends(importer, operator)
    op = requantize(importer, operator, source.scale / target.scale, source, target, ends)
    importer.define(target_index, importer.add(op, (name,), target.label, operator))


def _dequantize(importer: Importer, operator: Operator) -> None:
    """Nothing: the model's output is the integer tensor before it. Raises Unsupported where floats are computed on."""
    source, target = operator.inputs[0], operator.outputs[0]
    readers = [one for one in importer.file.operators if target in one.inputs]
    if readers:
        reader = importer.place(readers[0])
        what = f"it makes floats on which {reader} computes"
        raise importer.refuse(operator, what, "convert the model with full integer quantization (int8 or 16x8)")
    importer.define(target, importer.named(source, importer.place(operator)))


SCALING: Mapping[str, Handler] = {"QUANTIZE": _quantize, "DEQUANTIZE": _dequantize}
