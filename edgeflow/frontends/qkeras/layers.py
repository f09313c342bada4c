"""Which Keras layers edgeflow imports, each by one function; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from edgeflow.errors import EdgeflowError, InvalidGraph, Unsupported, near
from edgeflow.frontends.qkeras.activations import import_activation, import_softmax
from edgeflow.frontends.qkeras.depthwise import import_depthwise, import_separable
from edgeflow.frontends.qkeras.fields import shown
from edgeflow.frontends.qkeras.folded import (
    import_conv2d_batchnorm,
    import_dense_batchnorm,
    import_depthwise_batchnorm,
)
from edgeflow.frontends.qkeras.importer import Importer, Value
from edgeflow.frontends.qkeras.linear import import_conv1d, import_conv2d, import_dense
from edgeflow.frontends.qkeras.merge import (
    import_add,
    import_average,
    import_concatenate,
    import_maximum,
    import_minimum,
    import_multiply,
    import_subtract,
)
from edgeflow.frontends.qkeras.model import Layer
from edgeflow.frontends.qkeras.normalization import import_batch_norm, import_quantized_batch_norm, import_relu
from edgeflow.frontends.qkeras.pooling import (
    import_average_pool,
    import_global_average,
    import_global_max,
    import_max_pool,
    import_quantized_global,
    import_quantized_pool,
)
from edgeflow.frontends.qkeras.scaling import import_scale_shift
from edgeflow.frontends.qkeras.shaping import (
    import_cropping,
    import_flatten,
    import_permute,
    import_repeat_vector,
    import_reshape,
    import_upsampling,
    import_zero_padding,
)
from edgeflow.frontends.qkeras.transposed import import_conv_transpose

LayerImport = Callable[[Importer, Layer, tuple[Value, ...]], Value]


def import_identity(importer: Importer, layer: Layer, inputs: tuple[Value, ...]) -> Value:
    """A layer that does nothing at inference."""
    return inputs[0]


JOINS: Mapping[str, LayerImport] = {
    "Add": import_add,
    "Subtract": import_subtract,
    "Multiply": import_multiply,
    "Average": import_average,
    "Maximum": import_maximum,
    "Minimum": import_minimum,
    "Concatenate": import_concatenate,
}
"""Layers that read several tensors."""

MOVES: Mapping[str, LayerImport] = {
    "Flatten": import_flatten,
    "Reshape": import_reshape,
    "Permute": import_permute,
    "RepeatVector": import_repeat_vector,
    "ZeroPadding1D": partial(import_zero_padding, rank=1),
    "ZeroPadding2D": partial(import_zero_padding, rank=2),
    "Cropping1D": partial(import_cropping, rank=1),
    "Cropping2D": partial(import_cropping, rank=2),
    "UpSampling1D": partial(import_upsampling, rank=1),
    "UpSampling2D": partial(import_upsampling, rank=2),
    "Dropout": import_identity,
    "SpatialDropout1D": import_identity,
    "SpatialDropout2D": import_identity,
    "SpatialDropout3D": import_identity,
    "AlphaDropout": import_identity,
    "GaussianDropout": import_identity,
    "GaussianNoise": import_identity,
    "ActivityRegularization": import_identity,
    "Identity": import_identity,
}
"""Layers that change no value."""

LAYERS: Mapping[str, LayerImport] = {
    "QDense": import_dense,
    "QConv1D": import_conv1d,
    "QConv2D": import_conv2d,
    "QDepthwiseConv2D": import_depthwise,
    "QSeparableConv1D": partial(import_separable, rank=1),
    "QSeparableConv2D": partial(import_separable, rank=2),
    "QConv2DTranspose": import_conv_transpose,
    "QDenseBatchnorm": import_dense_batchnorm,
    "QConv2DBatchnorm": import_conv2d_batchnorm,
    "QDepthwiseConv2DBatchnorm": import_depthwise_batchnorm,
    "QScaleShift": import_scale_shift,
    "QBatchNormalization": import_quantized_batch_norm,
    "BatchNormalization": import_batch_norm,
    "QActivation": import_activation,
    "Activation": import_activation,
    "ReLU": import_relu,
    "Softmax": import_softmax,
    "QAveragePooling2D": import_quantized_pool,
    "QGlobalAveragePooling2D": import_quantized_global,
    "MaxPooling1D": partial(import_max_pool, rank=1),
    "MaxPooling2D": partial(import_max_pool, rank=2),
    "AveragePooling1D": partial(import_average_pool, rank=1),
    "AveragePooling2D": partial(import_average_pool, rank=2),
    "GlobalMaxPooling1D": partial(import_global_max, rank=1),
    "GlobalMaxPooling2D": partial(import_global_max, rank=2),
    "GlobalAveragePooling1D": partial(import_global_average, rank=1),
    "GlobalAveragePooling2D": partial(import_global_average, rank=2),
    **JOINS,
    **MOVES,
}

MOVES_ONLY = set(MOVES)
"""Layers that change no value: an input quantizer may stand behind them."""

IDLE = {kind for kind, function in MOVES.items() if function is import_identity}
"""Layers that do nothing at inference: a last softmax may stand in front of them."""

_QUANTIZED = "or `edgeflow quantize` the model"
_RECURRENT = "use QConv1D over the time axis, or unroll it into QDense layers"
_TIME = "QDense and the other layers take the time axis as it is: use the inner layer alone"
_ACTIVATION = 'use QActivation("quantized_relu(8, 2)")'

INSTEAD: Mapping[str, str] = {
    "Dense": f"use QDense with a kernel_quantizer, {_QUANTIZED}",
    "Conv1D": f"use QConv1D with a kernel_quantizer, {_QUANTIZED}",
    "Conv2D": f"use QConv2D with a kernel_quantizer, {_QUANTIZED}",
    "Conv2DTranspose": f"use QConv2DTranspose with a kernel_quantizer, {_QUANTIZED}",
    "DepthwiseConv1D": "use QDepthwiseConv2D on an input of shape (1, length, channels)",
    "DepthwiseConv2D": f"use QDepthwiseConv2D with a depthwise_quantizer, {_QUANTIZED}",
    "SeparableConv1D": f"use QSeparableConv1D with its quantizers, {_QUANTIZED}",
    "SeparableConv2D": f"use QSeparableConv2D with its quantizers, {_QUANTIZED}",
    "QDepthwiseConv2DTranspose": "use UpSampling2D, then QDepthwiseConv2D",
    "QSeparableConv2DTranspose": "use QConv2DTranspose, or UpSampling2D and QSeparableConv2D",
    "QAdaptiveActivation": "use QActivation: qkeras-v3 cannot save or reload QAdaptiveActivation",
    "LeakyReLU": "use QActivation with quantized_relu and a negative_slope of a power of two",
    "PReLU": _ACTIVATION,
    "ELU": _ACTIVATION,
    "TimeDistributed": _TIME,
    "LayerNormalization": "use BatchNormalization or QBatchNormalization",
    "Embedding": "feed the model the embedded vectors",
    "Masking": "leave it out: edgeflow reads inputs of a fixed length",
}

RECURRENT = {
    "QSimpleRNN",
    "QLSTM",
    "QGRU",
    "QBidirectional",
    "SimpleRNN",
    "LSTM",
    "GRU",
    "RNN",
    "Bidirectional",
    "ConvLSTM1D",
    "ConvLSTM2D",
}
"""Layers that keep a state."""


def import_layer(importer: Importer, layer: Layer, inputs: tuple[Value, ...], place: str) -> Value:
    """Imports one layer; `place` says where it stands ("layer 4 of 7"). Raises Unsupported by name."""
    function = LAYERS.get(layer.kind)
    if function is None:
        raise unknown_layer(layer, place)
    _reject_dtype(layer)
    if layer.kind not in JOINS and len(inputs) != 1:
        raise EdgeflowError(f"it reads {len(inputs)} tensors, not one", where=layer.where)
    if layer.kind not in IDLE and any(one.logits for one in inputs):
        raise Unsupported(
            "it reads a softmax, which edgeflow leaves out: only the end of a model may be one",
            where=layer.where,
            fix="end the model at its softmax",
        )
    try:
        return function(importer, layer, inputs)
    except InvalidGraph as error:
        raise Unsupported(error.what, where=layer.where, fix=error.fix) from None


def unknown_layer(layer: Layer, place: str) -> Unsupported:
    """The error for a layer that edgeflow does not import; not raised here."""
    if layer.kind in RECURRENT:
        return Unsupported(f"recurrent layers are not supported yet ({place})", where=layer.where, fix=_RECURRENT)
    fix = INSTEAD.get(layer.kind)
    if fix is None:
        close = near(layer.kind.rpartition(".")[2], LAYERS)
        fix = f"use {close}" if close else f"edgeflow imports {', '.join(list(LAYERS)[:11])}"
    return Unsupported(f"{shown(layer.kind)} is not supported yet ({place})", where=layer.where, fix=fix)


def _reject_dtype(layer: Layer) -> None:
    policy = layer.fields.raw("dtype")
    match policy:
        case None | "float32" | {"class_name": "DTypePolicy", "config": {"name": "float32"}}:
            return
        case _:
            raise Unsupported(
                "its dtype policy is not float32", where=layer.where, fix="build the model with dtype='float32'"
            )
