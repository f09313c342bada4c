"""The cost formulas: exact counts on small layers, and the right direction for every option."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.backends.hls4ml.cost import LUT_PER_ADDER_BIT, signed_digits
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.frontends.qkeras import load_qkeras
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.resource import Resource, SourceKind, Unit
from edgeflow.semantics.builder import GraphBuilder
from tests.backends.hls4ml.helpers import BOARD, HLS

NAMES = ("LUT", "FF", "DSP", "BRAM", "latency", "initiation interval")
DEFAULT = Hls4mlOptions()


@pytest.fixture
def digits(data: Path) -> Graph:
    return load_qkeras(data / "digits" / "student.keras")


def totals(graph: Graph, options: Hls4mlOptions = DEFAULT) -> dict[str, Resource]:
    return {one.name: one for one in HLS.estimate(graph, BOARD, options) if one.layer is None}


def dense(weight: list[list[int]], bits: int = 6) -> Graph:
    builder = GraphBuilder("dense")
    x = builder.input("x", TensorType((len(weight),), 0, (1 << bits) - 1), Dyadic(0))
    bias = frozen_array([0] * len(weight[0]))
    builder.output("y", builder.add(Dense(frozen_array(weight), bias), (x,), Dyadic(0), "dense"))
    return builder.finish()


@pytest.mark.parametrize(("value", "digits"), [(0, 0), (1, 1), (-1, 1), (3, 2), (7, 2), (-7, 2), (11, 3), (64, 1)])
def test_signed_digits_of_small_numbers(value: int, digits: int) -> None:
    assert signed_digits(np.asarray([value])).tolist() == [digits]


@given(st.integers(0, 1 << 20), st.integers(0, 20))
def test_shifts_and_signs_keep_the_digits(value: int, shift: int) -> None:
    one = signed_digits(np.asarray([value, -value, value << shift]))
    assert one[0] == one[1] == one[2] <= (value.bit_length() + 2) // 2


def test_every_figure_is_an_estimate_with_its_band(digits: Graph) -> None:
    made = totals(digits)
    assert tuple(made) == NAMES
    for name, one in made.items():
        assert one.source.kind is SourceKind.ESTIMATED
        assert one.source.band is not None
        assert one.source.detail
        assert one.unit is (Unit.SECONDS if name == "latency" else Unit.COUNT)


def test_every_layer_has_its_part(digits: Graph) -> None:
    parts = [one for one in HLS.estimate(digits, BOARD, DEFAULT) if one.layer]
    assert {one.layer for one in parts} == {"conv1", "pool1", "conv2", "pool2", "dense", "logits"}
    for name in ("LUT", "FF", "DSP", "BRAM"):
        assert sum(one.value for one in parts if one.name == name) == pytest.approx(totals(digits)[name].value, abs=8)


def test_powers_of_two_and_zeros_are_free_adders_are_not() -> None:
    free, adder = dense([[4], [0], [0]]), dense([[4], [1], [0]])
    assert totals(free)["LUT"].value == pytest.approx(7, abs=8), "a FIFO of one vector at most"
    width = (6 + 3 + 9) / 2
    grown = totals(adder)["LUT"].value - totals(free)["LUT"].value
    assert grown == pytest.approx(width * LUT_PER_ADDER_BIT, abs=2)
    assert totals(adder)["DSP"].value == 0


def test_wide_products_take_dsp_blocks() -> None:
    weight = [[1023, -1000], [0, 777]]
    assert totals(dense(weight, bits=12))["DSP"].value == 3
    assert totals(dense(weight, bits=6))["DSP"].value == 0
    assert totals(dense(weight, bits=12), replace(DEFAULT, reuse_factor=3))["DSP"].value == 1


def test_sharing_multipliers_costs_time(digits: Graph) -> None:
    one, many = totals(digits), totals(digits, replace(DEFAULT, reuse_factor=16))
    assert many["initiation interval"].value >= 10 * one["initiation interval"].value
    assert many["latency"].value > one["latency"].value


def test_streams_need_fifos_and_parallel_layers_registers(digits: Graph) -> None:
    stream, parallel = totals(digits), totals(digits, replace(DEFAULT, io_type="io_parallel"))
    assert stream["BRAM"].value > parallel["BRAM"].value == 0
    assert parallel["FF"].value > 64 * 32 * 6, "a register for every element between two layers"


def test_the_interval_is_the_slowest_layers_positions(digits: Graph) -> None:
    """The first convolution reads 10 x 10 padded pixels, one a cycle."""
    assert totals(digits)["initiation interval"].value == 100


def test_stored_weights_are_in_block_ram(digits: Graph) -> None:
    stored = totals(digits, replace(DEFAULT, strategy="resource", reuse_factor=16))
    assert stored["BRAM"].value > totals(digits, replace(DEFAULT, reuse_factor=16))["BRAM"].value


def test_remedies_lower_what_they_name(digits: Graph) -> None:
    now = totals(digits, DEFAULT)
    found = HLS.remedies(digits, BOARD, DEFAULT)
    assert any(one.change == "halve the outputs of 'conv2'" and one.resource == "LUT" for one in found)
    assert any(one.change.startswith("--set reuse_factor=") for one in found)
    assert all(one.value < now[one.resource].value for one in found)
    assert all(one.retrain == one.change.startswith("halve") for one in found)
