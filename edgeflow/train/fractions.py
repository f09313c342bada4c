"""Which bias formats keep a student's roundings off ties: each tensor's fractional bits, from input to output."""

# pyright: basic
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeflow.errors import Unsupported
from edgeflow.train.kinds import ACTIVATIONS, AVERAGES, WEIGHTED, is_linear
from edgeflow.train.recipe import LayerWidths, Quantize, Width
from edgeflow.train.tiefree import MOST_BITS

if TYPE_CHECKING:
    import keras

_NARROW_KERNEL = 7
"""Doubled, kernels of so many bits still have 8, which is what some targets store."""


@dataclass(frozen=True)
class BiasFormat:
    """The format of a bias; `odd` when only its odd codes count, so that the sums have no ties."""

    width: Width
    odd: bool


@dataclass(frozen=True)
class _Tensor:
    """`frac` fractional bits; `odd` when every value is an odd multiple of 2**-frac."""

    frac: int
    odd: bool = False


def bias_formats(
    model: keras.Model, quantize: Quantize, rounds_itself: Callable[[keras.layers.Layer], bool]
) -> dict[str, BiasFormat]:
    """The format of each bias, by layer name, in a student of which no rounding meets a tie.

    A bias gets one fractional bit more than its layer's products, and only odd codes, when the rounding behind it
    drops bits; `integer` stays the recipe's. Where nothing is dropped the bias is as coarse as the result.
    `rounds_itself` says whether a layer with weights has a quantizer of its own.
    Raises Unsupported naming a layer that rounds what no bias keeps off ties.
    """
    plan = _Plan(quantize, rounds_itself, {id(tensor._keras_history.operation) for tensor in model.outputs})
    inside = {layer.name for layer in model.layers}
    for layer in model.layers:
        plan.visit(layer, inside)
    return plan.formats


class _Plan:
    def __init__(
        self, quantize: Quantize, rounds_itself: Callable[[keras.layers.Layer], bool], outputs: set[int]
    ) -> None:
        self.formats: dict[str, BiasFormat] = {}
        self._quantize = quantize
        self._rounds_itself = rounds_itself
        self._outputs = outputs
        self._known: dict[str, _Tensor] = {}

    def visit(self, layer: keras.layers.Layer, inside: set[str]) -> None:
        kind = type(layer).__name__
        if kind == "InputLayer":
            width = self._quantize.input
            self._known[layer.name] = _Tensor(width.bits - width.integer - width.signed)
            return
        sources = [
            self._known[name]
            for node in layer._inbound_nodes
            for tensor in node.input_tensors
            if (name := tensor._keras_history.operation.name) in self._known
        ]
        if not sources:
            raise _unsupported(layer, "reads its own result", "use a layer for each call")
        if kind in WEIGHTED:
            followers = [node.operation for node in layer._outbound_nodes if node.operation.name in inside]
            self._known[layer.name] = self._weighted(layer, sources, followers)
        elif kind in ACTIVATIONS:
            self._known[layer.name] = self._activation(layer, sources)
        elif kind in AVERAGES:
            self._known[layer.name] = _average(layer, sources)
        else:
            same = len(set(sources)) == 1 and kind not in ("Add", "ZeroPadding1D", "ZeroPadding2D")
            self._known[layer.name] = _Tensor(max(one.frac for one in sources), same and sources[0].odd)

    def _widths(self, layer: keras.layers.Layer) -> LayerWidths:
        return self._quantize.layers.get(layer.name, LayerWidths())

    def _rounded(self, layer: keras.layers.Layer) -> int:
        """The fractional bits that a layer's activation quantizer keeps."""
        width = self._widths(layer).activations or self._quantize.activations
        return width.bits - width.integer - is_linear(layer)

    def _weighted(
        self, layer: keras.layers.Layer, sources: Sequence[_Tensor], followers: Sequence[keras.layers.Layer]
    ) -> _Tensor:
        kernel = self._widths(layer).weights or self._quantize.weights
        products = max(one.frac for one in sources) + kernel.bits - 1 - kernel.integer
        itself = self._rounds_itself(layer)
        results = [self._rounded(layer)] if itself else [self._rounded(one) for one in followers]
        drops = any(result < products for result in results)
        if not layer.use_bias:
            if drops:
                raise _unsupported(layer, "has no bias to keep its sums off ties", "give it a bias (use_bias=True)")
            sums = _Tensor(products)
        else:
            logits = id(layer) in self._outputs and kernel.bits <= _NARROW_KERNEL
            chosen = self._bias(layer, products, results, odd=drops or logits)
            self.formats[layer.name] = chosen
            sums = _Tensor(max(products, _frac(chosen.width)), chosen.odd)
        return _Tensor(results[0]) if itself else sums

    def _bias(self, layer: keras.layers.Layer, products: int, results: Sequence[int], *, odd: bool) -> BiasFormat:
        given = self._widths(layer).biases or self._quantize.biases
        frac = products + 1 if odd else min([_frac(given), *results])
        while odd and any(frac - result == 1 for result in results):
            frac += 1  # one bit dropped from an odd sum is always a tie
        width = Width(frac + 1 + given.integer, given.integer)
        if not 2 <= width.bits <= MOST_BITS:
            raise _unsupported(
                layer,
                f"needs a bias with {frac} fractional bits, {width.bits} in all",
                f"use other widths, so that it has 2 to {MOST_BITS}",
            )
        return BiasFormat(width, odd)

    def _activation(self, layer: keras.layers.Layer, sources: Sequence[_Tensor]) -> _Tensor:
        result = self._rounded(layer)
        for source in sources:
            if source.frac > result and not source.odd:
                raise _unsupported(
                    layer,
                    f"rounds values of {source.frac} fractional bits to {result}, and no bias keeps them off ties",
                    f"give its activations {source.frac} fractional bits in [quantize.layers.{layer.name}]",
                )
        return _Tensor(result)


def _average(layer: keras.layers.Layer, sources: Sequence[_Tensor]) -> _Tensor:
    """A mean of 2^n values has n fractional bits more."""
    shape = layer._inbound_nodes[0].input_tensors[0].shape
    sizes = getattr(layer, "pool_size", None) or shape[1:-1]
    count = math.prod(int(size) for size in sizes)
    if count & (count - 1) or (getattr(layer, "padding", "valid") != "valid"):
        what = f"divides by {count} or fewer, which is not always a power of two"
        raise _unsupported(layer, what, 'average 2, 4, 8 ... values, with padding="valid"')
    return _Tensor(max(one.frac for one in sources) + count.bit_length() - 1)


def _frac(width: Width) -> int:
    return width.bits - 1 - width.integer


def _unsupported(layer: keras.layers.Layer, what: str, fix: str) -> Unsupported:
    return Unsupported(f"layer '{layer.name}' ({type(layer).__name__}) {what} ([quantize] tie_free)", fix=fix)
