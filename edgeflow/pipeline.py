"""The walk as functions: check, import, build, verify, and `run`, which is all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from edgeflow.artifacts import (
    MANIFEST,
    Bundle,
    check_output,
    file_digest,
    mark,
    new_folder,
    scratch,
    write_bundle,
)
from edgeflow.backends.artefact import (
    added_files,
    backend_named,
    edited_files,
    load_artefact,
    package,
    parse_options,
    refuse,
)
from edgeflow.backends.protocol import Artefact
from edgeflow.board import Board, load_board
from edgeflow.budget import Limits, Verdict, early_verdict
from edgeflow.conformance import Conformance, verify_artefact
from edgeflow.errors import DoesNotFit, EdgeflowError
from edgeflow.frontends import (
    is_architecture,
    is_keras,
    is_saved_model,
    is_tflite,
    load_model,
    refuse_model_options,
    round_inputs,
)
from edgeflow.frontends.tflite import read_bytes
from edgeflow.frontends.tflite.original import ORIGINAL, kept_original
from edgeflow.ir.graph import Graph
from edgeflow.passes import simplify
from edgeflow.report.html import write_page
from edgeflow.report.record import (
    RunRecord,
    StepRecord,
    TargetRecord,
    comparison_record,
    target_records,
    write_record,
)
from edgeflow.resource import Finding, Severity
from edgeflow.semantics.serialize import MODEL, graph_digest, load_graph, to_files
from edgeflow.train.recipe import Config, Target
from edgeflow.vectors import Vectors, read_inputs, read_vectors, write_vectors
from edgeflow.verification import measured_verdict, versions


class Watcher(Protocol):
    """Is told how a long run goes. `stage` begins a step; `epoch` is training's progress; `done` ends a step."""

    def stage(self, name: str, what: str) -> None:
        """A step begins."""
        ...

    def epoch(self, stage: str, epoch: int, epochs: int, metric: str, value: float) -> None:
        """A training epoch ended."""
        ...

    def done(self, name: str, result: str) -> None:
        """A step ended; `result` is its one summary line."""
        ...

    def verdict(self, verdict: Verdict, title: str) -> None:
        """A board's early verdict."""
        ...


@dataclass(frozen=True)
class Checked:
    """An early verdict, or the findings that make building impossible."""

    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether it can be built and fits."""
        return self.verdict.fits and not any(one.severity is Severity.ERROR for one in self.findings)


def open_graph(path: Path, weights: Path | None = None, declared: str | None = None) -> Graph:
    """The graph in a model file, an imported folder or a built folder.

    `weights` and `declared` go with a model file, as in `load_model`.

    Raises EdgeflowError.
    """
    if not path.exists():
        raise EdgeflowError("does not exist", where=str(path), fix="check the path")
    if path.is_dir() and not is_saved_model(path):
        refuse_model_options(path, weights, declared)
        return (
            load_artefact(path).graph
            if (path / MANIFEST).is_file() and not (path / MODEL).is_file()
            else load_graph(path)
        )
    return load_model(path, weights, declared)


def import_model(
    source: Path, output: Path, *, weights: Path | None = None, declared: str | None = None, force: bool = False
) -> Graph:
    """Reads a model file and writes its graph as a folder. Raises EdgeflowError."""
    graph = load_model(source, weights, declared)
    files = to_files(graph) | {MANIFEST: b'{"schema": 1, "kind": "graph"}\n'}
    write_bundle(output, Bundle(files | _beside(original_file(source))), force=force)
    return graph


def original_file(path: Path) -> bytes | None:
    """The `.tflite` file that `open_graph` reads, or that the folder keeps; None for a model that is none."""
    if path.is_dir():
        kept = kept_original(path)
        return None if kept is None else read_bytes(kept)
    return read_bytes(path) if is_tflite(path) else None


def _beside(original: bytes | None) -> dict[str, bytes]:
    return {} if original is None else {ORIGINAL: original}


def check(graph: Graph, board: Board, backend_name: str, options: Mapping[str, object], limits: Limits) -> Checked:
    """The verdict before anything is built, on the simplified graph that `build` takes."""
    backend = backend_named(backend_name)
    chosen = parse_options(backend, options)
    simple = simplify(graph)
    adapted = backend.adapt(simple, board, chosen)
    findings = backend.check(adapted, board, chosen)
    refuse(findings, backend_name, simple, board)
    return Checked(early_verdict(backend, adapted, board, chosen, limits), findings)


def build(
    graph: Graph,
    board: Board,
    backend_name: str,
    options: Mapping[str, object],
    output: Path,
    *,
    original: bytes | None = None,
    force: bool = False,
) -> Artefact:
    """Simplifies the graph and writes a backend's project for a board: the artefact holds the simplified graph.

    `original` is the `.tflite` file that the graph came from, kept for `verify`.
    Raises EdgeflowError for a finding or an existing folder.
    """
    backend = backend_named(backend_name)
    chosen = parse_options(backend, options)
    bundle = package(backend, simplify(graph), board, chosen, _beside(original))
    write_bundle(output, bundle, force=force)
    return load_artefact(output)


def config_limits(config: Config) -> Limits:
    """The user's own budget."""
    budget = config.budget
    return Limits(budget.flash_bytes, budget.ram_bytes, budget.latency_seconds)


