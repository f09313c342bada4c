"""Int8 networks as TFLite's converter leaves them, with random weights: what no model file of known license holds."""

from __future__ import annotations

import math

import numpy as np

from edgeflow.backends.tflm.arithmetic import averaging, kernel_requant, quantize_multiplier, sum_input
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Affine, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder

_LO, _HI = -128, 127
_SCALE = 0.05
_LINEAR = Affine(_SCALE, 0)
_RELU = Affine(_SCALE, _LO)
_SPREAD = 60.0
"""How far a layer's outputs spread, in steps: most of int8 is used, little is clamped."""


class Int8:
    """Adds layers, each on the tensor that it is given; weights of int8 with a scale a channel."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self._random = np.random.default_rng(7)
        self._builder = GraphBuilder(name)
        self.x = self._builder.input("x", TensorType(shape, _LO, _HI), _LINEAR)

    def shape(self, x: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._builder.type(x).shape

    def conv(
        self, x: str, outputs: int, size: int = 3, stride: int = 1, *, depthwise: bool = False, relu: bool = True
    ) -> str:
        """A convolution with same padding."""
        height, width, channels = self.shape(x)
        groups, each = (channels, 1) if depthwise else (1, channels)
        zero = self._zero(x)
        weight = self._random.integers(_LO + 1, _HI + 1, (size, size, each, outputs))
        bias = self._random.integers(-2000, 2001, outputs) - zero * weight.sum(axis=(0, 1, 2))
        pads = tuple(_same(extent, size, stride) for extent in (height, width))
        op = Conv(frozen_array(weight), frozen_array(bias), (stride, stride), pads, (1, 1), groups, zero)
        sums = self._builder.add(op, (x,), Affine(_SCALE**2, 0), f"conv{outputs}")
        return self._finish(sums, size * size * each, relu=relu)

    def separable(self, x: str, outputs: int, stride: int = 1) -> str:
        """A depthwise convolution 3 x 3 and a pointwise one."""
        return self.conv(self.conv(x, self.shape(x)[-1], 3, stride, depthwise=True), outputs, 1)

    def dense(self, x: str, outputs: int, *, relu: bool = True) -> str:
        """A fully connected layer over all that there is."""
        (inputs,) = self.shape(self.flatten(x))
        weight = self._random.integers(_LO + 1, _HI + 1, (inputs, outputs))
        bias = self._random.integers(-2000, 2001, outputs) - self._zero(x) * weight.sum(axis=0)
        op = Dense(frozen_array(weight), frozen_array(bias))
        sums = self._builder.add(op, (self.flatten(x),), Affine(_SCALE**2, 0), f"dense{outputs}")
        return self._finish(sums, inputs, relu=relu)

    def add(self, left: str, right: str, *, relu: bool = True) -> str:
        """The sum of two tensors, as TFLite-Micro's ADD rounds it."""
        half, unit = quantize_multiplier(0.5), Affine(_SCALE / (1 << 19), 0)
        parts = tuple(
            self._builder.add(sum_input(half, self._zero(one), 20), (one,), unit, "add", "add_input")
            for one in (left, right)
        )
        sums = self._builder.add(Add((1, 1)), parts, unit, "add", "add_sums")
        label = _RELU if relu else _LINEAR
        last = kernel_requant([quantize_multiplier(2 / (1 << 20) / math.sqrt(2))], label.zero_point, _LO, _HI)
        return self._builder.add(last, (sums,), label, "add")

    def concat(self, *parts: str) -> str:
        """Tensors of one scale joined along their channels."""
        axis = len(self.shape(parts[0])) - 1
        return self._builder.add(Concat(axis), parts, self._builder.label(parts[0]), "concat")

    def largest(self, x: str, size: int = 2, stride: int = 2, *, same: bool = False) -> str:
        """A max pool."""
        height, width, _ = self.shape(x)
        pads = tuple(_same(extent, size, stride) if same else (0, 0) for extent in (height, width))
        op = MaxPool((size, size), (stride, stride), pads)
        return self._builder.add(op, (x,), self._builder.label(x), "pool")

    def mean(self, x: str) -> str:
        """The average of each channel."""
        *window, channels = self.shape(x)
        op = SumPool(tuple(window), tuple(window), ((0, 0),) * len(window))
        label = self._builder.label(x)
        sums = self._builder.add(op, (x,), label, "mean", "mean_sums")
        count = math.prod(window)
        average = averaging(frozen_array([count]), 128 * count, _LO, _HI)
        return self._reshaped(self._builder.add(average, (sums,), label, "mean"), channels)

    def flatten(self, x: str) -> str:
        """One axis."""
        shape = self.shape(x)
        return x if len(shape) == 1 else self._reshaped(x, math.prod(shape))

    def finish(self, *outputs: str) -> Graph:
        """The graph."""
        for number, one in enumerate(outputs):
            self._builder.output(f"y{number}", one)
        return self._builder.finish()

    def _reshaped(self, x: str, size: int) -> str:
        return self._builder.add(Reshape((size,)), (x,), self._builder.label(x), "flatten")

    def _zero(self, x: str) -> int:
        label = self._builder.label(x)
        assert isinstance(label, Affine)
        return label.zero_point

    def _finish(self, sums: str, taps: int, *, relu: bool) -> str:
        """The sums of a layer in int8, a scale a channel."""
        outputs = self.shape(sums)[-1]
        factor = _SPREAD / (73 * 74 * math.sqrt(taps))
        label = _RELU if relu else _LINEAR
        multipliers = [quantize_multiplier(factor * one) for one in self._random.uniform(0.6, 1.4, outputs)]
        op = kernel_requant(multipliers, label.zero_point, _LO, _HI)
        return self._builder.add(op, (sums,), label, self._builder_layer(sums))

    def _builder_layer(self, sums: str) -> str:
        return sums.split("_", maxsplit=1)[0]


