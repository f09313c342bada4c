"""What the layers on Armv6-M functions cost: instructions of their assembly, counted, and of the C around it, fitted.

The functions' own figures follow from their listings; what gathers the input was fitted to what `make bench-mcu` counts
under QEMU.
"""

from __future__ import annotations

from edgeflow.backends.c.cost import CoreCost
from edgeflow.backends.c.v6m.layers import ProductKernel, ThumbDepthwiseKernel
from edgeflow.backends.c.v6m.tile import BLOCK, Tile
from edgeflow.backends.c.windows import Geometry

_RESULT = 14.0
"""Instructions of a result behind its sum, the mean of those that are compared and those outside of the levels."""
_OUTPUT = 36.0
"""Instructions around the sums of one output."""
_VECTOR_OUTPUT = 31.0
_PAIRED = 5.0
"""Instructions that put a value beside another position's."""
_SUMMED = 5.0
_EDGE = 22.0
"""Instructions of a row of a window that may lie beside the input, besides another copy."""
_CONV_CODE, _GATHER_CODE, _DENSE_CODE, _DEPTHWISE_CODE = 300, 110, 50, 130
STACK, STACK_WINDOW = 130, 175
"""Bytes of stack of a fully connected layer, and of others."""


def instructions(kernel: ProductKernel | ThumbDepthwiseKernel, cost: CoreCost) -> float:
    """All instructions of a layer; copies are the core's."""
    if isinstance(kernel, ThumbDepthwiseKernel):
        return _depthwise(kernel, cost)
    return kernel.rows * _vector(kernel) if kernel.geometry is None else _convolution(kernel, kernel.geometry, cost)


def code(kernel: ProductKernel | ThumbDepthwiseKernel) -> int:
    """Bytes of a layer's own code, without the functions that it may share."""
    if isinstance(kernel, ThumbDepthwiseKernel):
        return _DEPTHWISE_CODE
    if kernel.geometry is None:
        return _DENSE_CODE
    return _CONV_CODE + (0 if kernel.direct else _GATHER_CODE)


def stack(kernel: ProductKernel | ThumbDepthwiseKernel) -> int:
    """Bytes of stack below the function that runs the model."""
    return STACK if kernel.by_rows is None else STACK_WINDOW


def _convolution(kernel: ProductKernel, geometry: Geometry, cost: CoreCost) -> float:
    group = kernel.by_rows.group if kernel.by_rows else 1
    positions = group * geometry.out_w
    if kernel.vector is not None:
        return geometry.out_h * positions * (_vector(kernel) + _gathered(kernel, geometry, cost) + 20.0)
    fours = positions // 4 if 4 in kernel.tiles else 0
    counts = {4: fours, 2: -(-(positions - 4 * fours) // 2)}
    calls = geometry.out_h / group
    products = sum(counts[size] * kernel.outputs * _tile(kernel, tile) for size, tile in kernel.tiles.items())
    gathered = _PAIRED * kernel.values
    if not kernel.direct:
        gathered += _gathered(kernel, geometry, cost)
    return calls * (products + positions * (gathered + 20.0))


def _gathered(kernel: ProductKernel, geometry: Geometry, cost: CoreCost) -> float:
    """Instructions that copy the rows of a window."""
    beside = _EDGE + cost.per_memcpy if geometry.beside else 0.0
    return geometry.k_h * (cost.per_memcpy + cost.per_byte * kernel.run + beside)


def _tile(kernel: ProductKernel, tile: Tile) -> float:
    """Instructions of one output of a tile."""
    pairs = tile.positions // 2
    value = 2 + 2 * pairs + 4 * pairs / tile.together + 2 / tile.chunk
    return kernel.words * value + _OUTPUT + _RESULT * tile.positions


def _vector(kernel: ProductKernel) -> float:
    """Instructions of one vector."""
    vector = kernel.vector
    if vector is None:
        raise TypeError(f"{kernel.name} has no function of a vector")
    blocks = -(-kernel.outputs // BLOCK)
    value = 3 * BLOCK + 1 + vector.signed + 4 / vector.chunk
    sums = blocks * (kernel.values * value + 60.0)
    return sums + kernel.outputs * (_VECTOR_OUTPUT + _RESULT) + _SUMMED * kernel.values


def _depthwise(kernel: ThumbDepthwiseKernel, cost: CoreCost) -> float:
    shape, positions = kernel.geometry, kernel.positions
    tiles = -(-shape.out_w // positions)
    rest = 41.0 + (_RESULT + 1) * positions
    if kernel.row is not None:
        inside = sum(kernel.row.reads(at, column) for at in range(positions) for column in range(shape.k_w))
        return shape.out_h * (shape.out_c * (shape.k_h * (3 * shape.k_w + 3 * inside + 5) + rest) + 40.0)
    channel = shape.k_h * shape.k_w * (3 + 3 * positions) + rest
    copies = 3 if shape.beside else 1
    gathered = shape.k_h * (copies * cost.per_memcpy + cost.per_byte * kernel.columns * shape.in_c)
    return shape.out_h * tiles * (channel * shape.out_c + gathered + 40.0)
