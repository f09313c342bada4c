"""ADD, SUB and MUL operators for joins in a kernel's form, and for those with a constant or a repeated input."""

from __future__ import annotations

from edgeflow.backends.tflm.chains import Join
from edgeflow.backends.tflm.constants import Constant
from edgeflow.backends.tflm.elementwise import SUM_KERNELS, Elementwise
from edgeflow.backends.tflm.joins import is_own
from edgeflow.backends.tflm.model import JoinOptions, Kernel, Quantization
from edgeflow.backends.tflm.sums import result_storage
from edgeflow.backends.tflm.widths import Width
from edgeflow.backends.tflm.writer import NARROWER, Refused, Writer, file_shape
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.requant import Requant


def own_joins(graph: Graph, joins: dict[str, Join], width: Width) -> dict[str, Join]:
    """Those that are what a kernel computes."""
    return {
        name: join
        for name, join in joins.items()
        if is_own(join, [graph.tensor(one).label for one in join.sources], width)
    }


def lower_join(writer: Writer, join: Join) -> None:
    """Adds the operator for a join in a kernel's form. Raises Refused."""
    after, op = join.after, join.node.op
    assert after is not None
    assert isinstance(after.op, Requant)
    places = tuple(writer.place(one)[0] for one in join.sources)
    storage, activation = result_storage(after, after.op, writer.width)
    kernel = SUM_KERNELS[op.signs] if isinstance(op, Add) else Kernel.MUL
    result = writer.result(after, storage)
    writer.operator(kernel, places, result, JoinOptions(activation), after.layer, join.node.type.size)


def lower_elementwise(writer: Writer, found: Elementwise) -> None:
    """Adds the operator for a sum or product with a constant or a repeated input. Raises Refused."""
    after = found.after
    assert isinstance(after.op, Requant)
    layer = after.layer
    places = tuple(_operand(writer, one, layer) for one in found.operands)
    storage, activation = result_storage(after, after.op, writer.width)
    result = writer.result(after, storage)
    writer.operator(found.kernel, places, result, JoinOptions(activation), layer, after.type.size)


def _operand(writer: Writer, operand: str | Constant, layer: str) -> int:
    """The number of a tensor that an operator reads."""
    if isinstance(operand, str):
        return writer.place(operand)[0]
    values, storage = operand.values, operand.storage
    stored = frozen_array(values + storage.shift).reshape(file_shape(values.shape))
    quantization = Quantization((operand.scale,), storage.zero_point)
    return writer.constant(f"{layer}/constant", stored, storage.width.kind, quantization)


def refuse_join(writer: Writer, join: Join) -> Refused:
    """Why a join has no kernel; to be raised."""
    for one in join.sources:
        writer.place(one)
    node = join.node
    what = "add" if isinstance(node.op, Add) else "multiply"
    if join.after is None:
        bits = node.type.bits
        return Refused(f"{what} to {bits} bits: TFLite keeps 8 between layers", NARROWER)
    return Refused(f"{what} like this: its kernel rescales by the ratio of the units alone, and rounds to the nearest")
