"""Small graphs, one form of one op each: what every backend is crossed with, and what the support page lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.functions import softmax_op
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Affine, Dyadic, Shape, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.softmax import SOFTMAX_FORMS
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.builder import GraphBuilder

SIGNED, UNSIGNED = TensorType((), -128, 127), TensorType((), 0, 63)
SIGNED16 = TensorType((), -32768, 32767)
FRAC = 4


@dataclass(frozen=True)
class Form:
    """One form of an op: its op's name, what is special about it, and how to make the graph."""

    op: str
    title: str
    make: Callable[[GraphBuilder], str]

    @property
    def id(self) -> str:
        """For test names."""
        return f"{self.op}-{self.title.replace(' ', '-')}"

    def graph(self) -> Graph:
        """The graph; the last tensor is its output."""
        builder = GraphBuilder(f"{self.op} {self.title}")
        builder.output("y", self.make(builder))
        return builder.finish()


def source(builder: GraphBuilder, shape: Shape, kind: TensorType) -> str:
    """The input."""
    return builder.input("x", TensorType(shape, kind.lo, kind.hi), Dyadic(FRAC))


def squeeze(builder: GraphBuilder, at: str, lo: int = 0, hi: int = 63) -> str:
    """A power-of-two Requant, half to even, to six bits or so: what follows every sum in a QKeras student."""
    kind, label = builder.type(at), builder.label(at)
    assert isinstance(label, Dyadic)
    assert isinstance(label.frac, int)
    shift = max(kind.bits - 7, 1)
    return builder.add(requant(shift, lo=lo, hi=hi), (at,), Dyadic(label.frac - shift), "squeeze")


def requant(
    shift: int | list[int],
    rounding: Rounding = Rounding.HALF_EVEN,
    *,
    multiplier: int = 1,
    offset: int = 0,
    lo: int = -128,
    hi: int = 127,
    first: Stage | None = None,
    bias: int | list[int] = 0,
) -> Requant:
    """A Requant of one or two stages."""
    last = Stage(frozen_array(shift), rounding)
    stages = (last,) if first is None else (first, last)
    ends = frozen_array(lo), frozen_array(hi)
    return Requant(
        frozen_array(0), frozen_array(multiplier), stages, frozen_array(offset), *ends, bias=frozen_array(bias)
    )


def weights(*shape: int) -> np.ndarray:
    """Seven-bit weights, always the same, with some zeros."""
    values = np.random.default_rng(sum(shape)).integers(-31, 32, shape)
    values.reshape(-1)[::5] = 0
    return values


def linear(shape: Shape, op: Callable[[], Op], kind: TensorType = UNSIGNED) -> Callable[[GraphBuilder], str]:
    """Input, a linear op with weights of five fractional bits, a squeeze."""

    def make(builder: GraphBuilder) -> str:
        at = builder.add(op(), (source(builder, shape, kind),), Dyadic(FRAC + 5), "linear")
        return squeeze(builder, at)

    return make


def conv(*shape: int, strides: Shape, pads: tuple[tuple[int, int], ...], groups: int = 1, **more: int) -> Op:
    """A convolution."""
    return Conv(
        frozen_array(weights(*shape)),
        frozen_array(np.arange(shape[-1]) * 40 - 60),
        strides,
        pads,
        (more.get("dilation", 1),) * len(strides),
        groups,
        more.get("pad_value", 0),
    )


def plain(shape: Shape, op: Op, kind: TensorType = UNSIGNED) -> Callable[[GraphBuilder], str]:
    """Input and one op that keeps its unit."""

    def make(builder: GraphBuilder) -> str:
        return builder.add(op, (source(builder, shape, kind),), Dyadic(FRAC), "op")

    return make


def after_dense(op: Requant, frac: int) -> Callable[[GraphBuilder], str]:
    """A dense layer, then the Requant in question."""

    def make(builder: GraphBuilder) -> str:
        at = source(builder, (12,), UNSIGNED)
        dense = Dense(frozen_array(weights(12, 4)), frozen_array([3, -70, 250, 0]))
        at = builder.add(dense, (at,), Dyadic(FRAC + 5), "dense")
        return builder.add(op, (at,), Dyadic(frac), "dense")

    return make


def add(*signs: int) -> Callable[[GraphBuilder], str]:
    """The input and its negated and halved forms, added."""

    def make(builder: GraphBuilder) -> str:
        at = source(builder, (3, 3, 2), SIGNED)
        half = builder.add(requant(1, lo=-64, hi=63), (at,), Dyadic(FRAC), "half")
        total = builder.add(Add(signs), (at, half), Dyadic(FRAC), "add")
        return squeeze(builder, total, -64, 63)

    return make


def halved(builder: GraphBuilder, at: str) -> str:
    """A second tensor of the same shape and unit."""
    return builder.add(requant(1, lo=-64, hi=63), (at,), Dyadic(FRAC), "half")


def multiply(builder: GraphBuilder) -> str:
    """The input times its half."""
    at = source(builder, (3, 3, 2), SIGNED)
    product = builder.add(Multiply(), (at, halved(builder, at)), Dyadic(2 * FRAC), "multiply")
    return squeeze(builder, product, -64, 63)


