"""Conv and Dense in plain C with packed weights, where no DSP instructions compute them and size is the aim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import UINT32, Table
from edgeflow.backends.c.fields import Fields, bits_of
from edgeflow.backends.c.kernel import Context, Kernel, accumulator, bias_of, epilogue_of, finished
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.windows import WindowKernel, make_conv
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense

_CODE = 160
"""About the bytes that a function's written-out fields add; packing must save more."""


def make_packed_conv(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """A convolution whose channels at each position fill words; None unless size is the aim and flash is saved."""
    op = cast(Conv, node.op)
    weights = np.moveaxis(op.weight, -1, 0)
    padded = any(map(any, op.pads)) and op.pad_value != 0
    packed = None if padded or op.groups > 1 else packed_weights(name, weights, context)
    if packed is None:
        return None
    fields, table = packed
    plain = cast(WindowKernel, make_conv(step, node, name, context, inputs, y))
    return replace(
        plain,
        what=f"{plain.what}, weights of {fields.bits} bits",
        weight=table,
        own_tables=(table, *plain.own_tables[1:]),
        fields=fields,
    )


@dataclass(frozen=True, kw_only=True)
class PackedDenseKernel(Kernel):
    """A matrix product over the last axis of `rows` vectors, with weights in fields."""

    rows: int
    in_c: int
    out_c: int
    weight: Table
    bias: str
    fields: Fields


def make_packed_dense(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """A Dense whose weights fill words; None unless size is the aim and flash is saved."""
    op = cast(Dense, node.op)
    packed = packed_weights(name, op.weight.T, context)
    if packed is None:
        return None
    fields, weight = packed
    acc = accumulator(node, context)
    in_c, out_c = op.weight.shape
    bias, bias_tables = bias_of(name, op.bias, "m")
    axes = (*(None,) * (len(node.type.shape) - 1), "m")
    what = [f"dense {in_c} -> {out_c}", *finished(step.fused), f"weights of {fields.bits} bits"]
    return PackedDenseKernel(
        name=name,
        layer=node.layer,
        what=", ".join(what),
        template="PackedDense",
        inputs=inputs,
        y=y,
        acc=acc.name,
        epilogue=epilogue_of(step.fused, name, context, acc, axes),
        own_tables=(weight, *bias_tables),
        rows=node.type.size // out_c,
        in_c=in_c,
        out_c=out_c,
        weight=weight,
        bias=bias,
        fields=fields,
    )


def packed_weights(name: str, weights: IntArray, context: Context) -> tuple[Fields, Table] | None:
    """Weights (..., run) in fields, and their table; None where the aim is not size or too little is saved."""
    fields = Fields(bits_of(weights), weights.shape[-1])
    words = fields.pack(weights)
    if context.optimize is not Optimize.SIZE or 4 * words.size + _CODE > weights.size:
        return None
    return fields, Table(f"{name}_weight", UINT32, words)