def check_config(config: Config, board: Board | None) -> list[Checked]:
    """Early verdicts for a recipe's targets (or one board), from its untrained student. Loads TensorFlow."""
    from edgeflow.train.build import build_student

    with scratch() as folder:
        graph = load_model(build_student(config, folder))
    targets = config.targets if board is None else (Target(board=board.name),)
    return [
        check(graph, board or known, one.backend, one.options, config_limits(config))
        for one, known in zip(targets, [board] if board else target_boards(config), strict=True)
    ]


def target_boards(config: Config) -> list[Board]:
    """The targets' boards; a path is relative to the recipe's folder. Also checks backends and their options.

    Raises EdgeflowError with the recipe's line for an unknown one.
    """
    found: list[Board] = []
    for index, target in enumerate(config.targets):
        is_path = target.board.endswith(".toml") or "/" in target.board
        key = "board"
        try:
            found.append(load_board(config.resolve(target.board) if is_path else target.board))
            key = "backend"
            backend = backend_named(target.backend)
            key = "options"
            parse_options(backend, target.options)
        except EdgeflowError as error:
            if error.where:
                raise
            raise config.error(("targets", index, key), error.what, error.fix) from None
    return found


def refuse_changed(config: Config) -> None:
    """Raises EdgeflowError when a target's folder holds a file that the user changed or added."""
    for target in config.targets:
        folder = config.output / target_folder(target, config.targets)
        touched = (*edited_files(folder), *added_files(folder)) if (folder / MANIFEST).is_file() else ()
        if touched:
            raise EdgeflowError(
                f"you changed or added {', '.join(touched[:3])}{' ...' if len(touched) > 3 else ''}, "
                "and building anew would lose that",
                where=str(folder),
                fix="copy the folder elsewhere, or add --force to replace it",
            )


