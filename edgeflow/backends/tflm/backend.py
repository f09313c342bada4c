"""The backend `tflm`: from graph to flatbuffer and firmware sources, and its run in TFLite-Micro's own interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, cast

import numpy as np

from edgeflow.artifacts import Bundle, write_file
from edgeflow.backends.protocol import NO_MICROCONTROLLER, Artefact, Program, Remedy, Run, Runner, microcontroller
from edgeflow.backends.tflm.adapt import adapt, adapted
from edgeflow.backends.tflm.estimate import arena_resource, chosen_build, estimate, remedies
from edgeflow.backends.tflm.firmware import firmware_files
from edgeflow.backends.tflm.flatbuffer import schema
from edgeflow.backends.tflm.lower import Lowered, lower
from edgeflow.backends.tflm.model import TfliteModel
from edgeflow.backends.tflm.nibbles import packed
from edgeflow.backends.tflm.structures import Kernels
from edgeflow.board import Architecture, Board, McuBoard
from edgeflow.errors import ToolFailed, Unsupported
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.resource import Finding, MemoryMap, Resource, Severity, Source, SourceKind, Unit
from edgeflow.toolchain import elf, microlite, qemu, tflm

MODEL = "model.tflite"
_KERNELS = ("auto", "cmsis-nn", "reference")


@dataclass(frozen=True)
class TflmOptions:
    """What a user may choose. `prefix` starts every public C name; `kernels` are those that estimates assume.

    `int4` packs weights of 4 bits two in a byte: less flash, but the reference kernels unpack a layer's into the arena.
    """

    prefix: str = ""
    kernels: str = "auto"
    int4: bool = False

    def __post_init__(self) -> None:
        if self.kernels not in _KERNELS:
            raise ValueError(f'kernels is "{self.kernels}"; choose one of: {", ".join(_KERNELS)}')


class TflmBackend:
    """An int8 model for TensorFlow Lite Micro."""

    name: ClassVar[str] = "tflm"
    product: ClassVar[str] = "model.tflite, the same as a C array, and a TFLite-Micro program around it"
    Options: ClassVar[type] = TflmOptions
    runners: ClassVar[tuple[Runner, ...]] = (
        Runner("wheel", "TFLite-Micro, built file"),
        Runner("qemu", "TFLite-Micro on QEMU {core}", asked=True),
    )

    def adapt(self, graph: Graph, board: Board, options: object) -> Graph:
        """int8 or int16 tensors and TFLite-Micro's own rounding; see `adapt.py`."""
        return adapt(graph)

    def check(self, graph: Graph, board: Board, options: object) -> tuple[Finding, ...]:
        """What TFLite cannot say, layer by layer."""
        found: list[Finding] = []
        if not isinstance(board, McuBoard):
            what = f"{board.name} is no microcontroller board"
            found.append(Finding(Severity.ERROR, what, fix=NO_MICROCONTROLLER))
        elif board.core.architecture is not Architecture.ARM:
            what = f"backend tflm cannot make firmware for {board.core.title} yet"
            found.append(Finding(Severity.ERROR, what, fix="use backend c, or a board with a Cortex-M core"))
        if graph.states:
            found.append(Finding(Severity.ERROR, "backend tflm cannot keep states yet", layer=graph.states[0].name))
            return tuple(found)
        refusals = adapted(graph).lowered.refusals
        return (*found, *(Finding(Severity.ERROR, one.what, one.layer, one.fix) for one in refusals))

    def estimate(self, graph: Graph, board: Board, options: object) -> tuple[Resource, ...]:
        """Flash, RAM, instructions and latency, and what each layer contributes."""
        target, chosen = microcontroller(board), cast(TflmOptions, options)
        return estimate(_model(graph, chosen), target, chosen_build(chosen.kernels, target))

    def remedies(self, graph: Graph, board: Board, options: object) -> tuple[Remedy, ...]:
        """What halving the costliest layers would save."""
        chosen = cast(TflmOptions, options)
        return remedies(_model(graph, chosen), chosen_build(chosen.kernels, microcontroller(board)))

    def memory(self, graph: Graph, board: Board, options: object) -> MemoryMap | None:
        """The interpreter plans its arena when it starts."""
        return None

    def emit(self, graph: Graph, board: Board, options: object) -> Bundle:
        """The model, as a file and as C, and a program around it. Raises MissingTool without TFLite's schema."""
        chosen, target = cast(TflmOptions, options), microcontroller(board)
        build = chosen_build(chosen.kernels, target)
        return Bundle(firmware_files(graph, _lowered(graph, chosen), target, chosen.prefix, build))

    def need_tools(self, board: Board) -> None:
        """TFLite's schema and the wheel."""
        schema()
        tflm.require_wheel()

    def build(self, artefact: Artefact, runner: str, work: Path) -> Program:
        """Nothing to compile for the wheel. For `qemu` the program that verifies, and main.cc for `measure`.

        Raises MissingTool for the wheel, or for what TFLM_DIR lacks; ToolFailed, DoesNotFit; Unsupported for a core
        without an emulated board.
        """
        folder = artefact.folder
        if runner != "qemu":
            tflm.require_wheel()
            return Program(artefact, runner, work, folder / MODEL)
        board, options = microcontroller(artefact.board), cast(TflmOptions, artefact.options)
        qemu.machine(board.core.qemu_machine)
        kernels = chosen_build(options.kernels, board).kernels
        found = microlite.find(board.core.cpu, cmsis=kernels is Kernels.CMSIS_NN)
        script, flags = folder / "verify" / "qemu.ld", board.core.gcc_flags
        beside = [folder / "model_data.c", folder / "verify" / "startup.c"]
        for name, source in (("firmware.elf", "main.cc"), ("verify.elf", "verify/qemu.cc")):
            microlite.compile_program(found, [folder / source, *beside], folder, script, work / name, flags)
        return Program(artefact, runner, work, work / "verify.elf")

    def run(self, program: Program, inputs: Mapping[str, IntArray]) -> Run:
        """Samples through TFLite-Micro's interpreter; outputs as the adapted graph's integers.

        Beside the arena that the runner reports stands the one that is expected on the board.
        """
        graph, board = program.artefact.graph, microcontroller(program.artefact.board)
        lowered = _lowered(graph, cast(TflmOptions, program.artefact.options))
        expected = arena_resource(
            lowered.model, chosen_build(cast(TflmOptions, program.artefact.options).kernels, board)
        )
        given = [
            _bytes(lowered, one.name, place, inputs[one.name])
            for one, place in zip(graph.inputs, lowered.model.inputs, strict=True)
        ]
        if program.runner == "qemu":
            answers, resources = _emulate(program, lowered.model, given, board)
        else:
            answer = tflm.invoke(program.binary, given, len(graph.outputs))
            answers = answer.outputs
            resources = (Resource("arena on this machine", answer.arena, Unit.BYTES, _WHEELS),)
        outputs: dict[str, IntArray] = {}
        for output, values in zip(graph.outputs, answers, strict=True):
            shape = (len(given[0]), *graph.tensor(output.tensor).type.shape)
            if values.size != np.prod(shape):
                raise ToolFailed(f"the TFLite-Micro wheel gave {values.size} values for output '{output.name}'")
            outputs[output.name] = values.astype(np.int64).reshape(shape) - lowered.stored[output.tensor].shift
        return Run(outputs, (*resources, expected))

    def measure(self, program: Program) -> tuple[Resource, ...]:
        """The model's bytes; of `qemu` also flash and static RAM of main.cc, linked with TFLite-Micro."""
        size = (program.artefact.folder / MODEL).stat().st_size
        model = Resource("model", size, Unit.BYTES, Source(SourceKind.MEASURED, f"size of {MODEL}"))
        if program.runner != "qemu":
            return (model,)
        sizes = elf.read_sizes(program.work / "firmware.elf")
        source = Source(SourceKind.MEASURED, "linked image of main.cc, ELF sections")
        return (
            model,
            Resource("flash", sizes.flash, Unit.BYTES, source),
            Resource("static RAM", sizes.ram, Unit.BYTES, source),
        )


