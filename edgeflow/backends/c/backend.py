"""The backend `c`: from graph to firmware project, and its runs on this machine and under QEMU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, cast

import numpy as np

from edgeflow.artifacts import Bundle, write_file
from edgeflow.backends.c.cost import core_cost
from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.estimate import estimate, latency, remedies, stack_bytes
from edgeflow.backends.c.files import Files, model_files, sources
from edgeflow.backends.c.firmware import COMPILE_FLAGS, firmware_files, link_flags
from edgeflow.backends.c.kernels import KERNELS
from edgeflow.backends.c.memory import memory_map
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.validation import identity
from edgeflow.backends.c.validation_host import Answered, Expected, run_on_board
from edgeflow.backends.protocol import (
    NO_MICROCONTROLLER,
    OTHER_BACKEND,
    Artefact,
    Attached,
    Program,
    Remedy,
    Run,
    Runner,
    microcontroller,
)
from edgeflow.board import Architecture, Board, Boot, McuBoard
from edgeflow.errors import EdgeflowError, ToolFailed
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import IntArray
from edgeflow.ops.conv import Conv
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.resource import Finding, MemoryMap, Resource, Severity, Source, SourceKind, Unit
from edgeflow.toolchain import elf, gcc, qemu
from edgeflow.toolchain.process import Limits, check, run

_RESERVE = Source(SourceKind.MEASURED, "set by the option stack; the linker keeps it free")
_STDERR = "runtime error"
_NO_VALIDATION = "the validation firmware reads the counters of Arm's cores, which RISC-V has not"
_SANITIZE = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")


@dataclass(frozen=True)
class COptions:
    """What a user may choose. `prefix` starts every public C name; `stack` is reserved in RAM, in bytes;
    with `validation` the project has the firmware for `edgeflow verify --port` too.

    `optimize`: what the code shall be best at, one of `Optimize`; `files`: how many C files, one of `Files`. Raises
    ValueError for another word in either, and for a stack that is no multiple of 8 from 0 to 16 MiB.
    """

    prefix: str = ""
    stack: int = 512
    validation: bool = False
    optimize: str = Optimize.BALANCED.value
    files: str = Files.ONE.value

    def __post_init__(self) -> None:
        if self.stack % 8 or not 0 <= self.stack <= 1 << 24:
            raise ValueError(f"stack is {self.stack}; it must be a multiple of 8 from 0 to 16777216 bytes")
        for name, given, kind in (("optimize", self.optimize, Optimize), ("files", self.files, Files)):
            known = [one.value for one in kind]
            if given not in known:
                raise ValueError(f'{name} is "{given}"; choose one of: {", ".join(known)}')

    @property
    def aim(self) -> Optimize:
        """`optimize` as what it stands for."""
        return Optimize(self.optimize)

    @property
    def several(self) -> Files:
        """`files` as what it stands for."""
        return Files(self.files)


class CBackend:
    """C99 for microcontrollers."""

    name: ClassVar[str] = "c"
    product: ClassVar[str] = "firmware project: the model as C99, start-up, linker script, CMake"
    Options: ClassVar[type] = COptions
    runners: ClassVar[tuple[Runner, ...]] = (
        Runner("host", "C on this machine"),
        Runner("host-sanitized", "C on this machine, UBSan and ASan"),
        Runner("qemu", "C on QEMU {core}"),
    )

    def adapt(self, graph: Graph, board: Board, options: object) -> Graph:
        """C computes the graph as it is."""
        return graph

    def check(self, graph: Graph, board: Board, options: object) -> tuple[Finding, ...]:
        """Ops without a kernel, windows over more than two axes, states, and a validation firmware for RISC-V."""
        found = [
            Finding(Severity.ERROR, f"backend c cannot {what}", layer=node.layer, fix=OTHER_BACKEND)
            for node in graph.nodes
            if (what := _cannot(node))
        ]
        if not isinstance(board, McuBoard):
            found.append(Finding(Severity.ERROR, f"{board.name} is no microcontroller board", fix=NO_MICROCONTROLLER))
        elif board.core.architecture is not Architecture.ARM and cast(COptions, options).validation:
            found.append(Finding(Severity.ERROR, _NO_VALIDATION, fix="build without --set validation=true"))
        if graph.states:
            found.append(Finding(Severity.ERROR, "backend c cannot keep states yet", layer=graph.states[0].name))
        return tuple(found)

    def estimate(self, graph: Graph, board: Board, options: object) -> tuple[Resource, ...]:
        """Flash, RAM, instructions and latency, and what each layer contributes."""
        chosen = cast(COptions, options)
        return estimate(graph, microcontroller(board), chosen.stack, chosen.aim)

    def remedies(self, graph: Graph, board: Board, options: object) -> tuple[Remedy, ...]:
        """What halving the costliest layers would save."""
        chosen = cast(COptions, options)
        return remedies(graph, microcontroller(board), chosen.stack, chosen.aim)

    def memory(self, graph: Graph, board: Board, options: object) -> MemoryMap | None:
        """The arena, layer by layer and call by call, and the stack beside it."""
        core = microcontroller(board).core
        emitted = emit_model(graph, core=core, optimize=cast(COptions, options).aim)
        return replace(memory_map(emitted), stack=stack_bytes(emitted, core_cost(core)))

    def emit(self, graph: Graph, board: Board, options: object) -> Bundle:
        """The firmware project."""
        chosen = cast(COptions, options)
        emitted = emit_model(graph, chosen.prefix or None, microcontroller(board).core, chosen.aim)
        texts = model_files(emitted, chosen.several)
        return Bundle(firmware_files(emitted, texts, microcontroller(board), chosen.stack, chosen.validation))

    def need_tools(self, board: Board) -> None:
        """Two compilers and the emulator."""
        core = microcontroller(board).core
        emulated = [qemu.MACHINES[core.qemu_machine].emulator] if core.qemu_machine in qemu.MACHINES else []
        for tool in (gcc.HOST, gcc.CROSS[core.architecture.value], *emulated):
            tool.path()

    def build(self, artefact: Artefact, runner: str, work: Path) -> Program:
        """Compiles for a runner. For `qemu` also the firmware image whose sizes `measure` reads."""
        folder = artefact.folder
        include = folder / "model"
        model = [include / name for name in sources(self._texts(artefact))]
        if runner != "qemu":
            extra = ("-O1", *_SANITIZE) if runner == "host-sanitized" else ()
            flags = (*COMPILE_FLAGS, *extra)
            binary = gcc.compile_host([*model, folder / "verify" / "host.c"], include, work / runner, flags)
            return Program(artefact, runner, work, binary)
        board = microcontroller(artefact.board)
        qemu.machine(board.core.qemu_machine)
        flags = (*board.core.gcc_flags, *COMPILE_FLAGS, *link_flags(board.core))
        startup = folder / "src" / "startup.c"
        boot = [folder / "src" / "boot2.S"] if board.boot is Boot.RP2040_BOOT2 else []
        firmware = [*model, folder / "src" / "main.c", startup, *boot]
        compiler = gcc.CROSS[board.core.architecture.value]
        gcc.compile_image(firmware, include, folder / "memory.ld", work / "firmware.elf", flags, compiler)
        harness = [*model, folder / "verify" / "semihost.c", startup]
        binary = gcc.compile_image(
            harness, include, folder / "verify" / "qemu.ld", work / "verify.elf", flags, compiler
        )
        return Program(artefact, runner, work, binary)

    def run(self, program: Program, inputs: Mapping[str, IntArray]) -> Run:
        """Samples in, outputs out; under QEMU also instructions and stack."""
        emitted = self._emitted(program.artefact)
        graph, board = program.artefact.graph, microcontroller(program.artefact.board)
        packed = _pack(emitted, graph, inputs)
        batch = len(next(iter(inputs.values())))
        if program.runner != "qemu":
            finished = run([str(program.binary.resolve())], Limits(seconds=600), stdin=packed)
            if _STDERR in (words := finished.last_words(40)) or "AddressSanitizer" in words:
                first = next((line for line in words.splitlines() if "error" in line.lower()), words)
                raise ToolFailed(f"the sanitizers found a fault in the generated code: {first.strip()}")
            check(finished, "the compiled model failed on this machine")
            return Run(_unpack(emitted, graph, finished.stdout, batch))
        write_file(program.work / "inputs.bin", packed)
        machine = board.core.qemu_machine
        figures = qemu.run_image(program.binary, machine, program.work, seconds=1800)
        outputs = _unpack(emitted, graph, (program.work / "outputs.bin").read_bytes(), batch)
        return Run(outputs, _run_resources(figures, board))

    def measure(self, program: Program) -> tuple[Resource, ...]:
        """Flash and static RAM of the firmware image; nothing for a host program."""
        if program.runner != "qemu":
            return ()
        sizes = elf.read_sizes(program.work / "firmware.elf")
        source = Source(SourceKind.MEASURED, "linked image, ELF sections")
        return (
            Resource("flash", sizes.flash, Unit.BYTES, source),
            Resource("static RAM", sizes.ram, Unit.BYTES, source),
            Resource("stack reserve", cast(COptions, program.artefact.options).stack, Unit.BYTES, _RESERVE),
        )

    def ask_board(self, artefact: Artefact, inputs: Mapping[str, IntArray], attached: Attached) -> Run:
        """Samples to the validation firmware on the user's board: outputs, cycles by layer, stack."""
        if not cast(COptions, artefact.options).validation:
            raise EdgeflowError(
                "was built without the validation firmware, which a board needs for --port",
                where=str(artefact.folder),
                fix="build it again with --set validation=true, and flash its build/validation.elf",
            )
        emitted, graph = self._emitted(artefact), artefact.graph
        batch = len(next(iter(inputs.values())))
        packed = _pack(emitted, graph, inputs)
        size = len(packed) // batch
        outputs = sum(emitted.output_buffer(one.name).size for one in graph.outputs)
        expected = Expected(identity(emitted, self._texts(artefact)), size, outputs, len(emitted.kernels))
        samples = [packed[start : start + size] for start in range(0, len(packed), size)]
        answered = run_on_board(attached, expected, samples)
        title = f"C under QEMU at {attached.device}" if answered.emulated else None
        figures = _board_resources(emitted, answered, attached)
        return Run(_unpack(emitted, graph, answered.outputs, batch), figures, title=title)

    def _emitted(self, artefact: Artefact) -> Emitted:
        options = cast(COptions, artefact.options)
        return emit_model(artefact.graph, options.prefix or None, microcontroller(artefact.board).core, options.aim)

    def _texts(self, artefact: Artefact) -> dict[str, str]:
        return model_files(self._emitted(artefact), cast(COptions, artefact.options).several)


