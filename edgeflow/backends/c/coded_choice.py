"""Which activations are kept packed: those without which the arena would be larger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeflow.backends.c.coded import Layers, pack_tensors, rows_of
from edgeflow.backends.c.coding import Coding, coding_of
from edgeflow.backends.c.kernel import Context
from edgeflow.backends.c.lower import Buffer
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.plan import Plan, flow_of, groups_of, plan_memory
from edgeflow.backends.c.schedule import stream, whole

def plan_layers(layers: Layers, inputs: Sequence[str]) -> Plan:
    flow = flow_of(layers.lowered, layers.kernels, layers.shapes, inputs)
    return plan_memory(flow, groups_of(layers.kernels))


def peak_of(layers: Layers, inputs: Sequence[str]) -> int:
    flow = flow_of(layers.lowered, layers.kernels, layers.shapes, inputs)
    return min(whole(flow).peak(), stream(flow, groups_of(layers.kernels)).peak())


def candidates(layers: Layers, context: Context) -> dict[str, Coding]:
    found = {}
    for name, one in layers.lowered.buffers.items():
        if one.place == "output" or one.ctype.size != 1 or name not in context.bounds:
            continue
        bounds = context.bounds[name]
        coding = coding_of(int(bounds.lo.min()), int(bounds.hi.max()), one.elements // rows_of(layers.shapes[name]))
        if coding and 4 * coding.words * rows_of(layers.shapes[name]) < one.elements:
            found[name] = coding
    return found


def choose(layers: Layers, context: Context, inputs: Sequence[str]) -> tuple[Layers, Plan]:
    base = plan_layers(layers, inputs)
    chosen = candidates(layers, context)
    if context.optimize is Optimize.SPEED or not chosen:
        return layers, base
    peak = peak_of(pack_tensors(layers, chosen, context), inputs)
    for name in list(chosen):
        fewer = {one: coding for one, coding in chosen.items() if one != name}
        other = peak_of(pack_tensors(layers, fewer, context), inputs)
        if other <= peak:
            chosen, peak = fewer, other
    made = pack_tensors(layers, chosen, context)
    plan = plan_layers(made, inputs)
    return (made, plan) if plan.size < base.size else (layers, base)
