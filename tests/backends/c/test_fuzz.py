"""What `make fuzz` runs: the networks are the same for the same seed, and exact on every core."""

from __future__ import annotations

import pytest

from edgeflow.board import Core
from tests.conftest import NeedTool
from tests.fuzz import fault, fuzzed_board
from tests.nets import random_network


def test_a_seed_gives_the_same_network_again() -> None:
    first, second = random_network(5), random_network(5)
    assert [(one.name, one.type) for one in first.nodes] == [(one.name, one.type) for one in second.nodes]


@pytest.mark.parametrize("seed", [0, 1])
def test_networks_are_exact_on_this_machine(seed: int, need_tool: NeedTool) -> None:
    need_tool("gcc")
    assert fault(fuzzed_board("cortex-m4f"), seed, "balanced", "host-sanitized") == ""


@pytest.mark.slow
@pytest.mark.parametrize("aim", ["size", "speed"])
@pytest.mark.parametrize("seed", range(8, 14))
@pytest.mark.parametrize("core", Core)
def test_networks_are_exact_on_every_core(core: Core, seed: int, aim: str, need_tool: NeedTool) -> None:
    need_tool(f"{core.architecture.value}-gcc")
    assert fault(fuzzed_board(core.value), seed, aim, "qemu") == ""
