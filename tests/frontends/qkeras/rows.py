"""Every layer and parameter as one row: what to put behind a quantized input, named for what it tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.frontends.qkeras.against import act, bits, conv, dense, layers, q, relu

Build = Callable[[Any], Any]
"""From the quantized input to the row's output."""

PO2 = {"alpha": "auto_po2"}

SEQUENCE: dict[str, Build] = {  # (9, 4)
    "conv1d": lambda x: q("QConv1D", 5, 3)(x),
    "conv1d same": lambda x: q("QConv1D", 5, 4, padding="same", activation=relu(5, 2))(x),
    "conv1d strided": lambda x: q("QConv1D", 5, 3, strides=2, padding="same")(x),
    "conv1d dilated": lambda x: q("QConv1D", 5, 3, dilation_rate=2)(x),
    "conv1d grouped": lambda x: q("QConv1D", 6, 3, groups=2, padding="same")(x),
    "conv1d auto_po2": lambda x: q("QConv1D", 6, 3, kernel_quantizer=bits(5, 0, **PO2))(x),
    "conv1d without bias": lambda x: q("QConv1D", 6, 3, use_bias=False)(x),
    "separable1d": lambda x: q("QSeparableConv1D", 5, 3)(x),
    "separable1d multiplied": lambda x: q("QSeparableConv1D", 5, 3, depth_multiplier=3, padding="same")(x),
    "separable1d strided": lambda x: q("QSeparableConv1D", 5, 3, strides=2, padding="same", activation=bits(6, 3))(x),
    "separable1d dilated": lambda x: q("QSeparableConv1D", 5, 3, dilation_rate=2)(x),
    "max pool": lambda x: layers().MaxPooling1D(2)(x),
    "max pool same": lambda x: layers().MaxPooling1D(3, strides=2, padding="same")(x),
    "average of 2": lambda x: layers().AveragePooling1D(2)(x),
    "average of 3": lambda x: act(relu(6, 1))(layers().AveragePooling1D(3, strides=1)(x)),
    "average of 3 same": lambda x: act(bits(7, 2))(layers().AveragePooling1D(3, strides=2, padding="same")(x)),
    "global average": lambda x: act(bits(7, 2))(layers().GlobalAveragePooling1D()(x)),
    "global average kept": lambda x: act(relu(7, 2))(layers().GlobalAveragePooling1D(keepdims=True)(x)),
    "global max": lambda x: layers().GlobalMaxPooling1D()(x),
    "zero padding": lambda x: layers().ZeroPadding1D((1, 2))(x),
    "zero padding one number": lambda x: q("QConv1D", 3, 3)(layers().ZeroPadding1D(2)(x)),
    "cropping": lambda x: layers().Cropping1D((1, 2))(x),
    "upsampling": lambda x: layers().UpSampling1D(3)(x),
    "permute": lambda x: dense(3)(layers().Permute((2, 1))(x)),
    "permute channels of different units": lambda x: layers().Permute((2, 1))(
        q("QConv1D", 6, 3, kernel_quantizer=bits(5, 0, **PO2))(x)
    ),
    "dense on steps": lambda x: dense(3, activation=relu(5, 1))(x),
    "dense batchnorm on steps": lambda x: q("QDenseBatchnorm", 3)(x),
    "scale and shift": lambda x: q("QScaleShift", weight_quantizer=bits(6, 1), activation=bits(6, 3))(x),
    "concatenate steps": lambda x: layers().Concatenate(axis=1)([act(relu(5, 1))(x), act(bits(4, 2))(x)]),
    "concatenate channels": lambda x: layers().Concatenate()([act(relu(5, 1))(x), act(bits(4, 2))(x), x]),
    "moves that change nothing": lambda x: layers().Permute((1, 2))(
        layers().UpSampling1D(1)(layers().Cropping1D(0)(layers().ZeroPadding1D(0)(act(relu(5, 1))(x))))
    ),
}