_WHEELS = Source(SourceKind.MEASURED, "the wheel's own count, with a 64-bit machine's structures")


def _bytes(lowered: Lowered, name: str, place: int, values: IntArray) -> tflm.Values:
    """Samples of an input as the file stores them."""
    tensor = lowered.model.tensors[place]
    stored = values + lowered.stored[name].shift
    return stored.astype(f"<i{tensor.kind.size}").reshape(-1, *tensor.shape[1:])


def _emulate(
    program: Program, model: TfliteModel, given: Sequence[tflm.Values], board: McuBoard
) -> tuple[tuple[tflm.Values, ...], tuple[Resource, ...]]:
    """Outputs and figures of the program that verifies, under QEMU."""
    rows = [np.ascontiguousarray(one).reshape(len(one), -1).view(np.uint8) for one in given]
    write_file(program.work / "inputs.bin", np.concatenate(rows, axis=1).tobytes())
    machine = board.core.qemu_machine
    figures = qemu.run_image(program.binary, machine, program.work, seconds=1800)
    tensors = [model.tensors[place] for place in model.outputs]
    content = (program.work / "outputs.bin").read_bytes()
    if len(content) != len(given[0]) * sum(one.size for one in tensors):
        raise ToolFailed(f"the program answered {len(content)} bytes for {len(given[0])} samples")
    answers: list[tflm.Values] = []
    table, start = np.frombuffer(content, np.uint8).reshape(len(given[0]), -1), 0
    for one in tensors:
        part = np.ascontiguousarray(table[:, start : start + one.size])
        answers.append(part.view(f"<i{one.kind.size}"))
        start += one.size
    used = int.from_bytes((program.work / "arena.bin").read_bytes(), "little")
    return tuple(answers), _figures(figures, used, board)


def _figures(figures: qemu.Figures, used: int, board: McuBoard) -> tuple[Resource, ...]:
    arena = Source(SourceKind.MEASURED, "arena_used_bytes() under QEMU")
    stack = Source(SourceKind.MEASURED, "painted, under QEMU")
    found = (Resource("arena", used, Unit.BYTES, arena), Resource("stack", figures.stack, Unit.BYTES, stack))
    if figures.overflows:
        return found
    mean = figures.total / max(figures.samples, 1)
    counted = Source(SourceKind.MEASURED, f"QEMU {board.core.qemu_machine}, mean of {figures.samples} samples")
    return (*found, Resource("instructions", mean, Unit.INSTRUCTIONS, counted))


def _model(graph: Graph, options: TflmOptions) -> TfliteModel:
    return _accepted(adapted(graph).lowered, options).model


def _lowered(graph: Graph, options: TflmOptions) -> Lowered:
    """The operators of an adapted graph. Raises Unsupported for what `check` finds."""
    lowered = lower(graph)
    return _accepted(adapted(graph).lowered if lowered.refusals else lowered, options)


def _accepted(lowered: Lowered, options: TflmOptions) -> Lowered:
    for one in lowered.refusals:
        raise Unsupported(one.what, where=f"layer '{one.layer}'", fix=one.fix)
    return replace(lowered, model=packed(lowered.model)) if options.int4 else lowered
