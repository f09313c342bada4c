"""What one model of the C backend costs on one core under QEMU, every figure measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeflow.artifacts import fill, scratch
from edgeflow.backends import BACKENDS
from edgeflow.backends.c.backend import COptions
from edgeflow.backends.c.firmware import COMPILE_FLAGS, link_flags
from edgeflow.backends.protocol import Artefact, Program, Run
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.semantics.interpret import interpret
from edgeflow.toolchain import elf, gcc
from edgeflow.toolchain.profile import Spent, profile
from edgeflow.toolchain.trace import trace_call

DEFAULT = COptions(stack=0)
INFERENCE = "infer"
"""The function of the program that verifies which runs the model once; the model's own run function is below it."""
_HARNESS = "inferences"
"""The one object of the example program in writable memory that is neither the model's nor its user's."""
_SECONDS = 900.0


@dataclass(frozen=True)
class Measured:
    """Bytes and instructions of one inference.

    `code` and `tables` are what the model takes in flash, the C library's functions that it calls included and
    start-up not. `ram` is all that is written: arena, inputs, outputs and `stack`. `flash` is the whole firmware's.
    `spent` is None where no trace was asked for.
    """

    instructions: float
    stack: float
    ram: float
    code: int
    tables: int
    flash: float
    equal: bool
    sizes: elf.Sizes
    spent: tuple[Spent, ...] | None


def board_with(core: Core) -> McuBoard:
    """A made-up board of 512 KiB flash and 128 KiB RAM with a core."""
    board = load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    return replace(board, core=core)


def random_inputs(graph: Graph, batch: int) -> dict[str, IntArray]:
    """Seeded samples over the whole range of the inputs, the last of them all lowest, the one before all highest."""
    random = np.random.default_rng(1)
    found: dict[str, IntArray] = {}
    for one in graph.inputs:
        values = random.integers(one.type.lo, one.type.hi + 1, (batch, *one.type.shape))
        values[-1], values[-2] = one.type.lo, one.type.hi
        found[one.name] = values
    return found


def measure(
    graph: Graph,
    board: McuBoard,
    inputs: Mapping[str, IntArray],
    expected: Mapping[str, IntArray] | None = None,
    options: COptions = DEFAULT,
    *,
    traced: bool = False,
) -> Measured:
    """Builds and runs a graph. The outputs must be the interpreter's and, where they are given, the `expected` ones."""
    with scratch() as folder:
        program, done = _run(graph, board, inputs, options, folder)
        figures = {one.name: one.value for one in (*BACKENDS["c"].measure(program), *done.resources)}
        alone, whole = _model_alone(program, board), elf.read_sizes(program.work / "firmware.elf")
        spent = _profile(program, board) if traced else None
    answers, _ = interpret(graph, inputs)
    references = (answers, expected or {})
    equal = all(np.array_equal(done.outputs[name], values) for one in references for name, values in one.items())
    static = sum(one.size for one in whole.symbols if one.writable and one.name != _HARNESS)
    stack = figures["stack"]
    return Measured(
        figures["instructions"],
        stack,
        static + stack,
        alone.code,
        alone.tables,
        figures["flash"],
        equal,
        alone,
        spent,
    )


def instructions(graph: Graph, board: McuBoard) -> float:
    """The mean of four samples. Raises RuntimeError when the outputs are not the interpreter's."""
    inputs = random_inputs(graph, 4)
    with scratch() as folder:
        _, done = _run(graph, board, inputs, DEFAULT, folder)
    answers, _ = interpret(graph, inputs)
    if any(not np.array_equal(done.outputs[name], values) for name, values in answers.items()):
        raise RuntimeError(f"{graph.name} on {board.name} is not bit-exact")
    return next(one.value for one in done.resources if one.name == "instructions")


def _run(
    graph: Graph, board: McuBoard, inputs: Mapping[str, IntArray], options: COptions, folder: Path
) -> tuple[Program, Run]:
    backend = BACKENDS["c"]
    fill(folder, backend.emit(graph, board, options))
    work = folder / "work"
    work.mkdir()
    program = backend.build(Artefact(folder, "c", graph, board, options, "", graph), "qemu", work)
    return program, backend.run(program, inputs)


def _model_alone(program: Program, board: McuBoard) -> elf.Sizes:
    """The model's file linked with nothing but what it calls."""
    folder = program.artefact.folder
    (source,) = (folder / "model").glob("*.c")
    flags = (*board.core.gcc_flags, *COMPILE_FLAGS, *link_flags(board.core), f"-Wl,--entry={source.stem}_run")
    compiler, script = gcc.CROSS[board.core.architecture.value], folder / "memory.ld"
    image = gcc.compile_image([source], folder / "model", script, program.work / "model.elf", flags, compiler)
    return elf.read_sizes(image)


def _profile(program: Program, board: McuBoard) -> tuple[Spent, ...]:
    """Function by function of the first sample, which the program finds in the file of the run before."""
    trace = trace_call(program.binary, board.core.qemu_machine, program.work, INFERENCE, seconds=_SECONDS)
    return tuple(one for one in profile(program.binary, trace) if one.name != INFERENCE)
