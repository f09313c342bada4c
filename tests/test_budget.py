"""The verdict: each line against the board or the user's limit, and what would make it fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeflow.backends.c.backend import CBackend, COptions
from edgeflow.board import McuBoard, Region, RegionKind, load_board
from edgeflow.budget import Limits, capacities, early_verdict, judge
from edgeflow.ir.types import TensorType, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.resource import Resource, Source, SourceKind, Unit
from edgeflow.semantics.builder import GraphBuilder
from edgeflow.units import Bytes, Seconds
from tests.graphs import UNIT

MEASURED = Source(SourceKind.MEASURED, "here")
ESTIMATED = Source(SourceKind.ESTIMATED, "", 0.1)


@pytest.fixture
def tiny(data: Path) -> McuBoard:
    board = load_board(data / "boards" / "tiny-2k.toml")
    assert isinstance(board, McuBoard)
    return board


def resources(ram: float, source: Source = MEASURED) -> tuple[Resource, ...]:
    return (
        Resource("flash", 1000, Unit.BYTES, source),
        Resource("RAM", ram, Unit.BYTES, source),
        Resource("latency", 0.01, Unit.SECONDS, source),
    )


@pytest.mark.parametrize(("ram", "fits"), [(2048, True), (2049, False)])
def test_the_board_is_the_limit_to_the_byte(tiny: McuBoard, ram: int, fits: bool) -> None:
    verdict = judge(tiny, resources(ram), Limits())
    assert verdict.fits is fits
    line = verdict.lines[1]
    assert (line.name, line.available, line.fits) == ("RAM", 2048, fits)
    assert line.percent == 100 * ram / 2048


def test_the_users_limit_counts_when_it_is_tighter(tiny: McuBoard) -> None:
    verdict = judge(tiny, resources(1500), Limits(ram=Bytes(1400), flash=Bytes(1 << 30), latency=Seconds(0.02)))
    flash, ram, latency = verdict.lines
    assert (ram.available, ram.available_source, ram.fits) == (1400, "your budget", False)
    assert flash.available == tiny.flash
    assert (latency.available, latency.fits) == (0.02, True)


def test_latency_without_a_limit_always_fits(tiny: McuBoard) -> None:
    assert judge(tiny, resources(1), Limits()).lines[2].percent is None


@pytest.mark.parametrize(("ram", "certain"), [(1800, True), (1900, False), (2200, False), (2300, True)])
def test_an_estimate_near_the_limit_is_not_certain(tiny: McuBoard, ram: int, certain: bool) -> None:
    assert judge(tiny, resources(ram, ESTIMATED), Limits()).certain is certain
    assert judge(tiny, resources(ram), Limits()).certain is True


def test_measured_ram_is_static_data_and_painted_stack(tiny: McuBoard) -> None:
    parts = [
        Resource("flash", 1000, Unit.BYTES, MEASURED),
        Resource("static RAM", 1900, Unit.BYTES, MEASURED),
        Resource("stack", 160, Unit.BYTES, MEASURED),
    ]
    line = judge(tiny, parts, Limits()).lines[1]
    assert (line.used, line.fits) == (2060, False)
    told = "measured: 1,900 B static in the linked image + 160 B stack (160 B of it used, painted under QEMU)"
    assert str(line.source) == told
    parts.append(Resource("stack reserve", 512, Unit.BYTES, MEASURED))
    line = judge(tiny, parts, Limits()).lines[1]
    assert line.used == 2412
    assert "+ 512 B stack (160 B of it used, painted under QEMU)" in str(line.source)


def test_only_the_memory_that_the_linker_script_uses_counts(tiny: McuBoard) -> None:
    more = replace(tiny, memories=(*tiny.memories, Region("ccm", RegionKind.RAM, 0x30000000, Bytes(1 << 16))))
    assert more.ram == tiny.ram + (1 << 16)
    assert [one.amount for one in capacities(more)] == [one.amount for one in capacities(tiny)]


def test_a_no_names_the_layer_what_would_help_and_the_next_board(tiny: McuBoard) -> None:
    builder = GraphBuilder("wide")
    at = builder.input("x", TensorType((8, 64, 1), 0, 1), UNIT)
    for name, width in (("small", 4), ("greedy", 40), ("end", 2)):
        channels = builder.type(at).shape[-1]
        weight = frozen_array([[[[1] * width] * channels]])
        op = Conv(weight, frozen_array([0] * width), (1, 1), ((0, 0), (0, 0)), (1, 1))
        at = builder.add(op, (at,), UNIT, name)
    builder.output("y", at)
    verdict = early_verdict(CBackend(), builder.finish(), tiny, COptions(), Limits())
    assert not verdict.fits
    assert verdict.costly[0].layer in ("greedy", "end")
    assert verdict.remedies[0].change == "halve the channels of 'greedy'"
    assert verdict.remedies[0].value < verdict.lines[1].used
    assert verdict.larger_board == "stm32f103c8"
