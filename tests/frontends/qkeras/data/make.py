"""Wrote small.keras, small.h5 and small.npz beside it, with keras 3.15.1, tensorflow 2.21.0, qkeras-v3 1.2.1.

Random weights, no training, no data of others. Run it again only to change the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import qkeras
from qkeras import quantized_bits, quantized_relu

FOLDER = Path(__file__).parent
fixed: dict[str, Any] = {
    "kernel_quantizer": quantized_bits(4, 0, alpha=1),
    "bias_quantizer": quantized_bits(6, 1, alpha=1),
}
automatic: dict[str, Any] = {**fixed, "kernel_quantizer": quantized_bits(4, 0, alpha="auto_po2")}

source = keras.Input((6, 6, 1), name="image")
x = qkeras.QActivation(quantized_bits(8, 1, alpha=1), name="quantize")(source)
x = qkeras.QConv2D(3, 3, padding="same", activation=quantized_relu(4, 1), name="conv_1", **fixed)(x)
side = qkeras.QConv2D(3, 1, name="conv_2", **automatic)(x)
x = keras.layers.Add(name="add")([x, side])
x = qkeras.QActivation(quantized_relu(5, 2), name="relu_1")(x)
x = keras.layers.AveragePooling2D(3, name="pool")(x)
x = qkeras.QActivation(quantized_relu(6, 2), name="pool_act")(x)
x = keras.layers.Flatten(name="flat")(x)
x = keras.layers.Dropout(0.2, name="drop")(x)
x = qkeras.QDense(4, name="logits", **fixed)(x)
model: Any = keras.Model(source, x, name="small")
rng = np.random.default_rng(7)
for layer in model.layers:
    layer.set_weights([rng.normal(0, 0.5, one.shape).astype(np.float32) for one in layer.get_weights()])
model.save(FOLDER / "small.keras")
model.save(FOLDER / "small.h5")
inputs = rng.normal(0, 1, (8, 6, 6, 1)).astype(np.float32)
np.savez(FOLDER / "small.npz", image=inputs, logits=model.predict(inputs, verbose=0))