def gate(builder: GraphBuilder) -> str:
    """The input times one number a channel: what a squeeze-and-excite block does."""
    at = source(builder, (4, 4, 3), UNSIGNED)
    sums = builder.add(SumPool((4, 4), (4, 4), NONE2), (at,), Dyadic(FRAC), "pool")
    factor = squeeze(builder, sums)
    label = builder.label(factor)
    assert isinstance(label, Dyadic)
    assert isinstance(label.frac, int)
    return squeeze(builder, builder.add(Multiply(), (at, factor), Dyadic(FRAC + label.frac), "gate"))


def concat(axis: int, parts: int = 2) -> Callable[[GraphBuilder], str]:
    """The input and its half, joined."""

    def make(builder: GraphBuilder) -> str:
        at = source(builder, (3, 4, 2), SIGNED)
        inputs = (at, halved(builder, at), at)[:parts]
        return builder.add(Concat(axis), inputs, Dyadic(FRAC), "concat")

    return make


def transposed_conv(builder: GraphBuilder) -> str:
    """Zeros between the positions, then a convolution."""
    at = source(builder, (4, 4, 2), UNSIGNED)
    spread = builder.add(Upsample((2, 2), True), (at,), Dyadic(FRAC), "spread")
    op = conv(3, 3, 2, 3, strides=ONE2, pads=((2, 2), (2, 2)))
    return squeeze(builder, builder.add(op, (spread,), Dyadic(FRAC + 5), "transposed"))


def softmax(shape: Shape, bits: int) -> Callable[[GraphBuilder], str]:
    """TFLite-Micro's parameters for an input of 2**-FRAC a unit."""

    def make(builder: GraphBuilder) -> str:
        op = softmax_op(bits, 2.0**-FRAC, 1.0)
        assert op is not None
        kind = SIGNED16 if bits == 15 else SIGNED
        return builder.add(op, (source(builder, shape, kind),), Affine(2.0**-bits, SOFTMAX_FORMS[bits].lo), "softmax")

    return make


def logistic(builder: GraphBuilder) -> str:
    """The logistic function in units of 1/256."""
    real = np.arange(SIGNED.lo, SIGNED.hi + 1) * 2.0**-FRAC
    table = np.clip(np.rint(256 / (1 + np.exp(-real))) - 128, -128, 127).astype(np.int64)
    at = source(builder, (12,), SIGNED)
    return builder.add(Lut(frozen_array(table), SIGNED.lo, "logistic"), (at,), Affine(1 / 256, -128), "logistic")


def any_table(builder: GraphBuilder) -> str:
    """A table that is no function's, a little longer than the input needs."""
    table = np.random.default_rng(4).integers(-60, 61, UNSIGNED.hi + 8)
    return builder.add(Lut(frozen_array(table), -3), (source(builder, (3, 4), UNSIGNED),), Dyadic(FRAC), "table")


def thresholds(channels: int, levels: int, *, falling: bool = False) -> Callable[[GraphBuilder], str]:
    """A dense layer, then thresholds, some of them out of reach."""

    def make(builder: GraphBuilder) -> str:
        at = source(builder, (12,), UNSIGNED)
        dense = Dense(frozen_array(weights(12, 4)), frozen_array([3, -70, 250, 0]))
        at = builder.add(dense, (at,), Dyadic(FRAC + 5), "dense")
        reach = builder.type(at).hi
        rows = np.sort(np.random.default_rng(levels).integers(-reach, reach + 1, (channels, levels)), axis=1)
        step = [1, -1, 1, -1] if falling else [1]
        op = Threshold(frozen_array(rows), frozen_array([-2]), frozen_array(step))
        return builder.add(op, (at,), Dyadic(FRAC), "thresholds")

    return make


NONE2, ONE2, SAME = ((0, 0), (0, 0)), (1, 1), ((1, 1), (1, 1))
DENSE = Dense(frozen_array(weights(12, 5)), frozen_array([9, -300, 4, 0, 77]))

