"""Conv and Dense for cores with MVE: layers around matrix products and depthwise functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.ctypes import UINT32, Table
from edgeflow.backends.c.dsp.layers import pad_row
from edgeflow.backends.c.flow import Reuse
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, Shared, ends_of, requant_of
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.mve import columns, depthwise, product
from edgeflow.backends.c.mve.depthwise import Depthwise
from edgeflow.backends.c.mve.finish import Finish, code_bytes, finish_of
from edgeflow.backends.c.mve.forms import VectorForm, layer_forms
from edgeflow.backends.c.mve.product import LANES, Product
from edgeflow.backends.c.windows import Geometry, geometry_of
from edgeflow.ir.graph import Node
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense

_FEW_COLUMNS = 12
"""Rows of fewer positions are made two at a time, so that fewer positions are left over from pairs."""
_COPY = """\
/* size bytes, 1 or more, from one place to another that it does not overlap. */
static inline void copy_bytes(void *to, const void *from, int32_t size)
{
#if defined(__ARM_FEATURE_MVE)
    __asm__ volatile(
        "dlstp.8 lr, %2\\n 1: vldrb.u8 q0, [%1], #16\\n vstrb.8 q0, [%0], #16\\n letp lr, 1b"
        : "+r"(to), "+r"(from) : "r"(size) : "lr", "q0", "memory");
#else
    memcpy(to, from, (size_t)size);
#endif
}
"""
_FILL = """\
/* size bytes, 1 or more, of one value. */
static inline void fill_bytes(void *to, int value, int32_t size)
{
#if defined(__ARM_FEATURE_MVE)
    __asm__ volatile(
        "vdup.8 q0, %2\\n dlstp.8 lr, %1\\n 1: vstrb.8 q0, [%0], #16\\n letp lr, 1b"
        : "+r"(to) : "r"(size), "r"(value) : "lr", "q0", "memory");
#else
    memset(to, value, (size_t)size);
#endif
}
"""
_WIDE = 16
"""Bytes from which on a run is copied or filled by vectors."""
_COPY_BYTES, _FILL_BYTES = Shared("copy_bytes", _COPY, 20), Shared("fill_bytes", _FILL, 16)


@dataclass(frozen=True, kw_only=True)
class ProductKernel(Kernel):
    """A matrix product: a convolution, or (without a geometry) a fully connected layer.

    `functions` by the number of positions that they make at once. `row` bytes of a position with its padding to whole
    vectors; `run` of them lie side by side in a row of the input. `flipped`: bytes of 0 to 255, less 128.
    """

    functions: dict[int, str]
    finish: Finish
    weight: Table
    values: int
    row: int
    outputs: int
    geometry: Geometry | None
    run: int
    flipped: bool
    copies: bool
    pad_value: int = 0
    rows: int = 1


@dataclass(frozen=True, kw_only=True)
class ColumnsKernel(Kernel):
    """A depthwise convolution; `function` makes a row of results."""

    function: str
    shape: Depthwise
    weight: Table
    geometry: Geometry


@dataclass(frozen=True)
class _Layer:
    """What the kernels of a layer need. `weights` are (outputs, values), `ends` the interval of the input."""

    name: str
    context: Context
    inputs: tuple[Buffer, ...]
    y: Buffer
    weights: IntArray
    finish: Finish
    forms: tuple[VectorForm, ...]

    @property
    def flipped(self) -> bool:
        """Whether the input's bytes are unsigned."""
        return self.inputs[0].ctype.name == "uint8_t"

    def table(self, words: npt.NDArray[np.uint32]) -> Table:
        """The table that a function reads."""
        return Table(f"{self.name}_weight", UINT32, words.astype(np.int64))

    def shared_finish(self) -> Shared:
        """The C of the finish, for the twins."""
        name = self.context.named("finish", self.finish)
        return Shared(name, self.finish.twin(name), 0)


