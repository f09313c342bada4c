"""Graphs of every form that the hls4ml backend takes, and a run through its C simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeflow.artifacts import fill
from edgeflow.backends.hls4ml.backend import Hls4mlBackend
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.backends.protocol import Artefact
from edgeflow.board import load_board
from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from tests.graphs import extreme_inputs, pick

HLS = Hls4mlBackend()
BOARD = load_board("pynq-z2")
ROUNDINGS = list(Rounding)


def shift(by: int, rounding: Rounding, lo: int, hi: int, multiplier: IntArray | int = 1, offset: int = 0) -> Requant:
    """A Requant of one stage."""
    return Requant(
        frozen_array(0),
        frozen_array(multiplier),
        (Stage(frozen_array(by), rounding),),
        frozen_array(offset),
        frozen_array(lo),
        frozen_array(hi),
    )


def csim(graph: Graph, folder: Path, inputs: dict[str, IntArray], options: Hls4mlOptions) -> dict[str, IntArray]:
    """Emits, compiles and runs a graph."""
    assert HLS.check(graph, BOARD, options) == ()
    fill(folder, HLS.emit(graph, BOARD, options))
    work = folder / "work"
    work.mkdir()
    program = HLS.build(Artefact(folder, "hls4ml", graph, BOARD, options, "", graph), "csim", work)
    return dict(HLS.run(program, inputs).outputs)


def assert_exact(graph: Graph, folder: Path, options: Hls4mlOptions, seed: int = 0) -> None:
    """The C simulation gives the interpreter's integers, at the extremes too."""
    inputs = extreme_inputs(graph, seed, 200)
    expected, _ = interpret(graph, inputs)
    got = csim(graph, folder, inputs, options)
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(got[name], values, err_msg=name)


class Grower:
    """Grows a random graph whose labels are true, of forms that `check` accepts."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = GraphBuilder(f"net {seed}")
        self.count = 0

    def graph(self, rank: int, depth: int, *, taps: bool = False) -> Graph:
        """A chain of random layers on an input with `rank` axes before its channels."""
        shape = (*(pick(self.rng, 4, 5, 6) for _ in range(rank)), pick(self.rng, 1, 2, 3))
        bits = pick(self.rng, 1, 4, 8)
        lo = 0 if self.rng.random() < 0.5 else -(1 << (bits - 1))
        at = self.builder.input("x", TensorType(shape, lo, lo + (1 << bits) - 1), Dyadic(pick(self.rng, 0, 3, bits)))
        for _ in range(depth):
            at = self.grow(at)
            if taps and self.rng.random() < 0.5:
                self.builder.output(f"tap {self.count}", at)
        self.builder.output("y", at)
        return self.builder.finish()

    def unit(self, tensor: str) -> int:
        """The label of a tensor, one power of two."""
        label = self.builder.label(tensor)
        assert isinstance(label, Dyadic)
        assert isinstance(label.frac, int)
        return label.frac

    def add(self, op: Op, at: str, unit: int) -> str:
        """One layer; the tensor unchanged where the op does not fit."""
        try:
            return self.builder.add(op, (at,), Dyadic(unit), f"layer {self.count}")
        except InvalidGraph:
            return at

    def grow(self, at: str) -> str:
        """One random layer, perhaps with a rounding."""
        self.count += 1
        kind, choice = self.builder.type(at), self.rng.random()
        if len(kind.shape) == 1 or choice < 0.15:
            at = self.dense(at)
        elif choice < 0.3 and min(kind.shape[:-1]) >= 2:
            at = self.pool(at)
        elif choice < 0.45:
            at = self.residual(at)
        else:
            at = self.conv(at)
        if self.builder.type(at).bits > 14 or self.rng.random() < 0.7:
            at = self.requant(at)
        return at

    def dense(self, at: str) -> str:
        if len(self.builder.type(at).shape) > 1 and self.rng.random() < 0.5:
            at = self.add(Reshape((self.builder.type(at).size,)), at, self.unit(at))
        weight = self.rng.integers(-9, 10, (self.builder.type(at).shape[-1], pick(self.rng, 1, 4, 6)))
        bias = self.rng.integers(-99, 100, weight.shape[1])
        return self.add(Dense(frozen_array(weight), frozen_array(bias)), at, self.unit(at) + pick(self.rng, 0, 3))

    def conv(self, at: str) -> str:
        shape, rng = self.builder.type(at).shape, self.rng
        window = tuple(pick(rng, *range(1, min(3, length) + 1)) for length in shape[:-1])
        groups = pick(rng, 1, 1, shape[-1])
        weight = rng.integers(-9, 10, (*window, shape[-1] // groups, groups * pick(rng, 1, 2)))
        pads = tuple((pick(rng, 0, 1), pick(rng, 0, 1)) for _ in window)
        strides = tuple(pick(rng, 1, 1, 2) for _ in window)
        dilation = tuple(pick(rng, 1, 1, 1, 2) for _ in window)
        bias = frozen_array(rng.integers(-99, 100, weight.shape[-1]) * (rng.random() < 0.8))
        op = Conv(frozen_array(weight), bias, strides, pads, dilation, groups)
        return self.add(op, at, self.unit(at) + pick(rng, 0, 4))

    def pool(self, at: str) -> str:
        rank = len(self.builder.type(at).shape) - 1
        none, strides = ((0, 0),) * rank, tuple(pick(self.rng, 1, 2) for _ in range(rank))
        if self.rng.random() < 0.6:
            return self.add(MaxPool((2,) * rank, strides, none), at, self.unit(at))
        return self.add(SumPool((2,) * rank, strides, none), at, self.unit(at) + rank)

    def residual(self, at: str) -> str:
        """x +- requant(x), both in the same unit."""
        bits, unit = self.builder.type(at).bits, self.unit(at)
        drop = pick(self.rng, 1, 2)
        other = self.add(shift(drop, self.rounding(), -(1 << bits), (1 << bits) - 1), at, unit - drop)
        back = shift(0, Rounding.FLOOR, -(1 << 40), 1 << 40)
        other = self.add(replace(back, pre=frozen_array(drop)), other, unit)
        signs = [(1, 1), (1, -1), (-1, 1)][int(self.rng.integers(3))]
        return self.builder.add(Add(signs), (at, other), Dyadic(unit), f"layer {self.count}")

    def rounding(self) -> Rounding:
        return ROUNDINGS[int(self.rng.integers(4))]

    def requant(self, at: str) -> str:
        """One or two shifts, a power of two or any multiplier, clamped like a quantizer."""
        rng, bits = self.rng, self.builder.type(at).bits
        keep = pick(rng, 1, 3, 6, 8)
        drop = max(0, bits - keep - pick(rng, 0, 1, 3))
        signed = rng.random() < 0.6 and keep > 1
        lo = -(1 << (keep - 1)) + pick(rng, 0, 1) if signed else 0
        hi = (1 << (keep - signed)) - 1
        if rng.random() < 0.7:
            return self.add(shift(drop, self.rounding(), lo, hi), at, self.unit(at) - drop)
        multiplier = rng.integers(1, 128, () if rng.random() < 0.5 else self.builder.type(at).shape[-1:])
        op = shift(drop + 6, self.rounding(), lo, hi, frozen_array(multiplier))
        if rng.random() < 0.4:
            op = replace(op, stages=(Stage(frozen_array(3), self.rounding()), *op.stages))
        return self.add(op, at, self.unit(at) - drop)
