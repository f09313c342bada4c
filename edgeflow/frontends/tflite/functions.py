"""Functions of one tensor: SOFTMAX, LOGISTIC, TANH, HARD_SWISH, RELU, RELU6, LEAKY_RELU, MAXIMUM, MINIMUM.

Each is computed with the integers of TFLite-Micro's kernel (tensorflow/lite/micro/kernels and
tensorflow/lite/kernels/internal/reference): a table for every int8 and for the curved int16 functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from edgeflow.backends.tflm.arithmetic import Multiplier, clamped
from edgeflow.backends.tflm.curves import CURVES, byte_curve
from edgeflow.backends.tflm.functions import SOFTMAX_KINDS, softmax_op
from edgeflow.backends.tflm.lookup import LARGEST_LOG2_ERROR, interpolated_logistic, interpolated_tanh
from edgeflow.frontends.tflite.arithmetic import AGAIN
from edgeflow.frontends.tflite.importer import Handler, Importer, Scaled
from edgeflow.frontends.tflite.model import Operator
from edgeflow.frontends.tflite.scaling import flushed, requantize, scaled_ends
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.fixedpoint import INT32_HI, divided
from edgeflow.ops.lut import Lut
from edgeflow.ops.requant import Requant
from edgeflow.ops.softmax import SOFTMAX_FORMS, Softmax

_INT16_LO, _INT16_HI = -(1 << 15), (1 << 15) - 1


def _alike(importer: Importer, operator: Operator, kinds: tuple[str, ...] = ("INT8", "INT16")) -> str:
    """The type of an operator with one input and one output. Raises Unsupported for others."""
    found = [importer.tensor(one).kind for one in (*operator.inputs, *operator.outputs)]
    if len(set(found)) != 1 or found[0] not in kinds:
        raise importer.refuse(operator, f"TFLite-Micro does not compute it from {found[0]} to {found[1]}", AGAIN)
    return found[0]


def _add(importer: Importer, operator: Operator, op: Lut | Requant | Softmax) -> None:
    """One node from the first input to the output."""
    source = importer.named(operator.inputs[0], importer.place(operator))
    label = importer.scaled(operator.outputs[0], importer.place(operator)).label
    importer.define(operator.outputs[0], importer.add(op, (source,), label, operator))


def _require_output(importer: Importer, operator: Operator, fits: bool, needed: str) -> None:
    if not fits:
        found = importer.scaled(operator.outputs[0], importer.place(operator))
        what = f"its output has the scale {found.scale:g} and the zero point {found.zero_point}, not {needed}"
        raise importer.refuse(operator, what, AGAIN)


def _softmax(importer: Importer, operator: Operator) -> None:
    """SoftmaxPrepare (softmax_common.cc)."""
    source, target = scaled_ends(importer, operator)
    kinds = importer.tensor(operator.inputs[0]).kind, importer.tensor(operator.outputs[0]).kind
    bits = _SOFTMAX_BITS.get(kinds)
    if bits is None:
        what = f"TFLite-Micro does not compute it from {kinds[0]} to {kinds[1]}"
        raise importer.refuse(operator, what, "give it an int8 input, or int16 on both sides")
    zero, off = SOFTMAX_FORMS[bits].lo, abs(target.scale * 2.0**bits - 1)
    fits = target.zero_point == zero and off <= (0.0 if bits == 8 else 0.001)
    _require_output(importer, operator, fits, f"1 / {1 << bits} and {zero}")
    beta = importer.real(operator, "beta")
    op = softmax_op(bits, source.scale, beta)
    if op is None:
        what = f"its beta times its input's scale is {beta * source.scale:.3g}, too little for TFLite-Micro"
        raise importer.refuse(operator, what, AGAIN)
    if bits == 15 and op.shift > _MOST_SHIFT:
        what = f"its beta times its input's scale is {beta * source.scale:.3g}: TFLite-Micro's 32 bits overflow"
        raise importer.refuse(operator, what, AGAIN)
    _add(importer, operator, op)


_SOFTMAX_BITS = {(source.kind.value, target.kind.value): bits for bits, (source, target) in SOFTMAX_KINDS.items()}
_MOST_SHIFT = 15
"""Of a difference of two int16, which has 17 bits with its sign."""


def _logistic(importer: Importer, operator: Operator) -> None:
    """LOGISTIC: the output's scale is 1/256 (int8) or 1/32768 (int16), as TFLite has it."""
    kind = _alike(importer, operator)
    source, target = scaled_ends(importer, operator)
    if kind == "INT16":
        _require_symmetric(importer, operator, source, target)
        table = interpolated_logistic(source.scale)
    else:
        _require_output(importer, operator, target.zero_point == -128, "1 / 256 and -128")
        table = byte_curve(CURVES["logistic"], source.scale, source.zero_point)
    _add_table(importer, operator, table, "logistic")


