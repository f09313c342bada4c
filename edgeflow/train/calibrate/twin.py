"""An integer graph in the making, while samples run through it and through the float network beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.ir.graph import Bounds, Meaning, Op
from edgeflow.ir.types import IntArray, Label, Shape, TensorType
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.train.calibrate.floats import Clip, FloatArray, FloatGraph, FloatNode, Move
from edgeflow.train.calibrate.grids import Grid
from edgeflow.train.calibrate.observe import fused_clips
from edgeflow.train.calibrate.options import Options
from edgeflow.train.calibrate.reader import LINEAR

_CHUNK = 1 << 22


@dataclass(frozen=True)
class LayerNoise:
    """How far a layer's integers stay from the float network: a signal-to-noise ratio in dB (None: no noise at all).

    `added`: what this layer alone adds, given its integer inputs. `total`: what has gathered so far.
    """

    layer: str
    added: float | None
    total: float | None


def decibels(signal: npt.NDArray[np.floating], got: npt.NDArray[np.floating]) -> float | None:
    """10 log10 of the signal's power over that of its difference from `got`; None where nothing differs."""
    noise = float(np.mean((signal.astype(np.float64) - got) ** 2))
    power = float(np.mean(signal.astype(np.float64) ** 2))
    return None if noise == 0.0 else float(10 * np.log10(max(power, 1e-30) / noise))


class Twin:
    """What the lowering of each node needs: the graph so far, the tensors' grids, and values of both kinds.

    `names` gives the integer tensor of each float tensor; `clips` says which Clip a node's own rounding does.
    """

    def __init__(
        self, graph: FloatGraph, grids: Mapping[str, Grid], options: Options, samples: Mapping[str, FloatArray]
    ) -> None:
        self.graph = graph
        self.grids = grids
        self.options = options
        self.builder = GraphBuilder(graph.name, Meaning.OWN)
        self.noise: list[LayerNoise] = []
        self.clips = fused_clips(graph)
        self.shapes: dict[str, Shape] = graph.shapes()
        self.names: dict[str, str] = {}
        self.floats: dict[str, FloatArray] = {}
        self._ints: dict[str, IntArray] = {}
        self._left = {name: sum(node.inputs.count(name) for node in graph.nodes) for name in self.shapes}
        for name, shape in graph.inputs.items():
            grid = grids[name]
            self.names[name] = self.builder.input(name, TensorType(shape, grid.lo, grid.hi), grid.label)
            self.floats[name] = samples[name]
            self._ints[self.names[name]] = grid.integers(samples[name])

    def clip_of(self, node: FloatNode) -> FloatNode | None:
        """The Clip that a node's rounding does."""
        return self.graph.node(self.clips[node.name]) if node.name in self.clips else None

    def target(self, node: FloatNode) -> tuple[Grid, tuple[int, int]]:
        """The grid of a node's stored result, and where its integers end: a fused Clip counts."""
        clip = self.clip_of(node)
        if clip is None:
            grid = self.grids[node.name]
            return grid, (grid.lo, grid.hi)
        assert isinstance(clip.op, Clip)
        return self.grids[clip.name], clip_ends(clip.op, self.grids[clip.name])

    def sources(self, node: FloatNode) -> tuple[tuple[str, Grid], ...]:
        """The integer tensors that a node reads, with their grids."""
        return tuple((self.names[name], self.grids[name]) for name in node.inputs)

    def add(self, op: Op, inputs: tuple[str, ...], label: Label, node: FloatNode, part: str = "") -> str:
        """Adds an integer node for a float one, and computes it for the samples. Raises InvalidGraph."""
        own = node.name.removesuffix(LINEAR) if node.name.startswith(node.layer) else node.layer
        tensor = self.builder.add(op, inputs, label, node.layer, f"{own}{part}")
        self._ints[tensor] = self.computed(op, inputs)
        return tensor

    def computed(self, op: Op, inputs: tuple[str, ...]) -> IntArray:
        """What an op gives for the samples."""
        bounds: tuple[Bounds, ...] = tuple(self.builder.bounds(one) for one in inputs)
        values = tuple(self._ints[one] for one in inputs)
        size = int(np.prod(op.shape(tuple(one.shape[1:] for one in values))))
        step = max(1, _CHUNK // max(size, *(int(np.prod(one.shape[1:])) for one in values)))
        parts = [
            op.evaluate(tuple(one[start : start + step] for one in values), bounds)
            for start in range(0, len(values[0]), step)
        ]
        return np.concatenate(parts)

    def begin(self, node: FloatNode) -> None:
        """Computes a float node."""
        self.floats[node.name] = node.op.evaluate(tuple(self.floats[name] for name in node.inputs))

    def end(self, node: FloatNode, tensor: str) -> None:
        """Takes down the noise of a node whose integer tensor is there, and forgets what nothing reads any more."""
        clip = self.clip_of(node)
        if clip is not None:
            self.floats[clip.name] = clip.op.evaluate((self.floats.pop(node.name),))
        result = node if clip is None else clip
        self.names[result.name] = tensor
        if not isinstance(node.op, Move):
            self._measure(node, clip, result.name)
        for name in node.inputs:
            self._left[name] -= 1
            if self._left[name] == 0:
                del self.floats[name]
                del self._ints[self.names[name]]

    def _measure(self, node: FloatNode, clip: FloatNode | None, result: str) -> None:
        got = self._reals(result)
        alone = node.op.evaluate(tuple(self._reals(name).astype(np.float32) for name in node.inputs))
        if clip is not None:
            alone = clip.op.evaluate((alone,))
        self.noise.append(LayerNoise(node.layer, decibels(alone, got), decibels(self.floats[result], got)))

    def _reals(self, name: str) -> npt.NDArray[np.float64]:
        return self.grids[name].reals(self._ints[self.names[name]])


def clip_ends(clip: Clip, grid: Grid) -> tuple[int, int]:
    """A clip's ends on a grid, within the grid's own."""
    ends = (grid.zero + np.rint(np.array([clip.lo, clip.hi]) / grid.scale)).clip(grid.lo, grid.hi)
    return int(ends[0]), int(ends[1])
