"""Bit for bit: the model's own answers, the interpreter and every built artefact, on the user's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeflow.artifacts import fill, scratch
from edgeflow.backends.artefact import backend_named
from edgeflow.backends.protocol import Artefact, Attachable, Attached, Backend
from edgeflow.board import Board, McuBoard
from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.tflite.original import RUNNER, TITLE, ask_original, kept_original
from edgeflow.ir.graph import Graph, Meaning, Node, Output
from edgeflow.ir.types import Dyadic, IntArray
from edgeflow.resource import Resource
from edgeflow.semantics.interpret import interpret, interpret_all
from edgeflow.semantics.labels import exact_integers, to_integers, to_reals
from edgeflow.vectors import NO_INTEGER, FloatArray, Vectors


@dataclass(frozen=True)
class Mismatch:
    """The first difference: where, and both integers. `got` None means a value that is no integer of the label."""

    layer: str
    sample: int
    element: int
    expected: int
    got: int | None


@dataclass(frozen=True)
class Comparison:
    """One runner's outputs against the interpreter's.

    Where the graph's meaning is real arithmetic on the stored parameters, the model's own float32 predictions round
    otherwise now and then. With the vectors' judgement such mismatches are `tolerated`, unless one value is
    `unexplained`: further from every step of its quantizer than float32's error reaches. `layers` are those whose
    integers float32 decided otherwise. Without a judgement nothing is tolerated, nor with one in which no layer
    differs: that is not these predictions'. `judged` is None where the meaning asks for none. `decisions` are the
    samples whose largest output is another one.
    """

    runner: str
    title: str
    samples: int
    values: int
    mismatches: int
    first: Mismatch | None = None
    resources: tuple[Resource, ...] = ()
    tolerated: int = 0
    judged: bool | None = None
    unexplained: int = 0
    decisions: int = 0
    layers: tuple[str, ...] = ()

    @property
    def bit_exact(self) -> bool:
        """Whether nothing differs."""
        return self.mismatches == 0

    @property
    def agrees(self) -> bool:
        """Whether no more differs than the graph's meaning allows."""
        return self.mismatches <= self.tolerated and not self.unexplained


@dataclass(frozen=True)
class Adaptation:
    """What a target's own arithmetic changes: of `values` outputs, `moved` differ from the model's own outputs
    rounded to the target's unit; of `samples`, `decisions` have another largest output."""

    values: int
    moved: int
    samples: int
    decisions: int


@dataclass(frozen=True)
class Conformance:
    """What a verification found for one artefact. `accuracy` (0 to 1) is the model's own and needs labels.

    `skipped` says which runners cannot run for this board, and why. Where the target needs other arithmetic,
    `adaptation` says what that changed, `adapted_accuracy` what it costs.
    """

    samples: int
    comparisons: tuple[Comparison, ...]
    accuracy: float | None
    adaptation: Adaptation | None = None
    skipped: tuple[str, ...] = ()
    adapted_accuracy: float | None = None

    @property
    def bit_exact(self) -> bool:
        """Whether every target is, and the model agrees with the graph."""
        return all(one.agrees for one in self.comparisons)


BOARD = "board"
"""The name of the runner that is the user's own board."""

BOARD_TITLE = "C on the board at {}"

Told = Callable[[str], None]
Outputs = Mapping[str, IntArray]


def graph_inputs(graph: Graph, vectors: Vectors) -> dict[str, IntArray]:
    """The vectors' real inputs as the graph's integers. Raises EdgeflowError when they do not fit the graph."""
    found: dict[str, IntArray] = {}
    for source in graph.inputs:
        if source.name not in vectors.inputs:
            raise EdgeflowError(
                f"the vectors hold no input '{source.name}' (they hold: {', '.join(vectors.inputs)})",
                fix="make them from this model: edgeflow predict MODEL --data F -o D",
            )
        given = vectors.inputs[source.name]
        if given.shape[1:] != source.type.shape:
            raise EdgeflowError(
                f"input '{source.name}' of the vectors has samples of shape {given.shape[1:]}, "
                f"the model reads {source.type.shape}",
                fix="make them from this model: edgeflow predict MODEL --data F -o D",
            )
        found[source.name] = to_integers(given, source.type, source.label)
    return found


