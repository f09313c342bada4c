"""QKeras' answers, and where a graph means real arithmetic, the judgement of every value that float32 rounds otherwise.

Each layer is judged on what the model itself gave to it, so that no difference hides another: its integers must be
those of real arithmetic, save where the bound on float32's error reaches a step of its quantizer.
"""

# pyright: basic
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from edgeflow.errors import EdgeflowError
from edgeflow.frontends import load_keras
from edgeflow.frontends.qkeras import Import
from edgeflow.frontends.qkeras.doubts import Doubt, magnitudes
from edgeflow.ir.graph import Graph, Meaning
from edgeflow.ir.types import Dyadic, IntArray
from edgeflow.semantics.interpret import interpret, interpret_all
from edgeflow.semantics.labels import exact_integers, to_integers, to_reals
from edgeflow.train.predict import FloatArray, cannot_run, fitting, names_of, open_student, predict, results_of
from edgeflow.train.runtime import Tensor, load_runtime, quiet
from edgeflow.vectors import NO_INTEGER, InputData, Judgement, Rounded

if TYPE_CHECKING:
    import keras

BoolArray = npt.NDArray[np.bool_]
Named = Mapping[str, FloatArray]
Seen = Mapping[str, Sequence[FloatArray]]
"""What each layer in doubt gave in the model, at each of its calls, in any order."""

_LARGEST_BATCH = 256
_ELEMENTS = 1 << 25


@dataclass(frozen=True)
class Answers:
    """A model's inputs and outputs by layer name, and the judgement that a graph of real arithmetic asks for."""

    inputs: dict[str, FloatArray]
    outputs: dict[str, FloatArray]
    judgement: Judgement | None = None


def answers(student: Path, inputs: InputData | FloatArray, declared: str | None = None) -> Answers:
    """As `predict`, judged. `declared` is the quantizer of inputs that no layer quantizes.

    Raises EdgeflowError as `predict` and `load_model` do, before TensorFlow starts where no graph equals the model.
    """
    known = load_keras(student, declared)
    if known.graph.meaning is not Meaning.REAL:
        return Answers(*predict(student, inputs))
    model = open_student(student)
    try:
        return judged(model, known, fitting(model, inputs))
    except EdgeflowError:
        raise
    except Exception as error:  # noqa: BLE001 - Keras raises what it likes
        raise cannot_run(error, student) from None


