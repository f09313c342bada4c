"""A graph as TFLite-Micro can compute it: int8 tensors, and its own arithmetic in every Requant.

What this pass cannot turn into kernels it leaves as it is, and `check` says so. Running it again changes nothing.

Rounding. A kernel rounds `factor x sum` half away from zero (`arithmetic.py`). With a power of two as factor the
first of its two stages is kept exact (`JUST_BELOW_ONE`), so that every value but a tie rounds as in the model at any
weight width. Behind a clamp at zero only ties above zero matter, and the bias moves them: half up and half away need
nothing; floor subtracts half a unit. Where results below zero count, weights of up to 7 bits are doubled, and odd sums
have no ties (`offties.py`). Half to even no kernel can do (its thresholds lie unevenly): of every two channels one
rounds ties up and one, whose bias loses 1, rounds them down, so that what moves cancels in the next layer's sums
instead of adding up. A student without ties keeps all its outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeflow.backends.tflm.arithmetic import (
    INT8_HI,
    INT8_LO,
    JUST_BELOW_ONE,
    LARGEST_EXPONENT,
    Multiplier,
    along_channels,
    effective,
    is_clamp,
    kernel_multipliers,
    kernel_requant,
    only_value,
    scale_of,
    weight_scale,
)
from edgeflow.backends.tflm.chains import Fused, WideOutput, find_fused, linear
from edgeflow.backends.tflm.offties import off_ties
from edgeflow.backends.tflm.storage import Clamp, kernel_clamp, zero_of
from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds, Graph, Node
from edgeflow.ir.types import Dyadic, IntArray, Label, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder

_MAX, _MIN = np.iinfo(np.int64).max, np.iinfo(np.int64).min


def adapt(graph: Graph) -> Graph:
    """The graph with every Requant in a kernel's form, and 8-bit outputs where the model ends in plain sums."""
    return graph if graph.states else _Adapter(graph).run()


@dataclass(frozen=True)
class _Kernel:
    """A linear op with its own rounding put right, and the Requant (perhaps a clamp too) that follows it."""

    op: Conv | Dense | SumPool
    label: Label
    requant: Requant
    clamp: Requant | None


