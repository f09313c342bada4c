"""QDenseBatchnorm, QConv2DBatchnorm, QDepthwiseConv2DBatchnorm: batch normalization folded in before quantizing.

At inference W' = q(inv W) and b' = q(inv (b - mean) + beta), with inv = gamma / sqrt(variance + epsilon), in
float32; both folding modes and every ema_freeze_delay are the same. Source: QKeras' get_folded_weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.depthwise import import_depthwise
from edgeflow.frontends.qkeras.linear import import_conv, import_dense
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.normalization import ROUNDINGS, epsilon, square_root, stored_vector
from edgeflow.frontends.qkeras.parameters import (
    BIAS,
    DEPTHWISE,
    Bias,
    Part,
    Quantize,
    code_bias,
    fractions,
    kernel_quantizer,
    real_bias,
    stored,
)
from edgeflow.frontends.qkeras.quantizers import Codes, read_weight_quantizer
from edgeflow.ir.types import Shape

_ULP = np.float32(2.0**-23)
_DOUBT = np.float32(4) * _ULP
"""How far TensorFlow's inv may lie from NumPy's: its 1 / sqrt is good to 2 ulps, and two products follow."""


@dataclass(frozen=True)
class _Normalization:
    """The parameters of the batch normalization inside a layer, and its own bias."""

    gamma: Float32Array
    beta: Float32Array
    mean: Float32Array
    variance: Float32Array
    bias: Float32Array
    epsilon: Fraction

    def inverse(self) -> Float32Array:
        """Inv, as QKeras computes it."""
        root = np.sqrt(self.variance + np.float32(float(self.epsilon)))
        return (np.float32(1) / root * self.gamma).astype(np.float32)

    def exact_bias(self, layer: Layer) -> Bias:
        """The folded bias in real arithmetic on the stored parameters."""
        columns = (self.gamma, self.beta, self.mean, self.variance, self.bias)
        values: list[Fraction] = []
        sizes: list[Fraction] = []
        for gamma, beta, mean, variance, bias in zip(*(fractions(one) for one in columns), strict=True):
            inverse = gamma / square_root(variance + self.epsilon, layer)
            values.append(inverse * (bias - mean) + beta)
            sizes.append(abs(inverse * (bias - mean)) + abs(beta))
        return real_bias(tuple(values), tuple(sizes), ROUNDINGS)


def folded_weights(layer: Layer, part: Part, shape: Shape, outputs: int) -> tuple[Codes, Bias]:
    """Kernel codes and bias behind the folding.

    Raises Unsupported when a folded weight lies so near a tie that the last bits of float32 decide its code.
    """
    norm = _read(layer, outputs)
    inverse = norm.inverse()
    wide = inverse.reshape(shape[-2:]) if part is DEPTHWISE else inverse
    folded = (wide * stored(layer, part, shape)).astype(np.float32)
    kernel = _quantized(
        layer, part, kernel_quantizer(layer, part), folded, (np.abs(folded) * _DOUBT).astype(np.float32)
    )
    quantizer = read_weight_quantizer(layer.fields.raw(BIAS.quantizer), layer.where, BIAS.role)
    if quantizer is None:
        return kernel, norm.exact_bias(layer)
    product = inverse * (norm.bias - norm.mean)
    sums = (product + norm.beta).astype(np.float32)
    doubt = (np.abs(product) * _DOUBT + np.abs(sums) * _ULP).astype(np.float32)
    return kernel, code_bias(_quantized(layer, BIAS, quantizer.weights, sums, doubt))


def _quantized(layer: Layer, part: Part, quantize: Quantize, values: Float32Array, doubt: Float32Array) -> Codes:
    """The codes, which must be the same at both ends of the doubt."""
    low, high = quantize(values - doubt, layer.where), quantize(values + doubt, layer.where)
    wavering = (low.codes != high.codes) | np.broadcast_to(low.frac != high.frac, low.codes.shape)
    if wavering.any():
        raise Unsupported(
            f"{int(wavering.sum())} of the {wavering.size} values of its folded {part.name} lie so near a tie of the "
            f"{part.quantizer} that the last bit of float32 decides",
            where=layer.where,
            fix=f"train it a little further, or give the {part.quantizer} fewer bits",
        )
    return quantize(values, layer.where)


def _read(layer: Layer, outputs: int) -> _Normalization:
    """The inner batch normalization's vectors: "batchnorm/0" ... in a `.keras` file, "gamma" ... in an `.h5` file."""
    inside = {slot.removeprefix("batchnorm/"): values for slot, values in layer.weights.items() if not slot.isdecimal()}
    inner = replace(layer, weights=inside)
    gamma, beta, mean, variance = (
        stored_vector(inner, name, outputs) for name in ("gamma", "beta", "mean", "variance")
    )
    zeros = np.zeros(outputs, dtype=np.float32)
    bias = stored(layer, BIAS, (outputs,)) if layer.fields.flag("use_bias", True) else zeros
    return _Normalization(gamma, beta, mean, variance, bias, epsilon(layer))


import_dense_batchnorm = partial(import_dense, read=folded_weights)
import_conv2d_batchnorm = partial(import_conv, rank=2, read=folded_weights)
import_depthwise_batchnorm = partial(import_depthwise, read=folded_weights)