IMAGE: dict[str, Build] = {  # (6, 6, 4)
    "depthwise": lambda x: q("QDepthwiseConv2D", 3)(x),
    "depthwise multiplied": lambda x: q("QDepthwiseConv2D", (3, 2), depth_multiplier=3, activation=relu(6, 2))(x),
    "depthwise capitals": lambda x: q("QDepthwiseConv2D", 3, padding="SAME")(x),
    "depthwise strided": lambda x: q("QDepthwiseConv2D", 3, strides=2, padding="same", use_bias=False)(x),
    "depthwise dilated": lambda x: q("QDepthwiseConv2D", 3, dilation_rate=2, padding="same")(x),
    "depthwise auto_po2": lambda x: q("QDepthwiseConv2D", 3, depthwise_quantizer=bits(5, 0, **PO2))(x),
    "depthwise multiplied auto_po2": lambda x: q(
        "QDepthwiseConv2D", 3, depth_multiplier=3, depthwise_quantizer=bits(5, 0, **PO2)
    )(x),
    "depthwise behind auto_po2": lambda x: q("QDepthwiseConv2D", 3, depth_multiplier=2)(
        conv(3, 3, activation=None, kernel_quantizer=bits(4, 0, **PO2))(x)
    ),
    "separable": lambda x: q("QSeparableConv2D", 5, 3)(x),
    "separable multiplied": lambda x: q(
        "QSeparableConv2D",
        5,
        (2, 3),
        depth_multiplier=2,
        padding="same",
        activation=relu(6, 3),
    )(x),
    "separable strided": lambda x: q("QSeparableConv2D", 5, 3, strides=2, padding="same")(x),
    "separable dilated": lambda x: q("QSeparableConv2D", 5, 3, dilation_rate=2, padding="same")(x),
    "separable auto_po2": lambda x: q(
        "QSeparableConv2D",
        5,
        3,
        depth_multiplier=2,
        depthwise_quantizer=bits(4, 0, **PO2),
        pointwise_quantizer=bits(4, 0, **PO2),
    )(x),
    "transposed": lambda x: q("QConv2DTranspose", 3, 3)(x),
    "transposed same": lambda x: q("QConv2DTranspose", 3, 3, padding="same", activation=relu(6, 2))(x),
    "transposed strided": lambda x: q("QConv2DTranspose", 3, 3, strides=2)(x),
    "transposed strided same": lambda x: q("QConv2DTranspose", 3, 4, strides=2, padding="same")(x),
    "transposed uneven": lambda x: q("QConv2DTranspose", 3, (2, 5), strides=(3, 2), padding="same")(x),
    "transposed uneven valid": lambda x: q("QConv2DTranspose", 2, (5, 1), strides=(2, 3))(x),
    "transposed narrow": lambda x: q("QConv2DTranspose", 2, 1, strides=3, padding="same", use_bias=False)(x),
    "transposed auto_po2": lambda x: q("QConv2DTranspose", 3, 3, kernel_quantizer=bits(4, 0, **PO2))(x),
    "quantized average": lambda x: q("QAveragePooling2D", 2, average_quantizer=bits(8, 0))(x),
    "quantized average of 9": lambda x: q("QAveragePooling2D", 3, average_quantizer=bits(6, 0), activation=relu(6, 1))(
        x
    ),
    "quantized average same": lambda x: q(
        "QAveragePooling2D",
        3,
        strides=2,
        padding="same",
        average_quantizer=bits(6, 0),
        activation=bits(6, 2),
    )(x),
    "quantized average without quantizer": lambda x: q(
        "QAveragePooling2D", 3, average_quantizer=None, activation=relu(6, 1)
    )(x),
    "quantized global average": lambda x: q("QGlobalAveragePooling2D", average_quantizer=bits(8, -2))(x),
    "quantized global average kept": lambda x: q(
        "QGlobalAveragePooling2D",
        keepdims=True,
        average_quantizer=bits(8, -3),
        activation=bits(7, 2),
    )(x),
    "quantized global average without quantizer": lambda x: q(
        "QGlobalAveragePooling2D", average_quantizer=None, activation=bits(7, 2)
    )(x),
    "zero padding": lambda x: conv(3, 3)(layers().ZeroPadding2D(((1, 2), (0, 3)))(x)),
    "zero padding of a pending average": lambda x: act(bits(8, 2))(
        layers().ZeroPadding2D(1)(layers().AveragePooling2D(3)(x))
    ),
    "cropping": lambda x: layers().Cropping2D(((1, 2), (0, 3)))(x),
    "cropping a pending average": lambda x: act(bits(8, 2))(layers().Cropping2D(1)(layers().AveragePooling2D(3, 1)(x))),
    "upsampling": lambda x: conv(3, 2)(layers().UpSampling2D((2, 3))(x)),
    "permute": lambda x: layers().Permute((3, 1, 2))(x),
    "permute space": lambda x: conv(3, 2)(layers().Permute((2, 1, 3))(x)),
    "add of one channel": lambda x: layers().Add()([act(relu(5, 2))(x), conv(1, 1)(x)]),
    "add of one position": lambda x: layers().Add()(
        [act(relu(5, 2))(x), layers().GlobalMaxPooling2D(keepdims=True)(conv(4, 1)(x))]
    ),
    "subtract": lambda x: layers().Subtract()([conv(4, 1)(x), act(bits(4, 3))(x)]),
    "subtract of one channel": lambda x: layers().Subtract()([act(bits(4, 3))(x), conv(1, 1)(x)]),
    "multiply": lambda x: layers().Multiply()([conv(4, 1)(x), act(bits(4, 3))(x)]),
    "multiply three": lambda x: layers().Multiply()([conv(4, 1)(x), act(bits(4, 3))(x), act(relu(3, 1))(x)]),
    "gate": lambda x: layers().Multiply()(
        [
            act(bits(6, 2))(x),
            dense(4, activation=relu(4, 1))(layers().GlobalMaxPooling2D(keepdims=True)(x)),
        ]
    ),
    "gate of another rank": lambda x: layers().Multiply()(
        [
            act(bits(6, 2))(x),
            dense(4, activation=relu(4, 1))(layers().GlobalMaxPooling2D()(x)),
        ]
    ),
    "sum of products": lambda x: (
        lambda gate: layers().Add()(
            [
                layers().Multiply()([gate, act(bits(4, 1))(x)]),
                layers().Multiply()([gate, act(bits(5, 3))(x)]),
            ]
        )
    )(conv(4, 1)(x)),
    "average of two": lambda x: layers().Average()([conv(4, 1)(x), act(bits(4, 3))(act(bits(5, 2))(x))]),
    "average of four": lambda x: act(bits(5, 2))(layers().Average()([conv(4, 1)(x) for _ in range(4)])),
    "maximum": lambda x: layers().Maximum()([conv(4, 1)(x), act(bits(4, 3))(x), act(relu(3, 1))(x)]),
    "minimum": lambda x: layers().Minimum()([conv(4, 1)(x), act(bits(4, 3))(x)]),
    "minimum of one channel": lambda x: layers().Minimum()([conv(1, 1)(x), act(bits(4, 3))(x)]),
    "concatenate": lambda x: conv(3, 2)(layers().Concatenate()([conv(2, 1)(x), act(bits(4, 3))(x)])),
    "concatenate rows": lambda x: layers().Concatenate(axis=1)([conv(4, 1)(x), act(bits(4, 3))(x)]),
    "concatenate columns": lambda x: layers().Concatenate(axis=-2)([conv(4, 1)(x), act(bits(4, 3))(x)]),
    "concatenate channels of different units": lambda x: act(bits(6, 2))(
        layers().Concatenate()([conv(3, 1, activation=None, kernel_quantizer=bits(4, 0, **PO2))(x), x])
    ),
    "scale and shift": lambda x: q("QScaleShift")(x),
    "scale and shift of different units": lambda x: q("QScaleShift", use_bias=False)(
        conv(3, 1, activation=None, kernel_quantizer=bits(4, 0, **PO2))(x)
    ),
    "conv batchnorm": lambda x: q("QConv2DBatchnorm", 3, 3)(x),
    "conv batchnorm same": lambda x: q(
        "QConv2DBatchnorm",
        3,
        (3, 2),
        strides=2,
        padding="same",
        activation=relu(6, 3),
        use_bias=False,
    )(x),
    "conv batchnorm batch statistics": lambda x: q(
        "QConv2DBatchnorm",
        3,
        3,
        folding_mode="batch_stats_folding",
        ema_freeze_delay=10,
    )(x),
    "conv batchnorm auto_po2": lambda x: q("QConv2DBatchnorm", 3, 2, kernel_quantizer=bits(4, 0, **PO2))(x),
    "depthwise batchnorm": lambda x: q("QDepthwiseConv2DBatchnorm", 3)(x),
    "depthwise batchnorm multiplied": lambda x: q(
        "QDepthwiseConv2DBatchnorm",
        3,
        depth_multiplier=2,
        activation=bits(6, 3),
        folding_mode="batch_stats_folding",
    )(x),
    "conv of a larger epsilon": lambda x: q("QConv2DBatchnorm", 3, 2, epsilon=0.25)(x),
}

