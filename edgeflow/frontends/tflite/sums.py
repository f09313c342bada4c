"""ADD, SUB and MUL of two tensors, or of a tensor and a constant; either may broadcast.

Sources: tensorflow/lite/micro/kernels/{add,sub,mul}_common.cc, tensorflow/lite/kernels/internal/reference/{add,sub}.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from edgeflow.backends.tflm.arithmetic import kernel_requant, shifted, sum_input
from edgeflow.frontends.tflite.arithmetic import (
    AGAIN,
    finish_sums,
    output_ends,
    require_alike,
    reshaped,
    sums_label,
)
from edgeflow.frontends.tflite.importer import Handler, Importer, Scaled
from edgeflow.frontends.tflite.model import Operator
from edgeflow.frontends.tflite.scaling import flushed
from edgeflow.ir.types import IntArray, Shape, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.dense import Dense
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Requant
from edgeflow.ops.upsample import Upsample

_LEFT_SHIFTS: Mapping[str, int] = {"INT8": 20, "INT16": 15}
"""How far ADD and SUB shift their inputs up, by element type."""


def _operands(importer: Importer, operator: Operator) -> tuple[str | IntArray, str | IntArray]:
    """The two operands with the result's rank: tensors of the graph, of which one may be a constant's integers."""
    require_alike(importer, operator, (*operator.inputs, operator.outputs[0]))
    if all(importer.is_constant(index) for index in operator.inputs):
        raise importer.refuse(operator, "both its inputs are constants", "convert the model with constants folded")
    left, right = (_operand(importer, operator, index) for index in operator.inputs)
    return left, right


def _operand(importer: Importer, operator: Operator, index: int) -> str | IntArray:
    """One operand with as many axes as the result, before it is repeated along those of length 1."""
    wanted = importer.shape(operator.outputs[0])
    given, whole = importer.tensor(index).shape, importer.tensor(operator.outputs[0]).shape
    shape = (1,) * (len(whole) - len(given)) + given
    spare = len(shape) - len(wanted)
    fits = len(shape) == len(whole) and all(one in (1, axis) for one, axis in zip(shape, whole, strict=True))
    if not fits or any(one != 1 for one in shape[:spare]):
        raise importer.refuse(operator, f"its input of shape {given} does not broadcast to {whole}", AGAIN)
    shape = shape[spare:] if spare >= 0 else (1,)
    if importer.is_constant(index):
        return importer.constant(index, operator).reshape(shape)
    return reshaped(importer, operator, importer.named(index, importer.place(operator)), shape, "_axes")


def _stretched(importer: Importer, operator: Operator, tensor: str, shape: Shape) -> str:
    """A tensor repeated along its axes of length 1: a nearest Upsample, and for channels a Dense of ones."""
    given, label = importer.builder.type(tensor).shape, importer.builder.label(tensor)
    if given[:-1] != shape[:-1]:
        factors = tuple(wide // narrow for wide, narrow in zip(shape[:-1], given[:-1], strict=True))
        tensor = importer.add(Upsample(factors, zeros=False), (tensor,), label, operator, end="_stretched")
    if given[-1] != shape[-1]:
        ones = frozen_array(np.ones((1, shape[-1]), dtype=np.int64))
        op = Dense(ones, frozen_array(np.zeros(shape[-1], dtype=np.int64)))
        tensor = importer.add(op, (tensor,), label, operator, end="_channels")
    return tensor


def _sum(sign: int, importer: Importer, operator: Operator) -> None:
    """Both operands in units of twice the larger scale, shifted up; their sum in the output's."""
    operands = _operands(importer, operator)
    ends, place = output_ends(importer, operator), importer.place(operator)
    left = _LEFT_SHIFTS[importer.tensor(operator.outputs[0]).kind]
    scaled = [importer.scaled(index, place) for index in operator.inputs]
    twice = 2 * max(one.scale for one in scaled)
    factor = twice / ((1 << left) * ends.scaled.scale)
    if factor >= 1:
        what = f"its output's scale {ends.scaled.scale:g} is less than 2^-{left - 1} of an input's, {twice / 2:g}"
        raise importer.refuse(operator, what, AGAIN)
    wide = [sum_input(flushed(one.scale / twice), one.zero_point, left) for one in scaled]
    unit = sums_label(factor, ends.scaled.scale)
    shape = importer.shape(operator.outputs[0])
    last = kernel_requant([flushed(factor)], ends.scaled.zero_point, ends.lo, ends.hi)
    parts: list[str] = []
    for number, (operand, op, own) in enumerate(zip(operands, wide, (1, sign), strict=True)):
        if isinstance(operand, str):
            tensor = importer.add(op, (operand,), unit, operator, end=f"_input{number + 1}")
            parts.append(_stretched(importer, operator, tensor, shape))
        else:
            other = sign if number == 0 else 1
            bias = own * op.evaluate((operand,), ()) * last.multiplier
            last = replace(last, multiplier=frozen_array(other * last.multiplier), bias=frozen_array(bias))
    if len(parts) == 2:
        parts = [importer.add(Add((1, sign)), tuple(parts), unit, operator, end="_sums")]
    importer.define(operator.outputs[0], importer.add(last, tuple(parts), ends.scaled.label, operator))


def _product(importer: Importer, operator: Operator) -> None:
    """The zero points off, the product in the output's unit."""
    left, right = _operands(importer, operator)
    ends, place = output_ends(importer, operator), importer.place(operator)
    first, second = (importer.scaled(index, place) for index in operator.inputs)
    if not isinstance(left, str):
        left, first, right, second = right, second, left, first
    assert isinstance(left, str)
    unit = sums_label(first.scale, second.scale)
    if isinstance(right, str):
        parts = (_without_zero(importer, operator, left, first), _without_zero(importer, operator, right, second))
        products = importer.add(Multiply(), parts, unit, operator, end="_products")
    else:
        source = _stretched(importer, operator, left, importer.shape(operator.outputs[0]))
        op = _times(right - second.zero_point, first.zero_point)
        products = importer.add(op, (source,), unit, operator, end="_products")
    factor = first.scale * second.scale / ends.scaled.scale
    importer.define(operator.outputs[0], finish_sums(importer, operator, products, [factor], ends))


def _without_zero(importer: Importer, operator: Operator, tensor: str, scaled: Scaled) -> str:
    if scaled.zero_point == 0:
        return tensor
    label = replace(scaled, zero_point=0).label
    return importer.add(shifted(-scaled.zero_point), (tensor,), label, operator, end="_input")


def _times(values: IntArray, zero: int) -> Requant:
    """(x - zero) * values."""
    return replace(shifted(0), multiplier=frozen_array(values), bias=frozen_array(-zero * values))


SUMS: Mapping[str, Handler] = {"ADD": partial(_sum, 1), "SUB": partial(_sum, -1), "MUL": _product}
