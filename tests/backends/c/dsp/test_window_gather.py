"""Windows over few channels are gathered exactly on this machine and under QEMU, from any address."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow.backends.c.dsp.tile_weights import NOTHING
from edgeflow.backends.c.dsp.window_gather import POSITIONS, WindowGather, code_bytes, order, source
from tests.backends.c.dsp.bare import PATTERN, Call, on_host, under_qemu
from tests.conftest import NeedTool

GATHERS = {
    "image": WindowGather(3, 9, 6, signed=False),
    "image_signed": WindowGather(3, 9, 3, signed=True),
    "one_channel": WindowGather(3, 3, 1, signed=False),
    "rows_apart": WindowGather(2, 7, 14, signed=True, step=2),
    "halves": WindowGather(4, 6, 2, signed=False),
    "halves_signed": WindowGather(3, 6, 4, signed=True),
    "one_row": WindowGather(1, 11, 11, signed=True),
    "single_bytes": WindowGather(5, 1, 2, signed=True),
    "words": WindowGather(2, 8, 4, signed=False),
    "far": WindowGather(1, 5, 1360, signed=False),
}
START = 3
UNTOUCHED = int.from_bytes(bytes([PATTERN]) * 4, "little", signed=True)


def pitch(gather: WindowGather) -> int:
    """Bytes from one row of the call to the next, so that rows start at addresses of every kind."""
    return START + 3 * gather.apart + gather.run + 1


def content(gather: WindowGather, seed: int) -> npt.NDArray[np.uint8]:
    size = pitch(gather) * ((gather.rows - 1) * gather.step + 1)
    return np.random.default_rng(seed).integers(0, 256, size + -size % 4, dtype=np.uint8)


def call(name: str, seed: int) -> Call:
    gather = GATHERS[name]
    rows = range((gather.rows - 1) * gather.step + 1)
    pointers = ", ".join(f"(const uint8_t *)x + {pitch(gather) * row}" for row in rows)
    statements = [f"const void *const rows[] = {{{pointers}}};", f"{name}((uint32_t *)y, rows, {START}u);"]
    words = POSITIONS * len(order(gather)) // 2
    return Call(name, {"x": content(gather, seed).view(np.uint32)}, statements, "int32_t", words)


def check(name: str, seed: int, y: npt.NDArray[np.int64]) -> None:
    """Every lane that has a value holds it, and nothing behind is written."""
    gather = GATHERS[name]
    lanes = y[:-1].astype(np.int32).view(np.int16 if gather.signed else np.uint16)
    found = lanes.reshape(-1, POSITIONS, 2).transpose(1, 0, 2).reshape(POSITIONS, -1)
    values = content(gather, seed).view(np.int8 if gather.signed else np.uint8)
    for lane, value in enumerate(order(gather)):
        if value != NOTHING:
            row, byte = divmod(int(value), gather.run)
            at = pitch(gather) * row * gather.step + START + byte
            np.testing.assert_array_equal(found[:, lane], values[at + gather.apart * np.arange(POSITIONS)], name)
    assert y[-1] == UNTOUCHED


def test_the_twin_is_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    calls = [call(name, seed) for seed, name in enumerate(GATHERS)]
    outcomes = on_host([source(*one) for one in GATHERS.items()], calls, tmp_path)
    for seed, (name, outcome) in enumerate(zip(GATHERS, outcomes, strict=True)):
        check(name, seed, outcome.y)


def test_the_assembly_is_exact_and_has_no_loops(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    calls = [call(name, seed) for seed, name in enumerate(GATHERS)]
    outcomes = under_qemu([source(*one) for one in GATHERS.items()], calls, tmp_path)
    for seed, (name, outcome) in enumerate(zip(GATHERS, outcomes, strict=True)):
        check(name, seed, outcome.y)
        assert outcome.instructions < code_bytes(GATHERS[name]) // 4 + 30, name


@pytest.mark.parametrize("name", GATHERS)
def test_every_value_has_a_lane_and_hardly_any_lane_is_empty(name: str) -> None:
    lanes = order(GATHERS[name])
    assert sorted(lanes[lanes != NOTHING]) == list(range(GATHERS[name].values))
    assert len(lanes) % 2 == 0
    assert np.count_nonzero(lanes == NOTHING) <= 3


def test_windows_that_no_load_reaches_are_refused() -> None:
    assert not WindowGather.reaches(9, 1363)
    with pytest.raises(ValueError, match="no gathering has windows of 3 rows of 9 bytes, 1363 apart"):
        WindowGather(3, 9, 1363, signed=False)
