"""What TFLite-Micro's linear kernels share: fused activations, and sums of 32 or 64 bits brought to a tensor's unit.

Sources: CalculateActivationRangeQuantized (tensorflow/lite/kernels/kernel_util.cc), MultiplyByQuantizedMultiplier
(tensorflow/lite/kernels/internal/common.cc).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeflow.backends.tflm.arithmetic import INT32_HI, Multiplier, kernel_requant, wide_requant
from edgeflow.errors import Unsupported
from edgeflow.frontends.tflite.importer import Importer, Scaled
from edgeflow.frontends.tflite.model import Operator
from edgeflow.frontends.tflite.scaling import flushed
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import Affine, Shape, frozen_array
from edgeflow.ops.reshape import Reshape

AGAIN = "convert the model again with a current converter"
_ACTIVATIONS: Mapping[object, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU6": (0.0, 6.0),
}
_INT32_BITS, _WIDE_BITS = 32, 48
_MOST_WIDE_EXPONENT = 14
"""Beyond it the 64-bit kernels would shift left."""


@dataclass(frozen=True)
class Ends:
    """An operator's output: its scale and zero point, and the clamp of the type and the fused activation."""

    scaled: Scaled
    lo: int
    hi: int


def output_ends(importer: Importer, operator: Operator) -> Ends:
    """Raises Unsupported for an activation that TFLite-Micro's integer kernels do not fuse."""
    target = importer.scaled(operator.outputs[0], importer.place(operator))
    lo, hi = importer.range(operator.outputs[0], operator)
    name = operator.options.get("fused_activation_function", "NONE")
    if name not in _ACTIVATIONS:
        what = f"its fused activation {name} is not one that TFLite-Micro computes on integers"
        raise importer.refuse(operator, what, "put the activation behind it")
    least, most = _ACTIVATIONS[name]
    if least is not None:
        lo = max(lo, _integer(importer, operator, least, target))
    if most is not None:
        hi = min(hi, _integer(importer, operator, most, target))
    return Ends(target, lo, hi)


def _integer(importer: Importer, operator: Operator, real: float, target: Scaled) -> int:
    """A real value in the output's unit: divided in float32, rounded half away from zero."""
    with np.errstate(over="ignore"):
        value = float(np.float32(real) / np.float32(target.scale))
    if abs(value) > INT32_HI:
        what = f"its output's scale {target.scale:g} is too small for its fused activation"
        raise importer.refuse(operator, what, AGAIN)
    return target.zero_point + int(math.copysign(math.floor(abs(value) + 0.5), value))


def require_alike(importer: Importer, operator: Operator, tensors: Sequence[int]) -> str:
    """The one element type of activations; int16 ones have no zero point. Raises Unsupported for others."""
    kinds = {importer.tensor(index).kind for index in tensors}
    if len(kinds) != 1:
        raise importer.refuse(operator, f"it mixes the types {' and '.join(sorted(kinds))}", AGAIN)
    (kind,) = kinds
    for index in tensors:
        importer.range(index, operator)
        zero = importer.scaled(index, importer.place(operator)).zero_point
        if kind == "INT16" and zero:
            name = importer.tensor(index).name
            what = f"the int16 tensor {index} ('{name}') has the zero point {zero}; that of int16 tensors is 0"
            raise importer.refuse(operator, what, AGAIN)
    return kind


def finish_sums(
    importer: Importer, operator: Operator, sums: str, factors: Sequence[float], ends: Ends, *, wide: bool = False
) -> str:
    """Brings sums of 32 or (`wide`) 64 bits to the output's unit, one factor for all or one a channel.

    Raises Unsupported where the kernel's integers could overflow.
    """
    multipliers = [flushed(one) for one in factors]
    if not wide:
        return finish_multiplied(importer, operator, sums, multipliers, ends)
    _require_wide_room(importer, operator, sums, multipliers)
    op = wide_requant(multipliers, ends.scaled.zero_point, ends.lo, ends.hi)
    return importer.add(op, (sums,), ends.scaled.label, operator)


def finish_multiplied(
    importer: Importer, operator: Operator, sums: str, multipliers: Sequence[Multiplier], ends: Ends, bias: int = 0
) -> str:
    """As `finish_sums` of 32 bits, of multipliers; `bias` is added to the sums before."""
    _require_room(importer, operator, sums, multipliers, bias)
    op = kernel_requant(multipliers, ends.scaled.zero_point, ends.lo, ends.hi)
    if bias:
        op = replace(op, bias=frozen_array(bias * (op.multiplier << op.pre)))
    return importer.add(op, (sums,), ends.scaled.label, operator)


def _require_room(
    importer: Importer, operator: Operator, sums: str, multipliers: Sequence[Multiplier], bias: int
) -> None:
    """Raises Unsupported where sums, shifted left by what is above 1 in a factor, could leave 32 bits."""
    bounds = importer.builder.bounds(sums)
    up = np.array([max(one.exponent, 0) for one in multipliers], dtype=np.int64)
    most = np.where(up < _INT32_BITS, np.int64(1) << np.clip(_INT32_BITS - 1 - up, 0, None), 0)
    if (bounds.lo + bias < -most).any() or (bounds.hi + bias >= np.maximum(most, 1)).any():
        raise _overflow(importer, operator, np.ldexp(_reach(bounds), up), _INT32_BITS)


def _require_wide_room(importer: Importer, operator: Operator, sums: str, multipliers: Sequence[Multiplier]) -> None:
    """Raises Unsupported where sums could leave 48 bits, or their products with a factor 32."""
    reach = _reach(importer.builder.bounds(sums))
    if reach.max() >= 1 << (_WIDE_BITS - 1):
        raise _overflow(importer, operator, reach, _WIDE_BITS)
    products = reach * np.array([one.real for one in multipliers])
    if products.max() >= INT32_HI or any(one.exponent > _MOST_WIDE_EXPONENT for one in multipliers):
        raise _overflow(importer, operator, products, _INT32_BITS)


def _reach(bounds: Bounds) -> npt.NDArray[np.float64]:
    return np.maximum(np.maximum(-bounds.lo, bounds.hi), 1).astype(np.float64)


def _overflow(importer: Importer, operator: Operator, reach: npt.NDArray[np.float64], bits: int) -> Unsupported:
    what = f"what it computes could reach 2^{np.log2(reach.max()):.1f}, beyond TFLite-Micro's {bits} bits"
    return importer.refuse(operator, what, "convert the model again with more calibration data")


def reshaped(importer: Importer, operator: Operator, tensor: str, shape: Shape, end: str = "_shape") -> str:
    """A tensor of the graph in another shape; itself where it has that already."""
    if importer.builder.type(tensor).shape == shape:
        return tensor
    return importer.add(Reshape(shape), (tensor,), importer.builder.label(tensor), operator, end=end)


def sums_label(*scales: float) -> Affine:
    """What one unit of a sum of products means; for several scales a factor, that of the first."""
    return Affine(math.prod(scales) or 1.0, 0)