def _same(extent: int, size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's same padding: before and after."""
    total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
    return total // 2, total - total // 2


def mobile(name: str, side: int, channels: int, blocks: tuple[tuple[int, int], ...], colors: int = 3) -> Graph:
    """A MobileNet: a convolution of stride 2, separable blocks (outputs, stride), a mean, 10 classes."""
    net = Int8(name, (side, side, colors))
    x = net.conv(net.x, channels, 3, 2)
    for outputs, stride in blocks:
        x = net.separable(x, outputs, stride)
    return net.finish(net.dense(net.mean(x), 10, relu=False))


def residual() -> Graph:
    """ResNet-8 for CIFAR: three pairs of convolutions with a way around each."""
    net = Int8("resnet8", (32, 32, 3))
    x = net.conv(net.x, 16)
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        inner = net.conv(net.conv(x, outputs, 3, stride), outputs, relu=False)
        around = x if stride == 1 else net.conv(x, outputs, 1, stride, relu=False)
        x = net.add(inner, around)
    return net.finish(net.dense(net.mean(x), 10, relu=False))


def inverted() -> Graph:
    """MobileNetV2 for 48 x 48: narrow tensors with ways around wide blocks."""
    net = Int8("mobilenet_v2", (48, 48, 3))
    x = net.conv(net.x, 16, 3, 2)
    for outputs, stride, times in ((8, 1, 1), (16, 2, 2), (24, 2, 3), (32, 1, 2)):
        for block in range(times):
            own = stride if block == 0 else 1
            wide = net.conv(x, 4 * net.shape(x)[-1], 1)
            deep = net.conv(wide, net.shape(wide)[-1], 3, own, depthwise=True)
            narrow = net.conv(deep, outputs, 1, relu=False)
            x = net.add(narrow, x, relu=False) if net.shape(narrow) == net.shape(x) else narrow
    return net.finish(net.dense(net.mean(net.conv(x, 64, 1)), 10, relu=False))


def plain() -> Graph:
    """VGG for 32 x 32: pairs of convolutions and max pools, two fully connected layers."""
    net = Int8("vgg", (32, 32, 3))
    x = net.x
    for outputs in (16, 32, 64):
        x = net.largest(net.conv(net.conv(x, outputs), outputs))
    return net.finish(net.dense(net.dense(x, 128), 10, relu=False))


def chain() -> Graph:
    """Pointwise convolutions, one after another."""
    net = Int8("pointwise_chain", (16, 16, 16))
    x = net.x
    for outputs in (32, 64, 64, 32):
        x = net.conv(x, outputs, 1)
    return net.finish(net.dense(net.mean(x), 10, relu=False))


def speech() -> Graph:
    """A DS-CNN of another size than MLPerf Tiny's."""
    net = Int8("ds_cnn", (49, 40, 1))
    x = net.conv(net.x, 48, 5, 2)
    for stride in (2, 1, 1):
        x = net.separable(x, 48, stride)
    return net.finish(net.dense(net.mean(x), 12, relu=False))


def dense(name: str, inputs: int, *outputs: int) -> Graph:
    """Fully connected layers, the last without relu."""
    net = Int8(name, (inputs,))
    x = net.x
    for number, one in enumerate(outputs, start=1):
        x = net.dense(x, one, relu=number < len(outputs))
    return net.finish(x)


def branches() -> Graph:
    """Two modules of an Inception: three ways side by side, joined along their channels."""
    net = Int8("branches", (24, 24, 3))
    x = net.conv(net.x, 16, 3, 2)
    for each in (8, 16):
        pooled = net.conv(net.largest(x, 3, 1, same=True), each, 1)
        x = net.concat(net.conv(x, each, 1), net.conv(net.conv(x, each, 1), 2 * each), pooled)
    return net.finish(net.dense(net.mean(x), 10, relu=False))


def odd() -> Graph:
    """Shapes that no kernel likes: odd sides, 7, 13 and 21 channels."""
    net = Int8("odd_shapes", (31, 23, 5))
    x = net.separable(net.conv(net.x, 7, 5, 2), 13)
    x = net.separable(net.largest(net.conv(x, 13)), 21, 2)
    return net.finish(net.dense(net.dense(x, 33), 3, relu=False))


def int8_networks() -> list[Graph]:
    """The usual forms, each another shape than the two models of MLPerf Tiny's that the kernels grew on."""
    small = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1))
    return [
        mobile("mobilenet_48", 48, 8, small),
        mobile("mobilenet_96", 96, 8, (*small, (128, 1), (128, 1), (256, 2), (256, 1))),
        inverted(),
        residual(),
        plain(),
        chain(),
        speech(),
        dense("autoencoder_640", 640, 128, 128, 128, 8, 128, 128, 128, 640),
        dense("autoencoder_256", 256, 128, 128, 16, 128, 128, 256),
        branches(),
        odd(),
    ]
