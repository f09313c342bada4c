"""Convolutions for cores with the DSP instructions: layers around tile products and depthwise functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import numpy as np

from edgeflow.backends.c.ctypes import UINT32, Table
from edgeflow.backends.c.dsp import depthwise, window_gather
from edgeflow.backends.c.dsp.depthwise import Depthwise
from edgeflow.backends.c.dsp.gather import LARGEST_STEP, Gather, code_bytes
from edgeflow.backends.c.dsp.gather import source as gather_source
from edgeflow.backends.c.dsp.packed_choice import tile_packing
from edgeflow.backends.c.dsp.packed_depthwise import narrowest
from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.dsp.request import shifts_of, tile_bytes
from edgeflow.backends.c.dsp.row_parts import COPY_COLUMNS
from edgeflow.backends.c.dsp.tile import STORE_REACH, Tile, calls, source, split
from edgeflow.backends.c.dsp.tile_forms import requantization
from edgeflow.backends.c.dsp.tile_weights import NOTHING, PackWords, nest, order, pack
from edgeflow.backends.c.dsp.window_gather import MOST_VALUES, POSITIONS, WindowGather
from edgeflow.backends.c.flow import Reuse
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, Shared, ends_of, requant_of
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.windows import Geometry, geometry_of
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant
from edgeflow.passes.requants import scale_of

_FEW_COLUMNS = 12
"""Rows of fewer positions are made two at a time, so that fewer positions are left over from tiles of four; rows of
one position four at a time."""
_REST_WORDS, _PART_WORDS = 8, 16
"""Words that are written out in a row, at most, for one position and for two that are left over from four."""
_SHORT_LINE = 64
"""Bytes of a row with its padding that compilers copy without a call: such rows are padded before they are gathered."""


@dataclass(frozen=True)
class Product:
    """The C statements that compute all outputs of a tile, by its number of positions, and the weights that they read.

    `words` of 16-bit pairs a position. `packing`: how weights of few bits are stored.
    """

    calls: dict[int, tuple[str, ...]]
    weight: Table
    words: int
    packing: Packing | None = None


@dataclass(frozen=True, kw_only=True)
class TileKernel(Kernel):
    """A convolution: a matrix product of gathered positions.

    `run` values of a position lie side by side in a row of the input; `signed` says how bytes are spread. `gathers` are
    the functions that do, by the number of positions, from words `step` bytes apart. `line`: bytes of a padded row that
    is copied, `own`: of a buffer for each position where its bytes do not lie in rows as they are gathered; else 0.
    """

    product: Product
    values: int
    outputs: int
    geometry: Geometry
    run: int
    signed: bool
    pad_value: int = 0
    rows: int = 1
    gathers: Mapping[int, str] = field(default_factory=dict[int, str])
    step: int = 4
    line: int = 0
    own: int = 0


@dataclass(frozen=True, kw_only=True)
class RowTileKernel(TileKernel):
    """A convolution that makes one row a call, from positions that lie in a row of the input, `apart` bytes each.

    `by_window`: the function in `gathers` takes the rows of a whole window; else a row at a time. `back`: the last
    four positions reach back over some that are made already. `own`: bytes of a part of each row, or of one row, that
    is copied with its padding where positions read beside the image; 0 where none does.
    """

    apart: int
    by_window: bool
    back: bool

    @property
    def span(self) -> int:
        """Columns that four positions read."""
        return (POSITIONS - 1) * self.geometry.stride_w + self.geometry.k_w


@dataclass(frozen=True)
class _Layer:
    """A convolution and the one Requant behind it."""

    node: Node
    name: str
    context: Context
    inputs: tuple[Buffer, ...]
    y: Buffer
    requant: Requant
    geometry: Geometry

    @property
    def op(self) -> Conv:
        """The convolution."""
        return cast(Conv, self.node.op)

    @property
    def signed(self) -> bool:
        """Whether the input's bytes are signed."""
        return self.inputs[0].ctype.name == "int8_t"


@dataclass(frozen=True, kw_only=True)
class DepthwiseKernel(Kernel):
    """A depthwise convolution: `function` makes a whole group of rows; `pad_row` is one outside of the image.

    `work`: instructions of a call; `packed`: weights have fewer than 16 bits.
    """

    function: str
    weight: Table
    pad_row: str
    geometry: Geometry
    work: float
    packed: bool


