"""One layer's area and cycles in an HLS project: formulas from widths, nonzero weights and reuse factor.

Nothing here is calibrated: no vendor tool has run. The formulas count what hls4ml's C++ asks for (its `nnet_utils`
headers and `#pragma`s), and assume how Vitis and the fabric answer. Per layer:

- `latency` strategy, reuse factor 1: constants are shifts and adds. The digits of the canonical signed-digit form of
  an output's weights, and its bias, are summed in a tree: (digits - 1) adders of the mean width of product and
  accumulator, `LUT_PER_ADDER_BIT` each (one for a two-operand adder, a half where three operands share a chain).
- else: multipliers, nonzero weights (`resource`: all weights) / reuse factor; a DSP block each if an operand is wider
  than `LUT_OPERAND` bits, else width x width LUTs; a multiplexer of the operands before each.
- rounding and saturation: an adder of the accumulator's width and one LUT per bit of each parallel result.
- flip-flops: a register after every `LEVELS` adder levels, and the result's.
- block RAM, 72 bits by 512 a 36 kbit block: FIFOs of more than `SMALL_FIFO` bits between `io_stream` layers (as deep
  as the tensor has pixels, hls4ml's default), line buffers of convolutions, weights of the `resource` strategy.
- cycles: positions x reuse factor; a window waits for its rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeflow.backends.hls4ml.layers import HlsLayer
from edgeflow.backends.hls4ml.options import Hls4mlOptions
from edgeflow.board import FpgaBoard
from edgeflow.ir.types import IntArray, interval_bits

LUT_PER_ADDER_BIT = 0.6
LUT_OPERAND = 9
LEVELS = 3
SMALL_FIFO = 1024
_BRAM_BITS = 36 * 1024


@dataclass(frozen=True)
class LayerCost:
    """LUTs, flip-flops, DSP blocks and block RAMs; cycles busy with a sample, and until its first result."""

    lut: float = 0.0
    ff: float = 0.0
    dsp: float = 0.0
    bram: float = 0.0
    busy: float = 0.0
    fill: float = 0.0

    def __add__(self, other: LayerCost) -> LayerCost:
        return LayerCost(
            self.lut + other.lut,
            self.ff + other.ff,
            self.dsp + other.dsp,
            self.bram + other.bram,
            max(self.busy, other.busy),
            self.fill + other.fill,
        )


@dataclass(frozen=True, eq=False)
class Site:
    """Where a layer stands: its first input (the layer that feeds it), and the choices that shape it."""

    layer: HlsLayer
    source: HlsLayer
    board: FpgaBoard
    options: Hls4mlOptions

    @property
    def stream(self) -> bool:
        """Whether layers hand pixels to one another."""
        return self.options.io_type == "io_stream"

    @property
    def parallel(self) -> int:
        """Results that are made at once."""
        return self.layer.shape[-1] if self.stream else math.prod(self.layer.shape)

    @property
    def pixels(self) -> int:
        """Positions of the result."""
        return math.prod(self.layer.shape[:-1])

    def blocks(self, width: float, depth: float) -> float:
        """Block RAMs of a memory `width` bits wide and `depth` deep, in this board's blocks."""
        halves = math.ceil(width / 36) * math.ceil(depth / 512)
        return halves * (_BRAM_BITS / 2) / self.board.bram_bits


def layer_costs(layers: tuple[HlsLayer, ...], board: FpgaBoard, options: Hls4mlOptions) -> dict[str, LayerCost]:
    """Every source layer's cost, in order."""
    known = {layer.name: layer for layer in layers}
    found: dict[str, LayerCost] = {}
    for layer in layers:
        formula = _FORMULAS.get(layer.kind)
        if formula is None:
            continue
        site = Site(layer, known[layer.inputs[0]], board, options)
        if site.source.kind == "InputLayer" and layer.quantizer:
            continue  # the input's own type
        cost = formula(site)
        if site.stream and layer.kind != "FixedPointQuantizer":
            cost += _fifo(site)
        found[layer.source] = found.get(layer.source, LayerCost()) + cost
    return found


def _linear(site: Site) -> LayerCost:
    layer, reuse = site.layer, site.options.reuse_factor
    weight, bias = layer.arrays["weight"].integers, layer.arrays["bias"].integers
    kernel = weight.reshape(-1, weight.shape[-1])
    nonzero = int(np.count_nonzero(kernel))
    narrow, wide = sorted((site.source.bits, interval_bits(int(kernel.min()), int(kernel.max()))))
    width = (narrow + wide + layer.bits) / 2
    depth = math.ceil(math.log2(max(2, kernel.shape[0])) / LEVELS) + 1
    if site.options.strategy == "latency" and reuse == 1:
        constants = narrow > LUT_OPERAND
        digits = np.count_nonzero(kernel, axis=0) if constants else signed_digits(kernel).sum(axis=0)
        adders = float(np.maximum(digits + (bias != 0) - 1, 0).sum())
        dsp = nonzero * _dsps(site.board, narrow, wide) if constants else 0.0
        cost = LayerCost(lut=adders * width * LUT_PER_ADDER_BIT, ff=adders * width / (2**LEVELS - 1), dsp=dsp)
    else:
        stored = site.options.strategy == "resource"
        multipliers = math.ceil((kernel.size if stored else nonzero) / reuse)
        in_dsp = wide > LUT_OPERAND
        lut = multipliers * (width * LUT_PER_ADDER_BIT + site.source.bits * math.ceil((reuse - 1) / 4))
        lut += 0 if in_dsp else multipliers * narrow * wide
        dsp = multipliers * _dsps(site.board, narrow, wide) if in_dsp else 0.0
        weights = site.blocks(multipliers * (narrow + wide - site.source.bits), reuse) if stored else 0.0
        cost = LayerCost(lut=lut, ff=multipliers * width, dsp=dsp, bram=weights)
    return cost + _window(site, depth)