def run(config: Config, watcher: Watcher, *, fresh: bool = False, force: bool = False) -> RunRecord:
    """Everything in a recipe: train, predict, import, build and verify every target, report.

    Steps whose inputs have not changed are taken from a former run unless `fresh`. A target's folder in which
    the user changed or added a file is replaced only with `force`.
    Raises EdgeflowError; a target that does not fit, or differs, is in the record and not an error.
    """
    output = config.output
    prepare_output(output)
    boards = target_boards(config)
    check_tools(config)
    if not force:
        refuse_changed(config)
    watcher.stage("check", "will it fit, before training")
    for checked, target in zip(check_config(config, None), config.targets, strict=True):
        watcher.verdict(checked.verdict, f"{target.board} ({target.backend})")
        if not checked.ok and checked.verdict.certain:
            raise _too_large(checked.verdict)
    steps, digests = train(config, watcher, fresh=fresh)
    vectors = predict(config, watcher)
    watcher.stage("import", "student.keras to an exact integer graph")
    graph = import_model(output / "student.keras", output / "graph", force=True)
    watcher.done("import", f"{len(graph.nodes)} ops, graph {graph_digest(graph)[:12]}")
    records: list[TargetRecord] = []
    skipped: list[str] = []
    conformance: Conformance | None = None
    for board, target in zip(boards, config.targets, strict=True):
        conformance, verdict, folder = _target(config, graph, board, target, vectors, watcher)
        skipped += [f"{target.board} {target.backend}: {one}" for one in conformance.skipped]
        records += target_records(verdict, target.backend, str(folder), conformance)
    assert conformance is not None
    steps.append(StepRecord("integer graph", accuracy=conformance.accuracy, path=str(output / "graph")))
    digests |= {"config": file_digest(config.path), "vectors": file_digest(output / "vectors.npz")}
    record = RunRecord(
        name=config.name,
        digests=digests | {"graph": graph_digest(graph)},
        versions=versions(),
        steps=tuple(steps),
        reference=comparison_record(conformance.comparisons[0]),
        targets=tuple(records),
        skipped=tuple(skipped),
    )
    write_record(output, record)
    write_page(output, record)
    return record


def train(config: Config, watcher: Watcher, *, fresh: bool = False) -> tuple[list[StepRecord], dict[str, str]]:
    """Trains teacher and student into the output folder. Returns their records and files' digests."""
    from edgeflow.train.data import load_data
    from edgeflow.train.student import train_student
    from edgeflow.train.teacher import train_teacher

    prepare_output(config.output)
    data = load_data(config)
    steps: list[StepRecord] = []
    digests: dict[str, str] = {}
    teacher_path: Path | None = None
    if config.teacher is not None:
        watcher.stage("teacher", f"{len(data.x_train):,} samples")
        made = train_teacher(config, data, config.output, watcher.epoch, fresh=fresh)
        teacher_path = made.path
        step = StepRecord("teacher", made.accuracy, made.parameters, made.weight_bits, path=str(made.path))
        steps.append(step)
        digests["teacher"] = file_digest(made.path)
        watcher.done("teacher", _trained(step, made.reused))
    watcher.stage("student", "distilled, pruned, quantized" if teacher_path else "pruned, quantized")
    student = train_student(config, data, teacher_path, config.output, watcher.epoch, fresh=fresh)
    step = StepRecord(
        "student",
        student.accuracy,
        student.parameters,
        student.weight_bits,
        student.quantized_sparsity,
        str(student.path),
    )
    steps.append(step)
    digests["student"] = file_digest(student.path)
    watcher.done("student", _trained(step, student.reused))
    return steps, digests


def predict(config: Config, watcher: Watcher) -> Vectors:
    """QKeras' own answers on the held-out split, as `vectors.npz` in the output folder."""
    from edgeflow.train.data import load_data
    from edgeflow.train.judge import answers

    watcher.stage("predict", "QKeras on the held-out split")
    data = load_data(config)
    found = answers(config.output / "student.keras", data.x_test)
    path = config.output / "vectors.npz"
    write_vectors(path, found.inputs, found.outputs, data.y_test, found.judgement)
    watcher.done("predict", f"{len(data.y_test)} held-out samples")
    return read_vectors(path)


