"""Networks whose activations need few bits, as QKeras students have them."""

from __future__ import annotations

import numpy as np

from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Shape, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.upsample import Upsample
from edgeflow.passes import simplify
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT


class Student:
    """Layers one after the other, with 4-bit weights and activations of `bits` bits from `lo` up."""

    def __init__(self, shape: Shape, bits: int = 4, lo: int = 0, given: tuple[int, int] = (0, 255)) -> None:
        self._random = np.random.default_rng(3)
        self._builder = GraphBuilder("student")
        self._bits, self._lo, self._layers = bits, lo, 0
        self.at = self._builder.input("x", TensorType(shape, *given), UNIT)

    def _add(self, op: Op, *tensors: str) -> Student:
        self._layers += 1
        self.at = self._builder.add(op, tensors or (self.at,), UNIT, f"layer{self._layers}")
        return self

    @property
    def shape(self) -> Shape:
        return self._builder.type(self.at).shape

    def relu(self) -> Student:
        shift = frozen_array(max(self._builder.type(self.at).hi.bit_length() - self._bits - 1, 1))
        zero, most = frozen_array(0), self._lo + (1 << self._bits) - 1
        stage = Stage(shift, Rounding.HALF_UP)
        return self._add(Requant(zero, frozen_array(1), (stage,), zero, frozen_array(self._lo), frozen_array(most)))

    def conv(
        self, outputs: int, size: int = 3, stride: int = 1, *, depthwise: bool = False, dilation: int = 1
    ) -> Student:
        channels = self.shape[-1]
        groups, each = (channels, 1) if depthwise else (1, channels)
        weight = frozen_array(self._random.integers(-7, 8, (size, size, each, outputs)))
        bias = frozen_array(self._random.integers(-50, 50, outputs))
        reach = (size - 1) * dilation
        pads = ((reach // 2, reach - reach // 2),) * 2
        self._add(Conv(weight, bias, (stride, stride), pads, (dilation, dilation), groups))
        return self.relu()

    def pool(self, size: int = 2) -> Student:
        return self._add(MaxPool((size, size), (size, size), ((0, 0), (0, 0))))

    def total(self) -> Student:
        size = (self.shape[0], self.shape[1])
        return self._add(SumPool(size, size, ((0, 0), (0, 0)))).relu()

    def flatten(self) -> Student:
        return self._add(Reshape((int(np.prod(self.shape)),)))

    def dense(self, outputs: int) -> Student:
        weight = frozen_array(self._random.integers(-7, 8, (self.shape[-1], outputs)))
        return self._add(Dense(weight, frozen_array(self._random.integers(-50, 50, outputs))))

    def plus(self, other: str) -> Student:
        return self._add(Add((1, 1)), self.at, other).relu()

    def beside(self, other: str) -> Student:
        return self._add(Concat(len(self.shape) - 1), self.at, other)

    def upsample(self) -> Student:
        return self._add(Upsample((2, 2), zeros=False))

    def done(self) -> Graph:
        self._builder.output("y", self.at)
        return simplify(self._builder.finish())


def residual(shape: Shape = (9, 6, 8), bits: int = 4) -> Graph:
    """A block whose sum adds what went in."""
    net = Student(shape, bits).conv(8)
    skip = net.at
    return net.conv(8).conv(8).plus(skip).total().flatten().dense(4).done()


def separable(bits: int = 4, channels: int = 64, blocks: int = 4) -> Graph:
    """The form of MLPerf Tiny's keyword spotting: a convolution, then depthwise and 1x1 ones, on 49 x 10 values."""
    net = Student((49, 10, 1), bits).conv(channels, 4, 2)
    for _ in range(blocks):
        net.conv(channels, depthwise=True).conv(channels, 1)
    return net.total().flatten().dense(12).done()


def flattened(bits: int = 4) -> Graph:
    """Convolutions, a pool, and a layer that reads the whole image."""
    return Student((14, 14, 1), bits).conv(16).conv(16).pool().conv(16).flatten().dense(16).relu().dense(10).done()


def binary() -> Graph:
    """Binary images and activations."""
    net = Student((28, 28, 1), 1, given=(0, 1)).conv(16).conv(16).pool().conv(32)
    return net.total().flatten().dense(10).done()


def encoder(shape: Shape = (8, 8, 2)) -> Graph:
    """What a decoder reads again lives through the layers between."""
    net = Student(shape).conv(8)
    skip = net.at
    return net.pool().conv(16).upsample().beside(skip).conv(4).done()
