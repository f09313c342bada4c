"""Networks of the usual forms on Cortex-M4F: instructions a multiplication, and RAM beside what no plan can go below.

`make bench-networks` runs each under QEMU, compares its outputs with the interpreter's, prints a table and which goals
hold, and writes build/bench/networks.json. `.venv/bin/python benchmarks/networks.py NAME ...` measures some of them.
The arena holds inputs and outputs too; RAM is the arena, what surrounds it, and the stack. `bound` is what no placement
goes below in the order of calls that was chosen, `floor` what no order of calls does. Planning is timed alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from int8 import int8_networks
from measured import board_with, measure, random_inputs
from nets import student

from edgeflow.artifacts import write_json
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.plan import groups_of, plan_memory
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.report.inspect.inspection import macs

CORE = Core.CORTEX_M4F
MOST_OVER_BOUND = 1.10
MOST_SECONDS = 20.0
_WIDE = 128
"""Inputs and outputs of a fully connected layer that the goal of such layers speaks of."""


@dataclass(frozen=True)
class Row:
    """One network: bytes, instructions of one inference, seconds of this machine's processor."""

    model: str
    layers: int
    macs: int
    insns: float
    ram: float
    stack: float
    arena: int
    bound: int
    floor: int
    code: int
    tables: int
    planning_seconds: float
    most_per_mac: float
    bytes_equal: bool

    @property
    def per_mac(self) -> float:
        """Instructions a multiplication."""
        return self.insns / self.macs

    @property
    def over_bound(self) -> float:
        """The arena in units of its bound."""
        return self.arena / self.bound


GOALS: Mapping[str, Callable[[Row], bool]] = {
    "output bytes equal the interpreter's": lambda row: row.bytes_equal,
    "instructions a multiplication: at most 1.1, fully connected 1.0": lambda row: row.per_mac <= row.most_per_mac,
    f"arena at most {MOST_OVER_BOUND:.2f} of the plan's lower bound": lambda row: row.over_bound <= MOST_OVER_BOUND,
    f"planned within {MOST_SECONDS:.0f} s": lambda row: row.planning_seconds <= MOST_SECONDS,
}


def measured(graph: Graph) -> Row:
    """One network, built and run."""
    found = measure(graph, board_with(CORE), random_inputs(graph, 3))
    emitted = emit_model(graph, core=CORE)
    start = time.process_time()
    plan = plan_memory(emitted.plan.schedule.flow, groups_of(emitted.kernels))
    seconds = time.process_time() - start
    linear = [node for node in graph.nodes if isinstance(node.op, Conv | Dense)]
    return Row(
        graph.name,
        len(linear),
        sum(macs(node) for node in linear),
        found.instructions,
        found.ram,
        found.stack,
        plan.size,
        plan.lower_bound,
        plan.floor,
        found.code,
        found.tables,
        round(seconds, 2),
        1.0 if all(_is_wide(node.op) for node in linear) else 1.1,
        found.equal,
    )


def _is_wide(op: object) -> bool:
    return isinstance(op, Dense) and max(op.weight.shape) >= _WIDE


def show(row: Row) -> None:
    """One line."""
    print(
        f"{row.model:16} {row.macs:11,} {row.insns:12,.0f} {row.per_mac:6.2f} {row.ram:8,.0f} {row.stack:6,.0f} "
        f"{row.arena:8,} {row.bound:8,} {row.over_bound:6.3f} {row.floor:8,} {row.code:7,} {row.tables:9,} "
        f"{row.planning_seconds:6.1f} {'yes' if row.bytes_equal else 'NO'}",
        flush=True,
    )


def show_goals(rows: list[Row]) -> None:
    """Which goals hold for all, and the networks for which they do not."""
    for goal, holds in GOALS.items():
        missed = [row.model for row in rows if not holds(row)]
        print(f"{'missed' if missed else 'holds':7} {goal}{': not ' if missed else ''}{', '.join(missed)}")


def main() -> None:
    """Prints the table and writes build/bench/networks.json. Fails where an output differs."""
    graphs = [*int8_networks(), student()]
    chosen = [graph for graph in graphs if graph.name in sys.argv[1:] or len(sys.argv) == 1]
    print(f"one inference on {CORE.title}; bytes; 'over': the arena in units of its bound; 's': seconds of planning")
    print(
        f"{'model':16} {'MACs':>11} {'instructions':>12} {'a MAC':>6} {'RAM':>8} {'stack':>6} {'arena':>8} "
        f"{'bound':>8} {'over':>6} {'floor':>8} {'code':>7} {'tables':>9} {'s':>6} equal"
    )
    rows: list[Row] = []
    for graph in chosen:
        rows.append(measured(graph))
        show(rows[-1])
    print()
    show_goals(rows)
    path = Path("build/bench/networks.json")
    entries = [asdict(row) | {"insns_per_mac": row.per_mac, "arena_over_bound": row.over_bound} for row in rows]
    write_json(path, {"what": f"C backend on {CORE.title} under QEMU, one inference", "rows": entries})
    print(path)
    if wrong := [row.model for row in rows if not row.bytes_equal]:
        raise SystemExit(f"not bit-exact: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