def make_conv(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Conv where the core and the numbers allow one; else None."""
    op = cast(Conv, node.op)
    geometry = geometry_of(op, context.shapes[node.inputs[0]], node.type.shape)
    single = op.groups == geometry.in_c and op.weight.shape[-1] == op.groups > 1
    if not single and (op.groups > 1 or geometry.dilation_w > 1):
        return None
    weights = np.moveaxis(op.weight, -1, 0).reshape(geometry.out_c, -1)
    layer = _layer(step, node, name, context, inputs, y, weights, op.bias)
    if layer is None or not _fits(op.pad_value, layer.flipped):
        return None
    return _depthwise(layer, node, geometry) if single else _convolution(layer, node, geometry)


def make_dense(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Dense where the core and the numbers allow one; else None."""
    op = cast(Dense, node.op)
    layer = _layer(step, node, name, context, inputs, y, op.weight.T, op.bias)
    if layer is None:
        return None
    outputs, values = layer.weights.shape
    copies = layer.flipped or values % LANES > 0
    functions, shared = _functions(layer, (1,), not copies, (_COPY_BYTES,) if copies else ())
    row, weight = _row(values), _packed(layer)
    return ProductKernel(
        name=name,
        layer=node.layer,
        what=f"dense {values} -> {outputs}, requantize",
        template="MveDense",
        inputs=inputs,
        y=y,
        own_tables=(weight,),
        scratch=row // 4 if copies else 0,
        shared=shared,
        uses_string=True,
        functions=functions,
        finish=layer.finish,
        weight=weight,
        values=values,
        row=row,
        outputs=outputs,
        geometry=None,
        run=values,
        flipped=layer.flipped,
        copies=copies,
        rows=node.type.size // outputs,
    )


def _layer(
    step: Step,
    node: Node,
    name: str,
    context: Context,
    inputs: tuple[Buffer, ...],
    y: Buffer,
    weights: IntArray,
    bias: IntArray,
) -> _Layer | None:
    """The layer where it has bytes alone, and one Requant that MVE can do."""
    requant = requant_of(step, inputs, y)
    if not context.core.has_mve or requant is None or weights.min() < -128 or weights.max() > 127:
        return None
    forms = layer_forms(requant, weights, bias, ends_of(node, context))
    if forms is None:
        return None
    return _Layer(name, context, inputs, y, weights, finish_of(forms, y.ctype.name == "int8_t"), forms)


def _fits(pad: int, unsigned: bool) -> bool:
    return 0 <= pad <= 255 if unsigned else -128 <= pad <= 127


def _row(values: int) -> int:
    return -(-values // LANES) * LANES


def _packed(layer: _Layer) -> Table:
    return layer.table(product.pack(layer.weights, layer.forms, layer.finish, layer.flipped))


def _functions(
    layer: _Layer, positions: Sequence[int], direct: bool, moved: Sequence[Shared]
) -> tuple[dict[int, str], tuple[Shared, ...]]:
    """The functions of a product by their number of positions, and the text of all that it calls, `moved` first."""
    outputs, values = layer.weights.shape
    finish = layer.shared_finish()
    shared, functions = [*moved, finish], dict[int, str]()
    for count in positions:
        distance = outputs if count > 1 else 0
        one = Product(count, _row(values) // LANES, distance, layer.finish, direct, outputs % product.GROUP > 0)
        name = layer.context.named(f"product_{count}", one)
        text = product.source(name, one, finish.name)
        functions[count] = name
        shared.append(Shared(name, text, code_bytes(text)))
    return functions, tuple(shared)


def _moves(geometry: Geometry) -> tuple[Shared, ...]:
    """What gathers a convolution's positions: copies runs of a row, fills those outside of the input."""
    wide = geometry.k_w * geometry.in_c >= _WIDE
    copied = (_COPY_BYTES,) if wide or geometry.beside else ()
    return (*copied, _FILL_BYTES) if wide and (geometry.beside or geometry.above) else copied


def _convolution(layer: _Layer, node: Node, geometry: Geometry) -> Kernel | None:
    op = cast(Conv, node.op)
    outputs, values = layer.weights.shape
    group = 2 if geometry.out_w < _FEW_COLUMNS and geometry.out_h > 1 else 1
    positions = (2, 1) if group * geometry.out_w > 1 else (1,)
    functions, shared = _functions(layer, positions, False, _moves(geometry))
    weight = _packed(layer)
    return ProductKernel(
        name=layer.name,
        layer=node.layer,
        what=f"conv {geometry.words}, requantize",
        template="MveConv",
        inputs=layer.inputs,
        y=layer.y,
        own_tables=(weight,),
        by_rows=RowForm((geometry.rows,), group, _reuse(geometry)),
        scratch=_row(values) * max(positions) // 4,
        shared=shared,
        uses_string=True,
        functions=functions,
        finish=layer.finish,
        weight=weight,
        values=values,
        row=_row(values),
        outputs=outputs,
        geometry=geometry,
        run=geometry.k_w * geometry.in_c,
        flipped=layer.flipped,
        copies=True,
        pad_value=op.pad_value,
    )


def _reuse(geometry: Geometry) -> Reuse:
    """A pointwise layer has gathered its positions before it writes them."""
    pointwise = (geometry.k_h, geometry.k_w, geometry.stride_h, geometry.stride_w) == (1, 1, 1, 1)
    return Reuse.SAME_ROWS if pointwise and not geometry.padded else Reuse.NEVER


def _depthwise(layer: _Layer, node: Node, geometry: Geometry) -> Kernel | None:
    op = cast(Conv, node.op)
    channels, taps = layer.weights.shape
    if layer.flipped or taps > depthwise.MOST_TAPS:
        return None
    paired = depthwise.pairs_fit(layer.weights)
    shape = Depthwise(taps, channels, geometry.stride_w * channels, layer.finish, paired)
    finish = layer.shared_finish()
    columns_name = layer.context.named("columns", shape)
    text = depthwise.source(columns_name, shape, finish.name)
    shared = [finish, Shared(columns_name, text, code_bytes(text))]
    pads = columns.pad_bytes(geometry)
    pad = layer.context.named("pad", (op.pad_value, pads)) if pads else ""
    if pad:
        shared.append(Shared(pad, pad_row(pad, op.pad_value & 0xFF, pads), pads))
    name = layer.context.named("depthwise", (geometry, columns_name, pad))
    shared.append(Shared(name, columns.source(name, geometry, columns_name, pad), columns.code_bytes(geometry)))
    weight = layer.table(depthwise.pack(layer.weights, layer.forms, layer.finish))
    return ColumnsKernel(
        name=layer.name,
        layer=node.layer,
        what=f"depthwise {geometry.words}, requantize",
        template="MveDepthwise",
        inputs=layer.inputs,
        y=layer.y,
        own_tables=(weight,),
        by_rows=RowForm((geometry.rows,)),
        shared=tuple(shared),
        function=name,
        shape=shape,
        weight=weight,
        geometry=geometry,
    )
