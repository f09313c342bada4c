"""Fully connected layers of which few weights are left: in the form that wins, found from the weights themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.backends.c.dsp.dense_forms import nested_finish, whole_finish
from edgeflow.backends.c.dsp.dense_layer import DenseLayer, Made
from edgeflow.backends.c.dsp.sparse_stream import MOST_VALUES, Stream, block_stream, blocks_used, scattered_stream
from edgeflow.backends.c.dsp.sparse_tile import PASS, Kind, SparseTile, source
from edgeflow.backends.c.dsp.spread import QUICK, spread_name, spread_source
from edgeflow.backends.c.dsp.tile_epilogue import Sums
from edgeflow.backends.c.dsp.tile_weights import order
from edgeflow.backends.c.kernel import Shared
from edgeflow.ir.types import IntArray

_WORTH_PRODUCTS = 1024
"""Smaller layers do not repay a function of their own."""
_PER_PRODUCT, _PER_RESULT, _RESULT_BYTES = 0.9, 6.0, 10
"""What a dense kernel takes: instructions of a multiplication and of a result, bytes of a result's constants."""
_SLOWER, _BARGAIN = 1.35, 0.7
"""A sparse form may take so many times the instructions, if instructions times flash come down to so much."""


@dataclass(frozen=True)
class _Guess:
    """A form's instructions and bytes of weights, as parts of the dense kernel's."""

    work: float
    flash: float
    make: Callable[[], Made | None]

    @property
    def score(self) -> float:
        """The lower the better."""
        return self.work * self.flash


def make_sparse(layer: DenseLayer, *, room: bool) -> Made | None:
    """The sparse form that wins over a dense kernel; None where none does. `room`: the input may be spread."""
    values = layer.weights.shape[1]
    used = int(np.count_nonzero(layer.weights))
    if 2 * used > layer.products or layer.products < _WORTH_PRODUCTS or values > MOST_VALUES:
        return None
    guesses = [_guess(layer, Kind.SCATTERED, used, lambda: _scattered(layer))]
    if room and len(layer.weights) > 1 and values >= QUICK and values % QUICK == 0:
        apart, beside = (blocks_used(layer.weights, lanes_of(values, pairs)) for pairs in (False, True))
        pairs = beside < apart
        guesses.append(_guess(layer, Kind.BLOCKS, min(apart, beside), lambda: _blocks(layer, pairs)))
    good = [one for one in guesses if one.work <= _SLOWER and one.score <= _BARGAIN]
    made = (one.make() for one in sorted(good, key=lambda one: one.score))
    return next((one for one in made if one is not None), None)


def lanes_of(values: int, pairs: bool) -> IntArray:
    """The values of the lanes that the spreaders make of a multiple of QUICK bytes: `pairs` of neighbours, or not."""
    return np.arange(values, dtype=np.int64) if pairs else order(values)


def _guess(layer: DenseLayer, kind: Kind, places: int, make: Callable[[], Made | None]) -> _Guess:
    """With half a pass of padding a group, and one stretch and a little more."""
    tile = SparseTile("", kind, Sums())
    outputs, values = layer.weights.shape
    groups = -(-outputs // tile.outputs)
    passes = places // PASS + groups // 2
    work = tile.instructions(passes, 2 * groups, groups) + (values if kind is Kind.BLOCKS else 0)
    flash = 4 * tile.pass_words * passes + (_RESULT_BYTES + 2) * outputs + 8 * groups
    dense = _PER_PRODUCT * layer.products + _PER_RESULT * outputs
    return _Guess(work / dense, flash / (layer.products + _RESULT_BYTES * outputs), make)


def _scattered(layer: DenseLayer) -> Made | None:
    found = whole_finish(layer)
    if found is None:
        return None
    epilogue, constants = found
    tile = _named(layer, SparseTile("", Kind.SCATTERED, epilogue, layer.signed))
    stream = scattered_stream(tile, layer.weights, constants)
    return _made(layer, tile, stream, "(const uint8_t *)x")


def _blocks(layer: DenseLayer, pairs: bool) -> Made | None:
    found = nested_finish(layer)
    if found is None:
        return None
    epilogue, constants = found
    tile = _named(layer, SparseTile("", Kind.BLOCKS, epilogue))
    stream = block_stream(tile, layer.weights, lanes_of(layer.weights.shape[1], pairs), constants)
    made = _made(layer, tile, stream, "scratch")
    spread = layer.weights.shape[1] // 2
    return replace(
        made,
        shared=(*spread_source(layer.signed, pairs), *made.shared),
        scratch=spread,
        spread=spread,
        spreader=spread_name(layer.signed, pairs),
        work=(made.work or 0) + 2 * spread,
    )


def _named(layer: DenseLayer, tile: SparseTile) -> SparseTile:
    return replace(tile, name=layer.context.named(f"sparse_{tile.kind.value}", tile))


def _made(layer: DenseLayer, tile: SparseTile, stream: Stream, x: str) -> Made:
    """All whole groups in one call; a last one that reaches back in its own."""
    whole, rest = divmod(len(layer.weights), tile.outputs)
    y = f"({tile.epilogue.ctype} *)y"
    statements = [f"{tile.name}({x}, {layer.table}, {y}, {whole});"]
    if rest:
        first = len(layer.weights) - tile.outputs
        statements.append(f"{tile.name}({x}, {layer.table} + {stream.starts[-1]}, {y} + {first}, 1);")
    shared = Shared(tile.name, source(tile), tile.code_bytes)
    work = tile.instructions(stream.passes, stream.stretches, whole + rest)
    return Made(tuple(statements), stream.words, (shared,), 0, work=work)