def compare_predict(graph: Graph, vectors: Vectors, outputs: Mapping[str, IntArray]) -> Comparison:
    """The trained model's own outputs against the interpreter's, as integers.

    A graph that is its own meaning (a calibrated float model) has nothing to be compared with.
    """
    if graph.meaning is Meaning.OWN:
        return Comparison("graph", "integer graph", _batch(outputs), sum(one.size for one in outputs.values()), 0)
    found = _against(graph, vectors.outputs, outputs)
    if graph.meaning is not Meaning.REAL:
        return found
    if vectors.judgement is None:
        return replace(found, judged=False)
    meant = _against(graph, vectors.judgement.reals, outputs)
    if meant.mismatches:
        return replace(found, judged=True, unexplained=meant.mismatches, first=meant.first)
    wrong = [(layer, one) for layer, one in vectors.judgement.layers.items() if one.unexplained]
    layers = tuple(layer for layer, one in vectors.judgement.layers.items() if one.differ)
    if found.mismatches and not layers:
        return replace(found, judged=False)
    if not wrong:
        return replace(found, judged=True, tolerated=found.mismatches, layers=layers)
    layer, one = wrong[0]
    first = Mismatch(layer, one.sample, one.element, one.expected, None if one.got == NO_INTEGER else one.got)
    return replace(found, judged=True, unexplained=sum(each.unexplained for _, each in wrong), first=first)


def _against(graph: Graph, reals: Mapping[str, FloatArray], outputs: Outputs) -> Comparison:
    """Real outputs from the vectors against the interpreter's, bit for bit."""
    mismatches = values = decisions = 0
    first: Mismatch | None = None
    for output in graph.outputs:
        if output.name not in reals:
            raise EdgeflowError(
                f"the vectors hold no output '{output.name}' (they hold: {', '.join(reals)})",
                fix="make them from this model: edgeflow predict MODEL --data F -o D",
            )
        tensor, given = graph.tensor(output.tensor), reals[output.name]
        expected = outputs[output.name]
        if not isinstance(tensor.label, Dyadic):
            raise EdgeflowError(
                f"output '{output.name}' has no power-of-two unit, so predict cannot be compared exactly",
                fix="build the folder again from the .tflite file, which it then keeps and asks",
            )
        if given.shape != expected.shape:
            raise EdgeflowError(
                f"output '{output.name}' of the vectors has shape {given.shape}, the model gives {expected.shape}",
                fix="make them from this model: edgeflow predict MODEL --data F -o D",
            )
        got, inexact = exact_integers(given, tensor.label)
        wrong = (got != expected) | inexact
        values += wrong.size
        mismatches += int(wrong.sum())
        decisions += _moved(expected, got)
        first = first or _first(_layer_of(graph, output), wrong, expected, got, inexact)
    return Comparison("predict", "QKeras predict", _batch(outputs), values, mismatches, first, decisions=decisions)


def compare_model(
    artefact: Artefact, vectors: Vectors, inputs: Mapping[str, IntArray], meant: Outputs, told: Told
) -> Comparison:
    """The model itself against the interpreter's outputs `meant`: TFLite-Micro where the folder keeps a `.tflite`
    file, else what the vectors say that QKeras answered. Raises MissingTool without the wheel."""
    original = kept_original(artefact.folder)
    if original is None:
        return compare_predict(artefact.source, vectors, meant)
    told(TITLE)
    answered = ask_original(original, artefact.source, inputs)
    return compare(artefact.source, RUNNER, TITLE, meant, answered)


def compare(
    graph: Graph, runner: str, title: str, expected: Mapping[str, IntArray], got: Mapping[str, IntArray]
) -> Comparison:
    """A runner's outputs against the interpreter's."""
    mismatches = values = 0
    first: Mismatch | None = None
    for output in graph.outputs:
        wrong = expected[output.name] != got[output.name]
        values += wrong.size
        mismatches += int(wrong.sum())
        first = first or _first(_layer_of(graph, output), wrong, expected[output.name], got[output.name], None)
    return Comparison(runner, title, _batch(expected), values, mismatches, first)


