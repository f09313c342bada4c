"""The smallest version of each operator that says what is written (tensorflow/lite/tools/versioning/op_version.cc)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from edgeflow.backends.tflm.model import DenseOptions, Kernel, Options, ResizeOptions, Tensor, TensorKind

_Rule: TypeAlias = Callable[[Sequence[Tensor], Tensor, Options], int]


def version(kernel: Kernel, inputs: Sequence[Tensor], result: Tensor, options: Options) -> int:
    """For an operator with these tensors and options."""
    return _RULES[kernel](inputs, result, options)


def _by_kind(int8: int, int16: int, at: int = 0) -> _Rule:
    """A version for the type of one of the inputs."""
    return lambda inputs, result, options: {TensorKind.INT8: int8, TensorKind.INT16: int16}[inputs[at].kind]


def _conv(inputs: Sequence[Tensor], result: Tensor, options: Options) -> int:
    grouped = inputs[0].shape[-1] != inputs[1].shape[-1]
    if grouped:
        return 6
    return 4 if inputs[0].kind is TensorKind.INT16 else 7 if inputs[1].kind is TensorKind.INT4 else 3


def _depthwise(inputs: Sequence[Tensor], result: Tensor, options: Options) -> int:
    return 5 if inputs[0].kind is TensorKind.INT16 else 7 if inputs[1].kind is TensorKind.INT4 else 3


def _dense(inputs: Sequence[Tensor], result: Tensor, options: Options) -> int:
    if inputs[0].kind is TensorKind.INT16:
        return 7
    if isinstance(options, DenseOptions) and options.keep_axes:
        return 5
    return 10 if inputs[1].kind is TensorKind.INT4 else 4


def _mul(inputs: Sequence[Tensor], result: Tensor, options: Options) -> int:
    """3 from a rescale of 1 on."""
    if inputs[0].kind is TensorKind.INT16:
        return 4
    scales = [one.quantization.scales[0] for one in (*inputs, result) if one.quantization is not None]
    return 3 if scales[0] * scales[1] / scales[2] >= 1.0 else 2


def _resize(inputs: Sequence[Tensor], result: Tensor, options: Options) -> int:
    if inputs[0].kind is TensorKind.INT16:
        return 4
    return 3 if isinstance(options, ResizeOptions) and options.half_pixel_centers else 2


def _quantize(inputs: Sequence[Tensor], result: Tensor, options: Options) -> int:
    return 2 if result.kind is TensorKind.INT16 else 1


def _always(number: int) -> _Rule:
    return lambda inputs, result, options: number


_RULES: Mapping[Kernel, _Rule] = {
    Kernel.CONV_2D: _conv,
    Kernel.DEPTHWISE_CONV_2D: _depthwise,
    Kernel.FULLY_CONNECTED: _dense,
    Kernel.AVERAGE_POOL_2D: _by_kind(2, 3),
    Kernel.MAX_POOL_2D: _by_kind(2, 3),
    Kernel.RESHAPE: _always(1),
    Kernel.PAD: _by_kind(2, 3),
    Kernel.PADV2: _by_kind(2, 3),
    Kernel.MAXIMUM: _by_kind(2, 4),
    Kernel.MINIMUM: _by_kind(2, 4),
    Kernel.ADD: _by_kind(2, 3),
    Kernel.SUB: _by_kind(2, 5),
    Kernel.MUL: _mul,
    Kernel.CONCATENATION: _by_kind(2, 3),
    Kernel.TRANSPOSE: _by_kind(2, 5),
    Kernel.STRIDED_SLICE: _by_kind(2, 1),
    Kernel.RESIZE_NEAREST_NEIGHBOR: _resize,
    Kernel.TRANSPOSE_CONV: _always(3),
    Kernel.QUANTIZE: _quantize,
    Kernel.SOFTMAX: _by_kind(2, 3),
    Kernel.LOGISTIC: _by_kind(2, 3),
    Kernel.TANH: _by_kind(2, 3),
    Kernel.GATHER: _by_kind(2, 4),
}
