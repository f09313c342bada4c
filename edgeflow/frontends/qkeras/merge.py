"""Layers that join tensors: Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate."""

from __future__ import annotations

import math
from functools import partial, reduce

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.importer import FLOAT32_EXACT, Importer, requant
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.values import Value
from edgeflow.ir.types import IntArray, Shape, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Rounding
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.upsample import Upsample


def import_add(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Add: inputs brought to one shape and to the finest unit among them."""
    tensors = _same_shape(importer, layer, _settled(importer, layer, inputs))
    terms = importer.sum_terms(inputs, tensors, layer)
    aligned, finest = _same_unit(importer, layer, tensors)
    return Value(importer.add(Add((1,) * len(aligned)), aligned, finest, layer), terms=terms)


def import_average(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Average of 2, 4, 8 ... tensors: an Add whose unit is finer."""
    count = len(inputs)
    if count & (count - 1):
        raise Unsupported(
            f"an average of {count} tensors rounds in QKeras' float32",
            where=layer.where,
            fix="average 2, 4 or 8 tensors, or use Add",
        )
    tensors = _same_shape(importer, layer, _settled(importer, layer, inputs))
    importer.sum_terms(inputs, tensors, layer)
    aligned, finest = _same_unit(importer, layer, tensors)
    return Value(importer.add(Add((1,) * count), aligned, finest + count.bit_length() - 1, layer))


def import_subtract(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Subtract: the first input minus the second. TensorFlow keeps a difference as it stands."""
    if len(inputs) != 2:
        raise EdgeflowError(f"it reads {len(inputs)} tensors, not two", where=layer.where)
    tensors = _same_shape(importer, layer, _settled(importer, layer, inputs))
    aligned, finest = _same_unit(importer, layer, tensors)
    importer.reject_beyond_float32(sum(int(importer.reach(one).max()) for one in aligned), layer)
    return Value(importer.add(Add((1, -1)), aligned, finest, layer))


def import_multiply(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Multiply: two or more tensors, from the left; an axis of length 1 serves the whole axis of the others."""
    tensors = _same_rank(importer, layer, _settled(importer, layer, inputs))
    return Value(reduce(partial(_product, importer, layer), tensors))


def import_maximum(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Maximum: the tensors stacked, then a MaxPool over the stack."""
    tensors = _same_shape(importer, layer, _settled(importer, layer, inputs))
    aligned, finest = _same_unit(importer, layer, tensors)
    return Value(_largest(importer, layer, aligned, finest))


def import_minimum(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Minimum: the negative of the largest negative."""
    tensors = _same_shape(importer, layer, _settled(importer, layer, inputs))
    aligned, finest = _same_unit(importer, layer, tensors)
    turned = tuple(_negative(importer, layer, one) for one in aligned)
    return Value(_negative(importer, layer, _largest(importer, layer, turned, finest)))


def import_concatenate(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """Concatenate along any axis but the batch; along the last, every channel keeps its own unit."""
    if len(inputs) == 1:
        return inputs[0]
    tensors = tuple(importer.settle(one, layer) for one in inputs)
    shapes = [importer.shape(Value(one)) for one in tensors]
    rank = len(shapes[0])
    axis = layer.fields.integer("axis", -rank, rank, -1)
    axis = axis + rank if axis < 0 else axis - 1
    if axis < 0:
        raise EdgeflowError("it joins along the batch axis", where=layer.where, fix="use axis 1 or later")
    if axis < rank - 1:
        tensors, frac = _same_unit(importer, layer, tensors)
    else:
        parts = zip(tensors, shapes, strict=True)
        frac = np.concatenate([np.broadcast_to(importer.frac(one), shape[-1:]) for one, shape in parts])
    return Value(importer.add(Concat(axis), tensors, frac, layer))


def _settled(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> tuple[str, ...]:
    if len(inputs) < 2:
        raise EdgeflowError(f"it reads {len(inputs)} tensor", where=layer.where, fix="give it two or more tensors")
    return tuple(importer.settle(one, layer) for one in inputs)


def _same_rank(importer: Importer, layer: Layer, tensors: tuple[str, ...]) -> tuple[str, ...]:
    """Tensors with axes of length 1 put in front of the shorter ones, as Keras does."""
    shapes = [importer.shape(Value(one)) for one in tensors]
    rank = max(map(len, shapes))
    result: list[str] = []
    for tensor, shape in zip(tensors, shapes, strict=True):
        if len(shape) < rank:
            target = (*(1,) * (rank - len(shape)), *shape)
            tensor = importer.add(Reshape(target), (tensor,), importer.frac(tensor), layer, f"{tensor}_wide")
        result.append(tensor)
    return tuple(result)


def _same_shape(importer: Importer, layer: Layer, tensors: tuple[str, ...]) -> tuple[str, ...]:
    """Tensors repeated along the axes where they have length 1. Raises EdgeflowError when they do not fit."""
    tensors = _same_rank(importer, layer, tensors)
    shapes = [importer.shape(Value(one)) for one in tensors]
    try:
        target = np.broadcast_shapes(*shapes)
    except ValueError:
        raise EdgeflowError(
            f"its inputs have shapes that do not fit: {', '.join(map(str, shapes))}",
            where=layer.where,
            fix="give all its inputs one shape",
        ) from None
    return tuple(
        _repeated(importer, layer, tensor, shape, target) for tensor, shape in zip(tensors, shapes, strict=True)
    )


def _repeated(importer: Importer, layer: Layer, tensor: str, shape: Shape, target: Shape) -> str:
    name = f"{tensor}_wide"
    if shape[-1] != target[-1]:
        ones, zeros = np.ones((1, target[-1]), dtype=np.int64), np.zeros(target[-1], dtype=np.int64)
        op = Dense(frozen_array(ones), frozen_array(zeros))
        tensor = importer.add(op, (tensor,), importer.frac(tensor), layer, name)
    factors = tuple(many // one for one, many in zip(shape[:-1], target[:-1], strict=True))
    if max(factors, default=1) == 1:
        return tensor
    return importer.add(Upsample(factors, zeros=False), (tensor,), importer.frac(tensor), layer, name)


def _same_unit(importer: Importer, layer: Layer, tensors: tuple[str, ...]) -> tuple[tuple[str, ...], IntArray]:
    """Tensors in the finest unit among them, channel by channel, and that unit's frac."""
    finest = reduce(np.maximum, (importer.frac(one) for one in tensors))
    return tuple(importer.align(one, finest, layer) for one in tensors), np.asarray(finest)


def _product(importer: Importer, layer: Layer, left: str, right: str) -> str:
    reach = int(importer.reach(left).max()) * int(importer.reach(right).max())
    if reach > FLOAT32_EXACT:
        raise Unsupported(
            f"its products can reach 2^{math.log2(reach):.1f} steps, and QKeras' float32 is exact only up to 2^24",
            where=layer.where,
            fix="use fewer bits for its inputs",
        )
    return importer.add(Multiply(), (left, right), importer.frac(left) + importer.frac(right), layer)


def _largest(importer: Importer, layer: Layer, tensors: tuple[str, ...], frac: IntArray) -> str:
    """The element-wise maximum of tensors of one shape and unit."""
    shape = importer.shape(Value(tensors[0]))
    flat = (1, math.prod(shape[:-1]), shape[-1])
    rows = tuple(
        importer.add(Reshape(flat), (one,), frac, layer, f"{layer.name}_row") if shape != flat else one
        for one in tensors
    )
    stack = importer.add(Concat(0), rows, frac, layer, f"{layer.name}_stack")
    window = (len(rows), 1)
    pool = MaxPool(window, window, ((0, 0), (0, 0)))
    if shape == flat:
        return importer.add(pool, (stack,), frac, layer)
    largest = importer.add(pool, (stack,), frac, layer, f"{layer.name}_largest")
    return importer.add(Reshape(shape), (largest,), frac, layer)


def _negative(importer: Importer, layer: Layer, tensor: str) -> str:
    kind, zero = importer.builder.type(tensor), np.asarray(0)
    op = requant(pre=zero, shift=zero, rounding=Rounding.FLOOR, lo=-kind.hi, hi=-kind.lo, multiplier=-1)
    return importer.add(op, (tensor,), importer.frac(tensor), layer, f"{layer.name}_negative")
