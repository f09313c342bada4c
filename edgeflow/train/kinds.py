"""Which Keras layers a student may have, and what a layer's activation is."""

# pyright: basic
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

WEIGHTED: tuple[str, ...] = ("Dense", "Conv1D", "Conv2D", "DepthwiseConv2D")
ACTIVATIONS: tuple[str, ...] = ("Activation", "ReLU")
AVERAGES: tuple[str, ...] = (
    "AveragePooling1D",
    "AveragePooling2D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
)
KEPT: tuple[str, ...] = (
    "Flatten",
    "Reshape",
    "Permute",
    "MaxPooling1D",
    "MaxPooling2D",
    *AVERAGES,
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "Concatenate",
    "Add",
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
)


def is_linear(layer: keras.layers.Layer) -> bool:
    """Whether a layer has no activation function of its own."""
    activation = getattr(layer, "activation", None)
    return type(layer).__name__ != "ReLU" and (activation is None or activation.__name__ == "linear")
