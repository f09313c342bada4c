"""A linear layer's stored weights: integer codes of kernel and bias, brought to one accumulator unit a channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Codes, read_weight_quantizer
from edgeflow.frontends.qkeras.values import OWN_ROUNDINGS, RealMap
from edgeflow.ir.types import IntArray, Shape, frozen_array

MOST_UNITS = 1 << 20
MOST_WINDOW = 4096
_WEIGHT_BITS = 40
_BIAS_BITS = 60

Quantize = Callable[[Float32Array, str], Codes]


@dataclass(frozen=True)
class Part:
    """One weight of a layer: what errors call it, its place in each file format, what its quantizer is for."""

    name: str
    slots: tuple[str, ...]
    role: str

    @property
    def quantizer(self) -> str:
        """The key of its quantizer in the layer's configuration."""
        return f"{self.role}_quantizer"


KERNEL = Part("kernel", ("0", "kernel"), "kernel")
DEPTHWISE = Part("depthwise kernel", ("0", "depthwise_kernel"), "depthwise")
POINTWISE = Part("pointwise kernel", ("1", "pointwise_kernel"), "pointwise")
BIAS = Part("bias", ("1", "bias"), "bias")
SEPARABLE_BIAS = Part("bias", ("2", "bias"), "bias")


@dataclass(frozen=True)
class Bias:
    """A bias as codes * 2**-needed, one entry an output channel, trailing zero bits removed; or as exact reals.

    `needed` is far below any frac where the code is 0. `reals` is set when no common dyadic unit is meant: a
    float bias, or one whose quantizer has a real scale. `sizes` and `roundings` are then those of a RealMap.
    """

    codes: IntArray
    needed: IntArray
    reals: tuple[Fraction, ...] | None = None
    sizes: tuple[Fraction, ...] = ()
    roundings: int = 0

    def exact(self) -> tuple[Fraction, ...]:
        """The values as reals."""
        if self.reals is not None:
            return self.reals
        pairs = zip(self.codes.tolist(), self.needed.tolist(), strict=True)
        return tuple(Fraction(code) * Fraction(2) ** -frac if code else Fraction(0) for code, frac in pairs)


@dataclass(frozen=True)
class Weights:
    """Integers on the accumulator's unit 2**-frac (scalar, or one an output channel), and what is still owed."""

    kernel: IntArray
    bias: IntArray
    frac: IntArray
    real: RealMap | None = None


def place(layer: Layer, kernel: Codes, products: IntArray, bias: Bias) -> Weights:
    """Kernel and bias on the coarsest unit that holds both.

    `products` is the frac of one product (scalar or one an output channel). With a real scale on the kernel or a
    real bias the integers hold the products alone, and `real` the rest.
    """
    products = _one_or_all(products)
    outputs = len(bias.codes)
    if kernel.scale is not None or bias.reals is not None:
        scale = (Fraction(1),) if kernel.scale is None else fractions(kernel.scale)
        zeros = frozen_array(np.zeros(outputs, dtype=np.int64))
        sums = 0 if kernel.scale is None else kernel.roundings + kernel.codes.size // outputs
        roundings = OWN_ROUNDINGS + bias.roundings + sums
        alone = kernel.scale is None and layer.fields.raw(BIAS.quantizer) is None
        real = RealMap(scale, bias.exact(), size=bias.sizes, roundings=roundings, bias_of=layer if alone else None)
        return Weights(frozen_array(kernel.codes), zeros, products, real)
    frac = np.maximum(products, bias.needed if products.ndim else bias.needed.max())
    shift = frac - products
    up = np.where(bias.codes == 0, 0, frac - bias.needed)
    if (up + np.log2(np.maximum(np.abs(bias.codes), 1)) > _BIAS_BITS).any():
        raise Unsupported(
            f"its bias is more than 2^{_BIAS_BITS} times larger than the unit of its products",
            where=layer.where,
            fix="use more integer bits in its kernel_quantizer or in front of it",
        )
    if shift.max() + int(np.abs(kernel.codes).max()).bit_length() > _WEIGHT_BITS:
        raise Unsupported(
            f"its bias has {int(shift.max())} more fractional bits than its products",
            where=layer.where,
            fix="use fewer bits or more integer bits in the bias_quantizer",
        )
    return Weights(
        kernel=frozen_array(kernel.codes << shift),
        bias=frozen_array(bias.codes << up),
        frac=frac,
    )


