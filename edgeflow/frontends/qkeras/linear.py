"""QDense and QConv2D: integer weights and bias on one accumulator unit a channel, then the activation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.content import Float32Array
from edgeflow.frontends.qkeras.importer import Importer, Terms, Value
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.quantizers import Codes, read_activation, read_weight_quantizer
from edgeflow.frontends.qkeras.windows import conv_pads, require_channels_last
from edgeflow.ir.types import IntArray, Shape, frozen_array
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.linear import SumBounds

_MOST_UNITS = 1 << 20
_MOST_WINDOW = 4096
_WEIGHT_BITS = 40


@dataclass(frozen=True)
class _Weights:
    """Integers on the accumulator's unit 2**-frac (scalar, or one an output channel)."""

    kernel: IntArray
    bias: IntArray
    frac: IntArray


def import_dense(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """QDense: Dense, then its activation."""
    source = importer.one_unit(inputs[0], layer)
    shape = importer.shape(Value(source))
    units = layer.fields.integer("units", 1, _MOST_UNITS)
    weights = _read_weights(layer, (shape[-1], units), importer.frac(source))
    op = Dense(weights.kernel, weights.bias)
    sums = op.sums(importer.builder.bounds(source))
    return _finish(importer, layer, sums, importer.add(op, (source,), weights.frac, layer))


def import_conv2d(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """QConv2D: Conv over two axes with strides, padding, dilation and groups, then its activation."""
    fields = layer.fields
    require_channels_last(layer)
    source = importer.one_unit(inputs[0], layer)
    shape = importer.shape(Value(source))
    if len(shape) != 3:
        raise EdgeflowError(f"it reads a tensor of shape {shape}, not (height, width, channels)", where=layer.where)
    window = fields.shape("kernel_size", 2, 1, _MOST_WINDOW)
    strides = fields.shape("strides", 2, 1, _MOST_WINDOW)
    dilation = fields.shape("dilation_rate", 2, 1, _MOST_WINDOW)
    groups = fields.integer("groups", 1, _MOST_UNITS, 1)
    filters = fields.integer("filters", 1, _MOST_UNITS)
    if shape[-1] % groups or filters % groups:
        raise EdgeflowError(
            f"{groups} groups do not divide {shape[-1]} input and {filters} output channels", where=layer.where
        )
    weights = _read_weights(layer, (*window, shape[-1] // groups, filters), importer.frac(source))
    pads = conv_pads(layer, shape, window, strides, dilation)
    op = Conv(weights.kernel, weights.bias, strides, pads, dilation, groups)
    sums = op.sums(importer.builder.bounds(source), shape[-1])
    return _finish(importer, layer, sums, importer.add(op, (source,), weights.frac, layer))


def _finish(importer: Importer, layer: Layer, sums: SumBounds, tensor: str) -> Value:
    """Checks the accumulator `tensor` against float32 and applies the layer's activation."""
    importer.reject_beyond_float32(sums.magnitude, layer)
    frac = importer.frac(tensor)
    largest = np.maximum(-sums.partial_lo, sums.partial_hi).astype(np.float64)
    value = Value(tensor, terms=Terms(int(frac.max()), float(np.ldexp(largest, -frac).max())))
    steps = read_activation(layer.fields.raw("activation"), layer.where)
    return value if steps is None else importer.quantize(value, steps, layer, f"{layer.name}_act")


def _read_weights(layer: Layer, shape: Shape, source: IntArray) -> _Weights:
    """Kernel and bias codes, brought to the coarsest unit that holds both; `source` is the input's frac."""
    kernel = _read_kernel(layer, shape)
    products = kernel.frac + source
    products = products.reshape(()) if (products == products.flat[0]).all() and products.size == 1 else products
    if products.size > 1 and (products == products[0]).all():
        products = products[0]
    bias, needed = _read_bias(layer, shape[-1])
    frac = np.maximum(products, needed if products.ndim else needed.max())
    shift = frac - products
    if shift.max() + int(np.abs(kernel.codes).max()).bit_length() > _WEIGHT_BITS:
        raise Unsupported(
            f"its bias has {int(shift.max())} more fractional bits than its products",
            where=layer.where,
            fix="use fewer bits or more integer bits in the bias_quantizer",
        )
    return _Weights(
        kernel=frozen_array(kernel.codes << shift),
        bias=frozen_array(bias.codes * (np.int64(1) << np.maximum(frac - needed, 0))),
        frac=frac,
    )


def _read_kernel(layer: Layer, shape: Shape) -> Codes:
    quantizer = read_weight_quantizer(layer.fields.raw("kernel_quantizer"), layer.where, "kernel")
    if quantizer is None:
        raise Unsupported(
            "it has no kernel_quantizer, so its weights are floats",
            where=layer.where,
            fix="add kernel_quantizer=quantized_bits(8, 0, alpha=1) and train",
        )
    values = _stored(layer, ("0", "kernel"), "kernel", shape)
    kernel = quantizer.on_kernel().weights(values, layer.where)
    mask = layer.fields.raw("mask")
    return kernel if mask is None else Codes(kernel.codes * _read_mask(mask, layer, shape), kernel.frac)


def _read_mask(mask: object, layer: Layer, shape: Shape) -> IntArray:
    try:
        array = np.asarray(mask, dtype=np.float64)
    except (TypeError, ValueError):
        raise layer.fields.wrong("mask", "an array of numbers") from None
    if array.shape != (*shape[:2], 1, 1):
        raise layer.fields.wrong("mask", f"an array of shape {(*shape[:2], 1, 1)}")
    if not np.isin(array, (0.0, 1.0)).all():
        raise Unsupported("its mask holds other values than 0 and 1", where=layer.where, fix="use a mask of 0 and 1")
    return array.astype(np.int64)


def _read_bias(layer: Layer, outputs: int) -> tuple[Codes, IntArray]:
    """Bias codes with trailing zero bits removed, and the frac that each element then needs."""
    nothing = np.full(outputs, np.iinfo(np.int32).min, dtype=np.int64)
    if not layer.fields.flag("use_bias", True):
        return Codes(np.zeros(outputs, dtype=np.int64), nothing), nothing
    values = _stored(layer, ("1", "bias"), "bias", (outputs,))
    quantizer = read_weight_quantizer(layer.fields.raw("bias_quantizer"), layer.where, "bias")
    if quantizer is None:
        if values.any():
            raise Unsupported(
                "it has no bias_quantizer, so its bias is a float",
                where=layer.where,
                fix="add bias_quantizer=quantized_bits(8, 3, alpha=1) and train, or use_bias=False",
            )
        return Codes(np.zeros(outputs, dtype=np.int64), nothing), nothing
    bias = quantizer.weights(values, layer.where)
    zeros = _trailing_zeros(bias.codes)
    needed = np.where(bias.codes == 0, nothing, bias.frac - zeros)
    return Codes(bias.codes >> zeros, needed), needed


def _trailing_zeros(codes: IntArray) -> IntArray:
    lowest = codes & -codes
    return np.where(codes == 0, 0, np.rint(np.log2(np.maximum(lowest, 1).astype(np.float64)))).astype(np.int64)


def _stored(layer: Layer, slots: tuple[str, ...], name: str, shape: Shape) -> Float32Array:
    if layer.fields.raw("lora_rank") is not None:
        raise Unsupported("LoRA weights are not supported", where=layer.where, fix="merge them before saving")
    values = next((layer.weights[slot] for slot in slots if slot in layer.weights), None)
    if values is None:
        raise EdgeflowError(f"the file holds no {name} for it", where=layer.where, fix="save the whole model again")
    if values.shape != shape:
        raise EdgeflowError(
            f"its {name} has shape {values.shape} in the file, its configuration asks for {shape}",
            where=layer.where,
            fix="save the whole model again",
        )
    return values
