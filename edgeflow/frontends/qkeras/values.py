"""A Keras tensor during an import: an integer tensor of the graph, and what separates the two."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Steps
from edgeflow.ir.types import IntArray


@dataclass(frozen=True)
class Terms:
    """The float32 numbers that Keras adds up to get a tensor that only one layer reads.

    A quantizer computes x + (q - x). When an Add is its only reader, TensorFlow's graph optimizer may flatten
    both into one sum and reorder it, so the Add's sums are exact only while every order is: all terms are
    multiples of 2**-frac (None: of no such unit) and their absolute values add up to `reach`.
    """

    frac: int | None
    reach: float


OFF_GRID = Terms(None, np.inf)

OWN_ROUNDINGS = 4
"""A product, a division by way of a reciprocal, a sum: what float32 rounds in the shortest real map."""


@dataclass(frozen=True)
class RealMap:
    """What a real factor, bias or batch normalization still owes: clip(x * scale + shift, least, most).

    x is the tensor by its label; `scale` and `shift` have one entry a channel, or one for all. `exact` is False
    where Keras' float32 may round on the way, even if the map itself is short enough for it.

    float32 computes every term of it with at most `roundings` of its roundings (those of the sums in front of it
    included). `size` is the sum of the absolute values of the terms that make up `shift`, () where that is |shift|.
    `bias_of`: the layer whose bias has no quantizer, where that alone is what is owed.
    """

    scale: tuple[Fraction, ...]
    shift: tuple[Fraction, ...]
    least: Fraction | None = None
    most: Fraction | None = None
    exact: bool = True
    size: tuple[Fraction, ...] = ()
    roundings: int = OWN_ROUNDINGS
    bias_of: Layer | None = None

    @property
    def clipped(self) -> bool:
        """Whether a ReLU stands behind the scale."""
        return self.least is not None or self.most is not None

    def channels(self, count: int) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """Scale and shift with one entry for each of `count` channels."""
        scale = self.scale if len(self.scale) == count else self.scale * count
        shift = self.shift if len(self.shift) == count else self.shift * count
        assert len(scale) == len(shift) == count
        return scale, shift

    def sizes(self, count: int) -> tuple[Fraction, ...]:
        """`size` with one entry for each of `count` channels."""
        size = self.size or tuple(map(abs, self.shift))
        return size if len(size) == count else size * count

    def unsettled(self, layer: Layer) -> Unsupported:
        """The refusal of a map that integers cannot hold where `layer` reads it or is the model's output."""
        if self.bias_of is not None:
            return Unsupported(
                "it has no bias_quantizer, and nothing quantizes its result",
                where=self.bias_of.where,
                fix="add bias_quantizer=quantized_bits(8, 0, alpha=1) and train",
            )
        return Unsupported(
            "what it reads or computes has real factors (batch normalization, a float scale or bias) that nothing "
            "has quantized",
            where=layer.where,
            fix='put QActivation("quantized_bits(8, 2, alpha=1)") or quantized_relu right behind those factors',
        )

    def then(self, other: RealMap) -> RealMap:
        """A further map behind this one, neither of them clipped: float32 rounds between the two."""
        assert not self.clipped
        assert not other.clipped
        count = max(len(self.scale), len(self.shift), len(other.scale), len(other.shift))
        a, b = self.channels(count)
        c, d = other.channels(count)
        sizes = zip(self.sizes(count), c, other.sizes(count), strict=True)
        return RealMap(
            tuple(x * y for x, y in zip(a, c, strict=True)),
            tuple(x * y + z for x, y, z in zip(b, c, d, strict=True)),
            exact=False,
            size=tuple(x * abs(y) + z for x, y, z in sizes),
            roundings=self.roundings + other.roundings,
        )


@dataclass(frozen=True)
class Value:
    """A Keras tensor as an integer tensor of the graph, and what separates the two.

    The Keras value is the integers by their label, divided by `divisor` (an average pool's counts, which
    broadcasts against the tensor), or mapped by `real`. With `unquantized` it is a raw model input: the
    integers are those that this quantizer will give. `logits`: Keras applies a softmax that was dropped here.
    """

    tensor: str
    divisor: IntArray | None = None
    unquantized: Steps | None = None
    pool: Layer | None = None
    terms: Terms | None = None
    real: RealMap | None = None
    logits: bool = False