class _Adapter:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._builder = GraphBuilder(graph.name, graph.meaning)
        self._names: dict[str, str] = {}

    def run(self) -> Graph:
        builder, fused = self._builder, find_fused(self._graph)
        for source in self._graph.inputs:
            self._names[source.name] = builder.input(source.name, source.type, source.label)
        done: set[str] = set()
        for node in self._graph.nodes:
            if node.name in done:
                continue
            match fused.get(node.name):
                case Fused() as found:
                    done |= self._fused(node, found)
                case WideOutput() as found:
                    done |= self._wide_output(node, found)
                case None:
                    self._alone(node)
        for output in self._graph.outputs:
            builder.output(output.name, self._names[output.tensor], logits=output.logits)
        return builder.finish()

    def _inputs(self, node: Node) -> tuple[str, ...]:
        return tuple(self._names[name] for name in node.inputs)

    def _alone(self, node: Node) -> None:
        """A node that no kernel fuses. A Requant among them needs a kernel of its own: a depthwise 1x1 Conv of ones."""
        op = node.op
        if isinstance(op, Requant) and node.type.shape and not self._only_clamps(node, op) and self._as_conv(node, op):
            return
        add = self._builder.add
        try:
            self._names[node.name] = add(node.op, self._inputs(node), node.label, node.layer, node.name)
        except InvalidGraph:  # a rounding has moved an input out of what the op takes, a table's range say
            inputs = tuple(self._as_before(name, node) for name in node.inputs)
            self._names[node.name] = add(node.op, inputs, node.label, node.layer, node.name)

    def _as_before(self, name: str, reader: Node) -> str:
        """A tensor, clamped to the interval that it has in the model."""
        at, kind = self._names[name], self._graph.tensor(name).type
        found, label = self._builder.type(at), self._builder.label(at)
        clamp = _clamp(kind.lo, kind.hi, Clamp(found.lo, found.hi, rest=True))
        return at if clamp is None else self._builder.add(clamp, (at,), label, reader.layer, f"{name}_within")

    def _only_clamps(self, node: Node, requant: Requant) -> bool:
        """Whether a Requant leaves values within its clamp as they are, their unit included."""
        return is_clamp(requant) and scale_of(node.label) == scale_of(self._builder.label(self._names[node.inputs[0]]))

    def _as_conv(self, node: Node, requant: Requant) -> bool:
        builder, (source,) = self._builder, self._inputs(node)
        label, shape = builder.label(source), node.type.shape
        rank = max(len(shape), 2)
        kind = replace(node.type, shape=(1,) * (rank - len(shape)) + shape)
        spread = Node(f"{node.name}_in", _identity(shape[-1], rank - 1), node.inputs, kind, label, node.layer)
        kernel = self._kernel(spread, replace(node, type=kind, op=requant))
        kind = builder.type(source)
        if kernel is None or len(shape) > 3 or kind.hi - kind.lo > INT8_HI - INT8_LO:
            return False
        if len(shape) < 2:
            source = builder.add(Reshape(spread.type.shape), (source,), label, node.layer, f"{node.name}_row")
        sums = builder.add(kernel.op, (source,), kernel.label, node.layer, spread.name)
        flat = len(shape) < 2
        at = self._requant(f"{node.name}_wide" if flat else node.name, node, sums, kernel.requant, kernel.clamp)
        if flat:
            at = builder.add(Reshape(shape), (at,), node.label, node.layer, node.name)
        self._names[node.name] = at
        return True

    def _requant(self, name: str, after: Node, sums: str, requant: Requant, clamp: Requant | None) -> str:
        """Adds a Requant, and perhaps a clamp behind it, of which the last takes the name."""
        first = name if clamp is None else f"{name}_unclamped"
        at = self._builder.add(requant, (sums,), after.label, after.layer, first)
        return at if clamp is None else self._builder.add(clamp, (at,), after.label, after.layer, name)

    def _fused(self, node: Node, found: Fused) -> set[str]:
        """A linear op, its Requant, and what stood between them (which commutes with the Requant) after it."""
        kernel = self._kernel(node, found.requant)
        if kernel is None:
            self._alone(node)
            return set()
        sums = self._builder.add(kernel.op, self._inputs(node), kernel.label, node.layer, node.name)
        name = f"{node.name}_act" if found.between else found.requant.name
        after = replace(found.requant, layer=node.layer if found.between else found.requant.layer)
        at = self._requant(name, after, sums, kernel.requant, kernel.clamp)
        self._names[found.requant.name] = self._follow(at, found.between, after.label)
        return {found.requant.name, *(one.name for one in found.between)}

    def _follow(self, at: str, nodes: Sequence[Node], label: Label) -> str:
        """A chain of nodes behind a tensor, in the label that holds there. Returns the last tensor."""
        for one in nodes:
            at = self._builder.add(one.op, (at,), label, one.layer, one.name)
            self._names[one.name] = at
        return at

    def _kernel(self, node: Node, after: Node) -> _Kernel | None:
        """The kernel for an op and the Requant behind it, kept off ties where that makes it exact."""
        source = self._names[node.inputs[0]]
        pair = off_ties(node, after, self._builder.bounds(source), self._builder.type(source).shape)
        found = None if pair is None else self._rounding_kernel(*pair)
        return found or self._rounding_kernel(node, after)

    def _rounding_kernel(self, node: Node, after: Node) -> _Kernel | None:
        assert isinstance(after.op, Requant)
        source = self._names[node.inputs[0]]
        scale, result = scale_of(self._builder.label(source)), scale_of(after.label)
        wanted = _multipliers(after.op, node, scale, result)
        if wanted is None or not linear(node.op):
            return None
        op, requant = node.op, after.op
        if kernel_multipliers(requant, len(node.type.shape), len(wanted)) is None:
            nudge = _nudges(requant, node, after.label)
            if nudge is None:
                return None
            op = _biased(op, nudge, node.type.shape[-1])
            if isinstance(after.label, Dyadic):
                requant = replace(requant, offset=frozen_array([0]))
        bounds = self._bounds(op, source)
        found = None if bounds is None else _with_clamp(requant, after, wanted, bounds, relu=True)
        return None if found is None else _Kernel(op, node.label, *found)

    def _bounds(self, op: Conv | Dense | SumPool, source: str) -> Bounds | None:
        try:
            return op.bounds((self._builder.bounds(source),), (self._builder.type(source).shape,))
        except InvalidGraph:
            return None

    def _wide_output(self, node: Node, found: WideOutput) -> set[str]:
        """Sums that are the model's output become 8 bits in the finest power-of-two unit that holds them all."""
        self._alone(node)
        sums = self._names[node.name]
        source, label = self._builder.label(self._names[node.inputs[0]]), node.label
        scale = scale_of(source)
        fracs = label.frac if isinstance(label, Dyadic) else None
        if fracs is None or scale is None:
            return set()
        bounds, channels = self._builder.bounds(sums), node.type.shape[-1]
        each = np.broadcast_to(np.asarray(fracs, dtype=np.int64), (channels,))
        frac = _finest(bounds, each, len(node.type.shape))
        if frac is None:
            return set()
        wanted = tuple(_power_of_two(frac - int(one), scale, 2.0**-frac) for one in each)
        plain = kernel_requant(wanted, 0, _MIN, _MAX)
        after = replace(node, op=plain, label=Dyadic(frac))
        kernel = _with_clamp(plain, after, wanted, bounds, relu=False)
        if kernel is None:
            return set()
        self._names[node.name] = self._requant(f"{node.name}_int8", after, sums, *kernel)
        for one in found.after:
            self._names[one.name] = self._builder.add(one.op, self._inputs(one), after.label, one.layer, one.name)
        return {one.name for one in found.after}


