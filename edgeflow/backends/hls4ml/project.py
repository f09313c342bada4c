"""The files of an HLS project: hls4ml's own, a test bench that checks itself, and the simulation harness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.hls4ml.convert import Project, Variable, convert
from edgeflow.backends.hls4ml.layers import Port
from edgeflow.backends.hls4ml.lower import Lowered
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.board import FpgaBoard
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.render import identifier, render
from edgeflow.semantics.interpret import interpret

SAMPLES = 16
_UNCERTAINTY = "27%"  # hls4ml's own default for Vitis
_REPLACED = ("_bridge.cpp", "_test.cpp")


@dataclass(frozen=True)
class _PortView:
    """A port as the templates see it. `unit` is a C++ expression in `i`, `units` its one value or all of them."""

    title: str
    variable: str
    type: str
    size: int
    start: int
    array: str
    units: tuple[int, ...]
    precision: str
    declaration: str

    @property
    def unit(self) -> str:
        return str(self.units[0]) if len(self.units) == 1 else f"{self.array}[i]"


@dataclass(frozen=True)
class _VariableView:
    name: str
    type: str
    size: int
    declaration: str


def project_name(graph: Graph, options: Hls4mlOptions) -> str:
    """The name of the top function and of the Vitis project."""
    return f"{identifier(options.prefix or graph.name)}_hls"


def project_files(graph: Graph, lowered: Lowered, board: FpgaBoard, options: Hls4mlOptions) -> dict[str, bytes]:
    """Everything that `emit` gives. The same graph, board and options give the same bytes."""
    name = project_name(graph, options)
    made = convert(lowered, _config(name, board, options))
    files = {path: content for path, content in made.files.items() if not path.endswith(_REPLACED)}
    views = _views(lowered, made)
    shared = {"project": name, "model": graph.name, **views}
    texts = {
        f"{name}_samples.h": render("hls4ml/samples.h.j2", **shared),
        f"{name}_test.cpp": render("hls4ml/test.cpp.j2", **shared),
        "verify/csim.cpp": render("hls4ml/csim.cpp.j2", **shared),
        "README.md": render("hls4ml/README.md.j2", board=board, options=options, **shared),
    }
    files |= {path: text.encode("ascii", "backslashreplace") for path, text in texts.items()}
    inputs = sample_inputs(graph, SAMPLES)
    expected, _ = interpret(graph, inputs)
    files["tb_data/inputs.dat"] = _table([inputs[port.name] for port in lowered.inputs])
    files["tb_data/outputs.dat"] = _table([expected[port.name] for port in lowered.outputs])
    return files


def _config(name: str, board: FpgaBoard, options: Hls4mlOptions) -> Mapping[str, object]:
    """hls4ml's configuration. BitExact makes it derive every type from the layers' own numbers."""
    model = {
        "Precision": "ap_fixed<16,6>",
        "ReuseFactor": options.reuse_factor,
        "Strategy": options.strategy.capitalize(),
        "BitExact": True,
    }
    return {
        "Backend": "Vitis",
        "ProjectName": name,
        "Part": board.part,
        "ClockPeriod": round(1e9 / board.clock, 3),
        "ClockUncertainty": _UNCERTAINTY,
        "IOType": options.io_type,
        "HLSConfig": {"Model": model},
        "WriterConfig": {"Namespace": None, "WriteWeightsTxt": True, "WriteTar": False, "TBOutputStream": "both"},
    }


def _views(lowered: Lowered, made: Project) -> dict[str, object]:
    """What the templates need to know of the ports: several outputs may show one variable of the top function."""
    held = dict(zip(dict.fromkeys(port.layer for port in lowered.outputs), made.outputs, strict=True))
    inputs = _ports(lowered.inputs, dict(zip((port.layer for port in lowered.inputs), made.inputs, strict=True)), "in")
    return {
        "inputs": inputs,
        "outputs": _ports(lowered.outputs, held, "out"),
        "variables": [_VariableView(one.name, one.type, one.size, _declaration(one)) for one in made.outputs],
        "arguments": [f"{one.name}_ap" for one in (*made.inputs, *made.outputs)],
    }


def _ports(ports: tuple[Port, ...], held: Mapping[str, Variable], what: str) -> list[_PortView]:
    views: list[_PortView] = []
    start = 0
    for number, port in enumerate(ports):
        variable = held[port.layer]
        units = [int(one) for one in port.units()]
        shown = tuple(units[:1]) if len(set(units)) == 1 else tuple(units)
        views.append(
            _PortView(
                title=port.name,
                variable=variable.name,
                type=variable.type,
                size=variable.size,
                start=start,
                array=f"{what}_{number}_unit",
                units=shown,
                precision=variable.precision,
                declaration=_declaration(variable),
            )
        )
        start += variable.size
    return views


def _declaration(one: Variable) -> str:
    """A local variable of a port's type, named with `_ap` as hls4ml's own bridge does."""
    if one.stream:
        return f'hls::stream<{one.type}> {one.name}_ap("{one.name}")'
    return f"static {one.type} {one.name}_ap[{one.size}]"


def sample_inputs(graph: Graph, samples: int) -> dict[str, IntArray]:
    """Fixed inputs: all lowest, all highest, mixes of both ends, then integers from a fixed generator.

    The generator is a 64-bit linear congruence (Knuth's MMIX constants), so no library's version changes it.
    """
    found: dict[str, IntArray] = {}
    for number, source in enumerate(graph.inputs):
        kind = source.type
        draws = _draws(number + 1, samples * kind.size).reshape(samples, *kind.shape)
        values = kind.lo + draws % (kind.hi - kind.lo + 1)
        ends = np.where(draws % 2 == 0, kind.lo, kind.hi)
        values[2:6] = ends[2:6]
        values[0], values[1] = kind.lo, kind.hi
        found[source.name] = values
    return found


def _draws(seed: int, count: int) -> IntArray:
    state, found = seed, np.empty(count, dtype=np.int64)
    for index in range(count):
        state = (6364136223846793005 * state + 1442695040888963407) % (1 << 64)
        found[index] = state >> 33
    return found


def _table(arrays: list[IntArray]) -> bytes:
    """One line a sample: all its integers, array after array."""
    rows = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
    return "".join(" ".join(map(str, row)) + "\n" for row in rows.tolist()).encode()