def _window(site: Site, depth: int) -> LayerCost:
    """Cycles of a layer that reads windows or vectors, and what holds the rows or picks the pixels."""
    layer, source, reuse = site.layer, site.source, site.options.reuse_factor
    if not layer.kind.startswith(("Conv", "MaxPool", "AveragePool")):
        return LayerCost(busy=reuse + (math.prod(source.shape[:-1]) if site.stream else 0), fill=depth)
    what = "filt" if layer.kind.startswith("Conv") else "pool"
    height, wide = _field(layer, f"{what}_height", 1), _field(layer, f"{what}_width", 1)
    rows = _field(layer, "in_height", 1) + _field(layer, "pad_top", 0) + _field(layer, "pad_bottom", 0)
    columns = _field(layer, "in_width", 1) + _field(layer, "pad_left", 0) + _field(layer, "pad_right", 0)
    pixel = source.shape[-1] * source.bits
    if not site.stream:
        # One pixel after another from registers: a multiplexer of four inputs a LUT for every bit of the window.
        choose = height * wide * pixel * (math.ceil(site.pixels / 4) if what == "filt" else 0)
        return LayerCost(lut=choose, busy=site.pixels * reuse if what == "filt" else reuse, fill=depth)
    line = (height - 1) * pixel
    held = height * wide * pixel
    deep = columns > 64
    return LayerCost(
        lut=0.0 if deep else line * math.ceil(columns / 32),
        ff=held,
        bram=site.blocks(line, columns) if deep and line else 0.0,
        busy=rows * columns * (reuse if what == "filt" else 1),
        fill=((height - 1) * columns + wide) + depth,
    )


def _pool(site: Site) -> LayerCost:
    window = _field(site.layer, "pool_height", 1) * _field(site.layer, "pool_width", 1)
    work = site.parallel * (window - 1) * site.layer.bits
    return LayerCost(lut=work, ff=site.parallel * site.layer.bits) + _window(site, 1)


def _elementwise(site: Site) -> LayerCost:
    work = site.parallel * site.layer.bits
    return LayerCost(lut=work * LUT_PER_ADDER_BIT, ff=work, busy=site.pixels if site.stream else 1, fill=1)


def _scale(site: Site) -> LayerCost:
    scale, offset = site.layer.arrays["scale"].integers, site.layer.arrays["bias"].integers
    adders = float(np.maximum(signed_digits(scale) + (offset != 0) - 1, 0).sum())
    copies = site.parallel / max(1, scale.size)
    lut = copies * adders * site.layer.bits * LUT_PER_ADDER_BIT
    return LayerCost(lut=lut, busy=site.pixels if site.stream else 1, fill=1)


def _round(site: Site) -> LayerCost:
    """Rounding to the nearest needs an adder below the kept bits; saturating, a LUT a kept bit."""
    assert site.layer.quantizer is not None
    conv = site.source.kind.startswith("Conv")
    results = site.layer.shape[-1] if conv else site.parallel
    adder = 0 if site.layer.quantizer.rounding == "TRN" else site.source.bits
    lut = results * (adder * LUT_PER_ADDER_BIT + site.layer.bits)
    return LayerCost(lut=lut, ff=(results if site.stream else math.prod(site.layer.shape)) * site.layer.bits)


def _fifo(site: Site) -> LayerCost:
    width, depth = site.layer.shape[-1] * site.layer.bits, site.pixels
    if width * depth > SMALL_FIFO:
        return LayerCost(bram=site.blocks(width, depth))
    return LayerCost(lut=width * math.ceil(depth / 32))


def _dsps(board: FpgaBoard, narrow: int, wide: int) -> int:
    """DSP blocks of one product."""
    long, short = board.family.multiplier
    return math.ceil(wide / long) * math.ceil(narrow / short)


def _field(layer: HlsLayer, name: str, default: int) -> int:
    value = layer.fields.get(name, default)
    return value if isinstance(value, int) else default


def signed_digits(values: IntArray) -> IntArray:
    """Nonzero digits of each integer's canonical signed-digit form: the shifts that a product with it adds up.

    The count is that of ones in x XOR 3x (Reitwiesner's recoding).
    """
    size = np.abs(values)
    return np.bitwise_count(size ^ (3 * size)).astype(np.int64)


_FORMULAS: Mapping[str, Callable[[Site], LayerCost]] = {
    "Dense": _linear,
    "Conv1D": _linear,
    "Conv2D": _linear,
    "MaxPooling1D": _pool,
    "MaxPooling2D": _pool,
    "AveragePooling1D": _pool,
    "AveragePooling2D": _pool,
    "Merge": _elementwise,
    "BatchNormalization": _scale,
    "FixedPointQuantizer": _round,
}