def make_conv(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Conv where the core and the numbers allow one; else None."""
    op = cast(Conv, node.op)
    requant = requant_of(step, inputs, y) if context.core.has_dsp else None
    if requant is None:
        return None
    geometry = geometry_of(op, context.shapes[node.inputs[0]], node.type.shape)
    layer = _Layer(node, name, context, inputs, y, requant, geometry)
    if op.groups == geometry.in_c and op.weight.shape[-1] == op.groups > 1:
        return _depthwise(layer)
    if op.groups > 1 or geometry.dilation_w > 1:
        return None
    return _convolution(layer)


def _product(
    name: str,
    context: Context,
    weights: IntArray,
    bias: IntArray,
    requant: Requant,
    ends: tuple[int, int],
    positions: Sequence[int],
    together: int,
    gathered: IntArray | None = None,
) -> tuple[Product | None, tuple[Shared, ...]]:
    """The tile functions of a layer with weights (outputs, values), and their text. `gathered`: the values of the
    lanes of x where they are not in the usual order.
    """
    found = requantization(requant, weights, bias, ends, together, shifts_of(context))
    if found is None:
        return None, ()
    epilogue, constants = found
    outputs, values = weights.shape
    used = order(values) if gathered is None else gathered
    chunk, chunks = split(len(used))
    lanes = np.full(2 * chunk * chunks, NOTHING)
    lanes[: len(used)] = used
    packing = tile_packing(weights, chunk, chunks, context.packings)
    packer: PackWords = partial(packing.pack_chunks, chunk=chunk) if packing else nest
    words = pack(weights, lanes, constants, together, packer).astype(np.int64)
    weight = Table(f"{name}_weight", UINT32, words)
    statements: dict[int, tuple[str, ...]] = {}
    shared: list[Shared] = []
    for count in positions:
        tile = Tile("", count, outputs, epilogue, chunk, chunks, together, outputs == 1, packing)
        if packing is None and count == 1 < len(positions):
            # What is left over is rare: short code, which layers share.
            tile = replace(tile, distance=1, chunk=_divisor(chunk * chunks, _REST_WORDS), chunks=None)
        elif packing is None and count == 2 < max(positions):
            part = _divisor(chunk * chunks, _PART_WORDS)
            tile = replace(tile, chunk=part, chunks=chunk * chunks // part)
        tile = replace(tile, name=context.named(f"tile_{count}x{2 * together}", tile))
        arguments = ("scratch", weight.name, "(uint8_t *)y")
        statements[count] = tuple(calls(tile, outputs, arguments, chunk * chunks))
        shared.append(Shared(tile.name, source(tile), tile_bytes(tile)))
    return Product(statements, weight, chunk * chunks, packing), tuple(shared)


def _divisor(words: int, most: int) -> int:
    """The largest chunk that makes up all words."""
    return next(chunk for chunk in range(most, 0, -1) if words % chunk == 0)


def common_shift(steps: Sequence[Step]) -> int | None:
    """One shift for the requantizations of all layers, so that they share code; None without any that multiplies.

    A form ((256 * sum * factor >> 32) >> shift) that stands for sum * r has the factor r * 2**(shift + 24), which must
    stay below 2**31. The larger the shift, the more exact: the largest that all layers can have is the best for all.
    """
    fused = [one.op for step in steps if step.node and isinstance(step.node.op, Conv | Dense) for one in step.fused]
    found = [_largest_shift(op) for op in fused if isinstance(op, Requant)]
    return min((one for one in found if one is not None), default=None)


def _largest_shift(requant: Requant) -> int | None:
    """The largest shift that a Requant's largest factor allows; None for powers of two, which need no product."""
    scale = np.abs(scale_of(requant)).astype(np.float64)
    if not (np.log2(np.maximum(scale, 1)) % 1).any():
        return None
    for stage in requant.stages:
        scale = scale / 2.0**stage.shift
    return int(np.clip(np.ceil(7 - np.log2(scale.max())) - 1, 0, 31))


def _convolution(layer: _Layer) -> Kernel | None:
    op, geometry, signed = layer.op, layer.geometry, layer.signed
    if not (-128 if signed else 0) <= op.pad_value <= (127 if signed else 255):
        return None
    weights = np.moveaxis(op.weight, -1, 0).reshape(geometry.out_c, -1)
    if (in_rows := _in_rows(layer, weights)) is not None:
        return in_rows
    wanted = 4 if geometry.out_w in (1, 3) else 2 if geometry.out_w < _FEW_COLUMNS else 1
    group = min(wanted, geometry.out_h)
    most = min(group * geometry.out_w, STORE_REACH // geometry.out_c + 1)
    positions = [count for count in (4, 2, 1) if count <= most]
    ends = ends_of(layer.node, layer.context)
    product, shared = _product(layer.name, layer.context, weights, op.bias, layer.requant, ends, positions, 1)
    if product is None:
        return None
    rows = RowForm((geometry.rows,), group, _reuse(geometry))
    run, values = geometry.k_w * geometry.in_c, weights.shape[1]
    line = _line(geometry)
    own = 4 * -(-values // 4) if run % 4 else run if geometry.padded and not line else 0
    apart = line * geometry.dilation_h
    step = apart if run == 4 and 0 < apart <= LARGEST_STEP else 4
    gathers, functions = _gathers(layer, positions, step)
    return TileKernel(
        name=layer.name,
        layer=layer.node.layer,
        what=f"conv {geometry.words}, requantize",
        template="DspConv",
        inputs=layer.inputs,
        y=layer.y,
        own_tables=(product.weight,),
        by_rows=rows,
        scratch=product.words * max(positions) + -(-rows.reach(0) * line // 4) + own * max(positions) // 4,
        shared=(*functions, *shared),
        uses_string=True,
        product=product,
        values=values,
        outputs=geometry.out_c,
        geometry=geometry,
        run=run,
        signed=signed,
        pad_value=op.pad_value,
        gathers=gathers,
        step=step,
        line=line,
        own=own,
    )


def _in_rows(layer: _Layer, weights: IntArray) -> Kernel | None:
    """A convolution of long rows, made four positions of a row at a time; None where that does not go."""
    op, geometry = layer.op, layer.geometry
    run, line = geometry.k_w * geometry.in_c, _line(geometry)
    if geometry.out_w < _FEW_COLUMNS or (POSITIONS - 1) * geometry.out_c > STORE_REACH:
        return None
    window = _window(layer) if run % 4 else None
    if run % 4 and window is None:
        return None
    reuse, rest = _reuse(geometry), geometry.out_w % POSITIONS
    back = rest > 0 and reuse is Reuse.NEVER and (window is not None or rest == POSITIONS - 1)
    positions = [POSITIONS, *(count for count in (2, 1) if rest & count and not back)]
    ends = ends_of(layer.node, layer.context)
    gathered = window_gather.order(window) if window else None
    product, shared = _product(layer.name, layer.context, weights, op.bias, layer.requant, ends, positions, 1, gathered)
    if product is None:
        return None
    gathers, functions = _row_gathers(layer, positions, window)
    checked = geometry.padded and not line
    part = ((POSITIONS - 1) * geometry.stride_w + geometry.k_w) * geometry.in_c
    own = part * (geometry.k_h if window else 1) if checked else 0
    rows = RowForm((geometry.rows,), 1, reuse)
    return RowTileKernel(
        name=layer.name,
        layer=layer.node.layer,
        what=f"conv {geometry.words}, requantize",
        template="DspConvRow",
        inputs=layer.inputs,
        y=layer.y,
        own_tables=(product.weight,),
        by_rows=rows,
        scratch=product.words * POSITIONS + -(-(rows.reach(0) * line + own) // 4),
        shared=(*functions, *((COPY_COLUMNS,) if checked else ()), *shared),
        uses_string=checked or line > 0,
        product=product,
        values=weights.shape[1],
        outputs=geometry.out_c,
        geometry=geometry,
        run=run,
        signed=layer.signed,
        pad_value=op.pad_value,
        gathers=gathers,
        line=line,
        own=own,
        apart=geometry.stride_w * geometry.in_c,
        by_window=window is not None,
        back=back,
    )


def _window(layer: _Layer) -> WindowGather | None:
    """How a small window is gathered, always four positions, the last of which reach back; None where that fails."""
    geometry = layer.geometry
    run, apart = geometry.k_w * geometry.in_c, geometry.stride_w * geometry.in_c
    if geometry.k_h * run > MOST_VALUES or not WindowGather.reaches(run, apart):
        return None
    if geometry.out_w % POSITIONS and _reuse(geometry) is not Reuse.NEVER:
        return None
    return WindowGather(geometry.k_h, run, apart, layer.signed, geometry.dilation_h)


def _row_gathers(
    layer: _Layer, positions: Sequence[int], window: WindowGather | None
) -> tuple[dict[int, str], tuple[Shared, ...]]:
    """The functions that gather so many positions of a row, by their number, and their text."""
    if window is not None:
        name = layer.context.named("gather_window", window)
        text = window_gather.source(name, window)
        return {POSITIONS: name}, (Shared(name, text, window_gather.code_bytes(window)),)
    return _gathers(layer, positions, 4, row=True)


def _line(geometry: Geometry) -> int:
    """Bytes of a row with its padding, where rows are copied with it: 0 where they are not."""
    span = (geometry.out_w - 1) * geometry.stride_w + geometry.k_w
    line = max(span, geometry.pad_left + geometry.in_w) * geometry.in_c
    return line if geometry.padded and line <= _SHORT_LINE else 0


def _gathers(
    layer: _Layer, positions: Sequence[int], step: int, *, row: bool = False
) -> tuple[dict[int, str], tuple[Shared, ...]]:
    """The functions that gather so many positions, by their number, and their text."""
    names: dict[int, str] = {}
    shared: list[Shared] = []
    for count in positions:
        gather = Gather(count, layer.signed, step, row)
        names[count] = layer.context.named(gather.stem, gather)
        shared.append(Shared(names[count], gather_source(names[count], gather), code_bytes(gather)))
    return names, tuple(shared)


def _reuse(geometry: Geometry) -> Reuse:
    """A pointwise layer has gathered its positions before it writes them."""
    pointwise = (geometry.k_h, geometry.k_w, geometry.stride_h, geometry.stride_w) == (1, 1, 1, 1)
    return Reuse.SAME_ROWS if pointwise and not geometry.padded else Reuse.NEVER


def _depthwise(layer: _Layer) -> Kernel | None:
    op, geometry = layer.op, layer.geometry
    unsigned = layer.inputs[0].ctype.name == "uint8_t" and 0 <= op.pad_value <= 255
    if not unsigned or (geometry.dilation_h, geometry.dilation_w) != (1, 1):
        return None
    weight = op.weight.reshape(geometry.k_h, geometry.k_w, geometry.in_c)
    group = min(2, geometry.out_h)
    kernel, stride = (geometry.k_h, geometry.k_w), (geometry.stride_h, geometry.stride_w)
    columns, channels, outputs = geometry.in_w, geometry.in_c, geometry.out_w
    shape = Depthwise(group, kernel, stride, columns, channels, outputs, geometry.pad_left, op.pad_value)
    ends, context = ends_of(layer.node, layer.context), layer.context
    found = narrowest(layer.requant, weight, op.bias, ends, shape, context.depthwise_bits, shifts_of(context))
    if found is None:
        return None
    epilogue, constants, scale, taps = found
    shape = replace(shape, taps=taps)
    function = context.named("depthwise", (shape, epilogue))
    text = depthwise.source(function, shape, epilogue)
    shared = [Shared(function, text, depthwise.code_bytes(shape, epilogue))]
    words = depthwise.pack(weight * scale, stride, constants, epilogue, taps).astype(np.int64)
    table = Table(f"{layer.name}_weight", UINT32, words)
    size = geometry.in_w * geometry.in_c
    pad = layer.context.named("pad", (op.pad_value, size)) if geometry.above else ""
    if pad:
        shared.append(Shared(pad, pad_row(pad, op.pad_value, size), size))
    return DepthwiseKernel(
        name=layer.name,
        layer=layer.node.layer,
        what=f"depthwise {geometry.words}, requantize",
        template="DspDepthwise",
        inputs=layer.inputs,
        y=layer.y,
        own_tables=(table,),
        by_rows=RowForm((geometry.rows,), group, whole=True),
        scratch=depthwise.scratch_words(shape, epilogue),
        shared=tuple(shared),
        function=function,
        weight=table,
        pad_row=pad,
        work=depthwise.work(shape, epilogue),
        packed=taps is not None,
        geometry=geometry,
    )


def pad_row(name: str, value: int, size: int) -> str:
    """A row outside of the image."""
    if value == 0:
        return f"static const uint8_t {name}[{size}] = {{0}};\n"
    rows = [[str(value)] * min(16, size - at) for at in range(0, size, 16)]
    body = "".join(f"    {', '.join(row)},\n" for row in rows)
    return f"static const uint8_t {name}[{size}] = {{\n{body}}};\n"
