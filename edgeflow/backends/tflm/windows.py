"""Windows that slide over the two spatial axes of TFLite's kernels, and the padding around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from edgeflow.backends.tflm.model import Kernel, NoOptions, TensorKind
from edgeflow.backends.tflm.writer import Writer
from edgeflow.ir.graph import Node
from edgeflow.ir.types import Shape, frozen_array

Pair = tuple[int, int]
T = TypeVar("T")


def pair(values: tuple[T, ...], alone: T) -> tuple[T, T]:
    """A parameter of one or two spatial axes for two: one axis is the horizontal one."""
    return (alone, values[0]) if len(values) == 1 else (values[0], values[1])


@dataclass(frozen=True)
class Window:
    """What slides over the two spatial axes."""

    size: Pair
    strides: Pair
    dilation: Pair
    pads: tuple[Pair, Pair]


def place_window(
    writer: Writer, node: Node, place: int, window: Window, fill: int | None, *, same: bool
) -> tuple[int, bool]:
    """Where a window slides: the tensor, and whether TFLite's SAME padding is the wanted one.

    Other paddings get an operator of their own that fills with the byte `fill` (None: the zero point). `same`
    says whether the kernel's own padding counts for what `fill` would.
    """
    shape = writer.tensors[place].shape
    if not any(map(any, window.pads)):
        return place, False
    if same and is_same(shape[1:3], window):
        return place, True
    layer, quantization = node.layer, writer.quantization(place)
    amounts = frozen_array([(0, 0), *window.pads, (0, 0)])
    operands = [place, writer.constant(f"{layer}/pads", amounts, TensorKind.INT32, None)]
    if fill is not None:
        operands.append(writer.constant(f"{layer}/fill", frozen_array([fill]), writer.width.kind, quantization))
    padded = tuple(length + sum(pad) for length, pad in zip(shape, amounts.tolist(), strict=True))
    result = writer.tensor(f"{layer}/padded", padded, writer.width.kind, quantization)
    kernel = Kernel.PAD if fill is None else Kernel.PADV2
    writer.operator(kernel, tuple(operands), result, NoOptions(), layer)
    return result, False


def is_same(spatial: Shape, window: Window) -> bool:
    """Whether TFLite's SAME is the window's padding."""
    axes = zip(spatial, window.size, window.strides, window.dilation, window.pads, strict=True)
    return all(same_padding(length, *one) == wanted for length, *one, wanted in axes)


def same_padding(length: int, window: int, stride: int, dilation: int) -> Pair:
    """The padding that TFLite means by SAME (ComputePaddingHeightWidth in tensorflow/lite/kernels/padding.h)."""
    results = -(-length // stride)
    total = max((results - 1) * stride + (window - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2
