"""Gathering is exact on this machine and under QEMU, at any address, within its instructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow.backends.c.dsp.gather import Gather, source
from tests.backends.c.dsp.bare import PATTERN, Call, on_host, under_qemu
from tests.conftest import NeedTool

WORDS = (1, 2, 5)
_BYTES = (False, True)
GATHERS = [
    *(Gather(positions, signed, step) for positions in (4, 2, 1) for signed in _BYTES for step in (4, 7, 255)),
    *(Gather(positions, signed, row=True) for positions in (4, 2, 1) for signed in _BYTES),
]
APART = 5
CASES = [(gather, words) for gather in GATHERS for words in WORDS]
UNTOUCHED = int.from_bytes(bytes([PATTERN]) * 4, "little", signed=True)


def function(gather: Gather) -> str:
    return f"{gather.stem}_by_{gather.step}_{'signed' if gather.signed else 'unsigned'}"


def starts(gather: Gather) -> list[int]:
    """Where the positions' bytes start: at addresses of every kind, not in order but in a row."""
    if gather.row:
        return [3 + APART * position for position in range(gather.positions)]
    return [11, 3, 6, 0][: gather.positions]


def data(seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, 1100, dtype=np.uint8)


def call(gather: Gather, words: int, seed: int) -> Call:
    pointers = ", ".join(f"(const uint8_t *)x + {start}" for start in starts(gather))
    statements = [f"const void *const from[] = {{{pointers}}};", f"{function(gather)}((uint32_t *)y, from, {words}u);"]
    if gather.row:
        statements = [f"{function(gather)}((uint32_t *)y, (const uint8_t *)x + 3, {words}u, {APART}u);"]
    return Call(
        function(gather), {"x": data(seed).view(np.uint32)}, statements, "int32_t", gather.positions * 2 * words
    )


def expected(gather: Gather, words: int, seed: int) -> npt.NDArray[np.int64]:
    """All words, then the spare element that nothing writes."""
    content = data(seed)
    found: list[int] = []
    for k in range(words):
        for first in (0, 1):
            for start in starts(gather):
                at = start + gather.step * k + first
                low, high = (int(content[at + i].astype(np.int8) if gather.signed else content[at + i]) for i in (0, 2))
                found.append((low & 0xFFFF) | (high & 0xFFFF) << 16)
    return np.append(np.array(found, np.uint32).view(np.int32), UNTOUCHED).astype(np.int64)


def test_the_twin_is_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    calls = [call(*case, seed) for seed, case in enumerate(CASES)]
    outcomes = on_host([source(function(one), one) for one in GATHERS], calls, tmp_path)
    for seed, (case, outcome) in enumerate(zip(CASES, outcomes, strict=True)):
        np.testing.assert_array_equal(outcome.y, expected(*case, seed), err_msg=repr(case))


def test_the_assembly_is_exact_and_takes_four_instructions_a_word(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    calls = [call(*case, seed) for seed, case in enumerate(CASES)]
    outcomes = under_qemu([source(function(one), one) for one in GATHERS], calls, tmp_path)
    for seed, (case, outcome) in enumerate(zip(CASES, outcomes, strict=True)):
        gather, words = case
        np.testing.assert_array_equal(outcome.y, expected(*case, seed), err_msg=repr(case))
        loop = {4: 15, 2: 9, 1: 6}[gather.positions] * words
        assert loop < outcome.instructions < loop + 24, case


@pytest.mark.parametrize(("positions", "step"), [(3, 4), (4, 0), (2, 256)])
def test_gathering_that_cannot_be_is_refused(positions: int, step: int) -> None:
    with pytest.raises(ValueError, match=rf"no gathering has {positions} positions, a step of {step} bytes"):
        Gather(positions, False, step)