def _identity(channels: int, axes: int) -> Conv:
    """The depthwise Conv that changes nothing: a kernel's place to requantize."""
    ones, zeros = frozen_array(np.ones((1,) * (axes + 1) + (channels,), dtype=np.int64)), frozen_array([0] * channels)
    return Conv(ones, zeros, (1,) * axes, ((0, 0),) * axes, (1,) * axes, channels)


def _multipliers(
    requant: Requant, node: Node, source: float | None, result: float | None
) -> tuple[Multiplier, ...] | None:
    """What the kernel will multiply by, one a channel; None where the file cannot say the Requant's factors."""
    rank, channels = len(node.type.shape), node.type.shape[-1]
    if source is None or result is None or requant.bias.any():
        return None
    known = kernel_multipliers(requant, rank, channels)
    if known is not None:
        return known
    factors = _factors(requant, rank, channels)
    if factors is None:
        return None
    last = requant.stages[-1].rounding
    found: list[Multiplier] = []
    for numerator, shift in factors:
        if numerator <= 0:
            return None
        power = numerator.bit_length() - 1 - shift
        if numerator & (numerator - 1) == 0:
            one_shift = power == -1 and last is Rounding.HALF_UP
            found.append(_power_of_two(power, source, result, twice=one_shift))
        else:
            found.append(effective(source, weight_scale(numerator / (1 << shift), source, result), result))
    return tuple(found) if all(one.usable for one in found) else None


def _power_of_two(power: int, source: float, result: float, *, twice: bool = False) -> Multiplier:
    """The multiplier for 2**power. `twice` allows the first stage to round: right for half up by one bit."""
    factor = 2.0**power if power >= 0 or twice else JUST_BELOW_ONE * 2.0**power
    return effective(source, weight_scale(factor, source, result), result)


def _factors(requant: Requant, rank: int, channels: int) -> list[tuple[int, int]] | None:
    """(numerator, right shift) a channel; None when they vary from position to position."""
    arrays = [requant.pre, requant.multiplier, *(stage.shift for stage in requant.stages)]
    parts = [along_channels(one, rank, channels) for one in arrays]
    if any(part is None for part in parts):
        return None
    columns = zip(*(part for part in parts if part is not None), strict=True)
    return [(int(m) << int(up), sum(int(one) for one in down)) for up, m, *down in columns]


def _nudges(requant: Requant, node: Node, label: Label) -> IntArray | None:
    """What to add to each channel's bias so that half away from zero rounds as the Requant does (module docstring).

    An offset moves into the bias as well, unless the label's zero point says it. None where it cannot.
    """
    rank, channels = len(node.type.shape), node.type.shape[-1]
    factors = _factors(requant, rank, channels)
    offset = along_channels(requant.offset, rank, channels)
    lo = along_channels(requant.lo, rank, channels)
    if factors is None or offset is None or lo is None:
        return None
    rounding = requant.stages[-1].rounding
    found: list[int] = []
    for channel, ((numerator, shift), plus, least) in enumerate(zip(factors, offset, lo, strict=True)):
        ties_down = channel % 2 == 1 and int(least) - int(plus) >= 0
        nudge = _nudge(rounding, numerator, shift, ties_down=ties_down)
        if plus and isinstance(label, Dyadic):
            if (int(plus) << shift) % numerator:
                return None
            nudge += (int(plus) << shift) // numerator
        found.append(nudge)
    return frozen_array(found)


