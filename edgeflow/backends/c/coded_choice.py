"""Which activations are kept packed: those without which the arena would be larger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgeflow.backends.c.coded import CodedKernel, CodeKernel, Layers, Packer, rows_of
from edgeflow.backends.c.coding import Coding, coding_of
from edgeflow.backends.c.kernel import Context
from edgeflow.backends.c.objects import live_bytes
from edgeflow.backends.c.optimize import Optimize
from edgeflow.backends.c.plan import Plan, flow_of, groups_of, plan_memory
from edgeflow.backends.c.schedule import alike
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense


@dataclass(frozen=True)
class Price:
    """What packed activations must be worth: the part of the arena that they save, and what they may cost.

    `slack`: a tensor stays as bytes where the arena grows by no more than this part of it. `work`: the most
    instructions for each multiplication of the model.
    """

    saves: float
    slack: float
    work: float


_PRICES: Mapping[Optimize, Price] = {
    Optimize.SIZE: Price(saves=0.01, slack=0.0, work=1.0),
    Optimize.BALANCED: Price(saves=0.05, slack=0.01, work=0.1),
}
"""For speed nothing is packed."""


def plan_layers(layers: Layers, context: Context, inputs: Sequence[str]) -> tuple[Layers, Plan]:
    """Layers, some with packed activations where that is worth its price, and their plan."""
    plan = plan_of(layers, inputs)
    narrow, price = narrow_tensors(layers, context), _PRICES.get(context.optimize)
    if price is None or not narrow:
        return layers, plan
    packer = Packer(layers, replace(context, names={}))
    chosen = _needed(packer, narrow, plan, price.slack, inputs)
    packed = Packer(layers, context).pack(chosen)
    if _work(packed) > price.work * _products(layers):
        return layers, plan
    smaller = plan_of(packed, inputs)
    return (packed, smaller) if smaller.size <= (1 - price.saves) * plan.size else (layers, plan)


def plan_of(layers: Layers, inputs: Sequence[str]) -> Plan:
    """The plan of layers as they are; `inputs` are the model's."""
    flow = flow_of(layers.lowered, layers.kernels, layers.shapes, inputs)
    return plan_memory(flow, groups_of(layers.kernels))


def narrow_tensors(layers: Layers, context: Context) -> dict[str, Coding]:
    """The tensors that need fewer bytes as packed values; those of an output stay as the header has them."""
    found: dict[str, Coding] = {}
    for name, one in layers.lowered.buffers.items():
        if one.place == "output" or one.ctype.size != 1:
            continue
        bounds, rows = context.bounds[name], rows_of(layers.shapes[name])
        coding = coding_of(int(bounds.lo.min()), int(bounds.hi.max()), one.elements // rows)
        if coding and 4 * coding.words * rows < one.elements:
            found[name] = coding
    return found


def _needed(
    packer: Packer, narrow: Mapping[str, Coding], plan: Plan, slack: float, inputs: Sequence[str]
) -> Mapping[str, Coding]:
    """The tensors to pack, of those that can be.

    From all of them on each in turn is left out where that makes the fullest tasks less full: working memory then holds
    less. At last each is left out without which the arena stays about as small.
    """

    def tasks(chosen: Mapping[str, Coding]) -> list[int]:
        """The bytes of every task, the fullest first."""
        layers = packer.pack(chosen)
        flow = flow_of(layers.lowered, layers.kernels, layers.shapes, inputs)
        return sorted(live_bytes(alike(flow, plan.schedule).objects), reverse=True)

    chosen, full, left = dict(narrow), tasks(narrow), len(narrow) + 1
    while len(chosen) < left:
        left = len(chosen)
        for name in tuple(chosen):
            fewer = _without(chosen, name)
            here = tasks(fewer)
            if here < full:
                chosen, full = fewer, here
    most = (1 + slack) * full[0]
    for name in tuple(chosen):
        fewer = _without(chosen, name)
        if tasks(fewer)[0] <= most:
            chosen = fewer
    return chosen


def _without(chosen: Mapping[str, Coding], name: str) -> dict[str, Coding]:
    return {one: coding for one, coding in chosen.items() if one != name}


def _work(layers: Layers) -> float:
    """About the instructions that packing and unpacking take."""
    return sum(one.work for one in layers.kernels if isinstance(one, CodedKernel | CodeKernel))


def _products(layers: Layers) -> int:
    """Multiplications of all convolutions and matrix products."""
    count = 0
    for step in layers.lowered.steps:
        if step.node and isinstance(step.node.op, Conv | Dense):
            weight = step.node.op.weight
            count += weight.size // weight.shape[-1] * step.node.type.size
    return count
