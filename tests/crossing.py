"""Small graphs, one form of one op each: what every backend is crossed with, and what the support page lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Dyadic, Shape, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder

SIGNED, UNSIGNED = TensorType((), -128, 127), TensorType((), 0, 63)
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
) -> Requant:
    """A Requant of one or two stages."""
    last = Stage(frozen_array(shift), rounding)
    stages = (last,) if first is None else (first, last)
    return Requant(
        frozen_array(0), frozen_array(multiplier), stages, frozen_array(offset), frozen_array(lo), frozen_array(hi)
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
    Form("MaxPool", "2x2", plain((6, 6, 3), MaxPool((2, 2), (2, 2), NONE2))),
    Form("MaxPool", "padded", plain((5, 5, 2), MaxPool((3, 3), (2, 2), SAME), SIGNED)),
    Form("SumPool", "2x2", linear((4, 4, 3), lambda: SumPool((2, 2), (2, 2), NONE2))),
    Form("SumPool", "padded", linear((5, 5, 2), lambda: SumPool((3, 3), (2, 2), SAME), SIGNED)),
    Form("Reshape", "flatten", plain((3, 4, 2), Reshape((24,)))),
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
)
