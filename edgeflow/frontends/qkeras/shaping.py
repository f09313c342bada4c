"""Layers that move values and change none: Flatten, Reshape, Permute, RepeatVector, padding, cropping, upsampling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.fields import shown
from edgeflow.frontends.qkeras.importer import Importer
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.values import Value
from edgeflow.frontends.qkeras.windows import require_channels_last, spatial_shape
from edgeflow.ir.graph import Op
from edgeflow.ir.types import Shape
from edgeflow.ops.pad import Pad
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample

_LONGEST_AXIS = 1 << 24


def import_flatten(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Flatten: one axis, row-major."""
    require_channels_last(layer)
    return reshape(importer, layer, inputs[0], (math.prod(importer.shape(inputs[0])),))


def import_reshape(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Reshape: -1 stands for what is left."""
    size = math.prod(importer.shape(inputs[0]))
    target = list(layer.fields.shape("target_shape", None, -1, _LONGEST_AXIS))
    known = math.prod(axis for axis in target if axis != -1)
    if target.count(-1) == 1 and known > 0 and size % known == 0:
        target[target.index(-1)] = size // known
    if not 0 < len(target) <= 8 or min(target) < 1 or math.prod(target) != size:
        raise EdgeflowError(
            f"a tensor of shape {importer.shape(inputs[0])} cannot become {tuple(target)}",
            where=layer.where,
            fix="correct its target_shape",
        )
    return reshape(importer, layer, inputs[0], tuple(target))


def reshape(importer: Importer, layer: Layer, value: Value, target: Shape) -> Value:
    """The same elements under another shape, with whatever is still owed."""
    source = importer.shape(value)
    if source == target:
        return value
    divisor = value.divisor
    if divisor is not None and divisor.size > 1:
        divisor = np.broadcast_to(divisor, source).reshape(target)
    value = _spread_channels(importer, layer, value, source[-1], target[-1])
    tensor = importer.add(Reshape(target), (value.tensor,), importer.frac(value.tensor), layer)
    return replace(value, tensor=tensor, divisor=divisor, terms=None)


def import_permute(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Permute: `dims` counts a sample's axes from 1."""
    rank = len(importer.shape(inputs[0]))
    dims = layer.fields.shape("dims", rank, 1, rank)
    if sorted(dims) != list(range(1, rank + 1)):
        raise EdgeflowError(f"its dims {dims} are no order of {rank} axes", where=layer.where, fix="correct its dims")
    order = tuple(axis - 1 for axis in dims)
    if order == tuple(range(rank)):
        return inputs[0]
    return _move(importer, layer, inputs[0], Transpose(order), keeps_channels=order[-1] == rank - 1)


def import_repeat_vector(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """RepeatVector: (channels) -> (n, channels)."""
    (channels,) = _of_rank(importer, layer, inputs[0], 1)
    repeats = layer.fields.integer("n", 1, _LONGEST_AXIS)
    value = reshape(importer, layer, inputs[0], (1, channels))
    return value if repeats == 1 else _move(importer, layer, value, Upsample((repeats,), zeros=False))


def import_zero_padding(importer: Importer, layer: Layer, inputs: tuple[Value, ...], rank: int) -> Value:
    """ZeroPadding1D and ZeroPadding2D."""
    value = inputs[0]
    spatial_shape(importer, layer, value.tensor, rank)
    pads = _pairs(layer, "padding", rank)
    if not any(map(any, pads)):
        return value
    steps = value.unquantized
    if steps is not None and not steps.lo <= 0 <= steps.hi:
        value = Value(importer.settle(value, layer))
    if value.real is not None and (any(value.real.shift) or value.real.clipped):
        value = Value(importer.settle(value, layer))
    return _move(importer, layer, value, Pad((*pads, (0, 0)), 0))


def import_cropping(importer: Importer, layer: Layer, inputs: tuple[Value, ...], rank: int) -> Value:
    """Cropping1D and Cropping2D."""
    shape = spatial_shape(importer, layer, inputs[0].tensor, rank)
    cuts = _pairs(layer, "cropping", rank)
    if not any(map(any, cuts)):
        return inputs[0]
    sizes = tuple(length - before - after for length, (before, after) in zip(shape[:-1], cuts, strict=True))
    if min(sizes) < 1:
        raise EdgeflowError(
            f"it crops all of an input of shape {shape}", where=layer.where, fix="use smaller croppings"
        )
    begin = (*(before for before, _ in cuts), 0)
    return _move(importer, layer, inputs[0], Slice(begin, (*sizes, shape[-1]), (1,) * (rank + 1)))


def import_upsampling(importer: Importer, layer: Layer, inputs: tuple[Value, ...], rank: int) -> Value:
    """UpSampling1D and UpSampling2D, which repeat values."""
    spatial_shape(importer, layer, inputs[0].tensor, rank)
    interpolation = layer.fields.raw("interpolation")
    if interpolation not in (None, "nearest"):
        raise Unsupported(
            f"interpolation '{shown(interpolation)}' mixes values in float32",
            where=layer.where,
            fix="use interpolation='nearest'",
        )
    factors = layer.fields.shape("size", rank, 1, _LONGEST_AXIS)
    return inputs[0] if max(factors) == 1 else _move(importer, layer, inputs[0], Upsample(factors, zeros=False))


def _move(importer: Importer, layer: Layer, value: Value, op: Op, *, keeps_channels: bool = True) -> Value:
    """Applies an op that moves values; what one number or one a channel describes moves along."""
    if value.divisor is not None and value.divisor.size > 1:
        value = Value(importer.settle(value, layer))
    if not keeps_channels:
        value = _spread_channels(importer, layer, value, importer.shape(value)[-1], 0)
    tensor = importer.add(op, (value.tensor,), importer.frac(value.tensor), layer)
    return replace(value, tensor=tensor, terms=None)


def _spread_channels(importer: Importer, layer: Layer, value: Value, before: int, after: int) -> Value:
    """`value` fit for a last axis of another meaning: one unit, and a real map that repeats or is the same for all."""
    if before == after:
        return value
    frac = importer.frac(value.tensor)
    if frac.ndim:
        value = replace(value, tensor=importer.align(value.tensor, frac.max(), layer))
    real = value.real
    if real is None or max(len(real.scale), len(real.shift)) == 1:
        return value
    if after % before or after == 0:
        return Value(importer.one_unit(value, layer))
    scale, shift = real.channels(before)
    times = after // before
    size = real.sizes(before) * times
    return replace(value, real=replace(real, scale=scale * times, shift=shift * times, size=size))


def _of_rank(importer: Importer, layer: Layer, value: Value, rank: int) -> Shape:
    shape = importer.shape(value)
    if len(shape) != rank:
        raise EdgeflowError(f"it reads a tensor of shape {shape}, not of {rank} axis", where=layer.where)
    return shape


def _pairs(layer: Layer, key: str, rank: int) -> tuple[tuple[int, int], ...]:
    """(before, after) an axis; a 1D layer stores one pair, a 2D layer a list of two."""
    value = layer.fields.raw(key)
    entries = [value] if rank == 1 else cast(list[object], value) if isinstance(value, list) else []
    pairs: list[tuple[int, int]] = []
    for one in entries:
        match one:
            case [int(before), int(after)] if min(before, after) >= 0 and max(before, after) <= _LONGEST_AXIS:
                pairs.append((int(before), int(after)))
            case _:
                break
    if len(pairs) != rank:
        raise layer.fields.wrong(key, "pairs of whole numbers")
    return tuple(pairs)