CORE: dict[str, Build] = {  # (6, 6, 4)
    "grouped convolution": lambda x: conv(8, 3, groups=2, padding="same")(x),
    "depthwise by groups": lambda x: conv(4, 3, groups=4)(x),
    "dilated convolution": lambda x: conv(3, 3, dilation_rate=2)(x),
    "dilated, same": lambda x: conv(3, (3, 2), dilation_rate=(2, 1), padding="same")(x),
    "strided, same": lambda x: conv(3, 3, strides=2, padding="same")(x),
    "uneven strides": lambda x: conv(3, (2, 3), strides=(2, 3), padding="same")(x),
    "window wider than the input": lambda x: conv(2, 7, padding="same")(x),
    "masked kernel": lambda x: conv(3, 3, mask=np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype="float32"))(x),
    "no bias": lambda x: conv(3, 3, use_bias=False)(x),
    "bias finer than the products": lambda x: conv(3, 1, bias_quantizer=bits(12, 0))(x),
    "auto_po2 kernel": lambda x: conv(3, 3, kernel_quantizer=bits(4, 0, alpha="auto_po2"))(x),
    "auto_po2 to the output": lambda x: conv(3, 3, kernel_quantizer=bits(5, 1, alpha="auto_po2"), activation=None)(x),
    "alpha None on a kernel": lambda x: conv(3, 3, kernel_quantizer=bits(4, 0, alpha=None))(x),
    "alpha None on an activation": lambda x: act(bits(5, 1, alpha=None))(conv(3, 3)(x)),
    "alpha a quarter on a kernel": lambda x: conv(3, 3, kernel_quantizer=bits(4, 0, alpha=0.25))(x),
    "alpha 2 on an activation": lambda x: dense(3)(conv(3, 3, activation=bits(4, 1, alpha=2.0))(x)),
    "auto_po2 bias": lambda x: conv(3, 3, bias_quantizer=bits(4, 0, alpha="auto_po2"))(x),
    "binary kernel": lambda x: conv(3, 3, kernel_quantizer=bits(1, 0))(x),
    "positive kernel": lambda x: conv(3, 3, kernel_quantizer=bits(4, 0, keep_negative=False))(x),
    "symmetric kernel": lambda x: conv(3, 3, kernel_quantizer=bits(3, 0, 1))(x),
    "more integer bits than bits": lambda x: act(bits(3, 5))(conv(3, 3, activation=bits(10, 6))(x)),
    "dense on every pixel": lambda x: dense(5, activation=relu(4, 1))(x),
    "max pool": lambda x: layers().MaxPooling2D(2)(x),
    "max pool, same, overlapping": lambda x: layers().MaxPooling2D(3, strides=2, padding="same")(x),
    "max pool between channels of different units": lambda x: act(relu(5, 2))(
        layers().MaxPooling2D(2)(conv(3, 3, kernel_quantizer=bits(4, 0, alpha="auto_po2"), activation=None)(x))
    ),
    "average of 4 to the output": lambda x: layers().AveragePooling2D(2)(x),
    "average of 4, 2 and 1 to the output": lambda x: layers().AveragePooling2D(2, strides=1, padding="same")(x),
    "average of 9": lambda x: act(relu(6, 1))(layers().AveragePooling2D(3)(x)),
    "average of 9 with ties": lambda x: act(relu(4, 2))(layers().AveragePooling2D(3)(x)),
    "average of 9, 6 and 4": lambda x: act(bits(7, 2))(layers().AveragePooling2D(3, strides=2, padding="same")(x)),
    "average of channels of different units": lambda x: act(bits(8, 4))(
        layers().AveragePooling2D(3, strides=1, padding="same")(
            conv(3, 1, kernel_quantizer=bits(4, 0, alpha="auto_po2"), activation=None)(x)
        )
    ),
    "average read by two quantizers": lambda x: (
        lambda pooled: layers().Add()(
            [
                act(relu(6, 1))(act(relu(6, 1))(pooled)),
                act(bits(5, 1))(act(bits(5, 1))(pooled)),
            ]
        )
    )(layers().AveragePooling2D(3)(x)),
    "average that an add and another layer read": lambda x: (
        lambda pooled: layers().Add()([pooled, conv(4, 1)(pooled)])
    )(act(bits(8, 3))(layers().AveragePooling2D(3)(x))),
    "sums of sums of straight-through quantizers": lambda x: layers().Add()(
        [
            layers().Add()(
                [
                    conv(4, 3, activation=bits(5, 2))(x),
                    conv(4, 3, activation=bits(7, 3))(x),
                ]
            ),
            conv(4, 3, activation=bits(4, 2))(x),
        ]
    ),
    "global average of 36": lambda x: act(bits(8, 2))(layers().GlobalAveragePooling2D()(x)),
    "global average, axes kept": lambda x: act(relu(8, 2))(layers().GlobalAveragePooling2D(keepdims=True)(x)),
    "global average, flattened, then quantized": lambda x: act(relu(8, 2))(
        layers().Flatten()(layers().GlobalAveragePooling2D(keepdims=True)(x))
    ),
    "uneven average, flattened, then quantized": lambda x: act(relu(8, 2))(
        layers().Flatten()(layers().AveragePooling2D(3, strides=2, padding="same")(x))
    ),
    "global max": lambda x: layers().GlobalMaxPooling2D()(x),
    "reshape": lambda x: dense(3)(layers().Reshape((-1, 12))(x)),
    "flatten channels of different units": lambda x: dense(3)(
        layers().Flatten()(conv(3, 3, kernel_quantizer=bits(4, 0, alpha="auto_po2"), activation=None)(x))
    ),
    "add of different units": lambda x: layers().Add()([act(relu(4, 1))(x), act(bits(6, 0))(x), x]),
    "add of a tensor to itself": lambda x: act(relu(4, 1))(layers().Add()([x, x])),
    "training-only layers": lambda x: layers().GaussianNoise(0.1)(
        layers().SpatialDropout2D(0.5)(layers().Activation("linear")(layers().Dropout(0.5)(x)))
    ),
    "quantizer that changes nothing": lambda x: act(bits(9, 2))(act(bits(9, 2))(x)),
    "requantized finer": lambda x: act(bits(12, 2))(x),
}