def _cannot(node: Node) -> str | None:
    """What the backend cannot do about a node: a text after "cannot"."""
    if type(node.op) not in KERNELS and not isinstance(node.op, Reshape):
        return f"do {type(node.op).__name__} yet"
    if isinstance(node.op, Conv | MaxPool | SumPool) and len(node.op.window) not in (1, 2):
        return f"slide a window over {len(node.op.window)} axes"
    return None


def _run_resources(figures: qemu.Figures, board: McuBoard) -> tuple[Resource, ...]:
    stack = Resource("stack", figures.stack, Unit.BYTES, Source(SourceKind.MEASURED, "painted, under QEMU"))
    if figures.overflows:
        return (stack,)
    mean = figures.total / max(figures.samples, 1)
    counted = Source(SourceKind.MEASURED, f"QEMU {board.core.qemu_machine}, mean of {figures.samples} samples")
    return (
        Resource("instructions", mean, Unit.INSTRUCTIONS, counted),
        Resource("instructions, most", figures.most, Unit.INSTRUCTIONS, counted),
        stack,
        latency(figures.most, board, measured=True),
    )


def _board_resources(emitted: Emitted, answered: Answered, attached: Attached) -> tuple[Resource, ...]:
    """Mean and most cycles of an inference, mean cycles of each layer in order, and the stack."""
    where = f"{'under QEMU' if answered.emulated else 'on the board'} at {attached.device}"
    stack = Resource("stack on the board", answered.stack, Unit.BYTES, Source(SourceKind.MEASURED, f"painted, {where}"))
    if answered.counter is None:
        return (stack,)
    how = f"{where}, {answered.counter}, mean of {len(answered.cycles)} samples"
    counted = Source(SourceKind.MEASURED, how)
    if answered.emulated:
        counted = Source(SourceKind.UNVERIFIED, f"{how}; an emulator's time, no cycles of a processor")
    totals, means = answered.cycles.sum(axis=1), answered.cycles.mean(axis=0)
    layers = (
        Resource("cycles", float(mean), Unit.CYCLES, counted, layer=kernel.layer)
        for kernel, mean in zip(emitted.kernels, means, strict=True)
    )
    return (
        Resource("cycles", float(totals.mean()), Unit.CYCLES, counted),
        Resource("cycles, most", int(totals.max()), Unit.CYCLES, counted),
        stack,
        *layers,
    )


