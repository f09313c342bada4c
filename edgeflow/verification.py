"""Verifying a built folder: what it is verified on, what that found, and the record that it leaves."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from edgeflow.artifacts import MANIFEST, file_digest, remove_file
from edgeflow.backends.artefact import backend_named, edited_files, load_artefact
from edgeflow.backends.protocol import Artefact, Attached
from edgeflow.budget import Limits, Verdict, explain, judge
from edgeflow.conformance import Conformance, verify_artefact
from edgeflow.errors import EdgeflowError, MissingTool, printable
from edgeflow.frontends.tflite.original import kept_original, stored_type
from edgeflow.ir.graph import Graph, Input, Meaning
from edgeflow.ir.types import Affine
from edgeflow.report.record import NAME as RECORD
from edgeflow.report.record import RunRecord, StepRecord, comparison_record, target_records, write_record
from edgeflow.toolchain import gcc, qemu
from edgeflow.vectors import Vectors, read_inputs, read_vectors

_PACKAGES = ("numpy", "pyserial", "keras", "tensorflow", "qkeras-v3", "tflite-micro")


def measured_verdict(artefact: Artefact, found: Conformance, limits: Limits) -> Verdict:
    """The verdict from what building and running measured; estimates where nothing measured a figure."""
    backend = backend_named(artefact.backend)
    estimated = backend.estimate(artefact.graph, artefact.board, artefact.options)
    measured = [one for comparison in found.comparisons for one in comparison.resources]
    names = {one.name for one in measured}
    if "static RAM" in names:
        names.add("RAM")
    resources = [*measured, *(one for one in estimated if one.layer is None and one.name not in names)]
    memory = backend.memory(artefact.graph, artefact.board, artefact.options)
    parts = tuple(one for one in estimated if one.layer is not None)
    verdict = replace(judge(artefact.board, resources, limits), memory=memory, parts=parts)
    return explain(verdict, backend, artefact.graph, artefact.options, limits)


def verify(
    folder: Path,
    vectors: Vectors,
    runners: tuple[str, ...] | None = None,
    limits: Limits | None = None,
    told: Callable[[str], None] = lambda _: None,
    attached: Attached | None = None,
) -> tuple[Artefact, Conformance, Verdict]:
    """Verifies a built folder on vectors, and on a board where one is attached, and judges what was measured.

    A run.json of an earlier verification is removed first: it must not outlive a failure.
    """
    artefact = load_artefact(folder)
    remove_file(folder / RECORD)
    found = verify_artefact(artefact, vectors, runners, told, attached)
    return artefact, found, measured_verdict(artefact, found, limits or Limits())


def verification_data(folder: Path, vectors: Path | None, data: Path | None) -> tuple[Vectors, Path]:
    """What to verify a built folder on, and the file that it came from: of `vectors` and `data` just one is given.

    A folder that keeps a `.tflite` file needs inputs alone: TFLite-Micro is asked for the outputs. So does a calibrated
    graph, which is its own reference. Raises EdgeflowError.
    """
    from edgeflow.train.samples import sample_vectors

    graph = load_artefact(folder).source
    asked = kept_original(folder) is not None
    if vectors is not None and data is not None:
        raise EdgeflowError("takes --vectors or --data, not both", fix="leave one of them out")
    if vectors is not None and not asked:
        return read_vectors(vectors), vectors
    path = data or vectors
    if path is None:
        what = f"--data, inputs of the model: {_expected(graph)}" if asked else "--vectors; edgeflow predict makes them"
        example = "--data inputs.npz" if asked else "--vectors vectors.npz"
        raise EdgeflowError(f"needs {what}", fix=f"edgeflow verify {folder} {example}")
    if not asked and graph.meaning is Meaning.EXACT and any(isinstance(one.label, Affine) for one in graph.inputs):
        raise EdgeflowError(
            "keeps no .tflite file, which verify asks", where=str(folder), fix="build it again from that file"
        )
    if not asked and graph.meaning is not Meaning.OWN:
        raise EdgeflowError(
            "inputs alone are not enough: QKeras' own outputs are compared",
            where=str(path),
            fix=f"edgeflow predict MODEL --data {path} -o vectors, then --vectors vectors/vectors.npz",
        )
    return sample_vectors(graph, read_inputs(path)), path


def _expected(graph: Graph) -> str:
    """The arrays that a .tflite model takes: `'x' of shape (n, 49, 10, 1), floats or int8`."""
    return "; ".join(map(_array, graph.inputs))


def _array(source: Input) -> str:
    shape = ", ".join(("n", *map(str, source.type.shape)))
    stored = stored_type(source.type)
    return f"'{printable(source.name)}' of shape ({shape}), floats" + (f" or {stored}" if stored else "")


def record_verification(
    folder: Path, vectors_path: Path, found: Conformance, verdict: Verdict, artefact: Artefact
) -> RunRecord:
    """Writes the run.json of one verification into the built folder."""
    record = RunRecord(
        name=artefact.graph.name,
        digests={"graph": artefact.digest, "vectors": file_digest(vectors_path)},
        versions=versions(),
        steps=(StepRecord("integer graph", accuracy=found.accuracy),),
        reference=comparison_record(found.comparisons[0]),
        targets=target_records(verdict, artefact.backend, str(folder), found),
        edited=edited_files(folder),
        skipped=found.skipped,
    )
    write_record(folder, record)
    return record


def changed_since(folder: Path, record: RunRecord) -> tuple[str, ...]:
    """Files of a built folder that are no longer those that were verified; empty for another folder."""
    if not (folder / MANIFEST).is_file() or not (folder / "board.toml").is_file():
        return ()
    return tuple(name for name in edited_files(folder) if name not in record.edited)


def versions() -> dict[str, str]:
    """What computed: Python, its packages, compilers and emulator that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    asked: dict[str, Callable[[], str]] = {
        "gcc": lambda: gcc.version(gcc.HOST),
        "arm-none-eabi-gcc": lambda: gcc.version(gcc.ARM),
        "qemu-system-arm": qemu.version,
        "riscv64-unknown-elf-gcc": lambda: gcc.version(gcc.RISCV),
        "qemu-system-riscv32": lambda: qemu.version(qemu.QEMU_RISCV),
    }
    for name, ask in asked.items():
        with contextlib.suppress(MissingTool):
            found[name] = ask()
    return found
