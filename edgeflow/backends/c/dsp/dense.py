"""Fully connected layers for cores with the DSP instructions: input bytes read where they lie, or spread before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.ctypes import UINT32, Table
from edgeflow.backends.c.dsp.byte_words import split_bytes
from edgeflow.backends.c.dsp.dense_forms import nested_finish, nests, pack_groups, shifted, whole_finish
from edgeflow.backends.c.dsp.dense_layer import DenseLayer, Made, padded
from edgeflow.backends.c.dsp.dense_sparse import make_sparse
from edgeflow.backends.c.dsp.dense_tile import MOST_PAIRS, UNIT, DenseTile, call
from edgeflow.backends.c.dsp.dense_tile import source as dense_source
from edgeflow.backends.c.dsp.packed_choice import tile_packing
from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.dsp.request import tile_bytes
from edgeflow.backends.c.dsp.spread import QUICK, four_source, spread_name, spread_source
from edgeflow.backends.c.dsp.tile import MOST_WORDS, Tile, calls, source, split
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue
from edgeflow.backends.c.dsp.tile_weights import ConstantsOf, PackWords, nest, order, pack
from edgeflow.backends.c.flow import Reuse
from edgeflow.backends.c.kernel import Context, Kernel, Shared, ends_of, finished, requant_of
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.optimize import Optimize
from edgeflow.ir.graph import Node
from edgeflow.ops.dense import Dense

_WORTH_OUTPUTS, _WORTH_PRODUCTS = 16, 4096
"""Fewer outputs, or multiplications, do not repay the spreading of the input or long code."""
_WORTH_SUMS = 512
"""The same for sums that are stored as they are, where other layers seldom share the code."""
_ROOM = 1.25
"""Spreading may need so many times the RAM that the model needs without it: it saves a tenth of the time."""
_SPARSE_ROOM = 2.5
"""The same where few weights are left, which saves half of the time and two thirds of the flash."""
_PACKED_ROOM = 1.0
"""The same where weights are packed: functions that read bytes take half of the flash too, and a sixth more time."""
_UNROLLS = (4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class DspDenseKernel(Kernel):
    """A matrix product over the last axis of `rows` vectors, made by `statements` from x, or from the scratch.

    The scratch is nothing, the bytes of a vector rounded up to whole units (`copied`), or its values spread to 16 bits
    (`spread`, a number of words; `spreader` is the function that does). `work`: the instructions of a vector where the
    weights are sparse, else None. `packing`: how weights of few bits are stored.
    """

    statements: tuple[str, ...]
    values: int
    outputs: int
    rows: int
    signed: bool
    spread: int = 0
    spreader: str = ""
    work: int | None = None
    packing: Packing | None = None

    @property
    def copied(self) -> bool:
        """Whether the vector's bytes are copied first."""
        return self.scratch > self.spread


