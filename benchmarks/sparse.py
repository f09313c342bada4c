"""What pruned fully connected layers take on a Cortex-M4F beside the dense kernel: instructions and flash.

`make bench-sparse` prunes a Dense 640 -> 128 in blocks of two outputs and two inputs and weight by weight, at several
parts of zeros, and writes build/bench/sparse.json. Outputs are compared with the interpreter's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measured import board_with, measure, random_inputs

from edgeflow.artifacts import write_json
from edgeflow.backends.c.dsp.dense import DspDenseKernel
from edgeflow.backends.c.emit import emit_model
from edgeflow.board import Core
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import Dyadic, IntArray, TensorType, frozen_array
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.semantics.builder import GraphBuilder

VALUES, OUTPUTS = 640, 128
ZEROS = (0.5, 0.75, 0.9)
_CORE = Core.CORTEX_M4F


def everywhere(random: np.random.Generator, zeros: float) -> IntArray:
    """Which weights stay, one by one."""
    return (random.random((VALUES, OUTPUTS)) >= zeros).astype(np.int64)


def in_blocks(random: np.random.Generator, zeros: float) -> IntArray:
    """Which weights stay, in blocks of two inputs and two outputs: as many in every pair of outputs."""
    order = random.random((VALUES // 2, OUTPUTS // 2)).argsort(axis=0)
    return np.kron(order >= round(zeros * VALUES / 2), np.ones((2, 2), dtype=np.int64))


PATTERNS: dict[str, Callable[[np.random.Generator, float], IntArray]] = {
    "2x2 blocks": in_blocks,
    "unstructured": everywhere,
}


def layer(mask: IntArray) -> Graph:
    """One fully connected layer with 7-bit weights and a requantization by channel, as TFLite has it."""
    random = np.random.default_rng(11)
    builder = GraphBuilder("dense")
    at = builder.input("x", TensorType((VALUES,), -128, 127), Dyadic(0))
    weight = random.integers(1, 64, mask.shape) * random.choice([-1, 1], mask.shape)
    bias = frozen_array(random.integers(-3000, 3000, OUTPUTS))
    at = builder.add(Dense(frozen_array(weight * mask), bias), (at,), Dyadic(0), "dense")
    stages = (Stage(frozen_array(31), Rounding.HALF_UP), Stage(frozen_array(9), Rounding.HALF_AWAY))
    multiplier = frozen_array(random.integers(1 << 30, 1 << 31, OUTPUTS))
    zero, lo, hi = frozen_array(0), frozen_array(-128), frozen_array(127)
    builder.output("y", builder.add(Requant(zero, multiplier, stages, lo, lo, hi), (at,), Dyadic(0), "dense"))
    return builder.finish()


def row(name: str, zeros: float, mask: IntArray) -> dict[str, Any]:
    """What one pattern takes."""
    graph = layer(mask)
    found = measure(graph, board_with(_CORE), random_inputs(graph, 3))
    (kernel,) = emit_model(graph, core=_CORE).kernels
    assert isinstance(kernel, DspDenseKernel)
    form = kernel.shared[-1].name if kernel.work is not None else "dense"
    figures = {"insns": found.instructions, "weights": found.tables, "code": found.code, "ram": found.ram}
    return {"pattern": name, "zeros": zeros, "form": form, **figures, "bytes_equal": found.equal}


def main() -> None:
    """Prints the table and writes build/bench/sparse.json. Fails where an output differs."""
    random = np.random.default_rng(2)
    dense = row("dense", 0.0, np.ones((VALUES, OUTPUTS), dtype=np.int64))
    rows = [dense]
    rows += [row(name, zeros, make(random, zeros)) for name, make in PATTERNS.items() for zeros in ZEROS]
    print(f"Dense {VALUES} -> {OUTPUTS} on a {_CORE.title}; parts of the dense kernel's instructions and weights")
    heads = f"{'instructions':>12} {'part':>6} {'weights':>9} {'part':>6} {'code':>6}"
    print(f"{'pattern':13} {'zeros':>5} {'form':20} {heads} equal")
    for one in rows:
        work, flash = one["insns"] / dense["insns"], one["weights"] / dense["weights"]
        print(
            f"{one['pattern']:13} {one['zeros']:5.0%} {one['form']:20} {one['insns']:12,.0f} {work:6.3f} "
            f"{one['weights']:9,} {flash:6.3f} {one['code']:6,} {'yes' if one['bytes_equal'] else 'NO'}"
        )
    path = Path("build/bench/sparse.json")
    write_json(path, {"what": f"pruned Dense {VALUES} -> {OUTPUTS} under QEMU on {_CORE.title}", "rows": rows})
    print(path)
    if any(not one["bytes_equal"] for one in rows):
        raise SystemExit("not bit-exact")


if __name__ == "__main__":
    main()
