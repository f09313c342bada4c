"""ADD, SUB and MUL with a constant, or of inputs that are repeated along an axis, as the TFLite door leaves them.

A constant of a sum has gone into the bias of the Requant behind it, one of a product into its factors; what a kernel
broadcasts is an Upsample, or a Dense of ones along the channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.tflm.arithmetic import (
    INT32_HI,
    Multiplier,
    only_value,
    quantize_multiplier,
    same_but_clamps,
    scale_of,
    sum_input,
)
from edgeflow.backends.tflm.chains import joining, linear
from edgeflow.backends.tflm.constants import Constant, factored, stored_constant, sum_constant
from edgeflow.backends.tflm.model import Kernel
from edgeflow.backends.tflm.rescale import quantize_kernel
from edgeflow.backends.tflm.storage import input_storage, zero_of
from edgeflow.backends.tflm.widths import INT8, Width
from edgeflow.ir.graph import Graph, Input, Node, State
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.ops.upsample import Upsample

SUM_KERNELS: Mapping[tuple[int, ...], Kernel] = {(1, 1): Kernel.ADD, (1, -1): Kernel.SUB}
"""By the signs of an Add."""
_MOST_AXES = 3
"""Of what a kernel broadcasts, without the batch."""


@dataclass(frozen=True)
class Elementwise:
    """One operator: what it reads (tensors of the graph, of which one may be a constant), the nodes that it stands for,
    and the Requant behind them that makes its result."""

    kernel: Kernel
    operands: tuple[str | Constant, ...]
    nodes: tuple[Node, ...]
    after: Node


def find_elementwise(graph: Graph, width: Width) -> dict[str, Elementwise]:
    """Every such operator by its result's name."""
    search = _Search(graph, width)
    found = (search.at(node, node.op) for node in graph.nodes if isinstance(node.op, Requant))
    return {one.after.name: one for one in found if one is not None}


def covered(found: Mapping[str, Elementwise]) -> set[str]:
    """The nodes that such operators do away with."""
    return {node.name for one in found.values() for node in one.nodes}


@dataclass(frozen=True)
class _Branch:
    """A stored tensor, what is done to it, and what that is repeated by; a bias found there, a value or a channel."""

    source: Input | State | Node
    part: Node | None
    stretches: tuple[Node, ...]
    bias: IntArray

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.stretches if self.part is None else (self.part, *self.stretches)

    @property
    def scale(self) -> float:
        return scale_of(self.source.label) or 0.0

    def values(self) -> IntArray:
        """All that the source may hold."""
        return np.arange(self.source.type.lo, self.source.type.hi + 1, dtype=np.int64)


