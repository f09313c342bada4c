"""Random networks as frontends make them: int8 and QKeras layers of awkward shapes, weights, scales and zero points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgeflow.backends.tflm.arithmetic import kernel_requant, quantize_multiplier, sum_input
from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Graph, Op
from edgeflow.ir.types import IntArray, Shape, TensorType, frozen_array
from edgeflow.ops.add import Add
from edgeflow.ops.concat import Concat
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.lut import Lut
from edgeflow.ops.maxpool import MaxPool
from edgeflow.ops.multiply import Multiply
from edgeflow.ops.requant import Requant, Rounding, Stage
from edgeflow.ops.reshape import Reshape
from edgeflow.ops.sumpool import SumPool
from edgeflow.semantics.builder import GraphBuilder
from tests.graphs import UNIT, pick

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 31, 32, 33, 64)
WIDTHS = (1, 2, 3, 5, 8, 10, 16, 31, 64, 100, 128, 257, 640, 700)
LENGTHS = (1, 1, 2, 3, 4, 5, 6, 7, 9, 12, 19, 25)
_MOST_PRODUCTS = 300_000
"""A layer's: larger ones are left out, for an emulator's sake."""
_MOST_WEIGHTS = 60_000
_INT32 = 1 << 31


@dataclass
class _Net:
    """A graph that grows; `bits`, `signed` and `dyadic` say what activations are like and how they are made."""

    rng: np.random.Generator
    builder: GraphBuilder
    bits: int
    dyadic: bool
    at: str = ""
    made: int = 0
    repeated: dict[Shape, list[Op]] = field(default_factory=dict)

    def layer(self) -> str:
        self.made += 1
        return f"layer{self.made}"

    def zero(self) -> int:
        """A zero point: at an end, at zero, anywhere; 0 with scales that are powers of two."""
        return 0 if self.dyadic else pick(self.rng, -128, 127, 0, int(self.rng.integers(-128, 128)))


def random_network(seed: int) -> Graph:
    """One network; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    dyadic = rng.random() < 0.4
    net = _Net(rng, GraphBuilder(f"network {seed}"), pick(rng, 1, 2, 4, 6, 8, 8) if dyadic else 8, bool(dyadic))
    shape = (pick(rng, *CHANNELS, *WIDTHS),) if rng.random() < 0.2 else _image(rng)
    lo = -(1 << net.bits >> 1) if not dyadic or rng.random() < 0.5 else 0
    net.at = net.builder.input("x", TensorType(shape, lo, lo + (1 << net.bits) - 1), UNIT)
    for number in range(int(rng.integers(1, 6))):
        _grow(net)
        if rng.random() < 0.08:
            net.builder.output(f"tap{number}", net.at)
    size = net.builder.type(net.at).size
    if rng.random() < 0.5 and size < _MOST_WEIGHTS:
        net.at = net.builder.add(Reshape((size,)), (net.at,), UNIT, "flatten")
        _dense(net)
    net.builder.output("y", net.at)
    return net.builder.finish()


