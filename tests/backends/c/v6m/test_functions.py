"""The functions alone, under interrupts that spoil the stack below them: results, and registers that must be kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.v6m import depthwise, listing, tile, vector
from edgeflow.backends.c.v6m.depthwise import Depthwise, Row
from edgeflow.backends.c.v6m.refine import Below, Levels
from edgeflow.backends.c.v6m.tile import PRODUCT, Tile
from edgeflow.backends.c.v6m.vector import Vector
from tests.backends.c.dsp.bare import Call, on_host, under_qemu
from tests.conftest import NeedTool

LEVELS = Levels(200, 128, Below(90))
ALIKE = Levels(200, 128, Below(90), alike=True)
SOURCES = {
    "tile": tile.source("product", "level", Tile(4, LEVELS, 8, 2)),
    "small tile": tile.source("product", "level", Tile(2, LEVELS, 4, 4)),
    "vector": vector.source("product", "level", Vector(LEVELS, True, 4)),
    "depthwise": depthwise.source("product", "level", Depthwise(3, 3, 5, False, LEVELS)),
    "depthwise row": depthwise.source("product", "level", Depthwise(3, 3, 5, False, LEVELS, Row(5, 1, 1, 1))),
    "tile, outputs alike": tile.source("product", "level", Tile(4, ALIKE, 8, 2)),
    "vector, outputs alike": vector.source("product", "level", Vector(ALIKE, True, 4)),
    "depthwise, outputs alike": depthwise.source("product", "level", Depthwise(3, 3, 5, False, ALIKE)),
}
STEPS = {"vector": 3, "vector, outputs alike": 3}
"""The last argument, where it is not the number of outputs."""
ROWS = ["const uint8_t *const rows[3] = {0, (const uint8_t *)x, (const uint8_t *)x + 50};"]


@pytest.mark.parametrize("name", SOURCES)
def test_interrupts_and_callers_do_not_notice(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    rng = np.random.default_rng(1)
    arrays = {key: rng.integers(0, 1 << 32, 400, dtype=np.uint32) for key in ("x", "w")}
    rows = [[40_000 * n, 3 << 20, 5 << 20, 700 << 16 | 8 << 8 | 12, 77] for n in range(-4, 6)]
    words = (
        [*rows[0][1:], *(row[0] for row in rows)] if name.endswith("alike") else [one for row in rows for one in row]
    )
    arrays["c"] = (np.array(words) % (1 << 32)).astype(np.uint32)
    statements = [
        "const v6m_product_t p = {w, c, 10u, 64u};",
        *(ROWS if name == "depthwise row" else ()),
        f"product({'rows' if name == 'depthwise row' else '(const void *)x'}, &p, y, {STEPS.get(name, 10)}u);",
    ]
    call = [Call(name, arrays, statements, "uint8_t", 50)]
    functions = [PRODUCT, listing.finisher("level", LEVELS), SOURCES[name]]
    (host,), (target,) = on_host(functions, call, tmp_path), under_qemu(functions, call, tmp_path)
    np.testing.assert_array_equal(host.y, target.y)
    assert len(set(host.y.tolist())) > 2