_ODD = {"alpha": 0.3137}
_EACH = {"alpha": "auto"}

REAL: dict[str, Build] = {  # (6, 6, 4): factors that are no powers of two, quantized behind
    "conv": lambda x: conv(3, 3, kernel_quantizer=bits(4, 0, **_ODD))(x),
    "conv with a scale a channel": lambda x: conv(3, 3, kernel_quantizer=bits(4, 0, **_EACH))(x),
    "float bias": lambda x: conv(3, 3, bias_quantizer=None)(x),
    "real bias": lambda x: conv(3, 3, bias_quantizer=bits(5, 1, **_ODD))(x),
    "depthwise": lambda x: q(
        "QDepthwiseConv2D",
        3,
        depth_multiplier=3,
        activation=relu(5, 2),
        depthwise_quantizer=bits(4, 0, **_EACH),
    )(x),
    "separable": lambda x: q(
        "QSeparableConv2D",
        3,
        3,
        activation=relu(5, 2),
        depthwise_quantizer=bits(4, 0, **_ODD),
        pointwise_quantizer=bits(4, 0, **_EACH),
    )(x),
    "transposed": lambda x: q("QConv2DTranspose", 3, 3, activation=relu(5, 2), kernel_quantizer=bits(4, 0, **_ODD))(x),
    "scale and shift": lambda x: q("QScaleShift", activation=bits(6, 3), weight_quantizer=bits(4, 0, **_ODD))(x),
    "max pool between": lambda x: act(relu(5, 2))(layers().MaxPooling2D()(_real_conv(x))),
    "average between": lambda x: act(relu(5, 2))(layers().AveragePooling2D(3)(_real_conv(x))),
    "global average between": lambda x: act(relu(5, 2))(layers().GlobalAveragePooling2D()(_real_conv(x))),
    "global max between": lambda x: act(relu(5, 2))(layers().GlobalMaxPooling2D()(_real_conv(x))),
    "flatten between": lambda x: act(relu(5, 2))(layers().Flatten()(_real_conv(x))),
    "reshape between": lambda x: act(relu(5, 2))(layers().Reshape((-1, 6))(_real_conv(x))),
    "cropping between": lambda x: act(relu(5, 2))(layers().Cropping2D(1)(_real_conv(x))),
    "zero padding between": lambda x: act(relu(5, 2))(layers().ZeroPadding2D(1)(_real_conv(x))),
    "upsampling between": lambda x: act(relu(5, 2))(layers().UpSampling2D()(_real_conv(x))),
    "permute space between": lambda x: act(relu(5, 2))(layers().Permute((2, 1, 3))(_real_conv(x))),
    "folded without bias quantizer": lambda x: q("QConv2DBatchnorm", 3, 3, bias_quantizer=None, activation=relu(5, 2))(
        x
    ),
    "quantized average": lambda x: q(
        "QAveragePooling2D", 2, average_quantizer=bits(6, 0, **_ODD), activation=bits(6, 2)
    )(x),
}


