"""What products and depthwise convolutions in plain C cost: the loops that are written out, as far as they run."""

from __future__ import annotations

from edgeflow.backends.c.cost import CoreCost
from edgeflow.backends.c.ctypes import INT64
from edgeflow.backends.c.kernel import Kernel
from edgeflow.backends.c.products import ProductKernel
from edgeflow.backends.c.windows import WindowKernel


def product(kernel: ProductKernel, cost: CoreCost) -> float:
    """A matrix product, and bringing together what it reads."""
    positions = kernel.y.elements // kernel.outputs
    each_product = cost.per_wide_tap if kernel.acc == INT64.name else cost.per_product
    blocks = sum((one.last - one.first) // one.count for one in kernel.blocks)
    each = blocks * (cost.per_block + cost.per_value * kernel.values) + each_product * kernel.values * kernel.outputs
    shape = kernel.geometry
    if shape and kernel.gathered:
        each += cost.per_window * shape.k_h * shape.k_w + cost.per_gathered * kernel.values
    return positions * each


def depthwise(kernel: WindowKernel, cost: CoreCost) -> float:
    """A window that lies inside between the left and the right end is written out, another has loops."""
    shape, taken = kernel.geometry, windows_inside(kernel)
    ends = range(-shape.pad_left, shape.out_w * shape.stride_w - shape.pad_left, shape.stride_w)
    inside = sum(0 <= end <= shape.in_w - shape.k_w for end in ends) / shape.out_w
    columns = _positions_inside(shape.in_w, shape.out_w, shape.k_w, shape.stride_w, 1, shape.pad_left) / shape.out_w
    whole = inside * shape.k_w / columns
    rows = kernel.y.elements * shape.k_h
    written = cost.per_written_tap * whole * taken + cost.per_written_row * inside * rows
    return written + (1 - whole) * taken * cost.per_single_window + (1 - inside) * rows * cost.per_window


def windows_inside(kernel: WindowKernel) -> int:
    """Kernel positions of all results that lie inside of the input."""
    k = kernel.geometry
    rows = _positions_inside(k.in_h, k.out_h, k.k_h, k.stride_h, k.dilation_h, k.pad_top)
    return k.out_c * rows * _positions_inside(k.in_w, k.out_w, k.k_w, k.stride_w, k.dilation_w, k.pad_left)


def _positions_inside(length: int, results: int, taps: int, stride: int, dilation: int, pad: int) -> int:
    """The same along one axis."""
    return sum(0 <= at * stride + tap * dilation - pad < length for at in range(results) for tap in range(taps))


def values(kernel: Kernel, cost: CoreCost, each: float) -> float:
    """Instructions of what is done to each value of the result; storing it takes `each`."""
    each += sum(cost.pieces[piece][wide] for one in kernel.epilogues for piece, wide in one.pieces)
    return each * kernel.y.elements