class _Search:
    def __init__(self, graph: Graph, width: Width) -> None:
        self._graph, self._width = graph, width
        self._makers = {node.name: node for node in graph.nodes}
        self._results = {output.tensor for output in graph.outputs}

    def at(self, after: Node, op: Requant) -> Elementwise | None:
        """The operator whose result `after` makes; None for any other Requant."""
        form = _Form.of(after, op)
        if form is None or not 0 < len(after.type.shape) <= _MOST_AXES or not self._is_stored(after):
            return None
        (name,) = after.inputs
        sums = self._makers.get(name)
        if sums is not None and isinstance(sums.op, Add):
            return self._sum_of_tensors(form, sums, sums.op) if self._alone(name) else None
        return self._sum(form, name) or self._product(form, name)

    def _alone(self, name: str) -> bool:
        """Whether a tensor is read once, and is no output."""
        return len(self._graph.readers(name)) == 1 and name not in self._results

    def _stretched(self, name: str) -> tuple[str, tuple[Node, ...], IntArray]:
        """What a tensor repeats, by what, and what is added to it on the way."""
        nodes: list[Node] = []
        bias = frozen_array([0])
        while (node := self._makers.get(name)) is not None and self._alone(name) and self._repeats(node):
            if isinstance(node.op, Dense):
                if nodes and node.op.bias.any():
                    break
                bias = node.op.bias
            nodes.insert(0, node)
            (name,) = node.inputs
        return name, tuple(nodes), bias

    def _repeats(self, node: Node) -> bool:
        """Whether a node does nothing but repeat its input along axes of length 1 (and add a bias)."""
        shape = self._graph.tensor(node.inputs[0]).type.shape
        match node.op:
            case Dense(weight, _):
                return shape[-1] == 1 and bool((weight == 1).all())
            case Upsample(factors, zeros):
                return not zeros and all(n == 1 or f == 1 for n, f in zip(shape[:-1], factors, strict=True))
            case _:
                return False

    def _branch(self, name: str, *, wide: bool) -> _Branch | None:
        """A stored tensor and what stands between it and `name`; `wide`: a Requant in front of what repeats it."""
        name, stretches, bias = self._stretched(name)
        part = self._makers.get(name) if wide else None
        if wide:
            if part is None or not isinstance(part.op, Requant) or not self._alone(name):
                return None
            (name,) = part.inputs
        source, maker = self._graph.tensor(name), self._makers.get(name)
        sums = maker is not None and (linear(maker.op) or joining(maker.op))
        return None if sums or not self._is_stored(source) else _Branch(source, part, stretches, bias)

    def _is_stored(self, tensor: Input | State | Node) -> bool:
        """Whether the file can hold a tensor."""
        kind, zero = tensor.type, zero_of(tensor.label)
        return scale_of(tensor.label) is not None and input_storage(kind.lo, kind.hi, zero, self._width) is not None

    def _sum_of_tensors(self, form: _Form, sums: Node, op: Add) -> Elementwise | None:
        """ADD or SUB of two tensors, of which one is repeated."""
        branches = [one for one in (self._branch(name, wide=True) for name in sums.inputs) if one is not None]
        kernel, factor = SUM_KERNELS.get(op.signs), form.single()
        if len(branches) != 2 or kernel is None or factor is None or factor.sign < 0 or form.bias.any():
            return None
        if not any(one.stretches for one in branches) or any(one.bias.any() for one in branches):
            return None
        twice = 2.0 * max(one.scale for one in branches)
        if factor.total != self._total(twice, form):
            return None
        if not all(self._is_sum_input(one, twice, factor.power) for one in branches):
            return None
        nodes = (*branches[0].nodes, *branches[1].nodes, sums)
        return Elementwise(kernel, tuple(one.source.name for one in branches), nodes, form.after)

    def _sum(self, form: _Form, name: str) -> Elementwise | None:
        """ADD or SUB of a tensor and a constant."""
        branch, factor = self._branch(name, wide=True), form.single()
        if branch is None or factor is None:
            return None
        steps, rest = np.divmod(form.bias, factor.total.significand)
        if rest.any():
            return None
        added = _with_axes(steps + factor.sign * (branch.bias << factor.power), len(form.after.type.shape))
        for twice in self._twices(branch, form, factor.total):
            if not self._is_sum_input(branch, twice, factor.power):
                continue
            for kernel, sign, first in _ORDERS[factor.sign]:
                constant = sum_constant(sign * added, branch.scale, twice, self._width)
                if constant is not None:
                    operands = (constant, branch.source.name) if first else (branch.source.name, constant)
                    return Elementwise(kernel, operands, branch.nodes, form.after)
        return None

    def _total(self, twice: float, form: _Form) -> Multiplier:
        """ADD's multiplier for its result."""
        return quantize_multiplier(twice / ((1 << self._width.sum_left_shift) * form.scale))

    def _twices(self, branch: _Branch, form: _Form, total: Multiplier) -> list[float]:
        """Twice the larger scale: the tensor's, or that of the constant, which the multiplier tells."""
        told = np.float32(total.real * form.scale * (1 << (self._width.sum_left_shift - 1)))
        ends = (np.nextafter(told, np.float32(end)) for end in (0.0, np.inf))
        scales = [branch.scale, *(float(one) for one in (told, *ends) if one > branch.scale)]
        return [2.0 * one for one in scales if self._total(2.0 * one, form) == total]

    def _is_sum_input(self, branch: _Branch, twice: float, power: int) -> bool:
        """Whether a part gives what ADD makes of its input, less the `power` lowest bits, which are 0."""
        assert branch.part is not None
        op, values = branch.part.op, branch.values()
        assert isinstance(op, Requant)
        if any(only_value(one) is None for one in op.arrays()):
            return False
        factor, zero = quantize_multiplier(branch.scale / twice), zero_of(branch.source.label)
        kernel = sum_input(factor, zero, self._width.sum_left_shift).evaluate((values,), ())
        return bool((op.evaluate((values,), ()) << power == kernel).all())

    def _product(self, form: _Form, name: str) -> Elementwise | None:
        """MUL of a tensor and a constant: one Requant or two."""
        before, nodes = self._makers.get(name), tuple[Node, ...]()
        products, bias = form.factors, form.bias
        if before is not None and isinstance(before.op, Requant) and self._alone(name):
            plain = _without_loss(before.op, self._graph.tensor(before.inputs[0]))
            if plain is not None:
                products, bias, nodes = plain[0] * products, plain[1] * products + bias, (before,)
                (name,) = before.inputs
        branch = self._branch(name, wide=False)
        if branch is None or branch.bias.any() or self._is_quantize(form, branch):
            return None
        zero, rank = zero_of(branch.source.label), len(form.after.type.shape)
        if (bias != -zero * products).any():
            return None
        for values, factor in factored(products, form.shift, self._width):
            scale = INT8.weight_scale(factor, branch.scale, form.scale)
            constant = None if scale is None else stored_constant(_with_axes(values, rank), scale, self._width)
            reach = int(np.abs(branch.values() - zero).max()) * int(np.abs(values).max())
            if constant is not None and reach << max(factor.exponent, 0) <= INT32_HI:
                operands = branch.source.name, constant
                return Elementwise(Kernel.MUL, operands, (*branch.stretches, *nodes), form.after)
        return None

    def _is_quantize(self, form: _Form, branch: _Branch) -> bool:
        """Whether a Requant is QUANTIZE's own."""
        kernel = quantize_kernel(branch.source.label, form.after.label, self._width)
        return kernel is not None and not branch.nodes and same_but_clamps(form.op, kernel)


