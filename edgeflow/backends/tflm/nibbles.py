"""Weights of 4 bits, two in a byte: half the file, for kernels that take them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeflow.backends.tflm.model import Kernel, Operator, Tensor, TensorKind, TfliteModel
from edgeflow.backends.tflm.versions import version

_KERNELS = frozenset({Kernel.CONV_2D, Kernel.DEPTHWISE_CONV_2D, Kernel.FULLY_CONNECTED})
_LO, _HI = -8, 7


def packed(model: TfliteModel) -> TfliteModel:
    """The same model, with weights of -8 to 7 as INT4 wherever an int8 kernel reads them and the file gets smaller."""
    takers = [one for one in model.operators if one.kernel in _KERNELS and _is_taken(model, one)]
    weights = {one.inputs[1] for one in takers if model.tensors[one.inputs[0]].kind is TensorKind.INT8}
    weights -= {place for one in model.operators if one not in takers for place in one.inputs}
    tensors = tuple(_packed(tensor) if place in weights else tensor for place, tensor in enumerate(model.tensors))
    return replace(model, tensors=tensors, operators=tuple(_renewed(tensors, one) for one in model.operators))


def _is_taken(model: TfliteModel, operator: Operator) -> bool:
    """FULLY_CONNECTED takes 4 bits with one scale alone (kernels/fully_connected.cc)."""
    weight = model.tensors[operator.inputs[1]].quantization
    return operator.kernel is not Kernel.FULLY_CONNECTED or (weight is not None and len(weight.scales) == 1)


def _packed(tensor: Tensor) -> Tensor:
    """The lower half of a byte comes first."""
    values = np.frombuffer(tensor.data or b"", dtype=np.int8)
    if values.size < 2 or values.min() < _LO or values.max() > _HI:
        return tensor
    pairs = (np.pad(values, (0, values.size % 2)).view(np.uint8) & 15).reshape(-1, 2)
    return replace(tensor, kind=TensorKind.INT4, data=(pairs[:, 0] | pairs[:, 1] << 4).tobytes())


def _renewed(tensors: tuple[Tensor, ...], operator: Operator) -> Operator:
    inputs = [tensors[place] for place in operator.inputs]
    number = version(operator.kernel, inputs, tensors[operator.output], operator.options)
    return replace(operator, version=number)