def make_dense(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> Kernel | None:
    """The kernel of a Dense where the core and the numbers allow one; else None."""
    op = cast(Dense, node.op)
    requant = requant_of(step, inputs, y)
    if not context.core.has_dsp or (requant is None and not _stores_sums(step, node, context, inputs, y)):
        return None
    signed = inputs[0].ctype.name == "int8_t"
    layer = DenseLayer(name, context, signed, op.weight.T, op.bias, requant, ends_of(node, context), y.ctype.size)
    made = make_sparse(layer, room=_room(node, context) <= _SPARSE_ROOM)
    if made is None and _room(node, context) <= _PACKED_ROOM:
        made = _spread(layer, context.packings)
    if made is None:
        made = _packed(layer)
    if made is None and _room(node, context) <= _ROOM and _any_worth(context):
        made = _spread(layer)
    made = made or _direct(layer)
    if made is None:
        return None
    values, outputs = op.weight.shape
    return DspDenseKernel(
        name=name,
        layer=node.layer,
        what=", ".join([f"dense {values} -> {outputs}", *finished(step.fused)]),
        template="DspDense",
        inputs=inputs,
        y=y,
        own_tables=(Table(f"{name}_weight", UINT32, made.words.astype(np.int64)),),
        uses_string=True,
        reuse=Reuse.SAME_ROWS if made.scratch else Reuse.NEVER,
        scratch=made.scratch,
        shared=made.shared,
        statements=made.statements,
        values=values,
        outputs=outputs,
        rows=node.type.size // outputs,
        signed=signed,
        spread=made.spread,
        spreader=made.spreader,
        work=made.work,
        packing=made.packing,
    )


def _stores_sums(step: Step, node: Node, context: Context, inputs: tuple[Buffer, ...], y: Buffer) -> bool:
    """Whether the sums of bytes are the results, and enough of them to repay functions of their own."""
    narrow = inputs[0].ctype.size == 1 and y.ctype.size in (2, 4)
    enough = cast(Dense, node.op).weight.size >= _WORTH_SUMS and context.optimize is not Optimize.SIZE
    return narrow and not step.fused and enough


def _any_worth(context: Context) -> bool:
    """Whether there is a layer that is faster with its input spread: then the others may share its code."""
    return any(_worth(node) and _room(node, context) <= _ROOM for node in _nodes(context))


def _nodes(context: Context) -> list[Node]:
    """All fully connected layers."""
    return [step.node for step in _dense_steps(context) if step.node]


def _dense_steps(context: Context) -> list[Step]:
    return [step for step in context.lowered.steps if step.node and isinstance(step.node.op, Dense)]


def _worth(node: Node) -> bool:
    values, outputs = cast(Dense, node.op).weight.shape
    return outputs >= _WORTH_OUTPUTS and values * outputs >= _WORTH_PRODUCTS


def _room(node: Node, context: Context) -> float:
    """The RAM that a layer takes with its input spread, as a part of what the model takes without."""
    values = cast(Dense, node.op).weight.shape[0]
    spread = max(context.lowered.buffer(node.inputs[0]).size, node.type.size) + 2 * values
    return spread / _held(context)


def _held(context: Context) -> int:
    """Bytes that a model holds at once: where speed is the aim, all tensors of the layer with the largest; else what it
    holds even if all other layers stream rows: the tensors of a fully connected layer, or the inputs, or the outputs.
    """
    lowered = context.lowered
    steps = lowered.steps if context.optimize is Optimize.SPEED else _dense_steps(context)
    layers = [{lowered.buffer(name).tensor for name in (*step.reads, step.result)} for step in steps]
    layers += [{one.tensor for one in lowered.buffers.values() if one.place == place} for place in ("input", "output")]
    return max(sum(lowered.buffers[name].size for name in names) for names in layers)


def _spread(layer: DenseLayer, packings: Collection[Packing] | None = None) -> Made | None:
    """A tile product of one position, whose words are spread into the scratch.

    With `packings` its weights are packed in one of these: None where none holds them.
    """
    outputs, values = layer.weights.shape
    chunk, chunks = split(len(order(values)))
    packing = tile_packing(layer.weights, chunk, chunks, packings or ())
    if packings is not None and packing is None:
        return None
    together = 2 if outputs >= 4 else 1
    found = nested_finish(layer, together)
    if found is None:
        return None
    epilogue, constants = found
    fixed = chunks if packing or len(_chunks(layer.context, chunk)) == 1 else None
    tile = Tile("", 1, 1, epilogue, chunk, fixed, together, outputs == 1, packing)
    tile = replace(tile, name=layer.context.named(f"tile_1x{2 * together}", tile))
    arguments = ("scratch", f"{layer.name}_weight", f"({epilogue.ctype} *)y")
    statements = tuple(calls(tile, outputs, arguments, chunk * chunks))
    packer: PackWords = partial(packing.pack_chunks, chunk=chunk) if packing else nest
    words = pack(layer.weights, padded(values, 2 * chunk * chunks), constants, together, packer)
    spreader = spread_source(layer.signed) if values >= QUICK else ()
    spreader += four_source(layer.signed) if values % QUICK else ()
    shared = Shared(tile.name, source(tile), tile_bytes(tile))
    size = chunk * chunks
    return Made(statements, words, (*spreader, shared), size, size, spread_name(layer.signed), packing=packing)


def _packed(layer: DenseLayer) -> Made | None:
    """A tile product of packed weights that spreads the bytes of its one position itself; None where none is packed.

    The scratch holds a copy of the bytes where they do not make up whole chunks.
    """
    outputs, values = layer.weights.shape
    chunk, chunks = split_bytes(values, MOST_WORDS)
    packing = tile_packing(layer.weights, chunk, chunks, layer.context.packings)
    together = 2 if outputs >= 4 else 1
    found = nested_finish(layer, together) if packing else None
    if packing is None or found is None:
        return None
    epilogue, constants = found
    tile = Tile("", 1, 1, epilogue, chunk, chunks, together, outputs == 1, packing, layer.signed)
    tile = replace(tile, name=layer.context.named(f"tile_bytes_{2 * together}", tile))
    size = 2 * chunk * chunks
    copied = size // 4 if size > values else 0
    arguments = (f"(const uint8_t *){'scratch' if copied else 'x'}", layer.table, f"({epilogue.ctype} *)y")
    packer: PackWords = partial(packing.pack_chunks, chunk=chunk)
    words = pack(layer.weights, padded(values, size), constants, together, packer)
    shared = Shared(tile.name, source(tile), tile_bytes(tile))
    return Made(tuple(calls(tile, outputs, arguments)), words, (shared,), copied, packing=packing)


def _chunks(context: Context, chunk: int) -> set[int]:
    """How many chunks the vectors have that are spread and read as chunks of one size."""
    found = (split(len(order(values))) for values in _lengths(context, spread=True))
    return {chunks for size, chunks in found if size == chunk}


def _lengths(context: Context, *, spread: bool) -> set[int]:
    """The lengths of the vectors of all layers whose input is spread where there is room, or is not."""
    any_worth = _any_worth(context)
    return {
        cast(Dense, node.op).weight.shape[0]
        for node in _nodes(context)
        if (any_worth and _room(node, context) <= _ROOM) == spread
    }


def _direct(layer: DenseLayer) -> Made | None:
    """Functions that read bytes, for three pairs at a time, then for one; parted where 256 * sum leaves 32 bits."""
    found = nested_finish(layer)
    parted = found is None
    if found is None and nests(layer.weights):
        found = whole_finish(layer)
    if found is None:
        return None
    values = layer.weights.shape[1]
    size = _size(values)
    x = "x" if size == values else "scratch"
    writer = _Direct(layer, *found, parted, size, f"(const uint8_t *){x}")
    whole = len(layer.weights) // (2 * MOST_PAIRS) * 2 * MOST_PAIRS
    # Short code needs less stack; what comes last may end the layer's own frame before.
    writer.add(_rest(whole, len(layer.weights)), 1)
    writer.add(range(whole), MOST_PAIRS)
    words = np.concatenate(writer.words)
    return Made(tuple(writer.statements), words, tuple(writer.shared), 0 if size == values else size // 4)


def _rest(first: int, outputs: int) -> range:
    """The outputs from `first` on; a single one takes the one before along."""
    return range(first - (outputs - first == 1 < outputs), outputs)


def _size(values: int) -> int:
    """The bytes of a vector, rounded up to whole units."""
    return -(-values // UNIT) * UNIT


class _Direct:
    """Collects the calls of a layer, group size by group size."""

    def __init__(
        self, layer: DenseLayer, epilogue: Epilogue, constants: ConstantsOf, parted: bool, size: int, x: str
    ) -> None:
        self.layer, self.epilogue, self.constants, self.parted = layer, epilogue, constants, parted
        self.size, self.x = size, x
        self.statements: list[str] = []
        self.words: list[npt.NDArray[np.uint32]] = []
        self.shared: list[Shared] = []

    def add(self, outputs: Sequence[int], pairs: int) -> None:
        """The outputs, which lie side by side, in groups of so many pairs; a last pair reaches back."""
        if not outputs:
            return
        layer, context = self.layer, self.layer.context
        worth = layer.products >= _WORTH_PRODUCTS and pairs == MOST_PAIRS
        unroll = next(one for one in _UNROLLS if self.size % (one * UNIT) == 0 and (worth or one == 1))
        sizes = {_size(values) for values in _lengths(context, spread=False)} | {self.size}
        fixed = self.size if len(sizes) == 1 else None
        single = len(layer.weights) == 1
        tile = DenseTile("", pairs, layer.signed, self.epilogue, unroll, fixed, self.parted, single)
        tile = replace(tile, name=context.named(f"dense_{2 * pairs}", tile))
        self.shared.append(Shared(tile.name, dense_source(tile), tile.code_bytes))
        at = sum(len(one) for one in self.words)
        first, (whole, left) = outputs[0], divmod(len(outputs), tile.outputs)
        starts = [(first, whole, at)] if whole else []
        if left:
            starts.append((outputs[-1] + 1 - tile.outputs, 1, at + whole * tile.words(self.size)))
        for output, groups, word in starts:
            weight = f"{layer.name}_weight" + (f" + {word}" if word else "")
            y = f"({self.epilogue.ctype} *)y" + (f" + {output}" if output else "")
            self.statements.append(call(tile, self.x, weight, y, groups, self.size))
        chosen = layer.weights[first : outputs[-1] + 1]
        lanes = padded(chosen.shape[1], self.size)
        self.words.append(pack_groups(chosen, lanes, shifted(self.constants, first), pairs, parted=self.parted))