def _image(rng: np.random.Generator) -> Shape:
    """Of one or two axes, small when it has many channels."""
    channels = pick(rng, *CHANNELS)
    lengths = tuple(pick(rng, *LENGTHS) for _ in range(1 if rng.random() < 0.15 else 2))
    while np.prod(lengths) * channels > 3000:
        lengths = tuple(max(length // 2, 1) for length in lengths)
    return (*lengths, channels)


def _grow(net: _Net) -> None:
    flat = len(net.builder.type(net.at).shape) == 1
    draw = net.rng.random()
    if flat:
        (_dense if draw < 0.9 else _table)(net)
        return
    next(grow for share, grow in _SHARES if draw < share)(net)


def _weights(rng: np.random.Generator, shape: Shape) -> IntArray:
    """1 to 8 bits; dense or pruned one by one, in 2x2 blocks, by outputs or to nothing; sometimes all at an end."""
    bits = pick(rng, 1, 2, 2, 3, 4, 5, 6, 7, 8, 8, 8)
    top = max((1 << bits >> 1) - 1, 1)
    weight = rng.integers(-top, top + 1, shape)
    if bits == 1:
        weight = rng.integers(0, 2, shape) * 2 - 1
    style = rng.random()
    if style < 0.1:
        weight = np.full(shape, pick(rng, top, -top, -top - (bits == 8)))
    elif style < 0.16:
        weight *= 1 << pick(rng, 0, 1, 8 - bits)
    keep = pick(rng, 0, 5, 25, 50) / 100
    mask = np.ones(shape, dtype=bool)
    match pick(rng, 0, 0, 0, 1, 2, 3):
        case 1:
            mask = rng.random(shape) < keep
        case 2:
            blocks = rng.random((-(-shape[-2] // 2), -(-shape[-1] // 2))) < keep
            mask = blocks.repeat(2, axis=0).repeat(2, axis=1)[: shape[-2], : shape[-1]]
        case 3:
            mask = rng.random(shape[-1]) < max(keep, 0.3)
        case _:
            pass
    return weight * mask


def _again(net: _Net, key: Shape, op: Op) -> Op:
    """Often an op of the same form that was made before: layers that are alike share functions."""
    before = net.repeated.setdefault(key, [])
    if before and net.rng.random() < 0.3:
        return before[pick(net.rng, *range(len(before)))]
    before.append(op)
    return op


def _bias(net: _Net, weight: IntArray) -> IntArray:
    """None, small, of the sums' size, or as large as 32 bits allow."""
    outputs = weight.shape[-1]
    reach = np.abs(weight).reshape(-1, outputs).sum(axis=0).max() * (1 << net.bits)
    most = int((0, 99, reach, max(_INT32 - 2 * reach - 2, 1))[pick(net.rng, 0, 1, 1, 2, 2, 3)])
    return frozen_array(net.rng.integers(-most, most + 1, outputs))


def _finish(net: _Net, layer: str, lo: int | None = None) -> None:
    """Sums become activations again: by powers of two, or by TFLite's multipliers, perhaps far too large or small."""
    rng, kind = net.rng, net.builder.type(net.at)
    channels = kind.shape[-1] if rng.random() < 0.7 else 1
    zero = net.zero()
    if net.dyadic:
        shift = max(kind.bits - net.bits - pick(rng, 0, 1, 2, 3), 0)
        stage = Stage(frozen_array(shift), list(Rounding)[pick(rng, *range(4))])
        least = pick(rng, 0, 0, -(1 << net.bits >> 1)) if lo is None else lo
        bounds = frozen_array(least), frozen_array(least + (1 << net.bits) - 1)
        none = frozen_array(0)
        op = Requant(none, frozen_array(1), (stage,), none, *bounds)
    else:
        spread = pick(rng, 0, 1, 4, 12)
        scales = 2.0 ** (pick(rng, 6, 8, 10) - kind.bits + rng.uniform(-spread, spread, channels))
        wild = [quantize_multiplier(float(one)) for one in np.clip(scales, 2.0**-31, 2.0 ** (31 - kind.bits))]
        least, most = (zero if rng.random() < 0.5 and zero < 127 else -128), 127
        if rng.random() < 0.2:
            most = int(rng.integers(least, 128))
        op = kernel_requant(wild, zero, least, most)
    net.at = net.builder.add(op, (net.at,), UNIT, layer)


def _try(net: _Net, op: Op, layer: str) -> bool:
    """Whether an op fits the tensor; it is added where it does."""
    try:
        net.at = net.builder.add(op, (net.at,), UNIT, layer)
    except InvalidGraph:
        return False
    return True


def _slid(net: _Net, groups: int, each: int, outputs: int) -> None:
    """A convolution of a random window, stride, padding and dilation, and what finishes its sums."""
    rng, shape = net.rng, net.builder.type(net.at).shape
    square = pick(rng, 1, 1, 2, 3, 3, 3, 4, 5, 6, 7)
    window = tuple(min(square if rng.random() < 0.8 else pick(rng, 1, 2, 3, 5), length + 2) for length in shape[:-1])
    if rng.random() < 0.1:
        window = shape[:-1]
    strides = (pick(rng, 1, 1, 2, 3),) * len(window) if rng.random() < 0.8 else tuple(pick(rng, 1, 2) for _ in window)
    dilation = tuple(pick(rng, 1, 1, 1, 1, 1, 1, 2, 3) for _ in window)
    pads = tuple((0, 0) for _ in window)
    if rng.random() < 0.6:  # padding "same"
        spans = [(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)]
        wanted = [
            max((-(-n // s) - 1) * s + span - n, 0) for n, s, span in zip(shape[:-1], strides, spans, strict=True)
        ]
        pads = tuple((one // 2, one - one // 2) for one in wanted)
    elif rng.random() < 0.2:
        pads = tuple((pick(rng, 0, 1, size - 1), pick(rng, 0, 1, size - 1)) for size in window)
    form = (*window, each, outputs)
    if np.prod(form) > _MOST_WEIGHTS or np.prod(form) * np.prod(shape[:-1]) / np.prod(strides) > _MOST_PRODUCTS:
        return
    weight = _weights(rng, form)
    pad_value = net.zero()
    op = Conv(frozen_array(weight), _bias(net, weight), strides, pads, dilation, groups, pad_value)
    layer = net.layer()
    if _try(net, _again(net, (*form, groups, *strides), op), layer):
        _finish(net, layer)


def _conv(net: _Net) -> None:
    channels = net.builder.type(net.at).shape[-1]
    groups = pick(net.rng, *[g for g in range(1, channels + 1) if channels % g == 0]) if net.rng.random() < 0.1 else 1
    outputs = pick(net.rng, *CHANNELS, channels, channels)
    _slid(net, groups, channels // groups, max(outputs // groups, 1) * groups)


def _depthwise(net: _Net) -> None:
    channels = net.builder.type(net.at).shape[-1]
    _slid(net, channels, 1, channels * pick(net.rng, 1, 1, 1, 1, 2, 3))


def _dense(net: _Net) -> None:
    shape = net.builder.type(net.at).shape
    form = (shape[-1], pick(net.rng, *WIDTHS))
    if np.prod(form) > _MOST_WEIGHTS or np.prod(shape) * form[1] > _MOST_PRODUCTS:
        return
    weight, layer = _weights(net.rng, form), net.layer()
    if _try(net, _again(net, form, Dense(frozen_array(weight), _bias(net, weight))), layer):
        _finish(net, layer)


def _pool(net: _Net) -> None:
    """Largest, mean, or mean over all."""
    rng, shape, layer = net.rng, net.builder.type(net.at).shape, net.layer()
    window = tuple(min(pick(rng, 1, 2, 3, 4), length) for length in shape[:-1])
    strides = window if rng.random() < 0.6 else tuple(pick(rng, 1, 2, 3) for _ in window)
    if rng.random() < 0.3:
        window = shape[:-1]
    pads = tuple((pick(rng, 0, 0, size // 2), pick(rng, 0, 0, size // 2)) for size in window)
    if rng.random() < 0.5:
        _try(net, MaxPool(window, strides, pads), layer)
    elif _try(net, SumPool(window, strides, pads), layer):
        _finish(net, layer)


def _table(net: _Net) -> None:
    kind = net.builder.type(net.at)
    if kind.bits <= 8:
        top = (1 << net.bits) - 1
        least = 0 if net.dyadic else -128
        table = net.rng.integers(least, least + top + 1, kind.hi - kind.lo + 1)
        _try(net, Lut(frozen_array(table), kind.lo, "tanh"), net.layer())


def _rescaled(net: _Net, tensor: str, layer: str) -> str:
    """An addend as TFLite's ADD reads it; the tensor itself where scales are powers of two."""
    if net.dyadic:
        return tensor
    factor = quantize_multiplier(float(net.rng.uniform(0.05, 1)))
    return net.builder.add(sum_input(factor, net.zero()), (tensor,), UNIT, layer)


def _residual(net: _Net) -> None:
    """The tensor and what a layer of the same shape makes of it, added."""
    before, shape = net.at, net.builder.type(net.at).shape
    for _ in range(3):
        net.at = before
        (_conv, _depthwise, _table)[pick(net.rng, 0, 1, 2)](net)
        if net.builder.type(net.at).shape == shape:
            break
    else:
        return
    layer = net.layer()
    addends = _rescaled(net, before, layer), _rescaled(net, net.at, layer)
    net.at = net.builder.add(Add((1, pick(net.rng, 1, 1, -1))), addends, UNIT, layer)
    _finish(net, layer)


def _join(net: _Net) -> None:
    """Branches side by side."""
    before, branches = net.at, [net.at]
    for _ in range(pick(net.rng, 1, 2)):
        net.at = before
        (_conv, _depthwise, _pool)[pick(net.rng, 0, 1, 2)](net)
        branches.append(net.at)
    try:
        net.at = net.builder.add(Concat(len(net.builder.type(before).shape) - 1), tuple(branches), UNIT, net.layer())
    except InvalidGraph:
        net.at = branches[-1]


def _gate(net: _Net) -> None:
    """Squeeze and excite: the tensor times a vector that is made of its sums."""
    before, shape = net.at, net.builder.type(net.at).shape
    layer = net.layer()
    if not _try(net, SumPool(shape[:-1], (1,) * (len(shape) - 1), ((0, 0),) * (len(shape) - 1)), layer):
        return
    _finish(net, layer)
    net.at = net.builder.add(Multiply(), (before, net.at), UNIT, layer)
    _finish(net, layer)


_SHARES: tuple[tuple[float, Callable[[_Net], None]], ...] = (
    (0.3, _conv),
    (0.5, _depthwise),
    (0.62, _residual),
    (0.7, _join),
    (0.85, _pool),
    (0.9, _table),
    (0.95, _dense),
    (1.0, _gate),
)
"""Up to which draw from 0 to 1 an image grows by what."""
