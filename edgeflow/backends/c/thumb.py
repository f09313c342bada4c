"""Which form a layer takes on cores with the plain Thumb instructions: assembly of two products in one, or plain C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeflow.backends.c import plain_cost, products
from edgeflow.backends.c.cost import core_cost
from edgeflow.backends.c.kernel import Context, Kernel
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.v6m import layers, work
from edgeflow.backends.c.windows import WindowKernel, make_depthwise
from edgeflow.ir.graph import Node

_GAIN = 0.8
"""The share of plain C's instructions that the assembly may take at most, unless speed is the aim: it wants more RAM
and code."""

_Maker = Callable[[Step, Node, str, Context, tuple[Buffer, ...], Buffer], Kernel | None]


def make_conv(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Conv where the core and the numbers allow one in assembly, and it pays; else None."""
    return _paying(layers.make_conv, (products.make_conv, make_depthwise), step, node, name, context, inputs, y)


def make_dense(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Dense where the core and the numbers allow one in assembly, and it pays; else None."""
    return _paying(layers.make_dense, (products.make_dense,), step, node, name, context, inputs, y)


def _paying(
    maker: _Maker,
    plain: tuple[_Maker, ...],
    step: Step,
    node: Node,
    name: str,
    context: Context,
    inputs: tuple[Buffer, ...],
    y: Buffer,
) -> Kernel | None:
    """What `maker` makes; None where there is nothing, or what the first of `plain` makes takes hardly longer."""
    tried = replace(context, names=dict(context.names))
    kernel = maker(step, node, name, tried, inputs, y)
    if kernel is None or not _pays(kernel, plain, step, node, name, context, inputs, y):
        return None
    context.names.update(tried.names)
    return kernel


def _pays(
    kernel: Kernel,
    plain: tuple[_Maker, ...],
    step: Step,
    node: Node,
    name: str,
    context: Context,
    inputs: tuple[Buffer, ...],
    y: Buffer,
) -> bool:
    if context.core.traps_unaligned:  # Armv6-M, where plain C has no long product and no fast one either
        return True
    found = (one(step, node, name, context, inputs, y) for one in plain)
    other = next((one for one in found if one is not None), None)
    gain = 1.0 if context.optimize is Optimize.SPEED else _GAIN
    return other is None or _instructions(kernel, context) <= gain * _instructions(other, context)


def _instructions(kernel: Kernel, context: Context) -> float:
    cost = core_cost(context.core)
    match kernel:
        case layers.ProductKernel() | layers.ThumbDepthwiseKernel():
            return work.instructions(kernel, cost)
        case products.ProductKernel():
            return plain_cost.product(kernel, cost) + plain_cost.values(kernel, cost, cost.per_result)
        case WindowKernel():
            return plain_cost.depthwise(kernel, cost) + plain_cost.values(kernel, cost, cost.per_result)
        case _:
            raise TypeError(f"{kernel.name} has no cost here")