FORMS: tuple[Form, ...] = (
    Form("Conv", "same padding", linear((5, 5, 2), lambda: conv(3, 3, 2, 4, strides=ONE2, pads=SAME))),
    Form("Conv", "stride 2, valid", linear((6, 6, 2), lambda: conv(3, 3, 2, 4, strides=(2, 2), pads=NONE2), SIGNED)),
    Form("Conv", "1x1", linear((4, 4, 3), lambda: conv(1, 1, 3, 5, strides=ONE2, pads=NONE2))),
    Form("Conv", "depthwise", linear((5, 5, 4), lambda: conv(3, 3, 1, 4, strides=ONE2, pads=SAME, groups=4))),
    Form("Conv", "groups", linear((4, 4, 4), lambda: conv(3, 3, 2, 4, strides=ONE2, pads=SAME, groups=2))),
    Form("Conv", "one axis", linear((9, 2), lambda: conv(3, 2, 4, strides=(1,), pads=((1, 1),)))),
    Form("Conv", "dilation", linear((7, 7, 1), lambda: conv(3, 3, 1, 2, strides=ONE2, pads=NONE2, dilation=2))),
    Form("Conv", "padding of 7", linear((4, 4, 2), lambda: conv(3, 3, 2, 2, strides=ONE2, pads=SAME, pad_value=7))),
    Form("Dense", "one vector", linear((12,), lambda: DENSE)),
    Form("Dense", "signed input", linear((12,), lambda: DENSE, SIGNED)),
    Form("Dense", "rows", linear((3, 12), lambda: DENSE)),
    Form("Add", "plus", add(1, 1)),
    Form("Add", "minus", add(1, -1)),
    Form("Multiply", "one shape", multiply),
    Form("Multiply", "a factor a channel", gate),
    Form("Concat", "channels", concat(2)),
    Form("Concat", "rows", concat(0)),
    Form("Concat", "three inputs", concat(1, 3)),
    Form("MaxPool", "2x2", plain((6, 6, 3), MaxPool((2, 2), (2, 2), NONE2))),
    Form("MaxPool", "padded", plain((5, 5, 2), MaxPool((3, 3), (2, 2), SAME), SIGNED)),
    Form("SumPool", "2x2", linear((4, 4, 3), lambda: SumPool((2, 2), (2, 2), NONE2))),
    Form("SumPool", "padded", linear((5, 5, 2), lambda: SumPool((3, 3), (2, 2), SAME), SIGNED)),
    Form("Reshape", "flatten", plain((3, 4, 2), Reshape((24,)))),
    Form("Transpose", "height and width", plain((3, 4, 2), Transpose((1, 0, 2)))),
    Form("Transpose", "channels first", plain((3, 4, 2), Transpose((2, 0, 1)), SIGNED)),
    Form("Pad", "zeros", plain((3, 4, 2), Pad(((1, 0), (1, 2), (0, 0)), 0), SIGNED)),
    Form("Pad", "a value", plain((3, 4, 2), Pad(((1, 1), (1, 1), (0, 0)), -7), SIGNED)),
    Form("Pad", "channels", plain((3, 4, 2), Pad(((0, 0), (0, 0), (1, 2)), 0))),
    Form("Slice", "channels", plain((3, 4, 6), Slice((0, 0, 2), (3, 4, 3), (1, 1, 1)))),
    Form("Slice", "crop", plain((5, 6, 2), Slice((1, 2, 0), (3, 3, 2), (1, 1, 1)), SIGNED)),
    Form("Slice", "every second", plain((5, 6, 2), Slice((0, 1, 0), (3, 3, 2), (2, 2, 1)))),
    Form("Upsample", "nearest", plain((3, 4, 2), Upsample((2, 2), False))),
    Form("Upsample", "nearest, one axis", plain((5, 3), Upsample((3,), False), SIGNED)),
    Form("Upsample", "transposed convolution", transposed_conv),
    Form("ArgMax", "one vector", plain((12,), ArgMax(), SIGNED)),
    Form("ArgMax", "rows", plain((3, 5), ArgMax())),
    Form("Requant", "half to even", after_dense(requant(5), FRAC)),
    Form("Requant", "half up", after_dense(requant(5, Rounding.HALF_UP), FRAC)),
    Form("Requant", "half away", after_dense(requant(5, Rounding.HALF_AWAY), FRAC)),
    Form("Requant", "floor", after_dense(requant(5, Rounding.FLOOR), FRAC)),
    Form("Requant", "relu clamp", after_dense(requant(5, lo=0, hi=31), FRAC)),
    Form("Requant", "a shift a channel", after_dense(requant([4, 5, 6, 7]), FRAC)),
    Form("Requant", "multiplier", after_dense(requant(9, multiplier=11), FRAC)),
    Form(
        "Requant",
        "TFLite's two stages",
        after_dense(
            requant(4, Rounding.HALF_AWAY, multiplier=1 << 30, first=Stage(frozen_array(31), Rounding.HALF_UP)),
            FRAC,
        ),
    ),
    Form("Requant", "offset", after_dense(requant(6, offset=-9), FRAC)),
    Form("Requant", "bias", after_dense(requant(5, Rounding.HALF_UP, multiplier=3, bias=17), FRAC)),
    Form("Requant", "a bias a channel", after_dense(requant(9, multiplier=11, bias=[-900, 0, 77, 4000]), FRAC)),
    Form("Lut", "logistic", logistic),
    Form("Lut", "any table", any_table),
    Form("Threshold", "shared", thresholds(1, 7)),
    Form("Threshold", "a row a channel", thresholds(4, 7)),
    Form("Threshold", "many levels", thresholds(4, 40)),
    Form("Threshold", "falling", thresholds(4, 5, falling=True)),
    Form("Softmax", "one vector", softmax((10,), 8)),
    Form("Softmax", "rows", softmax((3, 5), 8)),
    Form("Softmax", "16 bits", softmax((10,), 16)),
    Form("Softmax", "15 bits from 16", softmax((3, 10), 15)),
)