def predict_folder(
    student: Path, data: Path, output: Path, *, declared: str | None = None, force: bool = False
) -> Vectors:
    """QKeras' outputs for a model file on a data file, as `output/vectors.npz`. Loads TensorFlow.

    The data is first rounded as the quantizer `declared` says, for a model that does not quantize its inputs.
    Raises EdgeflowError before TensorFlow starts where the output cannot be written, or no graph equals the model.
    """
    from edgeflow.train.judge import answers

    check_output(output, force=force)
    if is_tflite(student):
        raise EdgeflowError(
            "a TFLite model, which QKeras cannot run; edgeflow verify asks TFLite-Micro itself",
            where=str(student),
            fix=f"edgeflow build {student} --board B -o firmware, then edgeflow verify firmware --data {data}",
        )
    if is_architecture(student):
        raise EdgeflowError(
            "an architecture without weights: Keras and QKeras run whole models only",
            where=str(student),
            fix="load it in Python with its weights and save it with model.save('model.keras'); "
            f"then edgeflow predict model.keras --data {data} -o {output}",
        )
    if is_keras(student):
        load_model(student, declared=declared)
    given = read_inputs(data)
    if declared is not None:
        only = None if given.only is None else round_inputs(declared, {"": given.only})[""]
        given = replace(given, named=round_inputs(declared, given.named), only=only)
    found = answers(student, given, declared)
    with new_folder(output, force=force) as folder:
        mark(folder, "vectors")
        write_vectors(folder / "vectors.npz", found.inputs, found.outputs, given.labels, found.judgement)
    return read_vectors(output / "vectors.npz")


def prepare_output(output: Path) -> None:
    """Makes the output folder, or checks that edgeflow made the one that stands there."""
    if not output.exists():
        with new_folder(output) as folder:
            mark(folder, "run")
    elif not (output / MANIFEST).is_file():
        raise EdgeflowError(
            "the output folder exists and edgeflow did not make it",
            where=str(output),
            fix='set another "output" in the recipe, or move the folder away',
        )


def check_tools(config: Config) -> None:
    """Raises MissingTool now for a compiler or emulator that would be missed after the training."""
    for target, board in zip(config.targets, target_boards(config), strict=True):
        backend_named(target.backend).need_tools(board)


def _target(
    config: Config, graph: Graph, board: Board, target: Target, vectors: Vectors, watcher: Watcher
) -> tuple[Conformance, Verdict, Path]:
    folder = config.output / target_folder(target, config.targets)
    name = f"{target.board} {target.backend}"
    watcher.stage(name, "build")
    artefact = build(graph, board, target.backend, target.options, folder, force=True)
    found = verify_artefact(artefact, vectors, None, lambda what: watcher.stage(name, what))
    verdict = measured_verdict(artefact, found, config_limits(config))
    values = sum(one.values for one in found.comparisons)
    wrong = sum(one.mismatches for one in found.comparisons)
    watcher.done(name, f"{wrong} of {values:,} values differ, {'fits' if verdict.fits else 'does not fit'}")
    return found, verdict, folder


def target_folder(target: Target, targets: tuple[Target, ...]) -> str:
    """`nucleo-f446re-c`; a number is added when options make several of one pair."""
    stem = Path(target.board).stem
    same = [one for one in targets if (Path(one.board).stem, one.backend) == (stem, target.backend)]
    suffix = f"-{same.index(target) + 1}" if len(same) > 1 else ""
    return f"{stem}-{target.backend}{suffix}"


def _trained(step: StepRecord, reused: bool) -> str:
    zeros = "" if step.sparsity is None else f", {step.sparsity * 100:.0f} % zeros"
    text = f"{(step.accuracy or 0) * 100:.2f} % on the held-out split, {step.parameters:,} parameters{zeros}"
    return text + (" (from the last run)" if reused else "")


def _too_large(verdict: Verdict) -> EdgeflowError:
    line = next(one for one in verdict.lines if not one.fits)
    worst = next((one.layer for one in verdict.costly), None)
    told = f", most of it in layer '{worst}'" if worst else ""
    larger = f"take {verdict.larger_board}, or make" if verdict.larger_board else "make"
    return DoesNotFit(
        f"the student does not fit {verdict.board.name}: {line.name} is {line.percent:.0f} % of what there is{told}",
        fix=f"{larger} the model smaller; edgeflow check shows more",
    )
