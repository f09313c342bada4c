"""What the C backend's code takes on each kind of core under QEMU: instructions, RAM, code and tables.

`make bench-mcu` measures two int8 models of MLPerf Tiny beside what TFLite-Micro takes for the same output bytes
(benchmarks/baselines), and small networks of the usual forms beside what `estimate` said. It prints both tables and
writes build/bench/mcu.json. Instructions do not drift; cycles are modelled, for a Cortex-M4 alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measured import DEFAULT, Measured, board_with, measure, random_inputs
from nets import networks

from edgeflow.artifacts import write_json
from edgeflow.backends import BACKENDS
from edgeflow.backends.c.backend import COptions
from edgeflow.board import Core, McuBoard, load_board
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.pipeline import open_graph
from edgeflow.toolchain import tflm

BOARDS = ("rpi-pico", "stm32f103c8", "nucleo-f446re", "longan-nano")
CORES = tuple(core for core in Core if core not in (Core.CORTEX_M0, Core.CORTEX_M4))
"""One of each kind of code: the others take another's."""
VARIANTS: Mapping[str, COptions] = {"default": DEFAULT}
MODELS = ("kws_ref_model", "ad01_int8")
_ROOT = Path(__file__).resolve().parent.parent
_FOLDER = _ROOT / "tests" / "data" / "models"
_BASELINES = _ROOT / "benchmarks" / "baselines" / "tflm-cortex-m.json"
_BASELINE = {Core.CORTEX_M4F: "cortex_m4f", Core.CORTEX_M55: "cortex_m55_mve"}
_SAMPLES = 8

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A graph and samples. `expected` is what others answer to them: None where only the interpreter is asked."""

    name: str
    graph: Graph
    inputs: Mapping[str, IntArray]
    expected: Mapping[str, IntArray] | None


def model_case(name: str) -> Case:
    """A model file, with the answers of TFLite-Micro's wheel to its stored or to random samples."""
    path, stored = _FOLDER / f"{name}.tflite", _FOLDER / f"{name.split('_')[0]}_inputs.npy"
    graph = open_graph(path)
    (source,), (output,) = graph.inputs, graph.outputs
    shape = (-1, *source.type.shape)
    values = np.load(stored) if stored.is_file() else random_inputs(graph, _SAMPLES)[source.name]
    (answer,) = tflm.invoke(path, [values.astype(np.int8)], 1).outputs
    expected = answer.astype(np.int64).reshape(-1, *graph.tensor(output.tensor).type.shape)
    return Case(name, graph, {source.name: values.astype(np.int64).reshape(shape)}, {output.name: expected})


def rows_of(case: Case, board: McuBoard) -> Iterator[dict[str, Any]]:
    """One row a variant: measured and estimated figures."""
    for variant, options in VARIANTS.items():
        traced = board.core is Core.CORTEX_M4F
        found = measure(case.graph, board, case.inputs, case.expected, options, traced=traced)
        yield _row(case.graph, board, variant, options, found) | {"model": case.name, "bytes_equal": found.equal}


def _row(graph: Graph, board: McuBoard, variant: str, options: COptions, found: Measured) -> dict[str, Any]:
    guess = {one.name: one.value for one in BACKENDS["c"].estimate(graph, board, options) if one.layer is None}
    return {
        "model": graph.name,
        "core": board.core.value,
        "variant": variant,
        "insns": found.instructions,
        "insns_estimated": guess["instructions"],
        "cycles_model": found.spent and sum(one.cycles for one in found.spent),
        "ram": found.ram,
        "ram_estimated": guess["RAM"],
        "stack": found.stack,
        "code": found.code,
        "tables": found.tables,
        "flash": found.flash,
        "flash_estimated": guess["flash"],
    }


def baseline(model: str, core: Core) -> dict[str, float]:
    """TFLite-Micro with CMSIS-NN: insns, arena, code_ro and stack, as far as they are known."""
    figures = json.loads(_BASELINES.read_text()).get(_BASELINE.get(core, ""), {})
    return figures.get(model, {}).get("tflm_cmsis_nn", {})


def _shown(value: float | None, width: int) -> str:
    return f"{'-' if value is None else f'{value:,.0f}':>{width}}"


def print_models(rows: Rows) -> None:
    """Ours beside TFLite-Micro's."""
    print(
        "one inference; bytes; TFLM: with CMSIS-NN, RAM without the interpreter, code with 7 kB of start-up and printf"
    )
    print(
        f"{'model':13} {'core':14} {'variant':8} {'instructions':>12} {'TFLM':>10} {'M4 cycles':>10} "
        f"{'RAM':>7} {'TFLM':>7} {'stack':>6} {'code':>7} {'TFLM':>7} {'tables':>8} equal"
    )
    for row in rows:
        other = baseline(row["model"], Core(row["core"]))
        ram = other["arena"] + other["stack"] if "arena" in other else None
        print(
            f"{row['model']:13} {row['core']:14} {row['variant']:8} {_shown(row['insns'], 12)} "
            f"{_shown(other.get('insns'), 10)} {_shown(row['cycles_model'], 10)} {_shown(row['ram'], 7)} "
            f"{_shown(ram, 7)} {_shown(row['stack'], 6)} {_shown(row['code'], 7)} {_shown(other.get('code_ro'), 7)} "
            f"{_shown(row['tables'], 8)} {'yes' if row['bytes_equal'] else 'NO'}"
        )


def print_estimates(rows: Rows) -> None:
    """What was measured, and estimated as a part of it."""
    print(f"{'model':13} {'core':14} {'instructions':>12} {'est.':>6} {'flash':>8} {'est.':>6} {'RAM':>7} {'est.':>6}")
    for row in rows:
        shares = [row[f"{name}_estimated"] / row[name] for name in ("insns", "flash", "ram")]
        print(
            f"{row['model']:13} {row['core']:14} {row['insns']:12,.0f} {shares[0]:6.2f} {row['flash']:8,.0f} "
            f"{shares[1]:6.2f} {row['ram']:7,.0f} {shares[2]:6.2f}"
        )


def main() -> None:
    """Prints the tables and writes build/bench/mcu.json. Fails where an output differs."""
    models = [row for case in map(model_case, MODELS) for core in CORES for row in rows_of(case, board_with(core))]
    print_models(models)
    cases = [Case(graph.name, graph, random_inputs(graph, 4), None) for graph in networks()]
    boards = [board for board in map(load_board, BOARDS) if isinstance(board, McuBoard)]
    small = [row for case in cases for board in boards for row in rows_of(case, board)]
    print()
    print_estimates([*models, *small])
    path = Path("build/bench/mcu.json")
    what = "C backend under QEMU, one inference; cycles_model is estimated, for Cortex-M4 without wait states"
    write_json(path, {"what": what, "rows": [*models, *small]})
    print(path)
    if wrong := [f"{row['model']} on {row['core']}" for row in (*models, *small) if not row["bytes_equal"]]:
        raise SystemExit(f"not bit-exact: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
