"""From a float network with grids to the integer graph: one function a float op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeflow.backends.tflm.arithmetic import clamped, shifted
from edgeflow.errors import InvalidGraph, Unsupported
from edgeflow.ir.graph import Bounds, Graph
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, Shape, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.sumpool import SumPool
from edgeflow.train.calibrate.floats import (
    Average,
    Clip,
    FloatConv,
    FloatDense,
    FloatNode,
    Function,
    Move,
    Product,
    Sum,
)
from edgeflow.train.calibrate.grids import Grid
from edgeflow.train.calibrate.observe import is_spread
from edgeflow.train.calibrate.rescale import averages, rescale, sum_inputs
from edgeflow.train.calibrate.twin import Twin, clip_ends
from edgeflow.train.calibrate.weights import quantize_weights

_INT32 = 1 << 31
_TFLITE_NAMES = {"sigmoid": "logistic"}

Counted: TypeAlias = Callable[[int, int], None]
Lowering: TypeAlias = Callable[[Twin, FloatNode, Any], str]


def lower(twin: Twin, told: Counted = lambda done, all_: None) -> Graph:
    """The verified graph of the twin's network; `told` hears how many nodes are done.

    Raises Unsupported, naming the layer, for what no integers of the graph can hold.
    """
    nodes = twin.graph.nodes
    fused = set(twin.clips.values())
    for number, node in enumerate(nodes):
        if node.name not in fused:
            twin.begin(node)
            try:
                tensor = _LOWERINGS[type(node.op)](twin, node, node.op)
            except InvalidGraph as error:
                raise Unsupported(error.what, where=f"layer '{node.layer}'", fix=error.fix) from None
            twin.end(node, tensor)
        told(number + 1, len(nodes))
    for output in twin.graph.outputs:
        twin.builder.output(output.name, twin.names[output.tensor], logits=output.logits)
    return twin.builder.finish()


def _linear(twin: Twin, node: FloatNode, op: FloatConv | FloatDense) -> str:
    """Integer weights; the input's zero point and the bias correction go into the bias."""
    ((tensor, source),) = twin.sources(node)
    grid, ends = twin.target(node)
    weights = quantize_weights(op.kernel, op.bias, source, grid, twin.options)
    units = weights.scales * source.scale
    zeros = source.zero * weights.codes.reshape(-1, len(units)).sum(axis=0)
    bias = np.rint(op.bias.astype(np.float64) / units).astype(np.int64) - zeros
    made = _with_bias(op, weights.codes, bias, source)
    if twin.options.correct_bias:
        error = twin.floats[node.name] - twin.computed(made, (tensor,)) * units
        bias = bias + np.rint(error.reshape(-1, len(units)).mean(axis=0) / units).astype(np.int64)
        made = _with_bias(op, weights.codes, bias, source)
    reach = _reach(made, twin.builder.bounds(tensor), twin.shapes[node.inputs[0]])
    if reach >= _INT32:
        raise Unsupported(
            f"its sums reach 2^{np.log2(float(reach)):.1f}, beyond 32 bits",
            where=f"layer '{node.layer}'",
            fix="give it fewer inputs, or choose fewer --bits",
        )
    sums = twin.add(made, (tensor,), sum_label(units, grid), node, "_sums")
    return twin.add(rescale(units / grid.scale, grid, reach, ends), (sums,), grid.label, node)


def _with_bias(op: FloatConv | FloatDense, codes: IntArray, bias: IntArray, source: Grid) -> Conv | Dense:
    if isinstance(op, FloatDense):
        return Dense(frozen_array(codes), frozen_array(bias))
    pad = int(source.integers(np.array([op.pad]))[0])
    return Conv(frozen_array(codes), frozen_array(bias), op.strides, op.pads, op.dilation, op.groups, pad)


def _reach(op: Conv | Dense, source: Bounds, shape: Shape) -> int:
    sums = op.sums(source) if isinstance(op, Dense) else op.sums(source, shape[-1])
    return sums.magnitude


def sum_label(units: npt.NDArray[np.float64], grid: Grid) -> Label:
    """What one unit of a sum means. Affine labels hold one scale: that of the first channel."""
    if not grid.dyadic:
        return Affine(float(units.flat[0]), 0)
    fracs = [-round(float(np.log2(one))) for one in units.flat]
    return Dyadic(fracs[0] if len(set(fracs)) == 1 else tuple(fracs))


def _clip(twin: Twin, node: FloatNode, op: Clip) -> str:
    """A Clip that no rounding before it can do."""
    ((tensor, source),) = twin.sources(node)
    grid = twin.grids[node.name]
    return _regrid(twin, node, tensor, source, grid, clip_ends(op, grid))


