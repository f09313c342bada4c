"""A float Keras model to an exact integer graph by calibration, and the folder that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgeflow.artifacts import Bundle, fill, mark, new_folder, write_json
from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.semantics.serialize import graph_digest, to_files
from edgeflow.train.calibrate.data import Samples, read_samples, spaced
from edgeflow.train.calibrate.equalize import equalize
from edgeflow.train.calibrate.floats import FloatArray, FloatConv, FloatGraph, Scale, forward
from edgeflow.train.calibrate.lower import lower
from edgeflow.train.calibrate.measure import Measured, measure
from edgeflow.train.calibrate.observe import choose_grids, dead_layers, observe
from edgeflow.train.calibrate.options import Options
from edgeflow.train.calibrate.read import read_float
from edgeflow.train.calibrate.simplify import simplify
from edgeflow.train.calibrate.twin import LayerNoise, Twin
from edgeflow.vectors import write_vectors

VECTORS, RECORD = "vectors.npz", "quantize.json"
_FEW = 32
_LITTLE = 1.05
_MOST_VECTORS = 500
_MOST_TWIN, _TWIN_ELEMENTS = 256, 1 << 25

Told = Callable[[str], None]


@dataclass(frozen=True)
class Quantized:
    """A calibrated model: its graph, what it cost at the end and layer by layer, and what a user should know.

    `inputs` and `labels` are some of the measured samples, `outputs` what the float network makes of them.
    """

    graph: Graph
    options: Options
    calibrated: int
    held_out: bool
    measured: Measured
    layers: tuple[LayerNoise, ...]
    notes: tuple[str, ...]
    inputs: Mapping[str, FloatArray]
    outputs: Mapping[str, FloatArray]
    labels: IntArray | None

    @property
    def costliest(self) -> LayerNoise | None:
        """The layer that adds the most noise of its own."""
        noisy = [one for one in self.layers if one.added is not None]
        return min(noisy, key=lambda one: one.added or 0.0, default=None)


def quantize_model(model: Path, data: Path, options: Options, told: Told = lambda _: None) -> Quantized:
    """Reads a float Keras model and quantizes it with the samples of a data file. Needs no TensorFlow.

    Raises EdgeflowError for files that cannot be read and data that do not fit, Unsupported for a layer that cannot
    be quantized; both name the place and the fix.
    """
    told("reading the model")
    network, notes = read_float(model)
    samples = read_samples(data, network.inputs, options.samples)
    simple = simplify(network)
    return quantize_network(simple, samples, options, (*notes, *_unfolded(network, simple)), told)


def quantize_network(
    network: FloatGraph, samples: Samples, options: Options, notes: tuple[str, ...] = (), told: Told = lambda _: None
) -> Quantized:
    """Quantizes a simplified network: equalize, observe, choose grids, lower, measure."""

    def counted(what: str, total: int) -> Callable[[int], None]:
        return lambda done: told(f"{what}, {done:,} of {total:,} samples")

    seen = observe(network, samples.calibration, counted("ranges", samples.count))
    notes = (*notes, *_warnings(network, samples, dead_layers(network, seen)))
    equal = network
    if options.equalize:
        reach = None if options.per_tensor else {name: one.reach for name, one in seen.items()}
        equal = equalize(network, reach)
        if equal is not network:
            seen = observe(equal, samples.calibration, counted("ranges, equalized", samples.count))
    grids = choose_grids(equal, seen, options)
    twin = Twin(equal, grids, options, _for_twin(equal, samples))
    graph = lower(twin, lambda done, total: told(f"integers, layer {done} of {total}"))
    measured = measure(network, graph, samples.test, samples.labels, counted("comparing", samples.tested))
    notes = (*notes, *_doubts(measured, samples.labels))
    few = spaced(samples.tested, _MOST_VECTORS)
    inputs = {name: values[few] for name, values in samples.test.items()}
    return Quantized(
        graph,
        options,
        samples.count,
        samples.held_out,
        measured,
        tuple(twin.noise),
        notes,
        inputs,
        forward(network, inputs),
        None if samples.labels is None else samples.labels[few],
    )


def write_quantized(found: Quantized, output: Path, *, force: bool = False) -> None:
    """Writes `model.json`, `weights.npz`, `vectors.npz` (inputs, float outputs, labels) and `quantize.json`."""
    with new_folder(output, force=force) as folder:
        mark(folder, "graph")
        fill(folder, Bundle(to_files(found.graph)))
        write_vectors(folder / VECTORS, found.inputs, found.outputs, found.labels)
        write_json(folder / RECORD, record(found))


def record(found: Quantized) -> dict[str, object]:
    """What was measured, for programs."""
    return {
        "model": found.graph.name,
        "ops": len(found.graph.nodes),
        "digest": graph_digest(found.graph),
        "options": asdict(found.options),
        "calibrated": found.calibrated,
        "held_out": found.held_out,
        **asdict(found.measured),
        "change": found.measured.change,
        "layers": [asdict(one) for one in found.layers],
        "notes": list(found.notes),
    }


def _doubts(measured: Measured, labels: IntArray | None) -> tuple[str, ...]:
    """A note where the float network itself hardly does better than chance."""
    if labels is None or measured.float_accuracy is None:
        return ()
    chance = float(np.bincount(labels).max()) / len(labels)
    if len(labels) < _FEW or measured.float_accuracy > _LITTLE * chance:
        return ()
    share = f"{100 * measured.float_accuracy:.1f} %"
    return (f"the float model itself is right on only {share}: are the data scaled as they were in training?",)


def _unfolded(network: FloatGraph, simple: FloatGraph) -> tuple[str, ...]:
    """A note on every batch normalization or rescaling that stayed a layer of its own."""
    scales = {node.layer for node in network.nodes if isinstance(node.op, Scale)}
    left = dict.fromkeys(node.layer for node in simple.nodes if isinstance(node.op, FloatConv) and node.layer in scales)
    return tuple(
        f"'{one}' stays a multiplication of every value: it folds into a layer only right behind that layer's sums"
        for one in left
    )


def _for_twin(network: FloatGraph, samples: Samples) -> dict[str, FloatArray]:
    """Calibration samples for the layer-by-layer comparison: as many as stay small together."""
    largest = sum(int(np.prod(shape)) for shape in network.shapes().values())
    count = int(np.clip(_TWIN_ELEMENTS // largest, 4, _MOST_TWIN))
    places = spaced(samples.count, count)
    return {name: values[places] for name, values in samples.calibration.items()}


def _warnings(network: FloatGraph, samples: Samples, dead: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    if samples.count < _FEW:
        unit = "sample" if samples.count == 1 else "samples"
        found.append(f"only {samples.count} {unit} to calibrate on: ranges may be too narrow; give 100 or more")
    for name, values in samples.calibration.items():
        if float(values.min()) == float(values.max()):
            raise EdgeflowError(
                f"every value of input '{name}' is {float(values.flat[0]):g}, so nothing can be calibrated",
                fix="give real samples of what the model will see",
            )
    if dead:
        shown = ", ".join(f"'{one}'" for one in dead[:3]) + (" ..." if len(dead) > 3 else "")
        found.append(f"{shown}: the result never changes on these samples")
    return tuple(found)
