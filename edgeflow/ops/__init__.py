"""Every op of the integer graph: its parameters, shape and bound rule, and reference meaning."""

from __future__ import annotations

from edgeflow.ir.graph import Op
from edgeflow.ops.add import Add
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.slicing import Slice
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.threshold import Threshold
from edgeflow.ops.transpose import Transpose
from edgeflow.ops.upsample import Upsample

OPS: dict[str, type[Op]] = {
    "Conv": Conv,
    "Dense": Dense,
    "Add": Add,
    "Multiply": Multiply,
    "Concat": Concat,
    "MaxPool": MaxPool,
    "SumPool": SumPool,
    "Reshape": Reshape,
    "Transpose": Transpose,
    "Pad": Pad,
    "Slice": Slice,
    "Upsample": Upsample,
    "ArgMax": ArgMax,
    "Requant": Requant,
    "Lut": Lut,
    "Threshold": Threshold,
    "Softmax": Softmax,
}
