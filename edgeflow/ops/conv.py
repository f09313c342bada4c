"""Conv: cross-correlation over one or two spatial axes, with groups (depthwise included), stride and dilation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, Shape
from edgeflow.ops.linear import Numbers, SumBounds, as_row, exact_kind, exact_matmul, per_channel, sum_bounds
from edgeflow.ops.window import Pads, pad_spatial, window_shape, windows


@dataclass(frozen=True, eq=False)
class Conv:
    """y[o, m] = bias[m] + sum over taps t and channels c of x[o * stride + t * dilation, c] * weight[t, c, m].

    `weight` is (*window, channels / groups, outputs); output channel m reads the input channels of group
    m // (outputs / groups). `pads` gives (before, after) for each spatial axis, filled with `pad_value`.
    """

    weight: IntArray
    bias: IntArray
    strides: Shape
    pads: Pads
    dilation: Shape
    groups: int = 1
    pad_value: int = 0

    @property
    def window(self) -> Shape:
        """The kernel's spatial shape."""
        return self.weight.shape[:-2]

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(*spatial, channels) -> (*spatial out, outputs)."""
        (source,) = inputs
        outputs = self.weight.shape[-1]
        if len(source) != self.weight.ndim - 1:
            raise InvalidGraph(f"a kernel of shape {self.weight.shape} cannot read a tensor of shape {source}")
        if self.groups < 1 or outputs % self.groups or source[-1] != self.weight.shape[-2] * self.groups:
            raise InvalidGraph(
                f"a kernel of shape {self.weight.shape} in {self.groups} groups cannot read {source[-1]} channels"
            )
        if self.bias.shape != (outputs,):
            raise InvalidGraph(f"bias of shape {self.bias.shape} for {outputs} output channels")
        return (*window_shape(source[:-1], self.window, self.strides, self.pads, self.dilation), outputs)

    def sums(self, source: Bounds, channels: int) -> SumBounds:
        """Bounds of the finished and the partial sums, one entry an output channel."""
        lo, hi = per_channel(source, channels)
        if any(before or after for before, after in self.pads):
            lo, hi = np.minimum(lo, self.pad_value), np.maximum(hi, self.pad_value)
        inner, outputs = self.weight.shape[-2] * int(np.prod(self.window)), self.weight.shape[-1] // self.groups
        taps = int(np.prod(self.window))
        parts: list[SumBounds] = []
        for group in range(self.groups):
            columns = slice(group * outputs, (group + 1) * outputs)
            rows = slice(group * self.weight.shape[-2], (group + 1) * self.weight.shape[-2])
            parts.append(
                sum_bounds(
                    self.weight[..., columns].reshape(inner, outputs),
                    self.bias[columns],
                    np.tile(lo[rows], taps),
                    np.tile(hi[rows], taps),
                )
            )
        return SumBounds(
            *(
                np.concatenate([getattr(part, field) for part in parts])
                for field in ("lo", "hi", "partial_lo", "partial_hi")
            )
        )

    def bounds(self, inputs: tuple[Bounds, ...], shapes: tuple[Shape, ...]) -> Bounds:
        """Interval arithmetic on the real weights, per output channel."""
        sums = self.sums(inputs[0], shapes[0][-1])
        rank = len(shapes[0])
        return Bounds(as_row(sums.lo, rank), as_row(sums.hi, rank))

    def evaluate(self, inputs: tuple[IntArray, ...], bounds: tuple[Bounds, ...]) -> IntArray:
        """x (batch, *spatial, channels) -> (batch, *out, outputs)."""
        (x,) = inputs
        rank = len(self.window)
        magnitude = self.sums(bounds[0], x.shape[-1]).magnitude
        each, outputs = self.weight.shape[-2], self.weight.shape[-1] // self.groups
        numbers = pad_spatial(x, self.pads, self.pad_value).astype(exact_kind(magnitude), copy=False)
        if each == 1 < self.groups:
            return self._depthwise(numbers.repeat(outputs, axis=-1))
        # (batch, *out, channels, *window) -> (batch, *out, *window, channels)
        view = np.moveaxis(windows(numbers, self.window, self.strides, self.dilation), 1 + rank, -1)
        sums = [
            exact_matmul(
                view[..., group * each : (group + 1) * each].reshape(*view.shape[: 1 + rank], -1),
                self.weight[..., group * outputs : (group + 1) * outputs].reshape(-1, outputs),
                magnitude,
            )
            for group in range(self.groups)
        ]
        return np.concatenate(sums, axis=-1) + self.bias

    def _depthwise(self, x: Numbers) -> IntArray:
        """As `evaluate`, tap by tap: one channel a group, each repeated for its outputs, padded."""
        rank = len(self.window)
        view = windows(x, self.window, self.strides, self.dilation)
        taps = np.moveaxis(view, range(2 + rank, view.ndim), range(rank))
        weight = self.weight[..., 0, :].astype(x.dtype)
        total = np.zeros(taps.shape[rank:], dtype=x.dtype)
        product = np.empty_like(total)
        for tap in np.ndindex(*self.window):
            np.multiply(taps[tap], weight[tap], out=product)
            total += product
        return total.astype(np.int64, copy=False) + self.bias