def _regrid(
    twin: Twin, node: FloatNode, tensor: str, source: Grid, grid: Grid, ends: tuple[int, int], part: str = ""
) -> str:
    if (source.scale, source.zero) == (grid.scale, grid.zero):
        return twin.add(clamped(*ends), (tensor,), grid.label, node, part)
    reach = source.hi - source.lo
    requant = rescale(np.array([source.scale / grid.scale]), grid, reach, ends, -source.zero)
    return twin.add(requant, (tensor,), grid.label, node, part)


def _sum(twin: Twin, node: FloatNode, op: Sum) -> str:
    """As TFLite-Micro's ADD and SUB: both inputs to one fine unit, their sum to the result's grid."""
    grid, ends = twin.target(node)
    sources = twin.sources(node)
    wide, factor = sum_inputs([one for _, one in sources], grid)
    unit = sum_label(np.array([factor * grid.scale]), grid)
    parts = tuple(
        tensor if requant is None else twin.add(requant, (tensor,), unit, node, f"_input{number + 1}")
        for number, ((tensor, _), requant) in enumerate(zip(sources, wide, strict=True))
    )
    total = twin.add(Add(op.signs), parts, unit, node, "_sums")
    bounds = twin.builder.bounds(total)
    reach = max(-int(bounds.lo.min()), int(bounds.hi.max()))
    return twin.add(rescale(np.array([factor]), grid, reach, ends), (total,), grid.label, node)


def _product(twin: Twin, node: FloatNode, op: Product) -> str:
    """As TFLite-Micro's MUL: the zero points off, the product to the result's grid."""
    grid, ends = twin.target(node)
    parts = tuple(
        _without_zero(twin, node, tensor, source, f"_input{number + 1}")
        for number, (tensor, source) in enumerate(twin.sources(node))
    )
    unit = float(np.prod([source.scale for _, source in twin.sources(node)]))
    products = twin.add(Multiply(), parts, sum_label(np.array([unit]), grid), node, "_products")
    bounds = twin.builder.bounds(products)
    reach = max(-int(bounds.lo.min()), int(bounds.hi.max()))
    return twin.add(rescale(np.array([unit / grid.scale]), grid, reach, ends), (products,), grid.label, node)


def _without_zero(twin: Twin, node: FloatNode, tensor: str, source: Grid, part: str) -> str:
    if source.zero == 0:
        return tensor
    return twin.add(shifted(-source.zero), (tensor,), Affine(source.scale, 0), node, part)


def _average(twin: Twin, node: FloatNode, op: Average) -> str:
    """Sums, divided: exactly where the grid stays, else together with the change of grid."""
    ((tensor, source),) = twin.sources(node)
    grid, ends = twin.target(node)
    counts = op.counts(twin.shapes[node.inputs[0]])
    most = int(counts.max())
    counts = counts.reshape(-1)[:1] if (counts == most).all() else counts
    sums = twin.add(
        SumPool(op.window, op.strides, op.pads), (tensor,), sum_label(np.array([source.scale]), grid), node, "_sums"
    )
    if (source.scale, source.zero) == (grid.scale, grid.zero):
        return twin.add(averages(counts, grid, ends), (sums,), grid.label, node)
    factors = np.asarray(source.scale / (counts * grid.scale), dtype=np.float64)
    reach = most * (source.hi - source.lo)
    requant = rescale(factors, grid, reach, ends, -source.zero * counts)
    return twin.add(requant, (sums,), grid.label, node)


def _function(twin: Twin, node: FloatNode, op: Function) -> str:
    """A table of the function's values for every integer of the input's grid."""
    ((tensor, source),) = twin.sources(node)
    grid = twin.grids[node.name]
    values = op.evaluate((source.reals(np.arange(source.lo, source.hi + 1)).astype(np.float32),))
    table = frozen_array(grid.integers(np.nan_to_num(values)))
    return twin.add(Lut(table, source.lo, _TFLITE_NAMES.get(op.name, op.name)), (tensor,), grid.label, node)


def _move(twin: Twin, node: FloatNode, op: Move) -> str:
    """The same op on integers; where it makes zeros of its own, they are the zero point."""
    grid = twin.grids[node.name]
    inner = op.op
    sources = twin.sources(node)
    if isinstance(inner, Concat):
        parts = tuple(
            tensor if source == grid else _regrid(twin, node, tensor, source, grid, (grid.lo, grid.hi), "_input")
            for tensor, source in sources
        )
        return twin.add(inner, parts, grid.label, node)
    ((tensor, source),) = sources
    if is_spread(op):
        tensor = _without_zero(twin, node, tensor, source, "_input")
    if isinstance(inner, Pad):
        inner = replace(inner, value=grid.zero)
    return twin.add(inner, (tensor,), grid.label, node)


_LOWERINGS: Mapping[type, Lowering] = {
    FloatConv: _linear,
    FloatDense: _linear,
    Clip: _clip,
    Sum: _sum,
    Product: _product,
    Average: _average,
    Function: _function,
    Move: _move,
}
