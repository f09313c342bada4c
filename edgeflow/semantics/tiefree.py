"""Which roundings can meet a tie: a value that lies exactly between two results, where targets disagree.

Every tensor's channels are known modulo a power of two (`x = residue mod 2**known`): a bias that is odd in a unit
finer than the products keeps every sum odd. A rounding is free of ties when no value of its input's proven interval
with its proven residue lies between two results. Half to even, half up and half away from zero then agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from edgeflow.ir.graph import Bounds, Graph, Node, Op
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import per_channel
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.pad import Pad
from edgeflow.ops.requant import Requant, Rounding
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.ops.upsample import Upsample
from edgeflow.semantics.verify import verify

MOST_KNOWN = 62
"""As many bits as values have: all is known."""


@dataclass(frozen=True, slots=True)
class Tie:
    """A Requant's input value of one channel that a rounding may meet half-way between two results."""

    node: str
    layer: str
    channel: int
    value: int


@dataclass(frozen=True, slots=True)
class Residue:
    """x = value mod 2**known, in one channel. `known` 0 says nothing, 62 that x is `value`."""

    known: int
    value: int

    def to(self, known: int) -> Residue:
        """With no more known than given."""
        most = min(known, self.known)
        return Residue(most, self.value % (1 << most) if most < MOST_KNOWN else self.value)


Residues: TypeAlias = tuple[Residue, ...]
"""One entry a channel (the last axis); a tensor without axes has one."""
_NOTHING = Residue(0, 0)


@dataclass(frozen=True)
class _Source:
    """What an op reads."""

    shape: Shape
    bounds: Bounds


def ties(graph: Graph) -> tuple[Tie, ...]:
    """The ties that some input might reach, one example a channel; empty proves that there are none.

    A tie counts only where the rounding decides it: not where the clamp gives both results the same.
    Raises InvalidGraph for a graph that breaks its rules.
    """
    return tuple(_found(graph))


def rounding_nodes(graph: Graph) -> tuple[Node, ...]:
    """The Requants that round to the nearest: what `ties` looks at."""
    return tuple(node for node in graph.nodes if isinstance(node.op, Requant) and _rounds(node.op))


def tie_summary(graph: Graph) -> str:
    """One line: how many roundings never meet a tie, and which layers' may."""
    nodes, found = rounding_nodes(graph), ties(graph)
    guilty = {tie.node: tie.layer for tie in found}
    free = len(nodes) - len(guilty)
    if not guilty:
        return f"tie-free: none of {len(nodes)} roundings can meet a tie"
    layers = ", ".join(dict.fromkeys(guilty.values()))
    return f"{free} of {len(nodes)} roundings are tie-free; ties can occur in: {layers}"


def _found(graph: Graph) -> Iterator[Tie]:
    bounds = verify(graph)
    shapes = {one.name: one.type.shape for one in graph.tensors()}
    known: dict[str, Residues] = {}
    for source in (*graph.inputs, *graph.states):
        nothing = (_NOTHING,) * _channels(source.type.shape)
        known[source.name] = _with_constants(nothing, bounds[source.name], source.type.shape)
    for node in graph.nodes:
        given = [known[name] for name in node.inputs]
        if isinstance(node.op, Requant):
            for channel, value in _requant_ties(node.op, given[0], bounds[node.inputs[0]], node.type.shape):
                yield Tie(node.name, node.layer, channel, value)
        rule = _RULES.get(type(node.op))
        sources = [_Source(shapes[name], bounds[name]) for name in node.inputs]
        result = rule(node, given, sources) if rule else (_NOTHING,) * _channels(node.type.shape)
        known[node.name] = _with_constants(result, bounds[node.name], node.type.shape)


def _channels(shape: Shape) -> int:
    return shape[-1] if shape else 1


def _with_constants(residues: Residues, bounds: Bounds, shape: Shape) -> Residues:
    """A channel whose bounds leave one value is known."""
    lo, hi = _ends(bounds, shape)
    if (lo < hi).all():
        return residues
    return tuple(
        Residue(MOST_KNOWN, int(least)) if least == most else one
        for one, least, most in zip(residues, lo, hi, strict=True)
    )


def _twos(value: int) -> int:
    """How often 2 divides a value."""
    return MOST_KNOWN if value == 0 else min((value & -value).bit_length() - 1, MOST_KNOWN)


def _join(*residues: Residue) -> Residue:
    """What holds whichever of them x has."""
    first, *rest = residues
    for one in rest:
        first = first.to(min(one.known, _twos(first.value - one.value)))
    return first


def _times(one: Residue, factor: int) -> Residue:
    known = MOST_KNOWN if factor == 0 else _more(one.known, _twos(factor))
    return Residue(known, one.value * factor).to(known)


def _more(known: int, twos: int) -> int:
    """What is known of x times 2**twos; short of knowing x itself, unless x is known."""
    return known if known == MOST_KNOWN else min(known + twos, MOST_KNOWN - 1)


