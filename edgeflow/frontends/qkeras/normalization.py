"""Batch normalization behind a quantized layer: a real scale and shift a channel, owed to the next quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.importer import Importer, RealMap, Value
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Relu, read_weight_quantizer

_NAMES = ("gamma", "beta", "mean", "variance")
_ROOT_BITS = 160
_DOUBT = np.float32(2.0**-21)
ROUNDINGS = 16
"""TensorFlow's 1 / sqrt is good to 2 units in the last place; around it stand two sums and three products."""


def import_batch_norm(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """BatchNormalization at inference: (x - mean) * gamma / sqrt(variance + epsilon) + beta, in real arithmetic.

    Source: Ioffe and Szegedy, 2015, with the moving averages that Keras stores.
    """
    channels = _channels(importer, layer, inputs[0])
    gamma, beta, mean, variance = (_reals(layer, name, channels) for name in _NAMES)
    inverse, exact = _inverse(layer, gamma, variance)
    return _scaled(importer, layer, inputs[0], inverse, mean, beta, exact=exact)


def import_quantized_batch_norm(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """QBatchNormalization: as above on quantized parameters, or with the quantized gamma / sqrt(variance + epsilon)."""
    channels = _channels(importer, layer, inputs[0])
    gamma, beta, mean, variance = (
        _quantized(layer, f"{name}_quantizer", stored_vector(layer, name, channels)) for name in _NAMES
    )
    inverse_quantizer = layer.fields.raw("inverse_quantizer")
    exact = True
    if inverse_quantizer is None:
        inverse, exact = _inverse(layer, gamma, variance)
    else:
        values = stored_vector(layer, "variance", channels) + np.float32(layer.fields.number("epsilon", 1e-3))
        raw = (np.float32(1) / np.sqrt(values)) * stored_vector(layer, "gamma", channels)
        inverse, other = (
            _quantized(layer, "inverse_quantizer", (raw * (1 + lean)).astype(np.float32)) for lean in (-_DOUBT, _DOUBT)
        )
        if inverse != other:
            raise Unsupported(
                "its inverse lies so near a tie of the inverse_quantizer that float32 decides it",
                where=layer.where,
                fix="train a little longer, or give the inverse_quantizer another number of bits",
            )
    return _scaled(importer, layer, inputs[0], inverse, mean, beta, exact=exact)


def _inverse(
    layer: Layer, gamma: Sequence[Fraction], variance: Sequence[Fraction]
) -> tuple[tuple[Fraction, ...], bool]:
    """Gamma / sqrt(variance + epsilon), and whether float32 has every step of it: each root is a power of two."""
    sums = [one + epsilon(layer) for one in variance]
    roots = [square_root(one, layer) for one in sums]
    exact = all(map(_in_float32, sums)) and all(_in_float32(1 / one) for one in roots)
    return tuple(one / two for one, two in zip(gamma, roots, strict=True)), exact


def import_relu(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Keras' ReLU layer, with its upper end."""
    fields = layer.fields
    if fields.number("threshold", 0.0) != 0.0:
        raise Unsupported("a ReLU with a threshold is not supported", where=layer.where, fix="leave threshold at 0")
    top = None if fields.raw("max_value") is None else Fraction(fields.number("max_value"))
    relu = Relu(top, Fraction(fields.number("negative_slope", 0.0)))
    return importer.relu(inputs[0], relu, layer, layer.name)


def _scaled(
    importer: Importer,
    layer: Layer,
    value: Value,
    inverse: Sequence[Fraction],
    mean: Sequence[Fraction],
    beta: Sequence[Fraction],
    *,
    exact: bool,
) -> Value:
    """The map that Keras computes as x * inverse + (beta - mean * inverse); `exact`: its inverse is this one."""
    if value.unquantized is not None:
        importer.settle(value, layer)
    owed = importer.owed(value, layer)
    if owed is not None and owed.clipped:
        raise Unsupported(
            "it follows a ReLU that nothing has quantized",
            where=layer.where,
            fix="use QActivation('quantized_relu(8, 2)') instead of that ReLU, or normalize in front of it",
        )
    moved = [m * i for m, i in zip(mean, inverse, strict=True)]
    shift = tuple(b - m for b, m in zip(beta, moved, strict=True))
    own = RealMap(
        tuple(inverse),
        shift,
        exact=exact and all(map(_in_float32, (*moved, *shift))),
        size=tuple(abs(b) + abs(m) for b, m in zip(beta, moved, strict=True)),
        roundings=ROUNDINGS,
    )
    return Value(value.tensor, real=own if owed is None else owed.then(own))


def _in_float32(value: Fraction) -> bool:
    """Whether float32 holds a number as it is; a longer one may lie far from it where a difference cancels."""
    return abs(value) < 2**100 and Fraction(float(np.float32(float(value)))) == value


def _channels(importer: Importer, layer: Layer, value: Value) -> int:
    """The channels of what it reads. Raises Unsupported when it normalizes another axis."""
    shape = importer.shape(value)
    axis = layer.fields.raw("axis")
    if axis not in (None, -1, [-1], len(shape), [len(shape)]):
        raise Unsupported(
            "it normalizes another axis than the channels", where=layer.where, fix="use axis=-1 and channels_last"
        )
    return shape[-1]


def stored_vector(layer: Layer, name: str, channels: int) -> Float32Array:
    """One of the four vectors; a gamma or beta that the layer does not have is 1 or 0."""
    absent = {"gamma": not layer.fields.flag("scale", True), "beta": not layer.fields.flag("center", True)}
    if absent.get(name):
        return np.full(channels, 1 if name == "gamma" else 0, dtype=np.float32)
    present = [one for one in _NAMES if not absent.get(one)]
    slots = (str(present.index(name)), name, f"moving_{name}")
    values = next((layer.weights[slot] for slot in slots if slot in layer.weights), None)
    if values is None:
        raise EdgeflowError(f"the file holds no {name} for it", where=layer.where, fix="save the whole model again")
    if values.shape != (channels,):
        raise Unsupported(
            f"its {name} has shape {values.shape}, and it reads {channels} channels",
            where=layer.where,
            fix="normalize the last axis (axis=-1)",
        )
    if not np.isfinite(values).all():
        raise EdgeflowError(f"its {name} is NaN or infinite", where=layer.where, fix="train the model again")
    return values


def _reals(layer: Layer, name: str, channels: int) -> tuple[Fraction, ...]:
    return tuple(Fraction(float(one)) for one in stored_vector(layer, name, channels))


def _quantized(layer: Layer, key: str, values: Float32Array) -> tuple[Fraction, ...]:
    """The real numbers that a parameter's quantizer gives."""
    quantizer = read_weight_quantizer(layer.fields.raw(key), layer.where, key.removesuffix("_quantizer"))
    if quantizer is None:
        return tuple(Fraction(float(one)) for one in values)
    codes = quantizer.weights(values, layer.where)
    fracs = np.broadcast_to(codes.frac, values.shape)
    scales = np.broadcast_to(1.0 if codes.scale is None else codes.scale, values.shape)
    return tuple(
        int(code) * Fraction(2) ** -int(frac) * Fraction(float(scale))
        for code, frac, scale in zip(codes.codes, fracs, scales, strict=True)
    )


def epsilon(layer: Layer) -> Fraction:
    """What is added to the variance."""
    return Fraction(layer.fields.number("epsilon", 1e-3))


def square_root(value: Fraction, layer: Layer) -> Fraction:
    """The square root, exact where it is rational, else to 160 bits: far finer than any step can tell."""
    if value <= 0:
        raise EdgeflowError("a variance plus epsilon is not positive", where=layer.where, fix="train the model again")
    top, bottom = isqrt(value.numerator), isqrt(value.denominator)
    if top * top == value.numerator and bottom * bottom == value.denominator:
        return Fraction(top, bottom)
    scale = max(0, _ROOT_BITS - value.numerator.bit_length() + value.denominator.bit_length()) // 2 + 1
    return Fraction(isqrt(value.numerator * (1 << (2 * scale)) // value.denominator), 1 << scale)
