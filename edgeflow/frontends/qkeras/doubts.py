"""Where float32 may decide otherwise than real arithmetic: a proven bound on its error, at each quantizer behind one.

A float32 number that at most m roundings make from exact terms, in any order and with or without fused products, lies
within ((1 + u)**m - 1) * (sum of the terms' absolute values) of the real result, u = 2**-24. Source: Higham,
"Accuracy and Stability of Numerical Algorithms", 2nd edition, sections 3.1 and 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edgeflow.frontends.qkeras.quantizers import Curve, Steps
from edgeflow.frontends.qkeras.stairs import Staircase
from edgeflow.frontends.qkeras.values import RealMap
from edgeflow.ir.graph import Bounds, Graph, Node, Op
from edgeflow.ir.types import IntArray
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample

FloatArray = npt.NDArray[np.float64]

_UNIT = 2.0**-24
_FLOAT64 = 1 + 2.0**-20
"""This module's own float64 errors are far below 2**-20 of a bound."""

_TINY = 2.0**-100
"""TensorFlow may take numbers below 2**-126 for 0; no product of 2**24 or less with a sum makes more of it."""

_MOVES = (Concat, MaxPool, Pad, Reshape, Slice, Transpose, Upsample)
"""Ops that pass values on: the absolute values behind them are those in front."""


@dataclass(frozen=True, eq=False)
class Doubt:
    """A quantizer behind a real map, whose float32 may decide otherwise than real arithmetic.

    The graph's tensor `tensor` holds the codes, `source` the integers n: code = quantizer(clip(scale * n + shift)),
    scale and shift with one entry a channel. `real` is that map in units of the label, with its ends and roundings.
    `rounded` names the tensors whose sums float32 rounds. `layer` gives the codes in Keras ("outer/inner" in nested
    models), at one of its calls.
    """

    tensor: str
    source: str
    scale: tuple[Fraction, ...]
    shift: tuple[Fraction, ...]
    real: RealMap
    stairs: Staircase
    activation: Steps | Curve
    rounded: frozenset[str]
    layer: str = ""

    def codes(self, n: IntArray, magnitude: FloatArray, channel: IntArray) -> tuple[IntArray, IntArray]:
        """The least and the largest code that float32 can give, for some elements: three arrays of one shape.

        `magnitude` is what `magnitudes` says of them, `channel` their place on the last axis.
        """
        a, b, size = (
            np.array([float(x) for x in one])[channel]
            for one in (self.scale, self.shift, self.real.sizes(len(self.scale)))
        )
        value = a * n + b
        growth = np.expm1(self.real.roundings * _UNIT) * _FLOAT64
        error = growth * (np.abs(a) * magnitude + size) + _TINY
        low, high = self._clipped(value - error, -_UNIT), self._clipped(value + error, _UNIT)
        places = self.stairs.places
        first, last = np.searchsorted(places, low, side="left"), np.searchsorted(places, high, side="right")
        least, most = _ends(self.stairs.codes, first, last)
        if isinstance(self.activation, Curve):  # its own float32 arithmetic may put a step elsewhere
            own = [self.activation.float32(one.astype(np.float32)) for one in (low, high)]
            least, most = np.minimum(least, np.minimum(*own)), np.maximum(most, np.maximum(*own))
        return least, most

    def _clipped(self, values: FloatArray, lean: float) -> FloatArray:
        """Behind the ReLU, whose ends float32 may round."""
        for end, pick in ((self.real.least, np.maximum), (self.real.most, np.minimum)):
            if end is not None:
                values = pick(values, float(end) * (1 + lean) if end >= 0 else float(end) * (1 - lean))
        return values


def _ends(codes: IntArray, first: IntArray, last: IntArray) -> tuple[IntArray, IntArray]:
    """The least and largest of codes[first] ... codes[last], for each pair."""
    if (np.diff(codes) > 0).all():
        return codes[first], codes[last]
    rows = [codes[one : two + 1] for one, two in zip(first, last, strict=True)]
    return np.array([row.min() for row in rows]), np.array([row.max() for row in rows])


def magnitudes(graph: Graph, doubt: Doubt, values: Mapping[str, IntArray]) -> FloatArray:
    """For each element of a doubt's source the sum of the absolute values that float32 adds up for it.

    In units of the source's integers. `values` holds the tensors that are read on the way, with a batch axis.
    """
    nodes = {node.name: node for node in graph.nodes}

    def sums(tensor: str) -> IntArray:
        node = nodes.get(tensor)
        if node is None or not (tensor in doubt.rounded or isinstance(node.op, _MOVES) or _is_shift(node)):
            return np.abs(values[tensor])
        parts = tuple(sums(one) for one in node.inputs)
        return _absolute(node.op)(parts)

    return sums(doubt.source).astype(np.float64)


def _is_shift(node: Node) -> bool:
    """Whether a node only brings its input to a finer unit, and at most clamps it."""
    op = node.op
    if not isinstance(op, Requant) or any(stage.shift.any() for stage in op.stages):
        return False
    return bool(op.pre.any() and (op.multiplier == 1).all() and not op.bias.any() and not op.offset.any())


def _absolute(op: Op) -> Callable[[tuple[IntArray, ...]], IntArray]:
    """What an op does to absolute values: with the absolute values of its own numbers."""
    if isinstance(op, Requant):
        return lambda parts: parts[0] << op.pre
    if isinstance(op, Conv | Dense):
        op = replace(op, weight=np.abs(op.weight), bias=np.abs(op.bias))
    assert isinstance(op, (*_MOVES, Conv, Dense, SumPool)), op
    return lambda parts: op.evaluate(parts, tuple(map(_bounds, parts)))


def _bounds(values: IntArray) -> Bounds:
    """From 0 to the largest value."""
    ones = (1,) * (values.ndim - 1)
    return Bounds(np.zeros(ones, dtype=np.int64), np.full(ones, values.max(initial=0), dtype=np.int64))