def _real_conv(x: Any) -> Any:
    return conv(3, 3, kernel_quantizer=bits(4, 0, **_EACH), activation=None, use_bias=False)(x)


VECTOR: dict[str, Build] = {  # (10,)
    "dense": lambda x: dense(4, activation=relu(5, 1))(x),
    "dense batchnorm": lambda x: q("QDenseBatchnorm", 4, activation=relu(5, 1))(x),
    "dense batchnorm later": lambda x: q("QDenseBatchnorm", 4, ema_freeze_delay=3, use_bias=False)(x),
    "repeat": lambda x: layers().RepeatVector(3)(x),
    "repeat once": lambda x: q("QConv1D", 2, 1)(layers().RepeatVector(1)(x)),
    "scale and shift": lambda x: q("QScaleShift")(x),
    "concatenate": lambda x: dense(3)(layers().Concatenate()([act(relu(4, 1))(x), dense(3)(x)])),
    "maximum": lambda x: layers().Maximum()([dense(3)(x), dense(3)(x)]),
    "multiply": lambda x: layers().Multiply()([dense(3, activation=relu(4, 1))(x), dense(3)(x)]),
}

SHAPES: dict[str, tuple[tuple[int, ...], dict[str, Build]]] = {
    "sequence": ((9, 4), SEQUENCE),
    "core": ((6, 6, 4), CORE),
    "image": ((6, 6, 4), IMAGE),
    "real": ((6, 6, 4), REAL),
    "vector": ((10,), VECTOR),
}

WEIGHTED = {
    "conv1d",
    "separable1d",
    "dense on steps",
    "depthwise",
    "separable",
    "transposed",
    "conv batchnorm",
    "depthwise batchnorm",
    "dense",
    "dense batchnorm",
    "scale and shift",
}
"""One row for each layer with weights: a second file format stores them under other names."""