def _plus(*parts: Residue) -> Residue:
    known = min(part.known for part in parts)
    return Residue(known, sum(part.value for part in parts)).to(known)


def _linear(weight: IntArray, bias: IntArray, given: Sequence[Residue]) -> Residues:
    """sum over k of x[k] weight[k, m] + bias[m]. (int64 wraps, which leaves residues as they are.)"""
    known, values = (np.array(part, dtype=np.int64)[:, None] for part in _columns(given))
    certain = (weight == 0) | (known == MOST_KNOWN)
    terms = np.where(certain, MOST_KNOWN, np.minimum(known + _trailing(weight), MOST_KNOWN - 1))
    totals = (values * weight).sum(axis=0) + bias
    pairs = zip(terms.min(axis=0).tolist(), totals.tolist(), strict=True)
    return tuple(Residue(few, total).to(few) for few, total in pairs)


def _columns(given: Sequence[Residue]) -> tuple[list[int], list[int]]:
    return [one.known for one in given], [one.value for one in given]


def _trailing(array: IntArray) -> IntArray:
    lowest = (array & -array).astype(np.float64)
    return np.log2(np.where(array == 0, 1.0, lowest)).astype(np.int64)


def _dense(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    op = cast(Dense, node.op)
    return _linear(op.weight, op.bias, given[0])


def _conv(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    op, channels = cast(Conv, node.op), given[0]
    if any(map(any, op.pads)):
        channels = tuple(_join(one, Residue(MOST_KNOWN, op.pad_value)) for one in channels)
    each, outputs = op.weight.shape[-2], op.weight.shape[-1] // op.groups
    taps = op.weight.reshape(-1, each, op.weight.shape[-1])
    result: list[Residue] = []
    for group in range(op.groups):
        columns = slice(group * outputs, (group + 1) * outputs)
        rows = channels[group * each : (group + 1) * each] * len(taps)
        result += _linear(taps[:, :, columns].reshape(-1, outputs), op.bias[columns], rows)
    return tuple(result)


def _add(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    signs = cast(Add, node.op).signs
    return tuple(
        _plus(*(_times(one, sign) for one, sign in zip(parts, signs, strict=True)))
        for parts in zip(*given, strict=True)
    )


def _multiply(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    channels = _channels(node.type.shape)
    left, right = (one if len(one) == channels else one * channels for one in given)
    found: list[Residue] = []
    for a, b in zip(left, right, strict=True):
        if MOST_KNOWN in (a.known, b.known):
            found.append(_times(a, b.value) if b.known == MOST_KNOWN else _times(b, a.value))
            continue
        known = min(a.known + _twos(b.value), b.known + _twos(a.value), a.known + b.known, MOST_KNOWN - 1)
        found.append(Residue(known, a.value * b.value).to(known))
    return tuple(found)


def _sum_pool(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    op = cast(SumPool, node.op)
    padded = any(map(any, op.pads))
    parts = [_join(one, Residue(MOST_KNOWN, 0)) if padded else one for one in given[0]]
    count = int(np.prod(op.window))
    # Different elements share a residue and no more: a sum of n knows no more bits than one of them.
    return tuple(Residue(one.known, one.value * count).to(one.known) for one in parts)


def _same(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    return given[0]


def _pad(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    op = cast(Pad, node.op)
    border = Residue(MOST_KNOWN, op.value)
    inside = given[0]
    if any(map(any, op.pads[:-1])):
        inside = tuple(_join(one, border) for one in inside)
    before, after = op.pads[-1] if op.pads else (0, 0)
    return (border,) * before + inside + (border,) * after


def _upsample(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    if not cast(Upsample, node.op).zeros:
        return given[0]
    return tuple(_join(one, Residue(MOST_KNOWN, 0)) for one in given[0])


def _concat(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    if cast(Concat, node.op).axis == len(node.type.shape) - 1:
        return tuple(one for part in given for one in part)
    return tuple(_join(*parts) for parts in zip(*given, strict=True))


def _reshape(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    source, target = sources[0].shape, node.type.shape
    channels = _channels(target)
    if source[-1:] == target[-1:]:
        return given[0]
    if source and channels % source[-1] == 0:
        return given[0] * (channels // source[-1])
    return (_join(*given[0]),) * channels


def _requant(node: Node, given: Sequence[Residues], sources: Sequence[_Source]) -> Residues:
    """Only a Requant that drops nothing keeps what is known; its clamp joins its ends."""
    op, channels = cast(Requant, node.op), _channels(node.type.shape)
    parts = [_channel_values(array, channels) for array in (op.multiplier << op.pre, op.bias + op.offset, op.lo, op.hi)]
    if any(stage.shift.any() for stage in op.stages) or any(part is None for part in parts):
        return (_NOTHING,) * channels
    scale, plus, lo, hi = (cast(IntArray, part) for part in parts)
    least, most = _ends(op.products(sources[0].bounds), node.type.shape)
    found: list[Residue] = []
    for channel, one in enumerate(given[0]):
        inside = _plus(_times(one, int(scale[channel])), Residue(MOST_KNOWN, int(plus[channel])))
        beyond = (
            int(least[channel] + op.offset.min()) < lo[channel],
            int(most[channel] + op.offset.max()) > hi[channel],
        )
        ends = [Residue(MOST_KNOWN, int(end[channel])) for end, met in zip((lo, hi), beyond, strict=True) if met]
        found.append(_join(inside, *ends))
    return tuple(found)


def _ends(bounds: Bounds, shape: Shape) -> tuple[IntArray, IntArray]:
    """Bounds as one entry a channel."""
    if not shape:
        return bounds.lo.reshape(1), bounds.hi.reshape(1)
    return per_channel(bounds, shape[-1])


_RULES: Mapping[type[Op], Callable[[Node, Sequence[Residues], Sequence[_Source]], Residues]] = {
    Conv: _conv,
    Dense: _dense,
    Add: _add,
    Multiply: _multiply,
    MaxPool: _same,
    SumPool: _sum_pool,
    Reshape: _reshape,
    Pad: _pad,
    Upsample: _upsample,
    Concat: _concat,
    Requant: _requant,
}


def _rounds(op: Requant) -> bool:
    return any(stage.rounding is not Rounding.FLOOR and stage.shift.any() for stage in op.stages)


def _requant_ties(op: Requant, given: Residues, source: Bounds, shape: Shape) -> Iterator[tuple[int, int]]:
    """(channel, value) of one tie a channel, if its values may meet one."""
    if not _rounds(op):
        return
    channels = _channels(shape)
    stages = [stage for stage in op.stages if stage.shift.any()]
    names = (op.pre, op.multiplier, op.bias, op.offset, op.lo, op.hi, stages[0].shift)
    parts = [_channel_values(array, channels) for array in names]
    lo, hi = _ends(source, shape)
    for channel in range(channels):
        where = _Values(int(lo[channel]), int(hi[channel]), given[channel])
        if len(stages) > 1 or any(part is None for part in parts):
            found = where.first()  # stages of their own, or one a position: not worked out
        else:
            pre, multiplier, bias, offset, least, most, shift = (int(cast(IntArray, p)[channel]) for p in parts)
            rounded = _Rounding(multiplier << pre, bias, shift, least - offset, most - offset)
            found = rounded.tie(where)
        if found is not None:
            yield channel, found


def _channel_values(array: IntArray, channels: int) -> IntArray | None:
    """A parameter as one entry a channel; None where it differs between positions."""
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    return np.broadcast_to(rows[0], (channels,)) if (rows == rows[0]).all() else None


@dataclass(frozen=True, slots=True)
class _Values:
    """What a channel can hold: lo to hi, every one with the residue."""

    lo: int
    hi: int
    residue: Residue

    def first(self) -> int | None:
        """The least of them."""
        return _at_least(self.lo, self.hi, self.residue.known, self.residue.value)


def _at_least(lo: int, hi: int, known: int, value: int) -> int | None:
    """The least x in [lo, hi] with x = value mod 2**known."""
    if known >= MOST_KNOWN:
        return value if lo <= value <= hi else None
    x = lo + (value - lo) % (1 << known)
    return x if x <= hi else None


@dataclass(frozen=True, slots=True)
class _Rounding:
    """clamp(round((x scale + bias) / 2**shift)), the clamp's ends without the offset."""

    scale: int
    bias: int
    shift: int
    least: int
    most: int

    def tie(self, values: _Values) -> int | None:
        """The least x at which the product lies half-way between two results that the clamp tells apart.

        x scale = half - bias (mod 2**shift) has a solution modulo 2**(shift - twos) when the twos in the scale
        divide the right side: the scale's odd part has an inverse.
        """
        if self.shift == 0 or self.least == self.most:
            return None
        if self.scale == 0:
            apart = self.least << self.shift < self.bias < self.most << self.shift
            return values.first() if apart and self.bias % (1 << self.shift) == 1 << (self.shift - 1) else None
        wanted = (1 << (self.shift - 1)) - self.bias
        twos = _twos(self.scale)
        free = max(self.shift - twos, 0)
        if wanted % (1 << min(twos, self.shift)):
            return None
        x = (wanted >> twos) * pow(self.scale >> twos, -1, 1 << free) % (1 << free)
        tie, known = Residue(free, x), values.residue
        if (tie.value - known.value) % (1 << min(tie.known, known.known)):
            return None
        sharper = tie if tie.known > known.known else known
        lo, hi = self._open(values.lo, values.hi)
        return _at_least(lo, hi, sharper.known, sharper.value) if lo <= hi else None

    def _open(self, lo: int, hi: int) -> tuple[int, int]:
        """The x between whose floor and ceiling the clamp leaves a difference."""
        ends = (self.least << self.shift) - self.bias, (self.most << self.shift) - self.bias
        if self.scale < 0:
            ends = ends[1], ends[0]
        return max(lo, -(-ends[0] // self.scale)), min(hi, ends[1] // self.scale)
