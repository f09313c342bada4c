"""`make fuzz`: random networks as C on one board or core, on this machine and under QEMU, until time is up.

Arguments: seconds, a board's or a core's name, the first seed. Every fault is printed with what makes it again.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeflow.artifacts import fill, scratch
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.protocol import Artefact
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph
from edgeflow.semantics.interpret import interpret
from edgeflow.toolchain.qemu import MACHINES
from tests.graphs import extreme_inputs, random_graph
from tests.nets import random_network

C = CBackend()
RUNNERS = ("qemu", "host-sanitized")
"""The assembly, then the portable code beside it."""
_SAMPLES = 12


def fuzzed_board(name: str) -> McuBoard:
    """A board by its name; by a core's name a made-up one with it. It has the memory that QEMU's machine has."""
    cores = {one.value: one for one in Core}
    board = load_board("nucleo-f446re" if name in cores else name)
    if not isinstance(board, McuBoard):
        raise SystemExit(f"{name} is no microcontroller board")
    board = replace(board, core=cores.get(name, board.core))
    machine = MACHINES[board.core.qemu_machine]
    sizes = {board.flash_regions[0].name: machine.flash_size, board.ram_regions[0].name: machine.ram_size}
    return replace(board, memories=tuple(replace(one, size=sizes.get(one.name, one.size)) for one in board.memories))


def graph_of(seed: int) -> Graph:
    """A network of the usual kinds of layer; every fourth seed a graph of any ops."""
    return random_graph(seed) if seed % 4 == 3 else random_network(seed)


def differing(graph: Graph, board: McuBoard, optimize: str, runner: str, seed: int, folder: Path) -> str:
    """What the C computes otherwise than the graph; "" where it is exact.

    Raises EdgeflowError for C that does not compile, faults or meets a sanitizer.
    """
    options = COptions(optimize=optimize)
    if findings := C.check(graph, board, options):
        return f"refused: {findings[0].what}"
    fill(folder, C.emit(graph, board, options))
    work = folder / "work"
    work.mkdir(parents=True)
    inputs = extreme_inputs(graph, seed, _SAMPLES)
    done = C.run(C.build(Artefact(folder, "c", graph, board, options, "", graph), runner, work), inputs)
    expected, _ = interpret(graph, inputs)
    wrong = {name: int(np.sum(done.outputs[name] != values)) for name, values in expected.items()}
    return ", ".join(f"{count} values of {name} differ" for name, count in wrong.items() if count)


def fuzz(seconds: float, board: McuBoard, first: int) -> int:
    """How many faults were found. Graphs under QEMU and on this machine alternate, as do the aims."""
    end, seed, faults = time.monotonic() + seconds, first, 0
    aims = [one.value for one in Optimize]
    while time.monotonic() < end:
        said = fault(board, seed, aims[seed // 2 % len(aims)], RUNNERS[seed % 5 == 4])
        if said:
            faults += 1
            _say(said)
        seed += 1
    _say(f"{board.core.value}: seeds {first} to {seed - 1}, {faults} faults")
    return faults


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fault(board: McuBoard, seed: int, aim: str, runner: str) -> str:
    """One line about a seed that is not exact: what goes wrong, and with what; "" for one that is."""
    try:
        graph = graph_of(seed)
        with scratch() as folder:
            said = differing(graph, board, aim, runner, seed, folder / "project")
    except (EdgeflowError, ArithmeticError, LookupError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        said = f"{type(error).__name__}: {error}"
    return f"seed {seed}, {board.core.value}, {aim}, {runner}: {said}" if said else ""


if __name__ == "__main__":
    raise SystemExit(fuzz(float(sys.argv[1]), fuzzed_board(sys.argv[2]), int(sys.argv[3])) > 0)
