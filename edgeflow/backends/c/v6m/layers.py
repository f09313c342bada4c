"""Conv and Dense as layers around the Armv6-M functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import UINT32, Record, Table, table
from edgeflow.backends.c.flow import Reuse
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, Shared, ends_of, requant_of
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.v6m import depthwise, listing, tile, vector
from edgeflow.backends.c.v6m.depthwise import Depthwise, Row
from edgeflow.backends.c.v6m.refine import Levels, Refined, refine, signed_weights
from edgeflow.backends.c.v6m.tile import BLOCK, PRODUCT, Tile
from edgeflow.backends.c.v6m.vector import Vector
from edgeflow.backends.c.windows import Geometry, geometry_of
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense

_MOST_SCRATCH, _LITTLE_SCRATCH = 4096, 1024
"""Bytes of scratch that a convolution may ask for; those that it may ask for in any model."""
_FEW_COLUMNS = 16
"""Rows of fewer positions are made several at a time, so that fewer positions are left over from tiles of four."""
_FEW_OUTPUTS = 5
"""Fewer are not worth a block of eight."""
_PRODUCT = Shared("v6m_product_t", PRODUCT, 0)


@dataclass(frozen=True, kw_only=True)
class ProductKernel(Kernel):
    """A convolution of gathered positions, or (without a geometry) a fully connected layer of `rows` vectors.

    `functions` by the number of positions, with their `tiles`, or the one `vector`, which makes a convolution position
    by position. `direct`: the values of a position lie side by side.
    """

    functions: dict[int, str]
    values: int
    words: int
    outputs: int
    center: int
    geometry: Geometry | None = None
    tiles: Mapping[int, Tile] = field(default_factory=dict[int, Tile])
    vector: Vector | None = None
    pair: str = ""
    direct: bool = False
    pad_value: int = 0
    rows: int = 1

    @property
    def run(self) -> int:
        """Values side by side."""
        return self.values if self.geometry is None else self.geometry.k_w * self.geometry.in_c


@dataclass(frozen=True, kw_only=True)
class ThumbDepthwiseKernel(Kernel):
    """A depthwise convolution that makes `positions` results of a row at a time, from `columns` of the input,
    or from a whole `row`."""

    function: str
    geometry: Geometry
    positions: int
    columns: int
    pad_value: int
    row: Row | None


@dataclass(frozen=True)
class _Layer:
    """What the makers know of a layer: weights (outputs, values) that have their final signs, and constants."""

    levels: Levels
    forms: tuple[Refined, ...]
    weights: IntArray
    ends: tuple[int, int]

    def constants(self, name: str, more: IntArray) -> Table:
        """The table of shared words, then of each output's; `more` (outputs,) goes into the addends."""
        behind = [form.words(self.levels) for form in self.forms]
        words = [*behind[0]] if self.levels.alike else []
        for form, own, extra in zip(self.forms, behind, more.tolist(), strict=True):
            words += [form.addend + extra, *(() if self.levels.alike else own)]
        return Table(f"{name}_constants", UINT32, np.array(words, dtype=np.int64) % (1 << 32))


