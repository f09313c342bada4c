"""Cross-layer equalization: channels that differ in size are brought nearer to one another, exactly.

Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019), section 4.1: between two
linear layers with nothing but a ReLU (or an op that only moves values) between them, channel i of the first may be
divided by any s_i > 0 if the second multiplies its input channel i by s_i.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeflow.ir.types import Shape
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.upsample import Upsample
from edgeflow.train.calibrate.floats import (
    Average,
    Clip,
    FloatArray,
    FloatConv,
    FloatDense,
    FloatGraph,
    FloatNode,
    Move,
)
from edgeflow.train.calibrate.simplify import rewritten

_ROUNDS = 3
_MOST = 256.0


@dataclass(frozen=True)
class Pair:
    """Two linear nodes; `stored` is the first's result behind its ReLU, `last` the tensor that the second reads."""

    first: str
    stored: str
    last: str
    second: str


def equalize(graph: FloatGraph, reach: Mapping[str, FloatArray] | None) -> FloatGraph:
    """The same network with its pairs' channels brought nearer.

    `reach` gives the largest magnitude of each channel of a tensor on the calibration data: with one weight scale an
    output channel it is the activations that share a scale, so they are what is equalized, against the next layer's
    weights. None: weights against weights, as in the paper, for one weight scale a layer.
    """
    pairs = list(_pairs(graph))
    sizes = {name: value.astype(np.float64) for name, value in (reach or {}).items()}
    for _ in range(_ROUNDS):
        for pair in pairs:
            graph = _equalize_pair(graph, pair, sizes if reach is not None else None)
    return graph


def _pairs(graph: FloatGraph) -> Iterator[Pair]:
    for node in graph.nodes:
        if not isinstance(node.op, FloatConv | FloatDense):
            continue
        at = stored = node
        while (after := graph.sole_reader(at.name)) is not None and _passes(after):
            stored = after if at is stored and isinstance(after.op, Clip) else stored
            at = after
        if after is not None and isinstance(after.op, FloatConv | FloatDense):
            if isinstance(after.op, FloatConv) and after.op.pad != 0.0:
                continue
            yield Pair(node.name, stored.name, at.name, after.name)


def _passes(node: FloatNode) -> bool:
    """Whether f(s x) = s f(x) for every s > 0, channel by channel."""
    op = node.op.op if isinstance(node.op, Move) else node.op
    if isinstance(op, Clip):
        return op.lo == 0.0 and math.isinf(op.hi)
    if isinstance(op, Reshape):
        return len(op.target) == 1
    return isinstance(op, MaxPool | Average | Slice | Upsample)


def _equalize_pair(graph: FloatGraph, pair: Pair, sizes: dict[str, npt.NDArray[np.float64]] | None) -> FloatGraph:
    first, second = graph.node(pair.first), graph.node(pair.second)
    assert first is not None
    assert second is not None
    assert isinstance(first.op, FloatConv | FloatDense)
    channels = first.op.kernel.shape[-1]
    if sizes is None:
        mine = np.abs(first.op.kernel).reshape(-1, channels).max(axis=0).astype(np.float64)
    else:
        mine = sizes[pair.stored]
    theirs = _by_input(second, channels, graph.shapes()[pair.last])
    factor = _factors(mine, theirs)
    if sizes is not None:
        sizes[pair.stored] = mine / factor
    small = factor.astype(np.float32)
    ahead = replace(first.op, kernel=first.op.kernel / small, bias=first.op.bias / small)
    return rewritten(
        graph, {first.name: replace(first, op=ahead), second.name: replace(second, op=_multiplied(second, small))}
    )


def _factors(mine: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sqrt(mine / theirs), so that both become their geometric mean; 1 for a channel that one of them leaves out."""
    live = (mine > 0) & (theirs > 0)
    ratio = np.sqrt(np.where(live, mine, 1.0) / np.where(live, theirs, 1.0))
    if not live.any():
        return np.ones_like(ratio)
    middle = float(np.exp(np.log(ratio[live]).mean()))
    return np.where(live, np.clip(ratio / middle, 1 / _MOST, _MOST), 1.0)


def _by_input(node: FloatNode, channels: int, shape: Shape) -> npt.NDArray[np.float64]:
    """The largest weight that reads each channel, (channels,)."""
    op = node.op
    if isinstance(op, FloatDense):
        return np.abs(op.kernel).max(axis=1).reshape(-1, channels).max(axis=0).astype(np.float64)
    assert isinstance(op, FloatConv)
    each, outputs = op.kernel.shape[-2:]
    largest = np.abs(op.kernel).reshape(-1, each, op.groups, outputs // op.groups).max(axis=(0, 3))
    return largest.T.reshape(-1).astype(np.float64)


def _multiplied(node: FloatNode, factor: FloatArray) -> FloatConv | FloatDense:
    op = node.op
    if isinstance(op, FloatDense):
        return replace(op, kernel=op.kernel * np.tile(factor, len(op.kernel) // len(factor))[:, None])
    assert isinstance(op, FloatConv)
    each, outputs = op.kernel.shape[-2:]
    groups = np.arange(outputs) // (outputs // op.groups)
    return replace(op, kernel=op.kernel * factor[groups[None, :] * each + np.arange(each)[:, None]])
