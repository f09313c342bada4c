"""hls4ml's C++ computes the graph: every form that `check` accepts, at the extremes, in both interfaces."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.backends.protocol import Artefact, Program
from edgeflow.conformance import expose, graph_inputs
from edgeflow.errors import ToolFailed
from edgeflow.frontends.qkeras import load_qkeras
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Rounding
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from edgeflow.vectors import read_vectors
from tests.backends.hls4ml.helpers import BOARD, HLS, Grower, assert_exact, csim, shift
from tests.conftest import NeedTool
from tests.graphs import extreme_inputs

STREAM, PARALLEL = Hls4mlOptions(), Hls4mlOptions(io_type="io_parallel")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [PARALLEL, Hls4mlOptions(strategy="resource", reuse_factor=8), Hls4mlOptions("io_parallel", 4, "resource")],
    ids=lambda one: f"{one.io_type}-{one.strategy}-{one.reuse_factor}",
)
def test_the_digits_student_is_exact_with_other_options(
    options: Hls4mlOptions, tmp_path: Path, data: Path, need_tool: NeedTool
) -> None:
    need_tool("g++")
    graph = load_qkeras(data / "digits" / "student.keras")
    vectors = read_vectors(data / "digits" / "vectors.npz")
    inputs = graph_inputs(graph, vectors)
    expected, _ = interpret(graph, inputs)
    got = csim(graph, tmp_path, inputs, options)
    assert len(got["logits"]) == 360
    np.testing.assert_array_equal(got["logits"], expected["logits"])


@pytest.mark.parametrize(("seed", "rank", "options"), [(1, 2, STREAM), (2, 1, STREAM), (3, 2, PARALLEL)])
def test_random_graphs_are_exact(
    seed: int, rank: int, options: Hls4mlOptions, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("g++")
    assert_exact(Grower(seed).graph(rank, 4, taps=True), tmp_path, options, seed)


@pytest.mark.slow
@pytest.mark.parametrize("options", [STREAM, PARALLEL], ids=lambda one: one.io_type)
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_random_graphs_are_exact(seed: int, options: Hls4mlOptions, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("g++")
    graph = Grower(seed).graph(seed % 3, 3 + seed % 3, taps=seed % 4 == 0)
    findings = [one.what for one in HLS.check(graph, BOARD, options)]
    if findings:
        assert set(findings) == {"backend hls4ml streams a pool only if its strides are its window"}
        return
    assert_exact(graph, tmp_path, options, seed)


def test_every_rounding_multiplier_and_unit_in_one_graph(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("g++")
    rng = np.random.default_rng(5)
    builder = GraphBuilder("all roundings")
    x = builder.input("x", TensorType((6,), -128, 127), Dyadic(3))
    at = builder.add(
        Dense(frozen_array(rng.integers(-9, 10, (6, 4))), frozen_array(rng.integers(-99, 100, 4))),
        (x,),
        Dyadic(5),
        "sum",
    )
    for rounding in Rounding:
        for name, op in {
            "shift": shift(5, rounding, -16, 15),
            "relu": shift(4, rounding, 0, 63),
            "symmetric": shift(5, rounding, -31, 31),
            "times": shift(9, rounding, -32, 31, multiplier=19),
            "by channel": shift(10, rounding, -32, 31, multiplier=frozen_array([7, 12, 64, 33])),
            "minus": shift(5, rounding, -64, 63, multiplier=-1),
            "left": shift(0, rounding, -(1 << 20), (1 << 20) - 1, multiplier=12),
        }.items():
            layer = f"{rounding.value} {name}"
            builder.output(layer, builder.add(op, (at,), Dyadic(0), layer))
    for rounding in (Rounding.FLOOR, Rounding.HALF_UP):
        layer = f"{rounding.value} offset"
        builder.output(layer, builder.add(shift(5, rounding, 0, 63, offset=9), (at,), Dyadic(0), layer))
    assert_exact(builder.finish(), tmp_path, PARALLEL)


def test_channels_of_different_units_and_untrue_labels_give_the_same_integers(
    tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("g++")
    rng = np.random.default_rng(7)
    builder = GraphBuilder("units")
    x = builder.input("x", TensorType((4, 4, 2), 0, 15), Dyadic(4))
    weight, bias = frozen_array(rng.integers(-7, 8, (3, 3, 2, 3))), frozen_array(rng.integers(-9, 10, 3))
    conv = Conv(weight, bias, (1, 1), ((1, 1), (1, 1)), (1, 1))
    at = builder.add(conv, (x,), Dyadic((5, 7, 6)), "by channel")
    builder.output("sums", at)
    one_unit = builder.add(shift(3, Rounding.HALF_EVEN, 0, 63), (at,), Dyadic((2, 4, 3)), "rounded")
    other = builder.add(shift(2, Rounding.HALF_EVEN, 0, 63), (at,), Dyadic(9), "relabelled")
    builder.output("total", builder.add(Add((1, -1)), (one_unit, other), Dyadic(0), "add"))
    assert_exact(builder.finish(), tmp_path, STREAM)


def test_a_window_of_one_row_keeps_its_vertical_stride(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("g++")
    builder = GraphBuilder("one row")
    x = builder.input("x", TensorType((5, 6, 2), -8, 7), Dyadic(3))
    weight = frozen_array(np.random.default_rng(3).integers(-7, 8, (1, 3, 2, 2)))
    conv = Conv(weight, frozen_array([1, -2]), (2, 1), ((0, 0), (1, 1)), (1, 1))
    builder.output("y", builder.add(conv, (x,), Dyadic(3), "conv"))
    assert_exact(builder.finish(), tmp_path, STREAM)


@pytest.mark.slow
def test_the_exposed_graph_has_every_tensor_as_an_output(tmp_path: Path, data: Path, need_tool: NeedTool) -> None:
    need_tool("g++")
    graph = expose(load_qkeras(data / "digits" / "student.keras"))
    assert_exact(graph, tmp_path, STREAM)


def test_the_test_bench_checks_itself(tmp_path: Path, need_tool: NeedTool) -> None:
    """What Vitis' C simulation compiles and runs: it passes, and fails when an expected integer is another."""
    compiler = need_tool("g++")
    builder = GraphBuilder("bench")
    x = builder.input("x", TensorType((3,), 0, 15), Dyadic(4))
    dense = Dense(frozen_array([[1, -2], [3, 4], [-5, 6]]), frozen_array([7, 8]))
    builder.output("y", builder.add(dense, (x,), Dyadic(4), "dense"))
    graph = builder.finish()
    fill(tmp_path, HLS.emit(graph, BOARD, STREAM))
    sources = ["firmware/bench_hls.cpp", "bench_hls_test.cpp"]
    command = [compiler, "-std=c++11", "-w", "-I.", "-Ifirmware/ap_types", '-DWEIGHTS_DIR="firmware/weights"', *sources]
    subprocess.run([*command, "-o", "bench"], cwd=tmp_path, check=True)
    good = subprocess.run(["./bench"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert good.stdout == "16 samples, 0 of 32 values differ\n"
    lines = (tmp_path / "tb_data" / "outputs.dat").read_text().splitlines()
    lines[2] = " ".join(str(int(one) + 1) for one in lines[2].split())
    (tmp_path / "tb_data" / "outputs.dat").write_text("\n".join(lines) + "\n")
    bad = subprocess.run(["./bench"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert bad.stdout.splitlines()[0].startswith("first at sample 2, value 0: graph ")
    assert bad.stdout.splitlines()[1] == "16 samples, 2 of 32 values differ"


def test_a_program_that_answers_too_little_is_no_result(tmp_path: Path, need_tool: NeedTool) -> None:
    builder = GraphBuilder("small")
    x = builder.input("x", TensorType((3,), 0, 15), Dyadic(4))
    dense = Dense(frozen_array([[1], [3], [-5]]), frozen_array([7]))
    builder.output("y", builder.add(dense, (x,), Dyadic(4), "dense"))
    graph = builder.finish()
    (tmp_path / "firmware").mkdir()
    artefact = Artefact(tmp_path, "hls4ml", graph, BOARD, STREAM, "", graph)
    program = Program(artefact, "csim", tmp_path, Path(need_tool("true")))
    with pytest.raises(ToolFailed) as caught:
        HLS.run(program, extreme_inputs(graph, 0, 4))
    assert str(caught.value) == "the C simulation answered 0 bytes for 4 samples of 8 bytes"
