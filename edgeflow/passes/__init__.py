"""Passes: graph to equal graph. `simplify` is what every target is built from."""

from __future__ import annotations

from edgeflow.ir.graph import Graph
from edgeflow.passes.drop_channels import DropConstantChannels
from edgeflow.passes.drop_common_bits import DropCommonBits
from edgeflow.passes.fold_affine import FoldAffine
from edgeflow.passes.fold_bias import FoldBias
from edgeflow.passes.fold_pad import FoldPad
from edgeflow.passes.fold_requant import FoldRequant
from edgeflow.passes.narrow import Narrow
from edgeflow.passes.relax_rounding import RelaxRounding
from edgeflow.passes.remove_dead import RemoveDead
from edgeflow.passes.remove_identities import RemoveIdentities
from edgeflow.passes.rewrite import Pass

PASSES: dict[str, Pass] = {
    "remove_dead": RemoveDead(),
    "remove_identities": RemoveIdentities(),
    "fold_pad": FoldPad(),
    "fold_requant": FoldRequant(),
    "fold_affine": FoldAffine(),
    "fold_bias": FoldBias(),
    "drop_constant_channels": DropConstantChannels(),
    "relax_rounding": RelaxRounding(),
    "drop_common_bits": DropCommonBits(),
    "narrow": Narrow(),
}


def simplify(graph: Graph) -> Graph:
    """All passes in their order, again until none finds anything. Raises InvalidGraph for a broken graph.

    Outputs keep their names, shapes and units, and for every input their values.
    """
    while True:
        before = graph
        for one in PASSES.values():
            graph = one.apply(graph)
        if graph is before:
            return graph
