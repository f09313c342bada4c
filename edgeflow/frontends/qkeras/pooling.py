"""Pools: MaxPool, or SumPool with the division left to the label, to a real scale or to the next quantizer."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.activations import apply_activation
from edgeflow.frontends.qkeras.importer import FLOAT32_EXACT, Importer, requant
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Codes, read_weight_quantizer
from edgeflow.frontends.qkeras.values import OWN_ROUNDINGS, RealMap, Value
from edgeflow.frontends.qkeras.windows import MOST_WINDOW, conv_pads, spatial_shape
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Rounding
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.window import Pads, window_counts


def import_max_pool(importer: Importer, layer: Layer, inputs: tuple[Value, ...], rank: int) -> Value:
    """MaxPooling1D and MaxPooling2D."""
    source, real = _under_real(importer, layer, inputs[0], rising=True)
    window, strides, pads = _window(importer, layer, source, rank)
    tensor = importer.add(MaxPool(window, strides, pads), (source,), importer.frac(source), layer)
    return Value(tensor, real=real)


def import_average_pool(importer: Importer, layer: Layer, inputs: tuple[Value, ...], rank: int) -> Value:
    """AveragePooling1D and AveragePooling2D: 'same' padding divides by the number of real elements."""
    source, real = _under_real(importer, layer, inputs[0])
    window, strides, pads = _window(importer, layer, source, rank)
    counts = window_counts(importer.shape(Value(source))[:-1], window, strides, pads)
    return _average(importer, layer, Value(source, real=real), SumPool(window, strides, pads), counts)


def import_global_max(importer: Importer, layer: Layer, inputs: tuple[Value, ...], rank: int) -> Value:
    """GlobalMaxPooling1D and GlobalMaxPooling2D."""
    source, real = _under_real(importer, layer, inputs[0], rising=True)
    window, pads = _whole(importer, layer, source, rank)
    tensor = importer.add(MaxPool(window, window, pads), (source,), importer.frac(source), layer)
    return _drop_axes(importer, layer, Value(tensor, real=real))


def import_global_average(importer: Importer, layer: Layer, inputs: tuple[Value, ...], rank: int) -> Value:
    """GlobalAveragePooling1D and GlobalAveragePooling2D."""
    source, real = _under_real(importer, layer, inputs[0])
    window, pads = _whole(importer, layer, source, rank)
    counts = np.full((1,) * rank, math.prod(window), dtype=np.int64)
    value = _average(importer, layer, Value(source, real=real), SumPool(window, window, pads), counts)
    return _drop_axes(importer, layer, value)


def import_quantized_pool(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """QAveragePooling2D: (sum * area / count) * q(1 / area), then its activation."""
    if layer.fields.raw("average_quantizer") is None:
        value = import_average_pool(importer, layer, inputs, 2)
        return apply_activation(importer, layer, value, f"{layer.name}_act")
    source = importer.settle(inputs[0], layer)
    window, strides, pads = _window(importer, layer, source, 2)
    area = math.prod(window)
    importer.reject_beyond_float32(int(importer.reach(source).max()) * area, layer)
    counts = window_counts(importer.shape(Value(source))[:-1], window, strides, pads)
    factors = area // np.gcd(area, counts), counts // np.gcd(area, counts)
    if (factors[1] & (factors[1] - 1)).any():
        raise Unsupported(
            f"its windows hold {int(counts.min())} to {int(counts.max())} elements, and QKeras' float32 "
            f"divides {area} by them inexactly",
            where=layer.where,
            fix="use padding='valid', or a window of 2x2 or 3x3",
        )
    most = int(factors[1].max())
    times = (factors[0] * (most // factors[1]))[..., None]
    tensor = importer.add(SumPool(window, strides, pads), (source,), importer.frac(source), layer)
    value = _times(importer, layer, tensor, _inverse(layer, area), times, most.bit_length() - 1)
    return apply_activation(importer, layer, value, f"{layer.name}_act")


def import_quantized_global(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """QGlobalAveragePooling2D: sum * q(1 / area), then its activation."""
    if layer.fields.raw("average_quantizer") is None:
        value = import_global_average(importer, layer, inputs, 2)
        return apply_activation(importer, layer, value, f"{layer.name}_act")
    source = importer.settle(inputs[0], layer)
    window, pads = _whole(importer, layer, source, 2)
    area = math.prod(window)
    importer.reject_beyond_float32(int(importer.reach(source).max()) * area, layer)
    tensor = importer.add(SumPool(window, window, pads), (source,), importer.frac(source), layer)
    ones = np.ones((1, 1, 1), dtype=np.int64)
    value = _drop_axes(importer, layer, _times(importer, layer, tensor, _inverse(layer, area), ones, 0))
    return apply_activation(importer, layer, value, f"{layer.name}_act")


def _inverse(layer: Layer, area: int) -> Codes:
    """1 / area through the layer's average_quantizer."""
    quantizer = read_weight_quantizer(layer.fields.raw("average_quantizer"), layer.where, "average")
    assert quantizer is not None
    return quantizer.weights(np.array([1 / area], dtype=np.float32), layer.where)