def _nudge(rounding: Rounding, numerator: int, shift: int, *, ties_down: bool) -> int:
    exact = numerator & (numerator - 1) == 0
    unit = (1 << shift) / numerator
    if unit <= 1:
        return 0
    match rounding:
        case Rounding.FLOOR:
            return -int(unit / 2 + 0.5)
        case Rounding.HALF_EVEN:
            return -1 if exact and ties_down else 0
        case Rounding.HALF_UP | Rounding.HALF_AWAY:
            return 0


def _biased(op: Conv | Dense | SumPool, nudge: IntArray, channels: int) -> Conv | Dense | SumPool:
    """The op with the nudges in its bias. A SumPool has none, so it becomes the depthwise Conv that it is."""
    if not nudge.any():
        return op
    if isinstance(op, SumPool):
        ones = frozen_array(np.ones((*op.window, 1, channels), dtype=np.int64))
        return Conv(ones, nudge, op.strides, op.pads, (1,) * len(op.window), channels)
    return replace(op, bias=frozen_array(op.bias + nudge))


def _with_clamp(
    requant: Requant, node: Node, wanted: Sequence[Multiplier], source: Bounds, *, relu: bool
) -> tuple[Requant, Requant | None] | None:
    """The Requant as a kernel computes it, and a clamp for what the kernel's own clamp leaves over."""
    lo, hi, offset = (only_value(one) for one in (requant.lo, requant.hi, requant.offset))
    zero = zero_of(node.label)
    if lo is None or hi is None or offset != zero:
        return None
    reach = _reach(kernel_requant(wanted, zero, _MIN, _MAX), source)
    found = None if reach is None else kernel_clamp((lo, hi), reach, zero, relu=relu)
    if found is None:
        return None
    return kernel_requant(wanted, zero, found.lo, found.hi), _clamp(lo, hi, found)


def _clamp(lo: int, hi: int, found: Clamp) -> Requant | None:
    if not found.rest:
        return None
    zero = frozen_array([0])
    stages = (Stage(zero, Rounding.FLOOR),)
    return Requant(
        zero, frozen_array([1]), stages, zero, frozen_array([max(lo, found.lo)]), frozen_array([min(hi, found.hi)])
    )


def _reach(requant: Requant, source: Bounds) -> tuple[int, int] | None:
    """The interval of a Requant's result without its clamp."""
    try:
        products = requant.products(source)
    except InvalidGraph:
        return None
    return int(requant.finish(products.lo).min()), int(requant.finish(products.hi).max())


def _finest(bounds: Bounds, fracs: IntArray, rank: int) -> int | None:
    """The finest frac in which every channel's rounded interval spans at most 256 values."""
    lo = np.broadcast_to(bounds.lo.reshape(-1, bounds.lo.shape[-1]).min(axis=0), fracs.shape)
    hi = np.broadcast_to(bounds.hi.reshape(-1, bounds.hi.shape[-1]).max(axis=0), fracs.shape)
    for frac in range(int(fracs.max()), int(fracs.min()) - 63, -1):
        drop = fracs - frac
        if (drop < -LARGEST_EXPONENT).any():
            continue
        ends = [_rounded(end, drop) for end in (lo, hi)]
        least, most = min(int(ends[0].min()), 0), max(int(ends[1].max()), 0)
        if most - least <= INT8_HI - INT8_LO:
            return frac
    return None


def _rounded(values: IntArray, drop: IntArray) -> IntArray:
    """values / 2**drop, half away from zero; a negative drop shifts left."""
    up, down = np.maximum(-drop, 0), np.maximum(drop, 0)
    shifted = values << up
    half = np.where(down > 0, np.int64(1) << np.maximum(down - 1, 0), 0)
    signs: IntArray = np.where(shifted < 0, np.int64(-1), np.int64(1))
    return signs * ((np.abs(shifted) + half) >> down)
