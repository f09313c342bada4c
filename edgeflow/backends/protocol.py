"""What every backend is: one shape, whatever the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from edgeflow.artifacts import Bundle
from edgeflow.board import Board, McuBoard
from edgeflow.errors import Unsupported
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.resource import Finding, MemoryMap, Resource


@dataclass(frozen=True)
class Runner:
    """One way to run what a backend emits: on this machine, under an emulator, in a simulator.

    `{core}` in the title becomes the board's core. One with `asked` runs only when it is named.
    """

    name: str
    title: str
    asked: bool = False


@dataclass(frozen=True)
class Artefact:
    """A folder that a backend emitted, with what it was made from.

    `source` is the model's own graph, `graph` what the target computes: the same, unless `adapt` changed it.
    `digest` is the source's.
    """

    folder: Path
    backend: str
    graph: Graph
    board: Board
    options: object
    digest: str
    source: Graph


@dataclass(frozen=True)
class Program:
    """A built artefact. `work` holds what the tools made; `binary` is what the runner executes."""

    artefact: Artefact
    runner: str
    work: Path
    binary: Path


@dataclass(frozen=True)
class Run:
    """What a program answered: outputs and states by name (batch axis first), and figures only running can tell.

    `title` says where it ran, if only running can tell that too.
    """

    outputs: Mapping[str, IntArray]
    resources: tuple[Resource, ...] = ()
    states: Mapping[str, IntArray] | None = None
    title: str | None = None


def _untold(_done: int, _of: int) -> None:
    """Nobody wants to know how far it is."""


@dataclass(frozen=True)
class Attached:
    """The user's own board, at the serial port `device` (a path) with `baud` bits a second.

    `told` hears how many samples are done, of how many. `patience` scales the time that the board may take.
    """

    device: str
    baud: int = 115200
    told: Callable[[int, int], None] = _untold
    patience: float = 1.0


@dataclass(frozen=True)
class Remedy:
    """A change and what it would make of one resource, by the backend's own estimate.

    `retrain` says whether the model changes, so that only training it again tells its accuracy.
    """

    change: str
    resource: str
    value: float
    retrain: bool = True


NO_MICROCONTROLLER = "choose one that edgeflow boards lists as a microcontroller, or add --backend hls4ml for an FPGA"
"""What a backend for microcontrollers answers to another board."""

OTHER_BACKEND = "another backend may: edgeflow build --help lists them"
"""The fix of what this backend cannot do and another may; `artefact.refuse` says in its place which one can."""


def microcontroller(board: Board) -> McuBoard:
    """The board as what a backend for microcontrollers needs. Raises Unsupported for any other."""
    if not isinstance(board, McuBoard):
        raise Unsupported(f"{board.name} is no microcontroller board", fix=NO_MICROCONTROLLER)
    return board


class Backend(Protocol):
    """One target. `emit` is pure; `build` is the only step that runs tools. `product` says what it writes."""

    name: ClassVar[str]
    product: ClassVar[str]
    Options: ClassVar[type]
    runners: ClassVar[tuple[Runner, ...]]

    def adapt(self, graph: Graph, board: Board, options: object) -> Graph:
        """What the target must change in the model's meaning (its rounding, say), as a graph."""
        ...

    def check(self, graph: Graph, board: Board, options: object) -> tuple[Finding, ...]:
        """What the target cannot do. No ERROR here means that `emit` succeeds."""
        ...

    def estimate(self, graph: Graph, board: Board, options: object) -> tuple[Resource, ...]:
        """Figures before anything is built; entries with a `layer` say what each layer contributes."""
        ...

    def remedies(self, graph: Graph, board: Board, options: object) -> tuple[Remedy, ...]:
        """Changes to the model that would lower its largest costs."""
        ...

    def memory(self, graph: Graph, board: Board, options: object) -> MemoryMap | None:
        """RAM over time, where the backend plans it itself."""
        ...

    def emit(self, graph: Graph, board: Board, options: object) -> Bundle:
        """The backend's own files. Same input, same bytes. (`artefact.package` adds graph, board and manifest.)"""
        ...

    def need_tools(self, board: Board) -> None:
        """Raises MissingTool for a program or package that emitting, building or running would miss."""
        ...

    def build(self, artefact: Artefact, runner: str, work: Path) -> Program:
        """Compiles the artefact for a runner into `work`. Raises MissingTool, ToolFailed, DoesNotFit."""
        ...

    def run(self, program: Program, inputs: Mapping[str, IntArray]) -> Run:
        """Runs samples (batch axis first) through a program."""
        ...

    def measure(self, program: Program) -> tuple[Resource, ...]:
        """Figures that the built program itself shows."""
        ...


@runtime_checkable
class Attachable(Protocol):
    """A backend whose projects also run on a board that is attached to this machine."""

    def ask_board(self, artefact: Artefact, inputs: Mapping[str, IntArray], attached: Attached) -> Run:
        """Runs samples (batch axis first) on the board. Raises EdgeflowError where it is not there or not ready."""
        ...