def make_conv(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Conv where the core and the numbers allow one; else None."""
    op = cast(Conv, node.op)
    geometry = geometry_of(op, context.shapes[node.inputs[0]], node.type.shape)
    type_lo = -128 if inputs[0].ctype.name == "int8_t" else 0
    if geometry.dilation_w > 1 or not type_lo <= op.pad_value <= type_lo + 255:
        return None
    if op.groups == geometry.in_c and op.weight.shape[-1] == op.groups > 1:
        return _depthwise(step, node, name, context, inputs, y, geometry)
    return None if op.groups > 1 else _convolution(step, node, name, context, inputs, y, geometry)


def _convolution(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer, geometry: Geometry
) -> Kernel | None:
    op = cast(Conv, node.op)
    layer = _layer(step, node, context, inputs, y, np.moveaxis(op.weight, -1, 0).reshape(geometry.out_c, -1), op.bias)
    if layer is None:
        return None
    tiles = _tiled(layer, node, name, context, inputs, y, geometry)
    return tiles or _positions(layer, node, name, context, inputs, y, geometry)


def _tiled(
    layer: _Layer, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer, geometry: Geometry
) -> Kernel | None:
    """Two or four positions at a time; None where the numbers or the scratch do not allow it."""
    op = cast(Conv, node.op)
    shape = tile.shape_of(layer.weights, *layer.ends)
    if shape is None:
        return None
    chunk, together = shape
    packed = tile.pack(layer.weights, chunk)
    center = tile.center_of(*layer.ends)
    values = layer.weights.shape[1]
    words = -(-values // chunk) * chunk
    flat = 0 if _direct(geometry) else -(-2 * values // 4)
    scratch = 2 * words + flat
    if 4 * scratch > _scratch_limit(context):
        return None
    finisher = _finisher(context, layer.levels)
    group = _rows_together(geometry)
    counts = [count for count in (4, 2) if count == 2 or count <= group * geometry.out_w]
    tiles = {count: Tile(count, layer.levels, chunk, together) for count in counts}
    functions = {count: context.named(f"v6m_tile_{count}", one) for count, one in tiles.items()}
    pair = _pair(context, inputs[0].ctype.name)
    return ProductKernel(
        name=name,
        layer=node.layer,
        what=f"conv {geometry.words}, requantize",
        template="V6mConv",
        inputs=inputs,
        y=y,
        own_tables=(
            weight := table(f"{name}_weight", packed),
            constants := layer.constants(name, tile.addends(layer.weights, shape, center)),
        ),
        records=(_record(name, weight, constants, geometry.out_c, BLOCK * words),),
        by_rows=RowForm((geometry.rows,), group, _reuse(geometry)),
        scratch=scratch,
        shared=(
            _PRODUCT,
            pair,
            finisher,
            *(
                Shared(functions[n], tile.source(functions[n], finisher.name, one), tile.code_size(one))
                for n, one in tiles.items()
            ),
        ),
        uses_string=True,
        functions=functions,
        values=values,
        words=words,
        outputs=geometry.out_c,
        center=center,
        geometry=geometry,
        tiles=tiles,
        pair=pair.name,
        direct=_direct(geometry),
        pad_value=op.pad_value,
    )


def _positions(
    layer: _Layer, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer, geometry: Geometry
) -> Kernel | None:
    """One position at a time, which needs a byte of scratch a value; None where that is too much."""
    op = cast(Conv, node.op)
    values = layer.weights.shape[1]
    scratch = -(-values // 4)
    if layer.weights.min() < -128 or layer.weights.max() > 127 or 4 * scratch > _scratch_limit(context):
        return None
    own, tables, record, shared = _vector(layer, name, context, inputs)
    return ProductKernel(
        name=name,
        layer=node.layer,
        what=f"conv {geometry.words}, requantize",
        template="V6mPosition",
        inputs=inputs,
        y=y,
        own_tables=tables,
        records=(record,),
        by_rows=RowForm((geometry.rows,), 1, _reuse(geometry)),
        scratch=scratch,
        shared=shared,
        uses_string=True,
        functions={1: shared[-1].name},
        values=values,
        words=values,
        outputs=geometry.out_c,
        center=vector.EXCESS,
        geometry=geometry,
        vector=own,
        direct=_direct(geometry),
        pad_value=op.pad_value,
    )


def _vector(
    layer: _Layer, name: str, context: Context, inputs: tuple[Buffer, ...]
) -> tuple[Vector, tuple[Table, ...], Record, tuple[Shared, ...]]:
    """The function of one vector, last of what is shared, and what it reads."""
    outputs, values = layer.weights.shape
    own = Vector(layer.levels, inputs[0].ctype.name == "int8_t", vector.chunk_of(values))
    function = context.named("v6m_vector", own)
    finisher = _finisher(context, layer.levels)
    weight = table(f"{name}_weight", vector.pack(layer.weights))
    constants = layer.constants(name, _nothing(outputs))
    source = Shared(function, vector.source(function, finisher.name, own), vector.code_size(own))
    record = _record(name, weight, constants, outputs, BLOCK * values)
    return own, (weight, constants), record, (_PRODUCT, finisher, source)


def _scratch_limit(context: Context) -> int:
    """Bytes of scratch that a convolution may ask for: in a small model, where RAM is scarce, no more than the tensors
    of the layer with the largest ones, unless speed is the aim."""
    if context.optimize is Optimize.SPEED:
        return _MOST_SCRATCH
    buffer = context.lowered.buffer
    held = [sum(buffer(one).size for one in (*step.reads, step.result)) for step in context.lowered.steps]
    return min(_MOST_SCRATCH, max(_LITTLE_SCRATCH, *held))


def _depthwise(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer, geometry: Geometry
) -> Kernel | None:
    op = cast(Conv, node.op)
    taps = op.weight.reshape(-1, geometry.in_c).T
    if taps.shape[1] > depthwise.MOST_TAPS:
        return None
    layer = _layer(step, node, context, inputs, y, taps, op.bias)
    positions = depthwise.positions_of(geometry.out_w)
    columns = (positions - 1) * geometry.stride_w + geometry.k_w
    if layer is None:
        return None
    own = _taps(geometry, op.pad_value, inputs[0].ctype.name == "int8_t", layer.levels)
    scratch = 0 if own.row else -(-geometry.k_h * columns * geometry.in_c // 4)
    if 4 * scratch > _scratch_limit(context) or not _overlaps(geometry, positions, columns):
        return None
    if layer.weights.min() < -128 or layer.weights.max() > 127:
        return None
    function = context.named("v6m_depthwise", own)
    finisher = _finisher(context, layer.levels)
    weight = table(f"{name}_weight", layer.weights)
    constants = layer.constants(name, _nothing(geometry.out_c))
    return ThumbDepthwiseKernel(
        name=name,
        layer=node.layer,
        what=f"depthwise {geometry.words}, requantize",
        template="V6mDepthwiseRow" if own.row else "V6mDepthwise",
        inputs=inputs,
        y=y,
        own_tables=(weight, constants),
        records=(_record(name, weight, constants, geometry.out_c, columns * geometry.in_c),),
        by_rows=RowForm((geometry.rows,)),
        scratch=scratch,
        shared=(
            _PRODUCT,
            finisher,
            Shared(function, depthwise.source(function, finisher.name, own), depthwise.code_size(own)),
        ),
        uses_string=own.row is None,
        function=function,
        geometry=geometry,
        positions=positions,
        columns=columns,
        pad_value=op.pad_value,
        row=own.row,
    )


def _taps(geometry: Geometry, pad_value: int, signed: bool, levels: Levels) -> Depthwise:
    """The function of a depthwise layer, which reads the rows where they lie if a tile is a whole row."""
    positions = depthwise.positions_of(geometry.out_w)
    row = Row(geometry.in_w, geometry.stride_w, geometry.pad_left, geometry.dilation_h)
    own = Depthwise(geometry.k_h, geometry.k_w, positions, signed, levels, row)
    possible = positions == geometry.out_w and (pad_value == 0 or not geometry.padded)
    return own if possible and depthwise.takes_rows(own) else replace(own, row=None)


def _record(name: str, weight: Table, constants: Table, outputs: int, size: int) -> Record:
    """What the assembly of a layer reads."""
    return Record(f"{name}_product", "v6m_product_t", (weight.name, constants.name, str(outputs), str(size)))


def _overlaps(geometry: Geometry, positions: int, columns: int) -> bool:
    """Whether the columns of all tiles lie at most partly beside the input."""
    last = (geometry.out_w - positions) * geometry.stride_w - geometry.pad_left
    before, behind = geometry.pad_left, max(last + columns - geometry.in_w, 0)
    return before + behind < columns


def make_dense(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Dense where the core and the numbers allow one; else None."""
    op = cast(Dense, node.op)
    values, outputs = op.weight.shape
    layer = _layer(step, node, context, inputs, y, op.weight.T, op.bias)
    if layer is None or layer.weights.min() < -128 or layer.weights.max() > 127:
        return None
    own, tables, record, shared = _vector(layer, name, context, inputs)
    return ProductKernel(
        name=name,
        layer=node.layer,
        what=f"dense {values} -> {outputs}, requantize",
        template="V6mDense",
        inputs=inputs,
        y=y,
        own_tables=tables,
        records=(record,),
        shared=shared,
        functions={1: shared[-1].name},
        values=values,
        words=values,
        outputs=outputs,
        center=vector.EXCESS,
        vector=own,
        rows=node.type.size // outputs,
    )


def _layer(
    step: Step,
    node: Node,
    context: Context,
    inputs: tuple[Buffer, ...],
    y: Buffer,
    weights: IntArray,
    bias: IntArray,
) -> _Layer | None:
    """A layer of bytes with one Requant behind it that has a form for every output."""
    requant = requant_of(step, inputs, y)
    if not context.core.is_plain_thumb or requant is None or len(weights) < _FEW_OUTPUTS:
        return None
    ends = ends_of(node, context)
    found = refine(requant, weights, bias, ends)
    if found is None:
        return None
    levels, forms = found
    return _Layer(levels, forms, signed_weights(weights, forms), ends)


def _nothing(outputs: int) -> IntArray:
    return np.zeros(outputs, dtype=np.int64)


def _finisher(context: Context, levels: Levels) -> Shared:
    levels = replace(levels, alike=False)
    name = context.named("v6m_level", levels)
    return Shared(name, listing.finisher(name, levels), 0)


def _pair(context: Context, ctype: str) -> Shared:
    """A function that puts two positions side by side."""
    name = context.named("v6m_pair", ctype)
    lines = [
        "/* The values of two positions side by side in the halves of every other word, less a center in both. */",
        f"static void {name}(uint32_t *to, const {ctype} *a, const {ctype} *b, const uint32_t *end, uint32_t center)",
        "{",
        "    for (; to != end; to += 2) {",
        "        *to = (uint32_t)*a++ + ((uint32_t)*b++ << 16) - center;",
        "    }",
        "}",
        "",
    ]
    return Shared(name, "\n".join(lines), 36)


def _direct(geometry: Geometry) -> bool:
    """Whether a position's values lie side by side in one row."""
    return geometry.k_h == 1 and not geometry.padded


def _rows_together(geometry: Geometry) -> int:
    """The rows of a call: four positions or more, and few left over."""
    if geometry.out_w >= _FEW_COLUMNS or geometry.out_h == 1:
        return 1
    return min(2, geometry.out_h)


def _reuse(geometry: Geometry) -> Reuse:
    """A pointwise layer has gathered its positions before it writes them."""
    pointwise = (geometry.k_h, geometry.k_w, geometry.stride_h, geometry.stride_w) == (1, 1, 1, 1)
    return Reuse.SAME_ROWS if pointwise and not geometry.padded else Reuse.NEVER
