"""QDepthwiseConv2D, and the separable convolutions: a depthwise and a pointwise Conv with no quantizer between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.importer import Importer
from edgeflow.frontends.qkeras.linear import ReadWeights, finish, stored_weights
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.parameters import (
    DEPTHWISE,
    MOST_UNITS,
    POINTWISE,
    SEPARABLE_BIAS,
    Bias,
    Weights,
    no_bias,
    place,
    read_bias,
    read_kernel,
)
from edgeflow.frontends.qkeras.quantizers import Codes
from edgeflow.frontends.qkeras.values import Value
from edgeflow.frontends.qkeras.windows import Geometry, conv_geometry, spatial_shape
from edgeflow.ir.types import Shape
from edgeflow.ops.conv import Conv
from edgeflow.ops.linear import SumBounds

_Number = TypeVar("_Number", np.int64, np.float64)


@dataclass(frozen=True)
class _Depthwise:
    """A depthwise layer's input and window; output channel c * multiplier + m reads channel c."""

    source: str
    shape: Shape
    multiplier: int
    geometry: Geometry

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.shape[-1]

    @property
    def kernel_shape(self) -> Shape:
        """As Keras stores it."""
        return (*self.geometry.window, self.channels, self.multiplier)

    def place(self, importer: Importer, layer: Layer, kernel: Codes, bias: Bias) -> Weights:
        """Keras' (*window, channels, multiplier) as a Conv's (*window, 1, channels * multiplier)."""
        outputs = self.channels * self.multiplier
        frac = importer.frac(self.source)
        products = self._each_output(kernel.frac) + (np.repeat(frac, self.multiplier) if frac.ndim else frac)
        scale = None if kernel.scale is None else self._each_output(kernel.scale)
        codes = kernel.codes.reshape(*self.geometry.window, 1, outputs)
        return place(layer, replace(kernel, codes=codes, scale=scale), products, bias)

    def add(self, importer: Importer, layer: Layer, weights: Weights) -> tuple[str, SumBounds]:
        """The Conv's tensor and the bounds of its sums."""
        geometry = self.geometry
        op = Conv(weights.kernel, weights.bias, geometry.strides, geometry.pads, geometry.dilation, self.channels)
        sums = op.sums(importer.builder.bounds(self.source), self.channels)
        return importer.add(op, (self.source,), weights.frac, layer), sums

    def _each_output(self, values: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
        """One entry a multiplier as one an output channel; one entry stays one."""
        return np.tile(values, self.channels) if values.size > 1 else values.reshape(())


def import_depthwise(
    importer: Importer, layer: Layer, inputs: tuple[Value, ...], read: ReadWeights = stored_weights
) -> Value:
    """QDepthwiseConv2D: a Conv with one group a channel. The quantizer sees the whole kernel at once."""
    depthwise = _read(importer, layer, inputs[0], 2)
    outputs = depthwise.channels * depthwise.multiplier
    kernel, bias = read(layer, DEPTHWISE, depthwise.kernel_shape, outputs)
    weights = depthwise.place(importer, layer, kernel, bias)
    tensor, sums = depthwise.add(importer, layer, weights)
    return finish(importer, layer, sums, tensor, weights.real)


def import_separable(importer: Importer, layer: Layer, inputs: tuple[Value, ...], rank: int) -> Value:
    """QSeparableConv1D and QSeparableConv2D: the first sum enters the second exactly."""
    depthwise = _read(importer, layer, inputs[0], rank)
    middle = depthwise.channels * depthwise.multiplier
    first = depthwise.place(importer, layer, read_kernel(layer, DEPTHWISE, depthwise.kernel_shape), no_bias(middle))
    tensor, sums = depthwise.add(importer, layer, first)
    importer.reject_beyond_float32(sums.magnitude, layer)
    source = importer.one_unit(Value(tensor), layer)
    filters = layer.fields.integer("filters", 1, MOST_UNITS)
    ones = (1,) * rank
    kernel = read_kernel(layer, POINTWISE, (*ones, middle, filters))
    if first.real is not None:
        if len(set(first.real.scale)) > 1:
            raise Unsupported(
                "its depthwise scales differ and its pointwise kernel mixes them",
                where=layer.where,
                fix="give the depthwise_quantizer alpha=1 or 'auto_po2'",
            )
        scale = np.asarray(1.0 if kernel.scale is None else kernel.scale, dtype=np.float64)
        importer.rounds(tensor)
        roundings = kernel.roundings + first.real.roundings
        kernel = replace(kernel, scale=scale * float(first.real.scale[0]), roundings=roundings)
    bias = read_bias(layer, SEPARABLE_BIAS, filters)
    weights = place(layer, kernel, kernel.frac + importer.frac(source), bias)
    op = Conv(weights.kernel, weights.bias, ones, ((0, 0),) * rank, ones)
    sums = op.sums(importer.builder.bounds(source), middle)
    return finish(importer, layer, sums, importer.add(op, (source,), weights.frac, layer), weights.real)


def _read(importer: Importer, layer: Layer, value: Value, rank: int) -> _Depthwise:
    source = importer.settle(value, layer)
    shape = spatial_shape(importer, layer, source, rank)
    multiplier = layer.fields.integer("depth_multiplier", 1, MOST_UNITS, 1)
    return _Depthwise(source, shape, multiplier, conv_geometry(layer, shape))
