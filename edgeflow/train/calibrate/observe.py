"""What every tensor of a network holds on the calibration data, and the grid that each gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.errors import EdgeflowError
from edgeflow.ops.concat import Concat
from edgeflow.ops.upsample import Upsample
from edgeflow.train.calibrate.floats import Average, Clip, FloatArray, FloatConv, FloatGraph, Function, Move, walk
from edgeflow.train.calibrate.functions import FUNCTIONS
from edgeflow.train.calibrate.grids import Grid, Range, affine_grid, choose_grid, dyadic_grid, fixed_grid
from edgeflow.train.calibrate.options import Options

_KEPT = 1 << 15


@dataclass
class Seen:
    """One tensor over all samples: ends, ends of each channel, and some of its values."""

    lo: FloatArray
    hi: FloatArray
    values: list[FloatArray]

    @property
    def range(self) -> Range:
        """Over all channels."""
        lo, hi = float(self.lo.min()), float(self.hi.max())
        return Range(lo, hi, np.concatenate([*self.values, np.array([lo, hi], np.float32)]))

    @property
    def reach(self) -> FloatArray:
        """The largest magnitude of each channel."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))


def observe(
    graph: FloatGraph, inputs: Mapping[str, FloatArray], told: Callable[[int], None] = lambda _: None
) -> dict[str, Seen]:
    """Runs the samples through the network; `told` hears how many are done.

    Raises EdgeflowError, naming the layer, where a value is no number.
    """
    samples, step = len(next(iter(inputs.values()))), graph.chunk()
    layers = {node.name: node.layer for node in graph.nodes}
    seen: dict[str, Seen] = {}
    for start in range(0, samples, step):
        part = {name: values[start : start + step] for name, values in inputs.items()}
        with np.errstate(over="ignore", invalid="ignore"):
            for name, value in walk(graph, part):
                if not np.isfinite(value).all():
                    raise EdgeflowError(
                        "the model itself computes NaN or infinite values on the calibration data",
                        where=f"layer '{layers.get(name, name)}'",
                        fix="check that the data are scaled as they were in training",
                    )
                _add(seen, name, value, _KEPT * len(value) // samples + 1)
        told(min(start + step, samples))
    return seen


def _add(seen: dict[str, Seen], name: str, value: FloatArray, share: int) -> None:
    rows = value.reshape(-1, value.shape[-1])
    lo, hi = rows.min(axis=0), rows.max(axis=0)
    flat = value.reshape(-1)
    picked = flat[:: max(1, flat.size // share)].copy()
    if name in seen:
        one = seen[name]
        seen[name] = Seen(np.minimum(one.lo, lo), np.maximum(one.hi, hi), [*one.values, picked])
    else:
        seen[name] = Seen(lo, hi, [picked])


def choose_grids(graph: FloatGraph, seen: Mapping[str, Seen], options: Options) -> dict[str, Grid]:
    """A grid for every tensor. Tensors that an op only moves share one, as TFLite's kernels require."""
    groups = _Groups(graph)
    make = dyadic_grid if options.power_of_two else affine_grid
    grids: dict[str, Grid] = {}
    for members in groups.all():
        fixed = next((known for name in members if (known := _known_range(graph, name)) is not None), None)
        if fixed is not None and not options.power_of_two:
            grid = fixed_grid(*fixed, options.activation_bits)
        else:
            found = _joined(graph, seen, members)
            whole = not options.power_of_two and any(name in graph.inputs for name in members)
            method = "minmax" if whole else options.method
            grid = choose_grid(found, make, options.activation_bits, method)
        grids.update(dict.fromkeys(members, grid))
    for node in graph.nodes:
        if isinstance(node.op, Move) and is_spread(node.op):
            source = grids[node.inputs[0]]
            grids[node.name] = replace(source, zero=0, lo=source.lo - source.zero, hi=source.hi - source.zero)
    return grids


def is_spread(move: Move) -> bool:
    """Whether it puts zeros between the elements: its integers have their zero point at 0."""
    return isinstance(move.op, Upsample) and move.op.zeros


def _joined(graph: FloatGraph, seen: Mapping[str, Seen], members: tuple[str, ...]) -> Range:
    """The range of several tensors, and of the padding that their readers add."""
    ranges = [seen[name].range for name in members]
    values = np.concatenate([one.values.astype(np.float32) for one in ranges])
    joined = Range(min(one.lo for one in ranges), max(one.hi for one in ranges), values)
    for node in graph.nodes:
        if isinstance(node.op, FloatConv) and node.inputs[0] in members:
            joined = joined.widened(node.op.pad, node.op.pad)
    return joined


def _known_range(graph: FloatGraph, name: str) -> tuple[float, float] | None:
    node = graph.node(name)
    return FUNCTIONS[node.op.name].range if node is not None and isinstance(node.op, Function) else None


class _Groups:
    """Tensors that must share a grid (union-find)."""

    def __init__(self, graph: FloatGraph) -> None:
        self._graph = graph
        self._parent = {name: name for name in (*graph.inputs, *(node.name for node in graph.nodes))}
        for node in graph.nodes:
            if isinstance(node.op, Average) and not node.op.whole:
                self._join(node.name, node.inputs[0])
            elif isinstance(node.op, Move) and isinstance(node.op.op, Concat):
                for source in node.inputs:
                    self._join_part(node.name, source)
            elif isinstance(node.op, Move) and not is_spread(node.op):
                self._join(node.name, node.inputs[0])

    def all(self) -> list[tuple[str, ...]]:
        groups: dict[str, list[str]] = {}
        for name in self._parent:
            groups.setdefault(self._root(name), []).append(name)
        return [tuple(group) for group in groups.values()]

    def _join_part(self, name: str, source: str) -> None:
        """A part of a Concat keeps a grid that its function fixes: it is brought to the others' when joined."""
        members = [one for one in self._parent if self._root(one) == self._root(source)]
        if all(_known_range(self._graph, one) is None for one in members):
            self._join(name, source)

    def _root(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def _join(self, one: str, other: str) -> None:
        self._parent[self._root(one)] = self._root(other)


def fused_clips(graph: FloatGraph) -> dict[str, str]:
    """Which Clip each node's own rounding does: `{node: clip}`. The tensor between the two is never stored."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node.op, Function | Clip | Move):
            continue
        after = graph.sole_reader(node.name)
        if after is not None and isinstance(after.op, Clip):
            found[node.name] = after.name
    return found


def dead_layers(graph: FloatGraph, seen: Mapping[str, Seen]) -> tuple[str, ...]:
    """Layers whose result is one constant on all the data."""
    dead = (node.layer for node in graph.nodes if seen[node.name].lo.min() == seen[node.name].hi.max())
    return tuple(dict.fromkeys(dead))