def judged(model: keras.Model, known: Import, given: dict[str, FloatArray]) -> Answers:
    """The answers of a model to `given`, in the order of its inputs, against its own import.

    Its layers write down what they give from now on.
    """
    tally = _Tally(known)
    batch = max(1, min(_LARGEST_BATCH, _ELEMENTS // sum(one.type.size for one in known.graph.tensors())))
    run = _observed(model, known.doubts)
    for start in range(0, len(next(iter(given.values()))), batch):
        part = {name: values[start : start + batch] for name, values in given.items()}
        with quiet():
            found, seen = run(list(part.values()))
        tally.add(part, dict(zip(names_of(model.outputs), found, strict=True)), seen, start)
    return Answers(given, tally.joined(tally.outputs), tally.judgement())


def _observed(
    model: keras.Model, doubts: Sequence[Doubt]
) -> Callable[[list[FloatArray]], tuple[list[FloatArray], Seen]]:
    """Runs a model on a batch: its outputs, and what each layer in doubt gave.

    It is the model's own predict: the layers' results are only written down as further outputs.
    """
    keras = load_runtime().keras
    noted: dict[str, list[Tensor]] = {}
    for name in dict.fromkeys(one.layer for one in doubts):
        layer = model
        for part in name.split("/"):
            layer = layer.get_layer(part)
        layer.call = _noting(layer.call, noted, name)

    class Observed(keras.Model):
        def call(self, inputs: Any) -> Any:
            noted.clear()
            found = results_of(model(inputs))
            return found, {name: list(calls) for name, calls in noted.items()}

    observed = Observed()

    def run(arrays: list[FloatArray]) -> tuple[list[FloatArray], Seen]:
        return cast(Any, observed).predict_on_batch(arrays[0] if len(arrays) == 1 else arrays)

    return run


def _noting(call: Callable[..., Tensor], noted: dict[str, list[Tensor]], name: str) -> Callable[..., Tensor]:
    def noting(*args: Any, **kwargs: Any) -> Tensor:
        result = call(*args, **kwargs)
        noted.setdefault(name, []).append(result)
        return result

    return noting


@dataclass
class _Tally:
    """The judgement so far, batch by batch."""

    known: Import
    outputs: defaultdict[str, list[FloatArray]] = field(default_factory=lambda: defaultdict(list))
    reals: defaultdict[str, list[FloatArray]] = field(default_factory=lambda: defaultdict(list))
    layers: dict[str, Rounded] = field(default_factory=dict)

    def add(self, given: Named, outputs: Named, seen: Seen, start: int) -> None:
        """A batch, whose first sample is number `start`."""
        graph = self.known.graph
        integers = {one.name: to_integers(given[one.name], one.type, one.label) for one in graph.inputs}
        meant, _ = interpret(graph, integers)
        for output in graph.outputs:
            real = to_reals(meant[output.name], graph.tensor(output.tensor).label)
            self.reals[output.name].append(real.astype(np.float32))
            self.outputs[output.name].append(outputs[output.name])
        for name, found in judge(self.known, integers, seen, outputs).items():
            if found.unexplained:
                found = replace(found, sample=found.sample + start)
            self.layers[name] = self.layers.get(name, Rounded()) + found

    @staticmethod
    def joined(parts: Mapping[str, list[FloatArray]]) -> dict[str, FloatArray]:
        """All batches of each output in one array."""
        return {name: np.concatenate(batches) for name, batches in parts.items()}

    def judgement(self) -> Judgement:
        """Of all batches."""
        return Judgement(self.joined(self.reals), self.layers)


def judge(known: Import, inputs: Mapping[str, IntArray], seen: Seen, outputs: Named) -> dict[str, Rounded]:
    """Every layer in doubt by its name, then the outputs: the graph on `inputs`, with the model's own values between.

    `inputs` are the graph's integers, `outputs` the model's outputs by name; a batch each. Of a layer that is called
    several times, the call is taken whose values are nearest to the graph's.
    """
    graph = known.graph
    doubts = {one.tensor: one for one in known.doubts}
    found: dict[str, Rounded] = {}
    left = {layer: list(calls) for layer, calls in seen.items()}
    own: dict[str, IntArray] = {}

    def instead(tensor: str, values: Mapping[str, IntArray]) -> IntArray:
        expected = values[tensor]
        if tensor not in doubts:
            return expected
        doubt, kind = doubts[tensor], graph.tensor(tensor).type
        own[tensor] = got = _nearest(graph, tensor, left[doubt.layer], expected)
        differ = got != expected
        wrong = (got < kind.lo) | (got > kind.hi)
        if differ.any():
            wrong |= _beyond(graph, doubt, values, got, differ)
        found[doubt.layer] = found.get(doubt.layer, Rounded()) + _rounded(differ, wrong, expected, got)
        return np.where(wrong, expected, got)

    values = interpret_all(graph, inputs, instead=instead)
    for output in graph.outputs:
        expected = own.get(output.tensor, values[output.tensor])
        got = _integers(graph, output.tensor, outputs[output.name])
        wrong = got != expected
        if output.tensor not in own or wrong.any():
            found[output.name] = found.get(output.name, Rounded()) + _rounded(wrong, wrong, expected, got)
    return found


def _beyond(graph: Graph, doubt: Doubt, values: Mapping[str, IntArray], got: IntArray, differ: BoolArray) -> BoolArray:
    """Where a step within float32's error bound does not explain that both integers differ: the graph's counts too."""
    rows = np.flatnonzero(differ.reshape(len(differ), -1).any(axis=1))
    some = {name: array[rows] for name, array in values.items()}
    where = np.nonzero(differ[rows])
    magnitude = np.broadcast_to(magnitudes(graph, doubt, some), differ[rows].shape)
    least, most = doubt.codes(some[doubt.source][where], magnitude[where], where[-1])
    mine, meant = got[rows][where], some[doubt.tensor][where]
    wrong = np.zeros_like(differ)
    wrong[(rows[where[0]], *where[1:])] = (np.minimum(mine, meant) < least) | (np.maximum(mine, meant) > most)
    return wrong


def _nearest(graph: Graph, tensor: str, calls: list[FloatArray], expected: IntArray) -> IntArray:
    """As `_integers`, of the call that differs least from `expected`, which is taken off the list."""
    shape = expected.shape
    read = [(number, _integers(graph, tensor, one)) for number, one in enumerate(calls) if one.shape == shape]
    if not read:
        shapes = ", ".join(str(one.shape[1:]) for one in calls) or "nothing"
        raise EdgeflowError(f"the model's '{tensor}' has the shape {shapes}, the graph's {shape[1:]}")
    number, got = min(read, key=lambda one: int((one[1] != expected).sum()))
    del calls[number]
    return got


def _integers(graph: Graph, tensor: str, values: FloatArray) -> IntArray:
    """A tensor's integers in the model, NO_INTEGER for a value that is none."""
    label = graph.tensor(tensor).label
    assert isinstance(label, Dyadic)
    integers, inexact = exact_integers(values, label)
    return np.where(inexact, NO_INTEGER, integers)


def _rounded(differ: BoolArray, wrong: BoolArray, expected: IntArray, got: IntArray) -> Rounded:
    if not wrong.any():
        return Rounded(differ.size, int(differ.sum()))
    sample, element = divmod(int(wrong.reshape(-1).argmax()), wrong[0].size)
    numbers = (int(one[sample].reshape(-1)[element]) for one in (expected, got))
    return Rounded(differ.size, int(differ.sum()), int(wrong.sum()), sample, element, *numbers)
