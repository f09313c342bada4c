"""The generated C computes the graph: on this machine, under the sanitizers, on every core under QEMU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.artifacts import fill
from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.backends.protocol import Artefact, Run
from edgeflow.board import load_board
from edgeflow.ir.graph import Graph, Output
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.semantics.interpret import interpret
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs, random_graph, random_requant

C = CBackend()


def run_c(
    graph: Graph,
    inputs: dict[str, IntArray],
    folder: Path,
    runner: str,
    board: str = "nucleo-f446re",
    optimize: str = "balanced",
) -> Run:
    target, options = load_board(board), COptions(optimize=optimize)
    assert C.check(graph, target, options) == ()
    fill(folder, C.emit(graph, target, options))
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return C.run(C.build(Artefact(folder, "c", graph, target, options, "", graph), runner, work), inputs)


def assert_exact(graph: Graph, inputs: dict[str, IntArray], run: Run) -> None:
    expected, _ = interpret(graph, inputs)
    assert run.outputs.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(run.outputs[name], values)


@pytest.mark.parametrize("seed", [*range(24), 522, 5027, 5073, 7006])
def test_random_graphs_are_exact_and_clean_under_the_sanitizers(seed: int, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = random_graph(seed)
    inputs = extreme_inputs(graph, seed)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_many_random_graphs_are_exact(seed: int, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = random_graph(seed)
    inputs = extreme_inputs(graph, seed)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.parametrize("board", ["rpi-pico", "stm32f103c8", "nucleo-f446re", "microbit-v2"])
@pytest.mark.parametrize("seed", [3, 8, 13])
def test_random_graphs_are_exact_under_qemu(board: str, seed: int, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = random_graph(seed)
    inputs = extreme_inputs(graph, seed)
    run = run_c(graph, inputs, tmp_path, "qemu", board)
    assert_exact(graph, inputs, run)
    figures = {one.name: one.value for one in run.resources}
    assert figures["instructions"] > 0
    assert figures["stack"] > 0


def test_every_rounding_is_exact_for_every_value_near_its_ties(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    builder = GraphBuilder("roundings")
    at = builder.input("x", TensorType((1,), -(1 << 11), (1 << 11) - 1), UNIT)
    none, one = frozen_array(0), frozen_array(1)
    for rounding in Rounding:
        for shift in (1, 2, 5):
            stages = (Stage(frozen_array(shift), rounding),)
            op = Requant(none, one, stages, none, frozen_array(-5000), frozen_array(5000))
            builder.output(f"{rounding.value} {shift}", builder.add(op, (at,), UNIT, "requant"))
        stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(3), rounding))
        op = Requant(none, frozen_array(1_518_500_250), stages, none, frozen_array(-5000), frozen_array(5000))
        builder.output(f"two stages {rounding.value}", builder.add(op, (at,), UNIT, "requant"))
    graph = builder.finish()
    inputs = {"x": np.arange(-(1 << 11), 1 << 11).reshape(-1, 1)}
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.parametrize("seed", range(4))
def test_requants_with_any_parameters_are_exact(seed: int, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    rng = np.random.default_rng(seed)
    builder = GraphBuilder("requants")
    bits = int(rng.integers(4, 34))
    at = builder.input("x", TensorType((2, 3, 4), -(1 << (bits - 1)), (1 << (bits - 1)) - 1), UNIT)
    for number in range(20):
        builder.output(f"y{number}", builder.add(random_requant(rng, builder.type(at)), (at,), UNIT, "requant"))
    graph = builder.finish()
    inputs = extreme_inputs(graph, seed)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_outputs_that_share_are_views_or_come_straight_from_an_input(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    builder = GraphBuilder("outputs")
    x = builder.input("x", TensorType((2, 3), -8, 7), UNIT)
    unread = builder.input("unread", TensorType((4,), 0, 1), UNIT)
    assert unread == "unread"
    total = builder.add(Add((1, -1, 1)), (x, x, x), UNIT, "add")
    flat = builder.add(Reshape((6,)), (total,), UNIT, "flat")
    later = builder.add(Add((1, 1)), (flat, flat), UNIT, "later")
    for name, tensor in {"same": x, "sum": total, "again": total, "flat": flat, "later": later}.items():
        builder.output(name, tensor)
    graph = builder.finish()
    inputs = extreme_inputs(graph, 1)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


def test_sums_beyond_32_bits_are_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    builder = GraphBuilder("wide")
    x = builder.input("x", TensorType((3,), -(1 << 31), (1 << 31) - 1), UNIT)
    y = builder.input("y", TensorType((3,), 0, (1 << 32) - 1), UNIT)
    builder.output("sum", builder.add(Add((1, -1)), (x, y), UNIT, "add"))
    graph = builder.finish()
    inputs = extreme_inputs(graph, 5)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


HOSTILE = ("*/ int x; /*", "int", "int", "größe", "模型", "a\\", "??/", '"', "\n#error", "", "x" * 300)


def test_hostile_names_are_quoted_and_the_code_compiles_without_a_warning(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    builder = GraphBuilder("*/ #error \n /* \\")
    at = builder.input("*/ int x; /*", TensorType((2, 2), 0, 7), UNIT)
    for name in HOSTILE:
        at = builder.add(Add((1, 1)), (at, at), UNIT, name)
    builder.output("*/", at)
    builder.output("while", at)
    graph = builder.finish()
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host"))
    source = next((tmp_path / "model").glob("*.c")).read_text()
    assert source.isascii()
    assert "#error" not in [line.strip()[:6] for line in source.splitlines()]


def test_unit_is_not_read_by_the_generated_code(tmp_path: Path) -> None:
    graph = random_graph(1)
    relabelled = Graph(
        graph.name,
        tuple(type(one)(one.name, one.type, Dyadic(7)) for one in graph.inputs),
        graph.nodes,
        tuple(Output(one.name, one.tensor) for one in graph.outputs),
    )
    board = load_board("rpi-pico")
    first, second = (C.emit(one, board, COptions()).files for one in (graph, relabelled))
    name = next(name for name in first if name.startswith("model/") and name.endswith(".c"))

    def body(content: bytes) -> list[bytes]:
        return content.splitlines()[2:]

    assert body(first[name]) == body(second[name])


def test_clamp_tables_that_need_32_unsigned_bits_compare_as_signed(tmp_path: Path, need_tool: NeedTool) -> None:
    """A uint32_t table made `v < lo[m]` an unsigned comparison: a negative value clamped to the top."""
    need_tool("gcc")
    builder = GraphBuilder("clamps")
    at = builder.input("x", TensorType((2,), -4, 3), UNIT)
    none, stage = frozen_array(0), Stage(frozen_array(0), Rounding.FLOOR)
    op = Requant(
        frozen_array(10), frozen_array(1), (stage,), none, frozen_array(-200_000), frozen_array([70_000, 80_000])
    )
    builder.output("y", builder.add(op, (at,), UNIT, "clamp"))
    low = Requant(frozen_array(20), frozen_array(1), (stage,), none, frozen_array([1, 70_000]), frozen_array(1 << 33))
    builder.output("z", builder.add(low, (at,), UNIT, "clamp"))
    graph = builder.finish()
    inputs = {"x": np.array([[-1, -1], [3, 3], [-4, 0]])}
    run = run_c(graph, inputs, tmp_path, "host-sanitized")
    assert run.outputs["y"].tolist() == [[-1024, -1024], [3072, 3072], [-4096, 0]]
    assert_exact(graph, inputs, run)
