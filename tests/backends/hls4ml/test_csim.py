"""The project that hls4ml writes computes the graph, and two writes of it are the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.artifacts import write_bundle
from edgeflow.backends.artefact import load_artefact, package
from edgeflow.backends.hls4ml.backend import Hls4mlBackend
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.board import load_board
from edgeflow.conformance import verify_artefact
from edgeflow.errors import MissingTool, Unsupported
from edgeflow.frontends import load_model
from edgeflow.vectors import read_vectors
from tests.conftest import NeedTool
from tests.crossing import FORMS

HLS, BOARD = Hls4mlBackend(), load_board("pynq-z2")


@pytest.mark.parametrize("reuse_factor", [1, 32])
def test_the_digits_student_is_exact_in_c_simulation(
    reuse_factor: int, data: Path, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("g++")
    graph = load_model(data / "digits" / "student.keras")
    options = Hls4mlOptions(reuse_factor=reuse_factor)
    write_bundle(tmp_path / "hls", package(HLS, graph, BOARD, options))
    found = verify_artefact(load_artefact(tmp_path / "hls"), read_vectors(data / "digits" / "vectors.npz"))
    assert [(one.runner, one.samples, one.mismatches) for one in found.comparisons] == [
        ("predict", 360, 0),
        ("csim", 360, 0),
    ]


def test_two_writes_are_equal_byte_for_byte() -> None:
    graph = next(form for form in FORMS if form.op == "Conv").graph()
    first, second = (package(HLS, graph, BOARD, Hls4mlOptions()) for _ in range(2))
    assert first.files == second.files


def test_a_board_that_vitis_does_not_know_is_refused() -> None:
    graph = next(form for form in FORMS if form.op == "Dense").graph()
    with pytest.raises(Unsupported) as caught:
        package(HLS, graph, load_board("icebreaker"), Hls4mlOptions())
    assert "icebreaker" in str(caught.value)
    assert str(caught.value).endswith("fix: choose a board with an AMD FPGA, such as pynq-z2")


def test_a_missing_compiler_is_named_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFLOW_CXX", "/nowhere/g++")
    with pytest.raises(MissingTool, match="EDGEFLOW_CXX=/nowhere/g"):
        HLS.need_tools(BOARD)


def test_estimates_name_every_resource_of_the_fabric() -> None:
    graph = next(form for form in FORMS if form.op == "Dense").graph()
    names = {one.name for one in HLS.estimate(graph, BOARD, Hls4mlOptions()) if one.layer is None}
    assert {"LUT", "FF", "DSP", "BRAM", "latency", "initiation interval"} <= names
