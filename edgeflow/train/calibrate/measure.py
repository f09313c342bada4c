"""What the integers cost: the float network and the integer graph on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.labels import to_integers, to_reals
from edgeflow.train.calibrate.floats import FloatArray, FloatGraph, Function, forward
from edgeflow.train.calibrate.twin import decibels

_MOST_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class OutputNoise:
    """One output: its signal-to-noise ratio in dB (None: equal), and the share (0 to 1) of equal decisions.

    A decision is the largest channel, or for a single channel the side of its threshold; None for a single channel
    that is no probability.
    """

    name: str
    decibels: float | None
    agreement: float | None


@dataclass(frozen=True)
class Measured:
    """Both networks on `samples` samples. Accuracies are 0 to 1; None without labels, or with several outputs."""

    samples: int
    float_accuracy: float | None
    accuracy: float | None
    outputs: tuple[OutputNoise, ...]

    @property
    def change(self) -> float | None:
        """Percentage points that the integers gain (or, below 0, lose)."""
        if self.float_accuracy is None or self.accuracy is None:
            return None
        return 100 * (self.accuracy - self.float_accuracy)


def measure(
    network: FloatGraph,
    graph: Graph,
    samples: Mapping[str, FloatArray],
    labels: IntArray | None,
    told: Callable[[int], None] = lambda _: None,
) -> Measured:
    """Runs the samples through both; `told` hears how many are done."""
    meant = forward(network, samples)
    got = run_integers(graph, samples, told)
    accuracies: list[float | None] = [None, None]
    outputs: list[OutputNoise] = []
    for output in network.outputs:
        threshold = _threshold(network, output.tensor, meant[output.name])
        decisions = [_decisions(one[output.name], threshold) for one in (meant, got)]
        if labels is not None and len(network.outputs) == 1:
            accuracies = [_share(one, labels) for one in decisions]
        first, second = decisions
        agreement = None if first is None or second is None else float((first == second).mean())
        outputs.append(OutputNoise(output.name, decibels(meant[output.name], got[output.name]), agreement))
    return Measured(len(next(iter(samples.values()))), accuracies[0], accuracies[1], tuple(outputs))


def run_integers(
    graph: Graph, samples: Mapping[str, FloatArray], told: Callable[[int], None] = lambda _: None
) -> dict[str, npt.NDArray[np.float64]]:
    """The graph's outputs as real numbers, a chunk of samples at a time."""
    total = len(next(iter(samples.values())))
    step = max(1, _MOST_ELEMENTS // sum(tensor.type.size for tensor in graph.tensors()))
    parts: dict[str, list[npt.NDArray[np.float64]]] = {one.name: [] for one in graph.outputs}
    for start in range(0, total, step):
        inputs = {
            one.name: to_integers(samples[one.name][start : start + step], one.type, one.label) for one in graph.inputs
        }
        found, _ = interpret(graph, inputs)
        for output in graph.outputs:
            parts[output.name].append(to_reals(found[output.name], graph.tensor(output.tensor).label))
        told(min(start + step, total))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _threshold(network: FloatGraph, tensor: str, values: FloatArray) -> float | None:
    """Where a single channel turns from no to yes: 0.5 for a sigmoid."""
    node = network.node(tensor)
    sigmoid = node is not None and isinstance(node.op, Function) and node.op.name in ("sigmoid", "hard_sigmoid")
    return 0.5 if values.shape[-1] == 1 and sigmoid else None


def _decisions(values: npt.NDArray[np.floating], threshold: float | None) -> npt.NDArray[np.int64] | None:
    if values.shape[-1] > 1:
        return values.argmax(axis=-1)
    return None if threshold is None else (values[..., 0] > threshold).astype(np.int64)


def _share(decisions: npt.NDArray[np.int64] | None, labels: IntArray) -> float | None:
    return None if decisions is None or decisions.shape != labels.shape else float((decisions == labels).mean())
