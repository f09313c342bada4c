"""The backend `hls4ml`: from graph to Vitis project, and its C simulation on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, cast

import numpy as np

from edgeflow.artifacts import Bundle
from edgeflow.backends.hls4ml.estimate import estimate, remedies
from edgeflow.backends.hls4ml.lower import Lowered, lower
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.backends.hls4ml.project import project_files, project_name
from edgeflow.backends.protocol import Artefact, Program, Remedy, Run, Runner
from edgeflow.board import Board, FpgaBoard
from edgeflow.errors import MissingTool, ToolFailed, Unsupported
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.resource import Finding, MemoryMap, Resource, Severity
from edgeflow.toolchain import gxx
from edgeflow.toolchain.process import Limits, check, run

# -O1 compiles as fast as -O0 and runs 30 times as fast. The headers are not free of warnings; their ap_private asserts
# that a bit which ap_fixed_base reads, and then does not use, exists.
_FLAGS = ("-std=c++11", "-O1", "-w", "-DNDEBUG")
_LEFTOVER = b"contains leftover data"  # said by hls_stream.h
_NOT_FPGA = "edgeflow boards lists them"


class Hls4mlBackend:
    """C++ for AMD's Vitis HLS, written by hls4ml."""

    name: ClassVar[str] = "hls4ml"
    product: ClassVar[str] = "Vitis HLS project with a test bench that checks itself"
    Options: ClassVar[type] = Hls4mlOptions
    runners: ClassVar[tuple[Runner, ...]] = (Runner("csim", "hls4ml C simulation"),)

    def adapt(self, graph: Graph, board: Board, options: object) -> Graph:
        """Fixed-point types compute the graph as it is."""
        return graph

    def check(self, graph: Graph, board: Board, options: object) -> tuple[Finding, ...]:
        """Boards that Vitis does not know, ops without an exact form, numbers that hls4ml's floats cannot hold."""
        found = list(lower(graph, cast(Hls4mlOptions, options)).findings)
        if not isinstance(board, FpgaBoard):
            found.append(Finding(Severity.ERROR, f"{board.name} is no FPGA board", fix=_NOT_FPGA))
        elif not board.family.vitis:
            what = f"Vitis HLS makes nothing for {board.family.title}, the FPGA of {board.name}"
            found.append(Finding(Severity.ERROR, what, fix="choose a board with an AMD FPGA, such as pynq-z2"))
        return tuple(found)

    def estimate(self, graph: Graph, board: Board, options: object) -> tuple[Resource, ...]:
        """LUTs, flip-flops, DSPs, block RAMs, latency and initiation interval, and what each layer contributes."""
        return estimate(_lowered(graph, options), _fpga(board), cast(Hls4mlOptions, options))

    def remedies(self, graph: Graph, board: Board, options: object) -> tuple[Remedy, ...]:
        """What sharing multipliers, or halving the costliest layers, would leave."""
        return remedies(_lowered(graph, options), _fpga(board), cast(Hls4mlOptions, options))

    def memory(self, graph: Graph, board: Board, options: object) -> MemoryMap | None:
        """Nothing is kept in a memory of the processor's."""
        return None

    def emit(self, graph: Graph, board: Board, options: object) -> Bundle:
        """The Vitis project. Raises MissingTool without hls4ml."""
        return Bundle(project_files(graph, _lowered(graph, options), _fpga(board), cast(Hls4mlOptions, options)))

    def need_tools(self, board: Board) -> None:
        """hls4ml and a C++ compiler."""
        if importlib.util.find_spec("hls4ml") is None:
            raise MissingTool("hls4ml is not installed", fix="pip install 'edgeflow[hls]'")
        gxx.GXX.path()

    def build(self, artefact: Artefact, runner: str, work: Path) -> Program:
        """Compiles the project and its harness with g++."""
        name = project_name(artefact.graph, cast(Hls4mlOptions, artefact.options))
        folder = artefact.folder.resolve()
        sources = [folder / "firmware" / f"{name}.cpp", folder / "verify" / "csim.cpp"]
        includes = [folder, folder / "firmware" / "ap_types"]
        binary = gxx.compile_program(sources, includes, work / "csim", _FLAGS)
        return Program(artefact, runner, work, binary)

    def run(self, program: Program, inputs: Mapping[str, IntArray]) -> Run:
        """Samples in, outputs out, as exact integers."""
        lowered = _lowered(program.artefact.graph, program.artefact.options)
        rows = [inputs[port.name].reshape(len(inputs[port.name]), -1) for port in lowered.inputs]
        packed = np.concatenate(rows, axis=1).astype("<i4")
        firmware = program.artefact.folder / "firmware"  # from where it reads weights/
        done = run([str(program.binary.resolve())], Limits(seconds=1800), cwd=firmware, stdin=packed.tobytes())
        finished = check(done, "the C simulation failed")
        if _LEFTOVER in finished.stderr:
            raise ToolFailed("a stream between two layers keeps data after a sample: hls4ml miscounts a window")
        return Run(_unpack(lowered, finished.stdout, len(packed)))

    def measure(self, program: Program) -> tuple[Resource, ...]:
        """Nothing: only the vendor's tool knows what the fabric needs."""
        return ()


def _lowered(graph: Graph, options: object) -> Lowered:
    lowered = lower(graph, cast(Hls4mlOptions, options))
    for one in lowered.findings:
        raise Unsupported(one.what, where=f"layer '{one.layer}'" if one.layer else "backend hls4ml", fix=one.fix)
    return lowered


def _fpga(board: Board) -> FpgaBoard:
    """The board as what it must be: `check` has a finding for any other."""
    if not isinstance(board, FpgaBoard):
        raise Unsupported(f"{board.name} is no FPGA board", fix=_NOT_FPGA)
    return board


def _unpack(lowered: Lowered, content: bytes, batch: int) -> dict[str, IntArray]:
    width = sum(int(np.prod(port.shape)) for port in lowered.outputs)
    if len(content) != 8 * width * batch:
        raise ToolFailed(f"the C simulation answered {len(content)} bytes for {batch} samples of {8 * width} bytes")
    rows = np.frombuffer(content, dtype="<i8").astype(np.int64).reshape(batch, width)
    outputs: dict[str, IntArray] = {}
    start = 0
    for port in lowered.outputs:
        size = int(np.prod(port.shape))
        outputs[port.name] = rows[:, start : start + size].reshape(batch, *port.shape)
        start += size
    return outputs
