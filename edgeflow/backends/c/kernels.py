"""The table of what makes each op's kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeflow.backends.c import products, thumb
from edgeflow.backends.c.dsp import dense, layers
from edgeflow.backends.c.dsp.total import make_word_total
from edgeflow.backends.c.elements import make_element
from edgeflow.backends.c.epilogue import POINTWISE
from edgeflow.backends.c.kernel import Context, Kernel, Maker
from edgeflow.backends.c.largest import make_largest
from edgeflow.backends.c.lower import Buffer, Step, sums_everything
from edgeflow.backends.c.moves import MOVES, make_move
from edgeflow.backends.c.mve import layers as mve
from edgeflow.backends.c.mve.total import make_total as make_vector_total
from edgeflow.backends.c.packed import make_packed_conv, make_packed_dense
from edgeflow.backends.c.planes import make_plane
from edgeflow.backends.c.rows import make_argmax, make_softmax
from edgeflow.backends.c.windows import make_conv, make_depthwise, make_pool, make_total
from edgeflow.ir.graph import Node
from edgeflow.ops.add import Add
from edgeflow.ops.argmax import ArgMax
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.softmax import Softmax
from edgeflow.ops.sumpool import SumPool


def make_kernel(step: Step, name: str, context: Context) -> Kernel:
    """The kernel of a step, under a C identifier."""
    inputs = tuple(context.lowered.buffer(one) for one in step.reads)
    y = context.lowered.buffers[step.result]
    if step.node is None:
        return Kernel(name=name, layer=step.layer, what="copy", template="copy", inputs=inputs, y=y, uses_string=True)
    maker = make_total if sums_everything(context.shapes, step.node) else KERNELS[type(step.node.op)]
    for special in SPECIAL.get(type(step.node.op), ()):
        chosen = special(step, step.node, name, context, inputs, y)
        if chosen is not None:
            return chosen
    return maker(step, step.node, name, context, inputs, y)


SpecialMaker = Callable[[Step, Node, str, Context, tuple[Buffer, ...], Buffer], Kernel | None]
"""A maker for some cores and numbers only: None where it cannot make the kernel."""

SPECIAL: Mapping[type, tuple[SpecialMaker, ...]] = {
    Conv: (mve.make_conv, layers.make_conv, make_packed_conv, thumb.make_conv, products.make_conv, make_depthwise),
    Dense: (mve.make_dense, dense.make_dense, make_packed_dense, thumb.make_dense),
    Add: (make_plane,),
    MaxPool: (make_largest,),
    SumPool: (make_vector_total, make_word_total),
}
"""Makers that are asked before the plain ones, the first that can makes the kernel."""

KERNELS: Mapping[type, Maker] = {
    Conv: make_conv,
    Dense: products.make_dense,
    Add: make_element,
    Multiply: make_element,
    MaxPool: make_pool,
    SumPool: make_pool,
    ArgMax: make_argmax,
    Softmax: make_softmax,
    **dict.fromkeys(POINTWISE, make_element),
    **dict.fromkeys(MOVES, make_move),
}
