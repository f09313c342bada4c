"""Generated models for checks of their text: every form of every op, random graphs, each for every kind of core."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from edgeflow.backends.c.emit import Emitted, emit_model
from edgeflow.backends.c.files import Files, model_files, sources
from edgeflow.backends.c.kernels import KERNELS
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ops.reshape import Reshape
from edgeflow.passes import simplify
from tests.backends.c import test_largest
from tests.backends.c.dsp import test_total
from tests.backends.c.sums import half_even, total
from tests.crossing import FORMS
from tests.graphs import random_graph


@cache
def graphs() -> dict[str, Graph]:
    """Every form that the backend takes, as `build` hands it over, by a C name."""
    found = {f"form_{number}": simplify(form.graph()) for number, form in enumerate(FORMS)}
    made = {name: graph for name, graph in found.items() if all(_known(graph))}
    sums = {"sum_away": total((4, 3, 5)), "sum_up": total((4, 3, 5), zeros=(-128, 7, -128)), "sum_even": half_even(2)}
    sums["pool_padded"] = test_largest.graph_of({"3x3 same": test_largest.CASES["3x3 same"]})
    sums["total_bytes"] = test_total.graph_of(test_total.CASES)
    return made | sums | {f"random_{seed}": random_graph(seed) for seed in range(8)}


def _known(graph: Graph) -> Iterator[bool]:
    return (type(node.op) in KERNELS or isinstance(node.op, Reshape) for node in graph.nodes)


@cache
def models(core: Core) -> dict[str, Emitted]:
    """All of them as C for a core."""
    return {name: emit_model(graph, name, core) for name, graph in graphs().items()}


def covering(core: Core) -> dict[str, Emitted]:
    """Few models in which every kernel of `models` is there, and every C function that kernels share."""
    seen: set[tuple[str, ...]] = set()
    chosen: dict[str, Emitted] = {}
    for name, made in models(core).items():
        parts = {(one.template, *sorted(shared.name for shared in one.shared)) for one in made.kernels}
        parts |= {("helper", one.name) for one in made.model.helpers}
        if not parts <= seen:
            chosen[name] = made
            seen |= parts
    return chosen


def write(folder: Path, found: dict[str, Emitted], files: Files = Files.ONE) -> list[Path]:
    """Their files in a folder; returns the sources."""
    texts = {name: text for made in found.values() for name, text in model_files(made, files).items()}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in sources(texts)]
