"""What an HLS project will cost, before any vendor tool: the layers' formulas summed, each with its error band."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from edgeflow.backends.hls4ml.cost import LUT_OPERAND, LayerCost, layer_costs
from edgeflow.backends.hls4ml.lower import Lowered
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.backends.protocol import Remedy
from edgeflow.board import FpgaBoard
from edgeflow.resource import Resource, Source, SourceKind, Unit

AREA_BAND, TIME_BAND = 0.5, 0.3
_AREA = {
    "LUT": ("lut", "adders of the weights' signed digits, multiplexers and rounding; no vendor tool has run"),
    "FF": ("ff", "registers between adder levels, and results; no vendor tool has run"),
    "DSP": ("dsp", f"products wider than {LUT_OPERAND} bits / reuse factor; no vendor tool has run"),
    "BRAM": ("bram", "FIFOs, line buffers and stored weights; no vendor tool has run"),
}
_REUSE_FACTORS = (1, 4, 16, 64)


def estimate(lowered: Lowered, board: FpgaBoard, options: Hls4mlOptions) -> tuple[Resource, ...]:
    """Totals first, then every layer's part (`latency`: how long it is busy with one sample).

    `io_stream` layers overlap: the slowest gives the initiation interval, and each adds what it waits for.
    `io_parallel` layers follow one another.
    """
    costs = layer_costs(lowered.layers, board, options)
    parts = list(costs.values())
    interval = max((one.busy for one in parts), default=1.0)
    busy = interval if options.io_type == "io_stream" else sum(one.busy for one in parts)
    cycles = busy + sum(one.fill for one in parts)
    totals = [_area(name, sum(_part(one, name) for one in parts)) for name in _AREA]
    how = f"{cycles:,.0f} cycles of positions x reuse factor, and pipelines to fill; no vendor tool has run"
    time = Source(SourceKind.ESTIMATED, how, TIME_BAND)
    slowest = Source(SourceKind.ESTIMATED, "cycles of the slowest layer: positions x reuse factor", TIME_BAND)
    totals.append(Resource("latency", cycles / board.clock, Unit.SECONDS, time))
    totals.append(Resource("initiation interval", math.ceil(interval), Unit.COUNT, slowest))
    return (*totals, *_per_layer(costs, board))


def remedies(lowered: Lowered, board: FpgaBoard, options: Hls4mlOptions) -> tuple[Remedy, ...]:
    """Options that lower a resource, and what halving the outputs of the two costliest layers would leave."""
    now = _totals(lowered, board, options)
    others = [replace(options, reuse_factor=one) for one in _REUSE_FACTORS if one != options.reuse_factor]
    found: list[Remedy] = []
    for other in others:
        after = _totals(lowered, board, other)
        change = f"--set reuse_factor={other.reuse_factor}"
        found += [Remedy(change, name, after[name], retrain=False) for name in now if after[name] < 0.95 * now[name]]
    costs = layer_costs(lowered.layers, board, options)
    weighted = sorted({one.source for one in lowered.layers if "weight" in one.arrays})
    for name in _AREA:
        for value, layer in sorted(((_part(costs[one], name), one) for one in weighted), reverse=True)[:2]:
            if value >= 1:
                found.append(Remedy(f"halve the outputs of '{layer}'", name, math.ceil(now[name] - value / 2)))
    return tuple(found)


def _totals(lowered: Lowered, board: FpgaBoard, options: Hls4mlOptions) -> dict[str, float]:
    made = estimate(lowered, board, options)
    return {one.name: one.value for one in made if one.layer is None and one.name != "initiation interval"}


def _per_layer(costs: dict[str, LayerCost], board: FpgaBoard) -> Iterator[Resource]:
    for layer, cost in costs.items():
        for name in _AREA:
            if _part(cost, name):
                yield _area(name, _part(cost, name), layer)
        time = Source(SourceKind.ESTIMATED, f"busy for {cost.busy:,.0f} cycles a sample", TIME_BAND)
        yield Resource("latency", cost.busy / board.clock, Unit.SECONDS, time, layer)


def _part(cost: LayerCost, name: str) -> float:
    return float(getattr(cost, _AREA[name][0]))


def _area(name: str, value: float, layer: str | None = None) -> Resource:
    return Resource(name, math.ceil(value), Unit.COUNT, Source(SourceKind.ESTIMATED, _AREA[name][1], AREA_BAND), layer)
