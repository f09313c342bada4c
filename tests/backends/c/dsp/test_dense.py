"""Fully connected layers on the DSP instructions compute the graph, whatever their sizes: none is left to plain C."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.dense import DspDenseKernel
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.simulate import simulate
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.c.dsp.test_layers import requant
from tests.backends.c.test_exact import assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import UNIT, extreme_inputs


@dataclass(frozen=True)
class Case:
    """A fully connected layer over the last axis of `shape`, on bytes from `lo` on, with weights up to `reach`.

    A part of them, `zeros`, is pruned in blocks of so many values and outputs.
    """

    shape: tuple[int, ...]
    outputs: int
    lo: int = 0
    form: str = "relu"
    reach: int = 127
    zeros: float = 0.0
    block: tuple[int, int] = (1, 1)


SMALL = {
    "one value": Case((1,), 1),
    "one output": Case((24,), 1, form="zero point"),
    "two outputs": Case((24,), 2, -128),
    "five outputs": Case((32,), 5, form="zero point"),
    "seven outputs of odd length": Case((37,), 7, -128, "zero point"),
    "twelve": Case((64,), 12),
    "thirteen, half to even": Case((16,), 13, form="half even"),
    "power of two": Case((30,), 8, form="power of two"),
    "rows": Case((3, 16), 6),
    "rows of odd length": Case((2, 3, 11), 9, -128),
}
LARGE = {
    "spread": Case((64,), 64),
    "spread, odd": Case((70,), 61, -128, "zero point"),
    "spread, rows": Case((2, 68), 64, form="zero point"),
    "small beside spread": Case((8,), 6),
    "too large for the room": Case((1024,), 24, reach=20),
}
WIDE = {
    "sums beyond 24 bits": Case((1100,), 14, form="zero point"),
    "sums beyond 24 bits, signed": Case((1203,), 3, -128),
    "one sum beyond 24 bits": Case((2048,), 1, form="power of two"),
    "narrow requantization": Case((900,), 12, form="half even"),
}
SPARSE = {
    "neighbours": Case((160,), 40, zeros=0.75, block=(2, 2)),
    "neighbours, odd outputs": Case((3, 64), 31, -128, "zero point", zeros=0.8, block=(2, 2)),
    "unstructured": Case((403,), 17, zeros=0.78),
    "unstructured, one output": Case((2000,), 1, -128, "zero point", zeros=0.9),
    "few in a long vector": Case((2, 1100), 5, form="zero point", zeros=0.99),
    "half to even": Case((640,), 12, form="half even", zeros=0.8),
    "whole columns": Case((256,), 16, zeros=0.7, block=(16, 16)),
}
SUMS = {
    "logits": Case((64,), 10, form="sums"),
    "logits of 16 bits, rows": Case((3, 33), 16, -128, "sums", reach=7),
    "unsigned logits of 16 bits": Case((52,), 11, form="sums", reach=2),
    "one sum": Case((640,), 1, -128, "sums"),
    "spread sums": Case((2, 70), 61, -128, "sums"),
    "sums beyond 24 bits": Case((1100,), 5, form="sums"),
    "few weights": Case((400,), 17, form="sums", zeros=0.9),
    "blocks of weights": Case((3, 64), 31, form="sums", zeros=0.8, block=(2, 2)),
}
GROUPS = {"small": SMALL, "large": LARGE, "wide": WIDE, "sparse": SPARSE, "sums": SUMS}


def left(case: Case, rng: np.random.Generator) -> IntArray:
    """1 where a weight is not pruned."""
    shape = (-(-case.shape[-1] // case.block[0]), -(-case.outputs // case.block[1]))
    whole = np.kron((rng.random(shape) >= case.zeros).astype(np.int64), np.ones(case.block, dtype=np.int64))
    return whole[: case.shape[-1], : case.outputs]


def graph_of(cases: dict[str, Case], seed: int) -> Graph:
    """A graph with an input and an output for each case."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder("net")
    found: list[str] = []
    for number, case in enumerate(cases.values()):
        values = case.shape[-1]
        at = builder.input(f"x{number}", TensorType(case.shape, case.lo, case.lo + 255), UNIT)
        weight = rng.integers(-case.reach, case.reach + 1, (values, case.outputs)) * left(case, rng)
        bias = frozen_array(rng.integers(-3000, 3000, case.outputs))
        at = builder.add(Dense(frozen_array(weight), bias), (at,), UNIT, f"dense{number}")
        if case.form == "sums":
            found.append(at)
            continue
        spread = 127 * case.reach * max(values // 3, 4)
        found.append(builder.add(requant(case.form, case.outputs, spread, rng), (at,), UNIT, f"dense{number}"))
    for number, at in enumerate(found):
        builder.output(f"y{number}", at)
    return builder.finish()


@pytest.mark.parametrize("group", GROUPS)
def test_layers_are_exact_and_clean_under_the_sanitizers(group: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    graph = graph_of(GROUPS[group], 1)
    emitted = emit_model(graph, core=Core.CORTEX_M4F)
    assert {type(one) for one in emitted.kernels} == {DspDenseKernel}
    assert simulate(emitted.plan.schedule, emitted.plan.placement.offsets) == ()
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized"))


@pytest.mark.parametrize("group", GROUPS)
def test_layers_are_exact_in_assembly(group: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph = graph_of(GROUPS[group], 3)
    inputs = extreme_inputs(graph, 4)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "qemu"))


def kernels(*names: str, cases: dict[str, Case] = LARGE) -> list[DspDenseKernel]:
    emitted = emit_model(graph_of({name: cases[name] for name in names}, 1), core=Core.CORTEX_M4F)
    return [one for one in emitted.kernels if isinstance(one, DspDenseKernel)]


def test_a_large_layer_alone_reads_its_bytes_and_small_ones_do() -> None:
    assert [one.spread for one in kernels("too large for the room")] == [0]
    assert [one.spread for one in kernels("twelve", cases=SMALL)] == [0]
    assert [one.scratch for one in kernels("twelve", cases=SMALL)] == [0]


def test_layers_beside_one_that_needs_more_room_spread_their_inputs() -> None:
    large, small, spread = kernels("too large for the room", "small beside spread", "spread")
    assert (large.spread, small.spread, spread.spread) == (0, 4, 32)


def test_bytes_that_are_no_whole_units_are_copied() -> None:
    (one,) = kernels("seven outputs of odd length", cases=SMALL)
    assert (one.copied, one.scratch) == (True, 10)


def test_a_result_may_lie_over_an_input_that_was_spread() -> None:
    rng = np.random.default_rng(5)
    builder = GraphBuilder("net")
    at = builder.input("x", TensorType((128,), 0, 255), UNIT)
    for outputs in (128, 512):
        weight = frozen_array(rng.integers(-20, 21, (128, outputs)))
        at = builder.add(Dense(weight, frozen_array([0] * outputs)), (at,), UNIT, "dense")
        at = builder.add(requant("relu", outputs, 127 * 900, rng), (at,), UNIT, "dense")
    builder.output("y", at)
    emitted = emit_model(builder.finish(), core=Core.CORTEX_M4F)
    assert emitted.plan.size == 512 + 2 * 128


def test_sums_are_stored_in_the_bytes_that_they_need() -> None:
    assert [one.y.ctype.size for one in kernels(*SUMS, cases=SUMS)] == [4, 2, 2, 4, 4, 4, 4, 4]


def test_few_sums_do_not_repay_functions_of_their_own() -> None:
    assert kernels("few", cases={"few": Case((50,), 10, form="sums")}) == []


def form(one: DspDenseKernel) -> str:
    """The stem of the name of the function that does most."""
    return one.shared[-1].name.rpartition("_")[0]


def test_the_pattern_of_the_zeros_decides_the_form() -> None:
    assert [form(one) for one in kernels(*SPARSE, cases=SPARSE)] == [
        "sparse_blocks",
        "sparse_blocks",
        "sparse_scattered",
        "sparse_scattered",
        "sparse_scattered",
        "sparse_scattered",
        "sparse_blocks",
    ]


def test_a_layer_of_which_half_is_left_stays_dense() -> None:
    cases = {"half": Case((256,), 32, zeros=0.5), "small": Case((16,), 16, zeros=0.9)}
    assert [one.work for one in kernels(*cases, cases=cases)] == [None, None]
