"""Thresholds behind sums as the Requants that they are, where there is one: then a kernel can round to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgeflow.backends.tflm.chains import linear
from edgeflow.ir.graph import Bounds, Graph, Node
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.linear import per_channel
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.threshold import Threshold
from edgeflow.semantics.verify import verify

_SHIFT, _MOST_LEVELS = 30, 1 << 12
_LARGEST = 1 << 28
"""Sums up to it, times a factor below 2**31, stay within 62 bits."""


def as_requants(graph: Graph) -> Graph:
    """The same graph, with a Requant for every Threshold behind sums that one equals on all that can come."""
    if not any(isinstance(node.op, Threshold) for node in graph.nodes):
        return graph
    bounds = verify(graph)
    makers = {node.name: node for node in graph.nodes}
    return replace(graph, nodes=tuple(_turned(node, makers, bounds) for node in graph.nodes))


def _turned(node: Node, makers: dict[str, Node], bounds: Mapping[str, Bounds]) -> Node:
    maker = makers.get(node.inputs[0])
    if not isinstance(node.op, Threshold) or maker is None or not linear(maker.op):
        return node
    channels = node.type.shape[-1]
    op = _requant(node.op, *per_channel(bounds[node.inputs[0]], channels))
    return node if op is None else replace(node, op=op)


def _requant(op: Threshold, lo: IntArray, hi: IntArray) -> Requant | None:
    """first + floor((x - t[0]) * (levels - 1) / (t[last] - t[0]) + 1), or its mirror image; None where it differs."""
    channels, levels = len(lo), op.thresholds.shape[1]
    if max(-int(lo.min()), int(hi.max())) >= _LARGEST or levels > _MOST_LEVELS:
        return None
    rows = np.clip(np.broadcast_to(op.thresholds, (channels, levels)), lo[:, None], hi[:, None] + 1)
    step, first = (np.broadcast_to(one, (channels,)) for one in (op.step, op.first))
    spread = np.maximum(rows[:, -1] - rows[:, 0], 1)
    multiplier = np.minimum(-(-((levels - 1) << _SHIFT) // spread), (1 << 31) - 1) if levels > 1 else np.ones_like(lo)
    start, last = rows[:, 0] * multiplier, first + step * levels
    least, most = np.minimum(first, last), np.maximum(first, last)
    found = Requant(
        pre=frozen_array([0]),
        multiplier=frozen_array(multiplier * step),
        stages=(Stage(frozen_array([_SHIFT]), Rounding.FLOOR),),
        offset=frozen_array(np.where(step > 0, first + 1, first)),
        lo=frozen_array(least.min(keepdims=True)),
        hi=frozen_array(most.max(keepdims=True)),
        bias=frozen_array(np.where(step > 0, -start, start - 1)),
    )
    ends = np.concatenate([rows - 1, rows, lo[:, None], hi[:, None]], axis=1)
    ends = np.clip(ends, lo[:, None], hi[:, None]).T
    wanted = op.evaluate((ends,), ())
    for one in (found, replace(found, lo=frozen_array(least), hi=frozen_array(most))):
        if (one.evaluate((ends,), ()) == wanted).all():
            return one
    return None
