"""Weights of few bits in plain C: every field comes out of its word again, and size alone asks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.estimate import FLASH_BAND, WORK_BAND, estimate
from edgeflow.backends.c.fields import Fields, bits_of
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.packed import PackedDenseKernel
from edgeflow.backends.c.windows import WindowKernel
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.ir.graph import Graph
from tests.backends.c.dsp.test_packed_layers import network
from tests.backends.c.test_exact import C, assert_exact, run_c
from tests.conftest import NeedTool
from tests.graphs import extreme_inputs


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_every_weight_comes_out_of_its_field_again(bits: int, run: int, seed: int) -> None:
    half = 1 << (bits - 1)
    weights = np.random.default_rng(seed).integers(-half, half, (3, run))
    fields = Fields(bits, run)
    words = fields.pack(weights)
    assert len(words) == 3 * fields.words
    assert ((words >= 0) & (words < 1 << 32)).all()
    shifted = words.reshape(3, -1, 1) << bits * np.arange(fields.each) & 0xFFFFFFFF
    signed = (shifted >> fields.down) - (shifted >> 31 << bits)
    np.testing.assert_array_equal(signed.reshape(3, -1)[:, :run], weights)


def test_a_run_takes_whole_words_then_the_rest_of_one() -> None:
    assert Fields(6, 7).statements("x", "uint8_t", "int32_t") == [
        "for (int32_t word = 0; word < 1; word++) {",
        "    const uint8_t *const u = x + 5 * word;",
        "    uint32_t codes = w[word];",
        "    acc += (int32_t)u[0] * ((int32_t)codes >> 26);",
        *(
            line
            for place in range(1, 5)
            for line in ("    codes <<= 6;", f"    acc += (int32_t)u[{place}] * ((int32_t)codes >> 26);")
        ),
        "}",
        "{",
        "    const uint8_t *const u = x + 5;",
        "    uint32_t codes = w[1];",
        "    acc += (int32_t)u[0] * ((int32_t)codes >> 26);",
        "    codes <<= 6;",
        "    acc += (int32_t)u[1] * ((int32_t)codes >> 26);",
        "}",
    ]


@pytest.mark.parametrize(("weights", "bits"), [((0,), 1), ((-1, 0), 1), ((1,), 2), ((-8, 7), 4), ((8,), 5)])
def test_the_bits_of_signed_fields(weights: tuple[int, ...], bits: int) -> None:
    assert bits_of(np.array(weights)) == bits


def _packed(graph: Graph, core: Core, optimize: Optimize) -> list[bool]:
    kernels = emit_model(graph, core=core, optimize=optimize).kernels
    return [isinstance(one, WindowKernel | PackedDenseKernel) and one.fields is not None for one in kernels]


def test_only_for_size_and_where_words_are_filled() -> None:
    graph = network(4, 1)
    for core in (Core.CORTEX_M0PLUS, Core.CORTEX_M3):
        assert _packed(graph, core, Optimize.SIZE) == [False, False, True, True], "a pad value and one channel stay"
        assert _packed(graph, core, Optimize.BALANCED) == [False] * 4
    assert _packed(network(4, 1, power=True), Core.CORTEX_M3, Optimize.SIZE) == [True, False, True, True]
    assert _packed(network(8, 1), Core.CORTEX_M3, Optimize.SIZE) == [False] * 4


@pytest.mark.parametrize(("bits", "power"), [(1, False), (2, True), (3, True), (4, True), (5, True), (6, False)])
def test_networks_are_exact_and_clean_under_the_sanitizers(
    bits: int, power: bool, tmp_path: Path, need_tool: NeedTool
) -> None:
    need_tool("gcc")
    graph = network(bits, bits, power=power)
    assert any(_packed(graph, Core.CORTEX_M0PLUS, Optimize.SIZE))
    inputs = extreme_inputs(graph, 2)
    assert_exact(graph, inputs, run_c(graph, inputs, tmp_path, "host-sanitized", "rpi-pico", "size"))


@pytest.mark.parametrize(("board", "bits"), [("rpi-pico", 4), ("stm32f103c8", 3)])
def test_networks_run_under_qemu_as_estimated(board: str, bits: int, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    graph, target = network(bits, 1, power=True), load_board(board)
    assert isinstance(target, McuBoard)
    inputs = extreme_inputs(graph, 4, 8)
    run = run_c(graph, inputs, tmp_path, "qemu", board, "size")
    assert_exact(graph, inputs, run)
    guess = {one.name: one.value for one in reversed(estimate(graph, target, 512, Optimize.SIZE)) if one.layer is None}
    counted = {one.name: one.value for one in run.resources}
    assert abs(guess["instructions"] / counted["instructions"] - 1) < WORK_BAND
    plain = {one.name: one.value for one in C.estimate(graph, target, C.Options()) if one.layer is None}
    assert guess["flash"] < (1 - FLASH_BAND) * plain["flash"]
