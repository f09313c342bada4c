"""What weights of few bits save and cost on a Cortex-M4F: the keyword model's shapes with weights of 1 to 8 bits.

`make bench-bits` narrows the weights of MLPerf Tiny's keyword spotting, builds each graph as `--optimize speed` does,
with a byte a weight, and as `size` does, and runs both under QEMU; outputs must be the interpreter's. It prints flash
and instructions side by side and writes build/bench/bits.json. Tables are counted as they are linked, padding,
corrections and the constants of requantization included; weights are the same without those constants, in percent of a
byte a weight.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measured import Measured, board_with, measure, random_inputs

from edgeflow.artifacts import write_json
from edgeflow.backends.c.backend import COptions
from edgeflow.backends.c.dsp.dense import DspDenseKernel
from edgeflow.backends.c.dsp.depthwise_taps import Depthwise
from edgeflow.backends.c.dsp.layers import DepthwiseKernel, TileKernel
from edgeflow.backends.c.emit import emit_model
from edgeflow.backends.c.optimize import Optimize
from edgeflow.board import Core
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant
from edgeflow.passes.rewrite import rebuilt
from edgeflow.pipeline import open_graph

WIDTHS = (8, 6, 5, 4, 3, 2, 1)
_MODEL = Path(__file__).resolve().parent.parent / "tests" / "data" / "models" / "kws_ref_model.tflite"
_CORE = Core.CORTEX_M4F
_DROPPED = {1: 6, 2: 6}
"""Bits that weights lose where the largest is 1."""


def narrowed(graph: Graph, bits: int) -> Graph:
    """The graph with weights of so many bits, 8 to 1, which stands for -1 and 1; 2 stands for -1, 0 and 1.

    Biases and the last shifts of Requants shrink with them, so that results still spread over their range.
    """
    most, drop = max((1 << (bits - 1)) - 1, 1), _DROPPED.get(bits, 8 - bits)
    nodes: list[Node] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv | Dense):
            weight = np.clip(np.round(op.weight / (1 << drop)), -most, most).astype(np.int64)
            weight = np.where(op.weight >= 0, 1, -1) if bits == 1 else weight
            bias = np.round(op.bias / (1 << drop)).astype(np.int64)
            op = replace(op, weight=frozen_array(weight), bias=frozen_array(bias))
        elif isinstance(op, Requant) and len(op.stages) > 1:
            last = op.stages[-1]
            shift = frozen_array(np.maximum(last.shift - drop, 1))
            op = replace(op, stages=(*op.stages[:-1], replace(last, shift=shift)))
        nodes.append(replace(node, op=op))
    return rebuilt(graph, nodes)


def tables(graph: Graph, optimize: Optimize) -> tuple[int, int]:
    """(bytes of the layers' weight tables, of the constants in them) as a graph is built."""
    whole = constants = 0
    plain = emit_model(graph, core=_CORE, optimize=Optimize.SPEED).kernels
    for kernel, bytewise in zip(emit_model(graph, core=_CORE, optimize=optimize).kernels, plain, strict=True):
        if isinstance(kernel, TileKernel) and isinstance(bytewise, TileKernel):
            whole += kernel.product.weight.size
            constants += bytewise.product.weight.size - 4 * -(-bytewise.outputs // 2) * bytewise.product.words
        elif isinstance(kernel, DspDenseKernel) and isinstance(bytewise, DspDenseKernel):
            whole += kernel.own_tables[0].size
            pairs = -(-bytewise.outputs // 2) * -(-bytewise.values // 2)
            constants += bytewise.own_tables[0].size - 4 * pairs
        elif isinstance(kernel, DepthwiseKernel) and isinstance(bytewise, DepthwiseKernel):
            shape = kernel.geometry
            window, stride = (shape.k_h, shape.k_w), (shape.stride_h, shape.stride_w)
            stored = Depthwise(1, window, stride, shape.in_w, shape.in_c, shape.out_w, shape.pad_left).stored
            whole += kernel.weight.size
            constants += bytewise.weight.size - 4 * shape.in_c * stored
    return whole, constants


def weights_of(graph: Graph) -> int:
    """How many weights a graph has."""
    return sum(node.op.weight.size for node in graph.nodes if isinstance(node.op, Conv | Dense))


def measured(graph: Graph, optimize: Optimize) -> Measured:
    """Raises RuntimeError when the outputs are not the interpreter's."""
    options = COptions(stack=0, optimize=optimize.value)
    found = measure(graph, board_with(_CORE), random_inputs(graph, 4), options=options)
    if not found.equal:
        raise RuntimeError(f"{graph.name} under {optimize.value} is not bit-exact")
    return found


def main() -> None:
    """Prints the table and writes build/bench/bits.json."""
    original = open_graph(_MODEL)
    print(f"{original.name} on {_CORE.title}, {weights_of(original):,} weights\n")
    heads = f"{'tables':>7} {'':6} {'weights':>8} {'code':>7} {'flash':>7}"
    print(f"{'bits':>4} {'optimize':9} {'instructions':>12} {'':6} {heads}")
    rows: list[dict[str, Any]] = []
    first: tuple[float, int] | None = None
    for bits in WIDTHS:
        graph = original if bits == 8 else narrowed(original, bits)
        aims = (Optimize.SPEED, Optimize.SIZE) if bits in (8, 4) else (Optimize.SIZE,)
        for optimize in aims:
            found, (whole, constants) = measured(graph, optimize), tables(graph, optimize)
            first = first or (found.instructions, whole)
            row = {
                "bits": bits,
                "optimize": optimize.value,
                "insns": found.instructions,
                "insns_ratio": found.instructions / first[0],
                "tables": whole,
                "tables_ratio": whole / first[1],
                "weights_ratio": (whole - constants) / weights_of(graph),
                "code": found.code,
                "flash": found.tables + found.code,
            }
            rows.append(row)
            print(
                f"{bits:4} {optimize.value:9} {row['insns']:12,.0f} {row['insns_ratio']:6.3f} {whole:7,} "
                f"{row['tables_ratio']:6.3f} {row['weights_ratio']:8.1%} {found.code:7,} {row['flash']:7,}"
            )
    out = Path("build/bench/bits.json")
    write_json(out, {"what": f"weights of few bits under QEMU on {_CORE.title}", "rows": rows})
    print(out)


if __name__ == "__main__":
    main()
