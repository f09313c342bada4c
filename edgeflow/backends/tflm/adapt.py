"""A graph as TFLite-Micro can compute it: int8 or int16 tensors, and its own arithmetic in every Requant.

Running it again changes nothing.
What a kernel makes of a Requant: `rescale.py`; of sums and products of tensors: `joins.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeflow.backends.tflm.arithmetic import scale_of
from edgeflow.backends.tflm.chains import (
    Fused,
    Spread,
    WideOutput,
    absorbed,
    find_fused,
    find_joins,
    find_spreads,
    linear,
)
from edgeflow.backends.tflm.concats import storable_concats
from edgeflow.backends.tflm.edit import Edit
from edgeflow.backends.tflm.elementwise import covered, find_elementwise
from edgeflow.backends.tflm.joins import adapt_join, add_clamped
from edgeflow.backends.tflm.lower import Lowered, lower_in
from edgeflow.backends.tflm.pools import adapt_average
from edgeflow.backends.tflm.rescale import MOST, clamped_form, finest, kernel_for, power_of_two
from edgeflow.backends.tflm.storage import zero_of
from edgeflow.backends.tflm.thresholds import as_requants
from edgeflow.backends.tflm.transposed import transposable
from edgeflow.backends.tflm.widths import INT8, INT16, Width
from edgeflow.ir.graph import Graph, Node
from edgeflow.ir.types import Dyadic
from edgeflow.ops.sumpool import SumPool


@dataclass(frozen=True)
class Adapted:
    """A graph that TFLite can say, and its operators; or the graph as it was, and what int8 cannot say of it."""

    graph: Graph
    lowered: Lowered


def adapt(graph: Graph) -> Graph:
    """The graph with every Requant in a kernel's form, and narrow outputs where the model ends in plain sums.

    Its activations are int8, or int16 where int8 cannot say all of it. A graph that neither can say stays as it is.
    """
    return graph if graph.states else adapted(graph).graph


def adapted(graph: Graph) -> Adapted:
    """As `adapt`, with the operators; the graph must have no states."""
    for width in (INT8, INT16):
        lowered = lower_in(graph, width)
        if not lowered.refusals and (width.narrow or _is_wide(graph, lowered)):
            return Adapted(graph, lowered)
    refused: Lowered | None = None
    for width in (INT8, INT16):
        trial = adapt_to(graph, width)
        lowered = lower_in(trial, width)
        if not lowered.refusals:
            return Adapted(trial, lowered)
        refused = refused or lowered
    assert refused is not None
    return Adapted(graph, refused)


def _is_wide(graph: Graph, lowered: Lowered) -> bool:
    """Whether some stored tensor needs more than 8 bits."""
    kinds = (graph.tensor(name).type for name in lowered.stored)
    return any(one.hi - one.lo > INT8.span for one in kinds)


def adapt_to(graph: Graph, width: Width) -> Graph:
    """The graph for activations of one width."""
    graph = as_requants(storable_concats(graph, width))
    edit, fused = Edit(graph, width), find_fused(graph)
    joins, spreads = find_joins(graph), find_spreads(graph)
    elementwise = find_elementwise(graph, width)
    later = absorbed(joins, spreads) | covered(elementwise)
    for node in graph.nodes:
        if node.name in elementwise:
            for one in elementwise[node.name].nodes:
                edit.copy(one)
            add_clamped(edit, node)
        if node.name in edit.done or node.name in later:
            continue
        join, spread, found = joins.get(node.name), spreads.get(node.name), fused.get(node.name)
        if join is not None:
            adapt_join(edit, join)
        elif spread is not None:
            _transposed(edit, spread, found)
        elif isinstance(found, Fused):
            _fused(edit, node, found)
        elif isinstance(found, WideOutput):
            _wide_output(edit, node, found)
        elif linear(node.op):
            _whole(edit, node)
        else:
            edit.alone(node)
    return edit.finish()


def _fused(edit: Edit, node: Node, found: Fused, *, relu: bool = True) -> None:
    """A linear op, its Requant, and what stood between them (which commutes with the Requant) after it."""
    source = edit.names[node.inputs[0]]
    if isinstance(node.op, SumPool) and not found.between and adapt_average(edit, node, found.requant):
        return
    kernel = kernel_for(node, found.requant, edit.given(source), relu=relu)
    if kernel is None:
        edit.copy(node)
        return
    moved = bool(found.between)
    after = replace(
        found.requant,
        name=f"{node.name}_act" if moved else found.requant.name,
        layer=node.layer if moved else found.requant.layer,
    )
    edit.done |= {node.name, found.requant.name}
    at = edit.kernel(node, source, kernel, after)
    edit.names[node.name] = at
    for one in found.between:
        edit.follow(one, after.label)
    edit.names[found.requant.name] = edit.names[found.between[-1].name] if moved else at


def _transposed(edit: Edit, spread: Spread, found: Fused | WideOutput | None) -> None:
    """Zeros between positions and a Conv: one kernel, which has no activation of its own."""
    for one in (spread.part, spread.upsample):
        if one is not None:
            edit.copy(one)
    if isinstance(found, Fused):
        _fused(edit, spread.conv, found, relu=not transposable(spread, edit.label(spread.source)))
    elif isinstance(found, WideOutput):
        _wide_output(edit, spread.conv, found)
    else:
        edit.copy(spread.conv)


def _whole(edit: Edit, node: Node) -> None:
    """Sums that more than one Requant reads, or a table, are kept as they are where a tensor holds them."""
    edit.copy(node)
    sums = edit.names[node.name]
    source, unit, kind = scale_of(edit.label(node.inputs[0])), scale_of(node.label), edit.builder.type(sums)
    if source is None or unit is None or zero_of(node.label) or kind.hi - kind.lo > edit.width.span:
        return
    factor = power_of_two(0, source, unit, edit.width)
    form = edit.width.requant((factor,), 0, -MOST, MOST)
    found = clamped_form(form, form, node.label, edit.builder.bounds(sums), edit.width, relu=False)
    if found is not None:
        edit.names[node.name] = edit.requant(f"{node.name}_int8", node.layer, node.label, sums, *found)


def _wide_output(edit: Edit, node: Node, found: WideOutput) -> None:
    """Sums that are the model's output become integers in the finest power-of-two unit that holds them all."""
    edit.copy(node)
    sums = edit.names[node.name]
    scale, label = scale_of(edit.label(node.inputs[0])), node.label
    fracs = label.frac if isinstance(label, Dyadic) else None
    if fracs is None or scale is None:
        return
    bounds, channels = edit.builder.bounds(sums), node.type.shape[-1]
    each = np.broadcast_to(np.asarray(fracs, dtype=np.int64), (channels,))
    frac = finest(bounds, each, edit.width)
    if frac is None:
        return
    wanted = tuple(power_of_two(frac - int(one), scale, 2.0**-frac, edit.width) for one in each)
    after = Dyadic(frac)
    form = edit.width.requant(wanted, 0, -MOST, MOST)
    kernel = clamped_form(form, form, after, bounds, edit.width, relu=False)
    if kernel is None:
        return
    edit.names[node.name] = edit.requant(f"{node.name}_int8", node.layer, after, sums, *kernel)
    for one in found.after:
        edit.follow(one, after)
