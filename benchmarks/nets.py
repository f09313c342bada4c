"""The small networks of the usual forms that the benchmarks measure."""

from __future__ import annotations

import numpy as np

from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder


class Net:
    """A sequential network of random weights of `weight_bits` with relu between layers."""

    def __init__(self, name: str, shape: tuple[int, ...], weight_bits: int = 6) -> None:
        self._largest = (1 << (weight_bits - 1)) - 1
        self._random = np.random.default_rng(7)
        self._builder = GraphBuilder(name)
        self._at = self._builder.input("x", TensorType(shape, 0, 63), Dyadic(4))

    def _relu(self, layer: str) -> None:
        hi = self._builder.type(self._at).hi
        shift = max(hi.bit_length() - 6, 0)
        stage = Stage(frozen_array(shift), Rounding.HALF_EVEN)
        zero = frozen_array(0)
        op = Requant(zero, frozen_array(1), (stage,), zero, zero, frozen_array(63))
        self._at = self._builder.add(op, (self._at,), Dyadic(4), layer)

    def conv(self, outputs: int, size: int = 3, stride: int = 1, *, same: bool = True, depthwise: bool = False) -> Net:
        """A convolution and its relu."""
        channels = self._builder.type(self._at).shape[-1]
        groups, each = (channels, 1) if depthwise else (1, channels)
        weight = frozen_array(self._random.integers(-self._largest, self._largest + 1, (size, size, each, outputs)))
        pad = ((size - 1) // 2, size // 2) if same else (0, 0)
        bias = frozen_array(self._random.integers(-100, 100, outputs))
        op = Conv(weight, bias, (stride, stride), (pad, pad), (1, 1), groups)
        self._at = self._builder.add(op, (self._at,), Dyadic(8), f"conv{outputs}")
        self._relu(f"conv{outputs}")
        return self

    def pool(self, kind: type[MaxPool] | type[SumPool], size: int = 2) -> Net:
        """A pool of its own size as stride."""
        op = kind((size, size), (size, size), ((0, 0), (0, 0)))
        self._at = self._builder.add(op, (self._at,), Dyadic(4), "pool")
        return self

    def flatten(self) -> Net:
        """One axis."""
        op = Reshape((self._builder.type(self._at).size,))
        self._at = self._builder.add(op, (self._at,), Dyadic(4), "flatten")
        return self

    def dense(self, outputs: int, *, last: bool = False) -> Net:
        """A fully connected layer, and its relu unless it is the last."""
        inputs = self._builder.type(self._at).shape[-1]
        weight = frozen_array(self._random.integers(-self._largest, self._largest + 1, (inputs, outputs)))
        op = Dense(weight, frozen_array(self._random.integers(-100, 100, outputs)))
        self._at = self._builder.add(op, (self._at,), Dyadic(8), f"dense{outputs}")
        if not last:
            self._relu(f"dense{outputs}")
        return self

    def finish(self) -> Graph:
        """The graph."""
        self._builder.output("y", self._at)
        return self._builder.finish()


def networks() -> list[Graph]:
    """What is measured: small networks of the usual forms."""
    lenet = Net("lenet", (16, 16, 1)).conv(8, 5).pool(MaxPool).conv(16).pool(MaxPool).flatten().dense(32)
    mobile = Net("mobile", (12, 12, 8)).conv(8, depthwise=True).conv(16, 1).conv(16, stride=2, depthwise=True)
    return [
        Net("mlp_small", (16,)).dense(64).dense(32).dense(5, last=True).finish(),
        Net("mlp_large", (256,)).dense(128).dense(64).dense(10, last=True).finish(),
        lenet.dense(10, last=True).finish(),
        mobile.conv(32, 1).pool(SumPool, 6).flatten().dense(4, last=True).finish(),
        Net("wide", (8, 8, 16)).conv(32).conv(32, same=False).pool(MaxPool).flatten().dense(10, last=True).finish(),
    ]


def student() -> Graph:
    """A QKeras student of 4-bit weights: convolutions, a max pool, separable blocks."""
    net = Net("student_4_bits", (32, 32, 3), 4).conv(16, stride=2).conv(16, depthwise=True).conv(32, 1)
    net.pool(MaxPool).conv(32).conv(32, depthwise=True).conv(64, 1).pool(SumPool, 8)
    return net.flatten().dense(10, last=True).finish()