def _times(importer: Importer, layer: Layer, tensor: str, inverse: Codes, times: IntArray, finer: int) -> Value:
    """`tensor` times the quantized inverse times `times` * 2**-`finer` (one entry a position)."""
    code = int(inverse.codes[0])
    factor = times * code
    bounds = importer.builder.bounds(tensor)
    reach = max(abs(int(bounds.lo.min())), abs(int(bounds.hi.max()))) * int(np.abs(factor).max())
    if reach > FLOAT32_EXACT:
        raise Unsupported(
            f"its products with the quantized 1/area can reach 2^{math.log2(reach):.1f} steps, and QKeras' float32 "
            "is exact only up to 2^24",
            where=layer.where,
            fix="use fewer bits in its average_quantizer or its input",
        )
    zero = np.asarray(0)
    op = requant(pre=zero, shift=zero, rounding=Rounding.FLOOR, lo=-reach, hi=reach, multiplier=factor)
    frac = importer.frac(tensor) + int(np.asarray(inverse.frac).reshape(-1)[0]) + finer
    result = importer.add(op, (tensor,), frac, layer, f"{layer.name}_scaled")
    if inverse.scale is None:
        return Value(result)
    scale = Fraction(float(np.asarray(inverse.scale).reshape(-1)[0]))
    return Value(result, real=RealMap((scale,), (Fraction(0),), roundings=OWN_ROUNDINGS + inverse.roundings))


def _average(importer: Importer, layer: Layer, value: Value, pool: SumPool, counts: IntArray) -> Value:
    """Sums, with the division left open. Behind a real map Keras' sums hold the shift, which the integers do not."""
    most = int(counts.max())
    if value.real is not None and (counts != most).any():
        value = Value(importer.settle(value, layer))
    frac = importer.frac(value.tensor)
    importer.reject_beyond_float32(int(importer.reach(value.tensor).max()) * most, layer)
    real = None if value.real is None else replace(value.real, exact=False, roundings=value.real.roundings + most + 2)
    if (counts == most).all():
        if most & (most - 1) == 0:
            tensor = importer.add(pool, (value.tensor,), frac + most.bit_length() - 1, layer)
            return Value(importer.rounds(tensor), real=real)
        counts = np.array([most])
    else:
        counts = counts[..., None]
    if real is None:
        return Value(importer.add(pool, (value.tensor,), frac, layer), divisor=counts, pool=layer)
    scale = tuple(one / most for one in real.scale)
    tensor = importer.add(pool, (value.tensor,), frac, layer)
    return Value(importer.rounds(tensor), real=replace(real, scale=scale))


def _under_real(importer: Importer, layer: Layer, value: Value, *, rising: bool = False) -> tuple[str, RealMap | None]:
    """A pool's input, and the real map that may wait until after the pool.

    A sum commutes with a map that is not clipped, a maximum with one that rises.
    """
    real = value.real
    if real is not None and not value.logits and (min(real.scale) > 0 if rising else not real.clipped):
        return value.tensor, real
    return importer.settle(value, layer), None


def _window(importer: Importer, layer: Layer, source: str, rank: int) -> tuple[Shape, Shape, Pads]:
    shape = spatial_shape(importer, layer, source, rank)
    window = layer.fields.shape("pool_size", rank, 1, MOST_WINDOW)
    strides = window if layer.fields.raw("strides") is None else layer.fields.shape("strides", rank, 1, MOST_WINDOW)
    return window, strides, conv_pads(layer, shape, window, strides, (1,) * rank)


def _whole(importer: Importer, layer: Layer, source: str, rank: int) -> tuple[Shape, Pads]:
    """The window of a global pool."""
    return spatial_shape(importer, layer, source, rank)[:-1], ((0, 0),) * rank


def _drop_axes(importer: Importer, layer: Layer, value: Value) -> Value:
    if layer.fields.flag("keepdims", False):
        return value
    op = Reshape(importer.shape(value)[-1:])
    tensor = importer.add(op, (value.tensor,), importer.frac(value.tensor), layer, f"{layer.name}_flat")
    return replace(value, tensor=tensor)
