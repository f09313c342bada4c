"""What a model's cost depends on: sizes and shapes, with the values of weights left out.

A model that is about to be written gives it, and so can a file that was read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeflow.backends.tflm.model import ConvOptions, TfliteModel, TransposeConvOptions
from edgeflow.ir.types import Shape


@dataclass(frozen=True)
class TensorFacts:
    """One tensor; `scales` counts its scales (0: not quantized)."""

    name: str
    shape: Shape
    bits: int
    constant: bool = False
    scales: int = 1

    @property
    def size(self) -> int:
        """Bytes."""
        return -(-math.prod(self.shape) * self.bits // 8)


@dataclass(frozen=True)
class OperatorFacts:
    """One operator, by its name in the schema; pairs are (vertical, horizontal). An input of -1 is left out."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    layer: str
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Description:
    """The whole model; `inputs` and `outputs` number its tensors."""

    tensors: tuple[TensorFacts, ...]
    operators: tuple[OperatorFacts, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def describe(model: TfliteModel) -> Description:
    """The facts about a model that is to be written."""
    tensors = tuple(
        TensorFacts(
            one.name,
            one.shape,
            one.kind.bits,
            one.data is not None,
            len(one.quantization.scales) if one.quantization else 0,
        )
        for one in model.tensors
    )
    operators: list[OperatorFacts] = []
    for one in model.operators:
        strides = one.options.strides if isinstance(one.options, ConvOptions | TransposeConvOptions) else (1, 1)
        dilation = one.options.dilation if isinstance(one.options, ConvOptions) else (1, 1)
        operators.append(OperatorFacts(one.kernel.value, one.inputs, (one.output,), one.layer, strides, dilation))
    return Description(tensors, tuple(operators), model.inputs, model.outputs)
