"""QScaleShift: one weight and one bias for a whole tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeflow.frontends.qkeras.activations import apply_activation
from edgeflow.frontends.qkeras.importer import Importer, parameter, requant
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.parameters import (
    Bias,
    Part,
    code_bias,
    fractions,
    kernel_quantizer,
    no_bias,
    place,
    real_bias,
    stored,
)
from edgeflow.frontends.qkeras.values import Value
from edgeflow.ops.requant import Rounding

_WEIGHT = Part("weight", ("0", "weight"), "weight")
_BIAS = Part("bias", ("1", "bias"), "bias")


def import_scale_shift(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """x * q(weight) + q(bias), a Requant that drops nothing. QKeras holds both quantizers as kernel quantizers."""
    source = importer.settle(inputs[0], layer)
    weight = kernel_quantizer(layer, _WEIGHT)(stored(layer, _WEIGHT, (1, 1)), layer.where)
    frac = importer.frac(source)
    if frac.ndim:
        source = importer.align(source, frac.max(), layer)
    weights = place(layer, weight, weight.frac + frac.max(), _read_bias(layer))
    code, bias = int(weights.kernel.reshape(-1)[0]), int(weights.bias[0])
    reach = int(importer.reach(source).max()) * abs(code) + abs(bias)
    importer.reject_beyond_float32(reach, layer)
    zero = np.asarray(0)
    op = requant(pre=zero, shift=zero, rounding=Rounding.FLOOR, lo=-reach, hi=reach, multiplier=code)
    tensor = importer.add(replace(op, bias=parameter(bias)), (source,), weights.frac, layer)
    return apply_activation(importer, layer, Value(tensor, real=weights.real), f"{layer.name}_act")


def _read_bias(layer: Layer) -> Bias:
    if not layer.fields.flag("use_bias", True):
        return no_bias(1)
    values = stored(layer, _BIAS, (1, 1))
    if layer.fields.raw(_BIAS.quantizer) is None:
        return real_bias(fractions(values))
    codes = kernel_quantizer(layer, _BIAS)(values, layer.where)
    return code_bias(replace(codes, codes=codes.codes.reshape(1)))
