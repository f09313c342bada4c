"""Every op of the integer graph: its parameters, shape and bound rule, and reference meaning."""

from __future__ import annotations

from edgeflow.ir.graph import Op
from edgeflow.ops.add import Add
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool

OPS: dict[str, type[Op]] = {
    "Conv": Conv,
    "Dense": Dense,
    "Add": Add,
    "MaxPool": MaxPool,
    "SumPool": SumPool,
    "Reshape": Reshape,
    "Requant": Requant,
}