@dataclass(frozen=True)
class _Factor:
    """The one factor of a result: its sign, the multiplier, and the common bits that a pass has moved there."""

    sign: int
    total: Multiplier
    power: int


@dataclass(frozen=True, eq=False)
class _Form:
    """A Requant with the two roundings of a kernel, whatever its factors and bias; `scale` is the result's."""

    after: Node
    op: Requant
    factors: IntArray
    shift: int
    bias: IntArray
    scale: float

    @staticmethod
    def of(after: Node, op: Requant) -> _Form | None:
        """None for any other Requant."""
        if [one.rounding for one in op.stages] != [Rounding.HALF_UP, Rounding.HALF_AWAY]:
            return None
        first, second = (only_value(one.shift) for one in op.stages)
        scale = scale_of(after.label)
        if first != 31 or second is None or scale is None or only_value(op.offset) != zero_of(after.label):
            return None
        return _Form(after, op, op.multiplier << op.pre, second, op.bias, scale)

    def single(self) -> _Factor | None:
        """The factor, where there is but one."""
        factor = only_value(self.factors)
        power = 0 if factor is None else abs(factor).bit_length() - 31
        if factor is None or power < 0 or factor % (1 << power):
            return None
        return _Factor(1 if factor > 0 else -1, Multiplier(abs(factor) >> power, -self.shift), power)


_ORDERS: Mapping[int, tuple[tuple[Kernel, int, bool], ...]] = {
    1: ((Kernel.ADD, 1, False), (Kernel.SUB, -1, False)),
    -1: ((Kernel.SUB, 1, True),),
}
"""By the sign of the tensor: the operators, the sign that they give their constant, and whether that comes first."""


def _without_loss(op: Requant, source: Input | State | Node) -> tuple[IntArray, IntArray] | None:
    """What a Requant multiplies by and what it adds, where that is all that it does."""
    if op.offset.any() or any(stage.shift.any() for stage in op.stages):
        return None
    factors = op.multiplier << op.pre
    ends = [factors * end + op.bias for end in (source.type.lo, source.type.hi)]
    inside = all((op.lo <= one).all() and (one <= op.hi).all() for one in ends)
    return (factors, op.bias) if inside else None


def _with_axes(values: IntArray, rank: int) -> IntArray:
    """With as many axes as the result."""
    return values.reshape((1,) * (rank - values.ndim) + values.shape)
