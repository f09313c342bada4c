"""The backend `tflm`: from graph to flatbuffer and firmware sources, and its run in TFLite-Micro's own interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import numpy as np

from edgeflow.artifacts import Bundle
from edgeflow.backends.protocol import NO_MICROCONTROLLER, Artefact, Program, Remedy, Run, Runner, microcontroller
from edgeflow.backends.tflm.adapt import adapt
from edgeflow.backends.tflm.estimate import chosen_kernels, estimate, remedies
from edgeflow.backends.tflm.firmware import firmware_files
from edgeflow.backends.tflm.flatbuffer import schema
from edgeflow.backends.tflm.lower import Lowered, lower
from edgeflow.backends.tflm.model import TfliteModel
from edgeflow.board import Board, McuBoard
from edgeflow.errors import ToolFailed, Unsupported
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.resource import Finding, Resource, Severity, Source, SourceKind, Unit
from edgeflow.toolchain import tflm

MODEL = "model.tflite"
_KERNELS = ("auto", "cmsis-nn", "reference")


@dataclass(frozen=True)
class TflmOptions:
    """What a user may choose. `prefix` starts every public C name; `kernels` are those that estimates assume."""

    prefix: str = ""
    kernels: str = "auto"

    def __post_init__(self) -> None:
        if self.kernels not in _KERNELS:
            raise ValueError(f'kernels is "{self.kernels}"; choose one of: {", ".join(_KERNELS)}')


class TflmBackend:
    """An int8 model for TensorFlow Lite Micro."""

    name: ClassVar[str] = "tflm"
    product: ClassVar[str] = "model.tflite, the same as a C array, and a TFLite-Micro program around it"
    Options: ClassVar[type] = TflmOptions
    runners: ClassVar[tuple[Runner, ...]] = (Runner("wheel", "TFLite-Micro wheel"),)

    def adapt(self, graph: Graph, board: Board, options: object) -> Graph:
        """int8 tensors and TFLite-Micro's own rounding; see `adapt.py`."""
        return adapt(graph)

    def check(self, graph: Graph, board: Board, options: object) -> tuple[Finding, ...]:
        """What TFLite cannot say, layer by layer."""
        found: list[Finding] = []
        if not isinstance(board, McuBoard):
            what = f"{board.name} is no microcontroller board"
            found.append(Finding(Severity.ERROR, what, fix=NO_MICROCONTROLLER))
        if graph.states:
            found.append(Finding(Severity.ERROR, "backend tflm cannot keep states yet", layer=graph.states[0].name))
            return tuple(found)
        refusals = lower(adapt(graph)).refusals
        return (*found, *(Finding(Severity.ERROR, one.what, one.layer, one.fix) for one in refusals))

    def estimate(self, graph: Graph, board: Board, options: object) -> tuple[Resource, ...]:
        """Flash, RAM, instructions and latency, and what each layer contributes."""
        target, chosen = microcontroller(board), cast(TflmOptions, options)
        return estimate(_model(graph), target, chosen_kernels(chosen.kernels, target))

    def remedies(self, graph: Graph, board: Board, options: object) -> tuple[Remedy, ...]:
        """What halving the costliest layers would save."""
        chosen = cast(TflmOptions, options)
        return remedies(_model(graph), chosen_kernels(chosen.kernels, microcontroller(board)))

    def emit(self, graph: Graph, board: Board, options: object) -> Bundle:
        """The model, as a file and as C, and a program around it. Raises MissingTool without TFLite's schema."""
        chosen, target = cast(TflmOptions, options), microcontroller(board)
        kernels = chosen_kernels(chosen.kernels, target)
        return Bundle(firmware_files(graph, _lowered(graph), target, chosen.prefix, kernels))

    def need_tools(self) -> None:
        """TFLite's schema and the wheel."""
        schema()
        tflm.require_wheel()

    def build(self, artefact: Artefact, runner: str, work: Path) -> Program:
        """Nothing to compile: the wheel runs the file. Raises MissingTool without it."""
        tflm.require_wheel()
        return Program(artefact, runner, work, artefact.folder / MODEL)

    def run(self, program: Program, inputs: Mapping[str, IntArray]) -> Run:
        """Samples through the wheel's interpreter, in a child process; outputs as the adapted graph's integers."""
        graph = program.artefact.graph
        lowered = _lowered(graph)
        model, stored = lowered.model, lowered.stored
        given: list[tflm.Int8Array] = []
        for source, place in zip(graph.inputs, model.inputs, strict=True):
            values = inputs[source.name] + stored[source.name].shift
            given.append(values.astype(np.int8).reshape(-1, *model.tensors[place].shape[1:]))
        answer = tflm.invoke(program.binary, given, len(graph.outputs))
        outputs: dict[str, IntArray] = {}
        for output, values in zip(graph.outputs, answer.outputs, strict=True):
            shape = (len(given[0]), *graph.tensor(output.tensor).type.shape)
            if values.size != np.prod(shape):
                raise ToolFailed(f"the TFLite-Micro wheel gave {values.size} values for output '{output.name}'")
            outputs[output.name] = values.astype(np.int64).reshape(shape) - stored[output.tensor].shift
        arena = Source(SourceKind.MEASURED, "the wheel's own count; a 32-bit target takes about half of its structures")
        return Run(outputs, (Resource("arena on this machine", answer.arena, Unit.BYTES, arena),))

    def measure(self, program: Program) -> tuple[Resource, ...]:
        """The model's bytes. (What surrounds it is linked by the user: estimates stand for that.)"""
        size = program.binary.stat().st_size
        return (Resource("model", size, Unit.BYTES, Source(SourceKind.MEASURED, f"size of {MODEL}")),)


def _model(graph: Graph) -> TfliteModel:
    return _lowered(adapt(graph)).model


def _lowered(graph: Graph) -> Lowered:
    """The operators of an adapted graph. Raises Unsupported for what `check` finds."""
    lowered = lower(graph)
    for one in lowered.refusals:
        raise Unsupported(one.what, where=f"layer '{one.layer}'", fix=one.fix)
    return lowered