def verify_artefact(
    artefact: Artefact,
    vectors: Vectors,
    runners: Sequence[str] | None = None,
    told: Told = lambda _: None,
    attached: Attached | None = None,
) -> Conformance:
    """Builds and runs an artefact with every runner (or those named) on the vectors, and compares all outputs.

    Where a board is attached, the same on that board: first, since it may not be ready, and listed last. The name
    BOARD among the runners stands for it.
    Raises EdgeflowError for unfitting vectors, MissingTool, ToolFailed, DoesNotFit.
    """
    backend = backend_named(artefact.backend)
    others = [name for name in runners or () if name != BOARD or attached is None]
    chosen = [] if runners and not others else _runners(backend, artefact.board, others)
    graph, source = artefact.graph, artefact.source
    inputs = graph_inputs(graph, vectors)
    told("integer graph")
    meant, _ = interpret(source, inputs)
    expected, _ = interpret(graph, inputs)
    found = [compare_model(artefact, vectors, inputs, meant, told)]
    skipped: list[str] = []
    adapted = None if graph is source else adaptation(source, graph, meant, expected)
    on_board: list[Comparison] = []
    if attached is not None:
        told(BOARD_TITLE.format(attached.device))
        on_board.append(compare_board(artefact, backend, inputs, expected, attached))
    for runner, title in chosen:
        told(title)
        try:
            with scratch() as work:
                program = backend.build(artefact, runner, work)
                done = backend.run(program, inputs)
                measured = (*backend.measure(program), *done.resources)
        except Unsupported as error:
            if runners:
                raise
            skipped.append(f"{title}: {error.what}")
            continue
        one = compare(graph, runner, title, expected, done.outputs)
        if one.first:
            one = replace(one, first=locate(artefact, runner, inputs, one.first))
        found.append(replace(one, resources=measured))
    found += on_board
    return Conformance(
        _batch(expected),
        tuple(found),
        accuracy(source, vectors, meant),
        adapted,
        tuple(skipped),
        None if adapted is None else accuracy(graph, vectors, expected),
    )


def compare_board(
    artefact: Artefact, backend: Backend, inputs: Mapping[str, IntArray], expected: Outputs, attached: Attached
) -> Comparison:
    """The user's own board against the interpreter's outputs. A difference is named at the output that shows it: the
    firmware on the board has no others. Raises EdgeflowError."""
    if not isinstance(backend, Attachable):
        raise EdgeflowError(f"backend {backend.name} has no firmware for --port", fix="build with --backend c")
    done = backend.ask_board(artefact, inputs, attached)
    one = compare(artefact.graph, BOARD, done.title or BOARD_TITLE.format(attached.device), expected, done.outputs)
    return replace(one, resources=done.resources)


def compile_and_run(artefact: Artefact, samples: int = 8) -> Comparison:
    """Builds an artefact for its last runner, the one that is nearest to the target, and compares a few samples: the
    inputs' least and largest values and random ones, always the same.

    Raises MissingTool, ToolFailed, DoesNotFit; Unsupported where the runner cannot run it.
    """
    backend = backend_named(artefact.backend)
    name = backend.runners[-1].name
    ((_, title),) = _runners(backend, artefact.board, [name])
    rng = np.random.default_rng(0)
    inputs: dict[str, IntArray] = {}
    for one in artefact.graph.inputs:
        values = rng.integers(one.type.lo, one.type.hi + 1, (samples, *one.type.shape))
        values[0], values[1] = one.type.lo, one.type.hi
        inputs[one.name] = values
    expected, _ = interpret(artefact.graph, inputs)
    with scratch() as work:
        program = backend.build(artefact, name, work)
        done = backend.run(program, inputs)
        measured = (*backend.measure(program), *done.resources)
    return replace(compare(artefact.graph, name, title, expected, done.outputs), resources=measured)


def adaptation(source: Graph, graph: Graph, meant: Outputs, computed: Outputs) -> Adaptation:
    """The model's own outputs against the adapted graph's, in the adapted graph's units."""
    values = moved = decisions = 0
    for mine, theirs in zip(source.outputs, graph.outputs, strict=True):
        before, after = source.tensor(mine.tensor), graph.tensor(theirs.tensor)
        ideal = to_integers(to_reals(meant[mine.name], before.label), after.type, after.label)
        got = computed[theirs.name]
        values += got.size
        moved += int((ideal != got).sum())
        decisions += _moved(meant[mine.name], got)
    return Adaptation(values, moved, _batch(computed), decisions)


