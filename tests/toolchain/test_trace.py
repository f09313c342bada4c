"""A trace counts every instruction of one call exactly, and the profile says in which function it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.board import Core
from edgeflow.errors import ToolFailed
from edgeflow.toolchain.profile import Kind, profile
from edgeflow.toolchain.trace import _Blocks, _first_call, trace_call
from tests.conftest import NeedTool
from tests.toolchain.bare import function, image

LOOP = """
    push {r4, lr}
    movs r3, #10
1:  ldr r0, [sp]
    ldr r2, [sp, #4]
    subs r3, r3, #1
    bne 1b
    bl leaf
    bl leaf
    pop {r4, pc}
"""
LEAF = function("leaf", "bx lr")
LOW_OVERHEAD = """
    push {r4, lr}
    movs r3, #100
    dls lr, r3
1:  nop
    nop
    le lr, 1b
    bl leaf
    pop {r4, pc}
"""
CORES = [Core.CORTEX_M0PLUS, Core.CORTEX_M4F, Core.CORTEX_M7, Core.CORTEX_M33, Core.CORTEX_M55]


@pytest.fixture(autouse=True)
def tools(need_tool: NeedTool) -> None:
    for name in ("arm-none-eabi-gcc", "arm-none-eabi-objdump", "qemu-system-arm"):
        need_tool(name)


@pytest.mark.parametrize("core", CORES)
def test_every_instruction_of_a_call_is_counted(core: Core, tmp_path: Path) -> None:
    built = image(tmp_path, core, function("infer", LOOP), LEAF)
    trace = trace_call(built, core.qemu_machine, tmp_path, "infer", seconds=60)
    assert trace.instructions == 2 + 10 * 4 + 2 + 2 + 1
    assert sorted(trace.executed.values()) == [1, 1, 1, 1, 1, 2, 10, 10, 10, 10]


def test_what_qemu_cannot_disassemble_is_counted_as_well(tmp_path: Path) -> None:
    built = image(tmp_path, Core.CORTEX_M55, function("infer", LOW_OVERHEAD), LEAF)
    trace = trace_call(built, "mps3-an547", tmp_path, "infer", seconds=60)
    assert trace.instructions == 3 + 3 * 100 + 1 + 1 + 1


def test_a_profile_names_functions_kinds_and_modelled_cycles(tmp_path: Path) -> None:
    built = image(tmp_path, Core.CORTEX_M4F, function("infer", LOOP), LEAF)
    whole, leaf = profile(built, trace_call(built, "mps2-an386", tmp_path, "infer", seconds=60))
    assert (whole.name, whole.calls, whole.instructions) == ("infer", 1, 45)
    assert whole.kinds == {Kind.MANY: 2, Kind.LOAD: 20, Kind.OTHER: 11, Kind.BRANCH: 12}
    push, move, loop, calls, pop = 3, 1, 10 * (2 + 1 + 1) + 9 * 3 + 1, 2 * 3, 3 + 2
    assert whole.cycles == push + move + loop + calls + pop
    assert (leaf.name, leaf.size, leaf.calls, leaf.instructions, leaf.cycles) == ("leaf", 2, 2, 2, 6)


def test_a_function_that_is_not_there_or_not_called_is_told(tmp_path: Path) -> None:
    built = image(tmp_path, Core.CORTEX_M3, function("infer", "bx lr"), LEAF)
    for name, told in {
        "none": "bare.elf: the image has no function none",
        "leaf": "bare.elf: the function leaf was not called, or did not return",
    }.items():
        with pytest.raises(ToolFailed) as caught:
            trace_call(built, "mps2-an385", tmp_path, name, seconds=60)
        assert str(caught.value) == told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"Stopped execution of TB chain before 0x7f00 [00000100] infer", "QEMU was interrupted: its log is not exact"),
        (b"Trace 0: 0x7f00 [0/00000100/0/0] infer", "QEMU's log is not as expected: 'Trace 0: 0x7f00 [0/00000100/"),
    ],
)
def test_a_log_that_cannot_be_trusted_is_refused(line: bytes, told: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        _first_call([line], 0x100, _Blocks([0x100]), {})
    assert str(caught.value).startswith(told)


def test_a_call_that_does_not_return_is_stopped(tmp_path: Path) -> None:
    built = image(tmp_path, Core.CORTEX_M3, function("infer", "1: b 1b"))
    with pytest.raises(ToolFailed, match="did not finish within 2 s and was stopped"):
        trace_call(built, "mps2-an385", tmp_path, "infer", seconds=2)
