"""Where the C backend's code spends its instructions and its flash: function by function and table by table.

`make bench-layers` shows the two int8 models of MLPerf Tiny on a Cortex-M4F and writes build/bench/layers.json;
`.venv/bin/python benchmarks/layers.py MODEL --core CORE` shows other model files, on another core. Every count is
exact, taken from QEMU's execution log; cycles are modelled, for a Cortex-M4 without wait states.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mcu import MODELS
from measured import Measured, board_with, measure, random_inputs

from edgeflow.artifacts import write_json
from edgeflow.board import Core
from edgeflow.pipeline import open_graph
from edgeflow.toolchain.elf import SymbolKind

_MODELED = (Core.CORTEX_M4, Core.CORTEX_M4F)


def show(found: Measured, core: Core) -> list[dict[str, Any]]:
    """Prints the functions, then the tables. Returns the functions' rows."""
    assert found.spent is not None
    print(f"{'function':32} {'bytes':>6} {'calls':>7} {'instructions':>12} {'':>6} {'cycles':>12}  most of them")
    total = sum(one.instructions for one in found.spent)
    rows: list[dict[str, Any]] = []
    for one in found.spent:
        cycles = one.cycles if core in _MODELED else None
        most = sorted(one.kinds.items(), key=lambda item: -item[1])[:4]
        kinds = ", ".join(f"{kind.value} {count / one.instructions:.0%}" for kind, count in most)
        shown = "-" if cycles is None else f"{cycles:,}"
        print(
            f"{one.name:32} {one.size:6,} {one.calls:7,} {one.instructions:12,} {one.instructions / total:6.1%} "
            f"{shown:>12}  {kinds}"
        )
        counts = {kind.value: count for kind, count in one.kinds.items()}
        rows.append(
            {
                "function": one.name,
                "bytes": one.size,
                "calls": one.calls,
                "insns": one.instructions,
                "cycles_model": cycles,
                "kinds": counts,
            }
        )
    print(f"{'in all':32} {found.code:6,} {'':7} {total:12,}\n\n{'table':32} {'bytes':>8}")
    for table in found.sizes.symbols:
        if table.kind is SymbolKind.OBJECT and not table.writable:
            print(f"{table.name:32} {table.size:8,}")
    print(f"{'in all':32} {found.tables:8,}\n")
    return rows


def main() -> None:
    """Prints the profiles and writes build/bench/layers.json."""
    models = Path(__file__).resolve().parent.parent / "tests" / "data" / "models"
    parser = argparse.ArgumentParser(description="function by function: instructions, cycles and flash")
    parser.add_argument("model", nargs="*", type=Path, default=[models / f"{name}.tflite" for name in MODELS])
    parser.add_argument("--core", default=Core.CORTEX_M4F.value, choices=[core.value for core in Core])
    given = parser.parse_args()
    core, result = Core(given.core), dict[str, object]()
    for path in given.model:
        graph = open_graph(path)
        found = measure(graph, board_with(core), random_inputs(graph, 2), traced=True)
        print(f"{graph.name} on {core.title}: outputs {'as' if found.equal else 'NOT as'} the interpreter's\n")
        result[graph.name] = show(found, core)
    out = Path("build/bench/layers.json")
    write_json(out, {"what": f"functions of the C backend's code under QEMU on {core.title}", "models": result})
    print(out)


if __name__ == "__main__":
    main()
