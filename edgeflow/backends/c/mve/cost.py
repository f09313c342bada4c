"""What the MVE layers cost, before anything is compiled: the assembly counted, the C around it fitted."""

from __future__ import annotations

from edgeflow.backends.c.mve.columns import runs
from edgeflow.backends.c.mve.finish import Finish
from edgeflow.backends.c.mve.layers import ColumnsKernel, ProductKernel
from edgeflow.backends.c.mve.product import GROUP, LANES
from edgeflow.backends.c.mve.total import TotalKernel

VectorKernel = ProductKernel | ColumnsKernel | TotalKernel
"""Every kernel of this package."""

_ENTER = 20.0
"""Instructions of a call of an assembly function, its frame included."""
_POSITION, _RUN, _EDGE_RUN, _BYTE, _FLIP = 18.0, 8.0, 19.0, 0.2, 0.8
"""Instructions that gather a position: for itself, for each row of its window, more so where that may lie beside the
input, for each byte, and for each byte that is unsigned."""
_COPY = 12.0
"""Instructions of a copy but for its bytes."""


def work(kernel: VectorKernel) -> float:
    """Instructions of all calls of a layer."""
    match kernel:
        case ProductKernel():
            return _product(kernel)
        case ColumnsKernel():
            return _columns(kernel)
        case TotalKernel(geometry=shape):
            lanes = LANES // kernel.y.ctype.size
            return shape.in_h * (_ENTER + -(-shape.in_c // lanes) * (5 + 3 * shape.in_w))


def code(kernel: VectorKernel) -> int:
    """Bytes of the layer's own function."""
    match kernel:
        case ProductKernel():
            shape = kernel.geometry
            dense = 60 if kernel.copies else 16
            return dense if shape is None else 110 + 90 * shape.above + 100 * shape.beside
        case ColumnsKernel():
            return 16
        case TotalKernel():
            return 70


def stack(kernel: VectorKernel) -> int:
    """Bytes of stack of a call, the function that drives the calls included."""
    match kernel:
        case ProductKernel():
            shape = kernel.geometry
            return (64 if shape is None else 110 + 50 * shape.padded) + 32 * kernel.finish.bounded
        case ColumnsKernel():
            return 228 + 4 * kernel.shape.taps
        case TotalKernel():
            return 110


def _product(kernel: ProductKernel) -> float:
    vectors, groups = kernel.row // LANES, -(-kernel.outputs // GROUP)
    pair = _ENTER + groups * (14 * vectors + _finish(kernel.finish, 2) + 4)
    single = _ENTER + groups * (9 * vectors + _finish(kernel.finish, 1) + 3)
    flip = _FLIP * kernel.row if kernel.flipped else 0.0
    shape = kernel.geometry
    if shape is None:
        copy = _COPY + _BYTE * kernel.row if kernel.copies else 0.0
        return kernel.rows * (single + copy + flip)
    group = kernel.by_rows.group if kernel.by_rows else 1
    whole, rest = divmod(shape.out_h, group)
    run = _EDGE_RUN if shape.beside else _RUN
    gather = _POSITION + run * shape.k_h + _BYTE * kernel.values + flip
    made = 0.0
    for calls, positions in ((whole, group * shape.out_w), (1, rest * shape.out_w)):
        made += calls * (positions // 2 * pair + positions % 2 * single + positions * gather)
    return made


def _finish(finish: Finish, vectors: int) -> int:
    """Instructions that turn so many vectors of sums into bytes in memory."""
    names = ["q0", "q1"][:vectors]
    narrow = 3 + bool(finish.clamp.offset) + 2 * finish.bounded
    return 2 * vectors + len(finish.wide(names, "r5")) + vectors * narrow


def _columns(kernel: ColumnsKernel) -> float:
    shape, geometry = kernel.shape, kernel.geometry
    blocks = -(-shape.channels // LANES)
    sums = sum(19 if len(group) == 2 else 12 for group in shape.groups) + (0 if shape.held else 2 * shape.taps)
    finish = 4 * len(shape.finish.wide(["q4"], "r9")) + 8 + 2 * bool(shape.finish.clamp.offset)
    column = blocks * (sums + finish) + 6 + (shape.taps if shape.channels % LANES else 0)
    row = len(runs(geometry)) * (2 * shape.taps + _ENTER) + 4 * geometry.k_h
    return geometry.out_h * (row + geometry.out_w * column)
