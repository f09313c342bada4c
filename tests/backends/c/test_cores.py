"""The generated C computes the graph on every core that QEMU runs, and its instructions are counted exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.protocol import Artefact
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.semantics.interpret import interpret
from edgeflow.toolchain.qemu import MACHINES
from edgeflow.toolchain.trace import trace_call
from tests.conftest import NeedTool
from tests.graphs import extreme_inputs, random_graph

C = CBackend()
CORES = [one for one in Core if one not in (Core.CORTEX_M0, Core.CORTEX_M4)]
"""One of each kind of code: the others have another's flags but for the floating-point registers."""


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("seed", [23])
def test_a_model_is_exact_and_its_trace_agrees_with_the_timer(
    core: Core, seed: int, tmp_path: Path, need_tool: NeedTool
) -> None:
    prefix = core.architecture.value
    for name in (f"{prefix}-gcc", f"{prefix}-objdump", MACHINES[core.qemu_machine].emulator.name):
        need_tool(name)
    graph, board = random_graph(seed), load_board("nucleo-f446re")
    assert isinstance(board, McuBoard)
    board = replace(board, core=core)
    fill(tmp_path, C.emit(graph, board, COptions()))
    (tmp_path / "work").mkdir()
    program = C.build(Artefact(tmp_path, "c", graph, board, COptions(), "", graph), "qemu", tmp_path / "work")
    inputs = {name: values[:1] for name, values in extreme_inputs(graph, seed).items()}
    done = C.run(program, inputs)
    expected, _ = interpret(graph, inputs)
    for name, values in expected.items():
        np.testing.assert_array_equal(done.outputs[name], values)
    counted = next(one.value for one in done.resources if one.name == "instructions")
    traced = trace_call(program.binary, core.qemu_machine, program.work, "infer", seconds=60).instructions
    assert 1 <= counted - traced <= 3, "the call itself, and what reading the timer takes more"