def _tanh(importer: Importer, operator: Operator) -> None:
    """TANH: the output's scale is 1/128 (int8) or 1/32768 (int16), as TFLite has it."""
    kind = _alike(importer, operator)
    source, target = scaled_ends(importer, operator)
    if kind == "INT16":
        _require_symmetric(importer, operator, source, target)
        table = interpolated_tanh(source.scale)
    else:
        table = byte_curve(CURVES["tanh"], source.scale, source.zero_point)
    _add_table(importer, operator, table, "tanh")


def _add_table(importer: Importer, operator: Operator, table: IntArray | None, function: str) -> None:
    if table is None:
        scale = importer.scaled(operator.inputs[0], importer.place(operator)).scale
        what = f"its input has the scale {scale:g}, with which TFLite-Micro's 32 bits overflow"
        raise importer.refuse(operator, what, AGAIN)
    lo, hi = importer.range(operator.outputs[0], operator)
    _add(importer, operator, Lut(frozen_array(np.clip(table, lo, hi)), -(len(table) // 2), function))


def _require_symmetric(importer: Importer, operator: Operator, source: Scaled, target: Scaled) -> None:
    """What the int16 kernels check: zero points of 0 and an output scale that is nearly 2**-15 (CheckedLog2)."""
    fits = source.zero_point == target.zero_point == 0 and abs(math.log2(target.scale) + 15) < LARGEST_LOG2_ERROR
    _require_output(importer, operator, fits, "1 / 32768 and 0, or its input's zero point is not 0")


def _hard_swish(importer: Importer, operator: Operator) -> None:
    """HardSwishPrepare and reference/hard_swish.h: 16-bit fixed point, scales divided in float32."""
    _alike(importer, operator, ("INT8",))
    source, target = scaled_ends(importer, operator)
    fine = _single(source.scale / 128.0)
    relu, output = flushed(_single(fine / _single(3.0 / 32768.0))), flushed(_single(fine / target.scale))
    if output.exponent > 0 or relu.exponent > 31:
        what = f"its input's scale {source.scale:g} is too large for its output's, {target.scale:g}"
        raise importer.refuse(operator, what, AGAIN)
    x = (np.arange(-128, 128, dtype=np.int64) - source.zero_point) << 7
    gate = (_gate(x, relu) + (1 << 15)) >> 1
    product = gate * _high16(x, _half_width(output))
    gated = np.sign(product) * (np.abs(product) >> 15)
    values = _wrapped16(divided(gated, -output.exponent) + target.zero_point)
    _add_table(importer, operator, values, "hard_swish")


def _single(quotient: float) -> float:
    """A quotient of two float32 as float32 (dividing in float64 first changes nothing); huge ones at 2**100."""
    return float(np.float32(min(quotient, 2.0**100)))


def _gate(x: IntArray, multiplier: Multiplier) -> IntArray:
    """x in units of 3 / 2**15, saturated to int16 on the way up."""
    up = multiplier.exponent
    if up > 0:
        x = np.clip(x << (up - 1), _INT16_LO, _INT16_HI)
    x = _high16(x, _half_width(multiplier))
    return np.clip(x << 1, _INT16_LO, _INT16_HI) if up > 0 else divided(x, -up)


def _half_width(multiplier: Multiplier) -> int:
    """DownScaleInt32ToInt16Multiplier."""
    return min((multiplier.significand + (1 << 15)) >> 16, _INT16_HI)


def _high16(a: IntArray, b: int) -> IntArray:
    """gemmlowp's SaturatingRoundingDoublingHighMul of int16. b is not -2**15."""
    return (a * b + (1 << 14)) >> 15


def _wrapped16(x: IntArray) -> IntArray:
    """What int16 keeps."""
    return ((x + (1 << 15)) & 0xFFFF) - (1 << 15)


def _relu(importer: Importer, operator: Operator) -> None:
    """The input in the output's unit, from the output's zero point on (ReluQuantized, activations_common.cc)."""
    kind = _alike(importer, operator)
    source, target = scaled_ends(importer, operator)
    if kind == "INT16" and (source.zero_point or target.zero_point):
        raise importer.refuse(operator, "it is int16 with a zero point that is not 0", AGAIN)
    _, hi = importer.range(operator.outputs[0], operator)
    ends = target.zero_point, hi
    _add(importer, operator, requantize(importer, operator, source.scale / target.scale, source, target, ends))


def _relu6(importer: Importer, operator: Operator) -> None:
    """A clamp in the input's unit: the kernel does not look at the output's scale."""
    _alike(importer, operator)
    source, _ = scaled_ends(importer, operator)
    lo, hi = importer.range(operator.inputs[0], operator)
    last = min(math.floor(min(_single(6.0 / source.scale), 2.0**20) + 0.5) + source.zero_point, hi)
    _add(importer, operator, clamped(max(lo, source.zero_point), last))


def _leaky_relu(importer: Importer, operator: Operator) -> None:
    """Two factors (leaky_relu_common.cc): a table for int8, the sum of two halves for int16."""
    kind = _alike(importer, operator)
    source, target = scaled_ends(importer, operator)
    alpha = importer.real(operator, "alpha")
    factors = source.scale / target.scale, source.scale * alpha / target.scale
    wide = -INT32_HI - 1, INT32_HI
    off = Scaled(target.scale, 0)
    up, down = (requantize(importer, operator, one, source, off, wide) for one in factors)
    ends = importer.range(operator.outputs[0], operator)
    if kind == "INT8":
        x = np.arange(-128, 128, dtype=np.int64)
        values = np.where(x >= source.zero_point, up.evaluate((x,), ()), down.evaluate((x,), ()))
        _add_table(importer, operator, values + target.zero_point, "leaky_relu")
        return
    zero = frozen_array([0])
    falling = replace(down, lo=zero) if alpha < 0 else replace(down, hi=zero)
    name = importer.named(operator.inputs[0], importer.place(operator))
    halves = (("_up", replace(up, lo=zero)), ("_down", falling))
    parts = tuple(importer.add(one, (name,), off.label, operator, end=end) for end, one in halves)
    total = importer.add(Add((1, 1)), parts, off.label, operator, end="_sums")
    clamp = replace(clamped(*ends), offset=frozen_array([target.zero_point]))
    importer.define(operator.outputs[0], importer.add(clamp, (total,), target.label, operator))


def _bounded(side: str, importer: Importer, operator: Operator) -> None:
    """MAXIMUM and MINIMUM with a constant: a clamp from below or above, perhaps another for every channel."""
    constants = [one for one in operator.inputs if one >= 0 and importer.is_constant(one)]
    if len(constants) != 1:
        raise importer.refuse(operator, "it compares two computed tensors", "compare with a constant, or use a ReLU")
    (source,) = (one for one in operator.inputs if one != constants[0])
    kinds = {importer.tensor(one).kind for one in (*operator.inputs, *operator.outputs)}
    if len(kinds) != 1:
        raise importer.refuse(operator, f"it mixes the types {' and '.join(sorted(kinds))}", AGAIN)
    limit = _against(importer.constant(constants[0], operator), len(importer.shape(source)))
    op = replace(clamped(*importer.range(source, operator)), **{side: frozen_array(limit)})
    label = importer.scaled(operator.outputs[0], importer.place(operator)).label
    name = importer.named(source, importer.place(operator))
    importer.define(operator.outputs[0], importer.add(op, (name,), label, operator))


def _against(values: IntArray, rank: int) -> IntArray:
    """A constant as a parameter for tensors of `rank` axes without their batch: leading axes of 1 too many go."""
    spare = values.ndim - rank
    if spare > 0 and all(axis == 1 for axis in values.shape[:spare]):
        values = values.reshape(values.shape[spare:])
    return values.reshape(values.shape or (1,))


FUNCTIONS: Mapping[str, Handler] = {
    "SOFTMAX": _softmax,
    "LOGISTIC": _logistic,
    "TANH": _tanh,
    "HARD_SWISH": _hard_swish,
    "RELU": _relu,
    "RELU6": _relu6,
    "LEAKY_RELU": _leaky_relu,
    "MAXIMUM": partial(_bounded, "lo"),
    "MINIMUM": partial(_bounded, "hi"),
}