def reject_wide(layer: Layer, bits: int) -> None:
    """Refuses a kernel whose input channels differ so much in scale that its integers need `bits` bits."""
    if bits > _WEIGHT_BITS:
        raise Unsupported(
            f"its weights need {bits} bits on one unit", where=layer.where, fix="give the kernel_quantizer alpha=1"
        )


def read_kernel(layer: Layer, part: Part, shape: Shape) -> Codes:
    """The codes of a stored kernel of `shape`."""
    return kernel_quantizer(layer, part)(stored(layer, part, shape), layer.where)


def kernel_quantizer(layer: Layer, part: Part) -> Quantize:
    """How a layer quantizes a kernel. Raises Unsupported when nothing does."""
    quantizer = read_weight_quantizer(layer.fields.raw(part.quantizer), layer.where, part.role)
    if quantizer is None:
        raise Unsupported(
            f"it has no {part.quantizer}, so its weights are floats",
            where=layer.where,
            fix=f"add {part.quantizer}=quantized_bits(8, 0, alpha=1) and train",
        )
    return quantizer.on_kernel().weights


def read_bias(layer: Layer, part: Part, outputs: int) -> Bias:
    """The stored bias through its quantizer; a bias without one stays as exact reals, unless it is all zero."""
    if not layer.fields.flag("use_bias", True):
        return no_bias(outputs)
    values = stored(layer, part, (outputs,))
    quantizer = read_weight_quantizer(layer.fields.raw(part.quantizer), layer.where, part.role)
    if quantizer is None:
        return real_bias(fractions(values))
    return code_bias(quantizer.weights(values, layer.where))


def no_bias(outputs: int) -> Bias:
    """A bias of zeros, which asks for no unit."""
    lowest = np.full(outputs, np.iinfo(np.int32).min, dtype=np.int64)
    return Bias(np.zeros(outputs, dtype=np.int64), lowest)


def real_bias(values: tuple[Fraction, ...], sizes: tuple[Fraction, ...] = (), roundings: int = 0) -> Bias:
    """A bias that nothing quantizes, unless it is all zero; the rest as in Bias."""
    none = no_bias(len(values))
    return Bias(none.codes, none.needed, values, sizes, roundings) if any(values) or any(sizes) else none


def code_bias(bias: Codes) -> Bias:
    """A quantized bias."""
    none = no_bias(len(bias.codes))
    frac = np.broadcast_to(bias.frac, bias.codes.shape)
    zeros = _trailing_zeros(bias.codes)
    needed = np.where(bias.codes == 0, none.needed, frac - zeros)
    dyadic = Bias(bias.codes >> zeros, needed)
    if bias.scale is None:
        return dyadic
    scale = np.broadcast_to(bias.scale, bias.codes.shape)
    values = tuple(one * by for one, by in zip(dyadic.exact(), fractions(scale), strict=True))
    return real_bias(values, roundings=bias.roundings)


def stored(layer: Layer, part: Part, shape: Shape) -> Float32Array:
    """One weight from the file. Raises EdgeflowError when it is missing or has another shape."""
    if layer.fields.raw("lora_rank") is not None:
        raise Unsupported("LoRA weights are not supported", where=layer.where, fix="merge them before saving")
    values = next((layer.weights[slot] for slot in part.slots if slot in layer.weights), None)
    if values is None:
        raise EdgeflowError(
            f"the file holds no {part.name} for it", where=layer.where, fix="save the whole model again"
        )
    if values.shape != shape:
        raise EdgeflowError(
            f"its {part.name} has shape {values.shape} in the file, its configuration asks for {shape}",
            where=layer.where,
            fix="save the whole model again",
        )
    if not np.isfinite(values).all():
        raise EdgeflowError("a weight is NaN or infinite", where=layer.where, fix="train the model again")
    return values


def _one_or_all(products: IntArray) -> IntArray:
    flat = np.atleast_1d(products)
    return np.asarray(flat[0]) if (flat == flat[0]).all() else flat


def fractions(values: Float32Array | npt.NDArray[np.float64]) -> tuple[Fraction, ...]:
    """Floats as exact reals, in one row."""
    return tuple(Fraction(float(one)) for one in np.atleast_1d(values).tolist())


def _trailing_zeros(codes: IntArray) -> IntArray:
    lowest = codes & -codes
    return np.where(codes == 0, 0, np.rint(np.log2(np.maximum(lowest, 1).astype(np.float64)))).astype(np.int64)