def _pack(emitted: Emitted, graph: Graph, inputs: Mapping[str, IntArray]) -> bytes:
    """Sample after sample, each with all inputs in order, in the header's types."""
    parts = [
        inputs[one.name].reshape(len(inputs[one.name]), -1).astype(emitted.lowered.buffers[one.name].ctype.dtype)
        for one in graph.inputs
    ]
    rows = [np.ascontiguousarray(part).view(np.uint8).reshape(len(part), -1) for part in parts]
    return np.concatenate(rows, axis=1).tobytes()


def _unpack(emitted: Emitted, graph: Graph, content: bytes, batch: int) -> dict[str, IntArray]:
    buffers = [emitted.output_buffer(output.name) for output in graph.outputs]
    sample = sum(buffer.size for buffer in buffers)
    if len(content) != sample * batch:
        raise ToolFailed(f"the program answered {len(content)} bytes for {batch} samples of {sample} bytes")
    rows = np.frombuffer(content, dtype=np.uint8).reshape(batch, sample)
    outputs: dict[str, IntArray] = {}
    start = 0
    for output, buffer in zip(graph.outputs, buffers, strict=True):
        part = np.ascontiguousarray(rows[:, start : start + buffer.size]).view(buffer.ctype.dtype)
        outputs[output.name] = part.astype(np.int64).reshape(batch, *graph.tensor(output.tensor).type.shape)
        start += buffer.size
    return outputs