def _moved(one: IntArray, other: IntArray) -> int:
    """In how many samples another element is the largest."""
    return int((_largest(one) != _largest(other)).sum())


def _largest(values: IntArray) -> IntArray:
    return values.reshape(len(values), -1).argmax(axis=1)


def accuracy(graph: Graph, vectors: Vectors, outputs: Mapping[str, IntArray]) -> float | None:
    """Share of samples whose largest value is the label's; None without labels, for several outputs or one value."""
    if vectors.labels is None or len(graph.outputs) != 1:
        return None
    logits = outputs[graph.outputs[0].name]
    if logits[0].size < 2:
        return None
    return float((logits.reshape(len(logits), -1).argmax(axis=1) == vectors.labels).mean())


def expose(graph: Graph, most_bits: int = 64) -> Graph:
    """The same graph with every node's tensor of up to so many bits as an output, to see where a difference begins."""
    nodes = (node for node in graph.nodes if node.type.bits <= most_bits)
    return replace(graph, outputs=tuple(Output(node.name, node.name) for node in nodes))


def locate(artefact: Artefact, runner: str, inputs: Mapping[str, IntArray], seen: Mismatch) -> Mismatch:
    """The first node at which the mismatching sample differs, found by building the exposed graph.

    Gives `seen` back when the difference does not show there (the fault then lies in what the exposed
    build changes: memory sharing or fusing) or the target cannot show its intermediate values.
    """
    sample = {name: values[seen.sample : seen.sample + 1] for name, values in inputs.items()}
    for most_bits in (64, 8):
        graph = expose(artefact.graph, most_bits)
        try:
            got = _run_exposed(artefact, graph, runner, sample)
        except EdgeflowError:
            continue
        expected = interpret_all(graph, sample)
        for output in graph.outputs:
            wrong = expected[output.tensor] != got[output.name]
            if wrong.any():
                layer = _layer_of(graph, output)
                first = _first(layer, wrong, expected[output.tensor], got[output.name], None)
                return replace(first, sample=seen.sample) if first else seen
        return seen
    return seen


def _run_exposed(artefact: Artefact, graph: Graph, runner: str, sample: Mapping[str, IntArray]) -> Outputs:
    backend = backend_named(artefact.backend)
    if not graph.outputs:
        raise Unsupported("nothing to show")
    with scratch() as work:
        folder = Path(work) / "exposed"
        fill(folder, backend.emit(graph, artefact.board, artefact.options))
        exposed = replace(artefact, folder=folder, graph=graph)
        return backend.run(backend.build(exposed, runner, work), sample).outputs


def _runners(backend: Backend, board: Board, names: Sequence[str] | None) -> list[tuple[str, str]]:
    core = board.core.value if isinstance(board, McuBoard) else ""
    known = {one.name: one.title.format(core=core) for one in backend.runners}
    for name in names or ():
        if name not in known:
            if name == BOARD:
                raise EdgeflowError("the runner board needs a board", fix="--port DEV says where it is")
            what = f'backend {backend.name} has no runner "{name}"'
            raise EdgeflowError(what, fix=f"choose from: {', '.join(known)}")
    chosen = names or [one.name for one in backend.runners if not one.asked]
    return [(name, title) for name, title in known.items() if name in chosen]


def _layer_of(graph: Graph, output: Output) -> str:
    tensor = graph.tensor(output.tensor)
    return tensor.layer if isinstance(tensor, Node) else tensor.name


def _first(
    layer: str, wrong: np.ndarray, expected: IntArray, got: IntArray, inexact: np.ndarray | None
) -> Mismatch | None:
    if not wrong.any():
        return None
    sample = int(wrong.reshape(len(wrong), -1).any(axis=1).argmax())
    flat = wrong[sample].reshape(-1)
    element = int(flat.argmax())
    integer = inexact is None or not inexact[sample].reshape(-1)[element]
    value = int(got[sample].reshape(-1)[element]) if integer else None
    return Mismatch(layer, sample, element, int(expected[sample].reshape(-1)[element]), value)


def _batch(outputs: Mapping[str, IntArray]) -> int:
    return len(next(iter(outputs.values())))
