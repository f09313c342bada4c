"""Every form of every op, through every backend, with every runner: exact, or refused by a finding that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import write_bundle
from edgeflow.backends import BACKENDS
from edgeflow.backends.artefact import load_artefact, package
from edgeflow.board import load_board
from edgeflow.errors import Unsupported
from edgeflow.ops import OPS
from edgeflow.resource import Severity
from edgeflow.semantics.interpret import interpret
from tests.conftest import NeedTool
from tests.crossing import FORMS, Form
from tests.graphs import extreme_inputs
from tests.support import BOARD_OF, PAGE, support_page

TOOLS = {"c": ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"), "hls4ml": ("g++",), "tflm": ()}


def test_every_op_is_crossed() -> None:
    assert {form.op for form in FORMS} == set(OPS)
    assert set(BACKENDS) <= set(BOARD_OF)
    assert set(BACKENDS) <= set(TOOLS)


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.id)
def test_a_form_is_exact_or_a_finding(backend: str, form: Form, tmp_path: Path, need_tool: NeedTool) -> None:
    for tool in TOOLS[backend]:
        need_tool(tool)
    target, board = BACKENDS[backend], load_board(BOARD_OF[backend])
    options, graph = target.Options(), form.graph()
    adapted = target.adapt(graph, board, options)
    findings = [one for one in target.check(adapted, board, options) if one.severity is Severity.ERROR]
    if findings:
        assert all(one.what and one.fix for one in findings)
        with pytest.raises(Unsupported):
            package(target, graph, board, options)
        return
    write_bundle(tmp_path / "out", package(target, graph, board, options))
    artefact = load_artefact(tmp_path / "out")
    inputs = extreme_inputs(artefact.graph, 3)
    expected, _ = interpret(artefact.graph, inputs)
    for runner in [one for one in target.runners if not one.asked]:
        work = tmp_path / runner.name
        work.mkdir()
        done = target.run(target.build(artefact, runner.name, work), inputs)
        np.testing.assert_array_equal(done.outputs["y"], expected["y"], err_msg=runner.name)


def test_the_support_page_is_what_the_doors_and_the_backends_say() -> None:
    assert PAGE.read_text() == support_page(), "make docs writes it anew"
