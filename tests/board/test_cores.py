"""Every core is complete, and the compiler knows its flags."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from edgeflow.board import Core
from edgeflow.toolchain.qemu import MACHINES


def test_flags_select_the_core() -> None:
    assert Core.CORTEX_M0PLUS.gcc_flags == ("-mcpu=cortex-m0plus", "-mthumb")
    assert Core.CORTEX_M4.gcc_flags == ("-mcpu=cortex-m4", "-mthumb")
    assert Core.CORTEX_M4F.gcc_flags == ("-mcpu=cortex-m4", "-mthumb", "-mfpu=auto", "-mfloat-abi=softfp")
    assert Core.RV32IMAC.gcc_flags == ("-march=rv32imac", "-mabi=ilp32", "--specs=picolibc.specs")


def test_floating_point_registers_are_there_where_the_flags_ask_for_them() -> None:
    found = {core for core in Core if core.has_fpu}
    assert found == {Core.CORTEX_M4F, Core.CORTEX_M7, Core.CORTEX_M33, Core.CORTEX_M55}
    assert found == {core for core in Core if "-mfloat-abi=softfp" in core.gcc_flags}


def test_titles_are_the_makers() -> None:
    assert Core.CORTEX_M0PLUS.title == "Cortex-M0+"
    assert Core.CORTEX_M4F.title == "Cortex-M4F"


def test_only_armv6m_traps_unaligned_access() -> None:
    assert {core for core in Core if core.traps_unaligned} == {Core.CORTEX_M0, Core.CORTEX_M0PLUS}


@pytest.mark.parametrize("core", list(Core))
def test_the_compiler_takes_the_flags(core: Core, need_tool: Callable[[str], str]) -> None:
    command = [need_tool(f"{core.architecture.value}-gcc"), *core.gcc_flags, "-x", "c", "-S", "-o", "-", "-"]
    done = subprocess.run(command, input="int one(void) { return 1; }", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("core", list(Core))
def test_the_emulator_has_the_machine(core: Core, need_tool: Callable[[str], str]) -> None:
    command = [need_tool(MACHINES[core.qemu_machine].emulator.name), "-M", "help"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert core.qemu_machine in [line.split()[0] for line in listed.splitlines()]
