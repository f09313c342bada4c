"""Biases that keep every sum off rounding ties: odd in a unit finer than the products of their layer.

A rounding then never meets a value half-way between two results, so half to even (QKeras), half up (cheap code) and
half away from zero (TFLite-Micro) agree, and no target moves an output.
"""

# pyright: basic
from __future__ import annotations

import functools
from typing import Any

from edgeflow.train.runtime import Runtime, Tensor, load_runtime

MOST_BITS = 24


def tie_free_bits(bits: int, integer: int = 0) -> object:
    """A bias_quantizer for QKeras layers: the nearest odd multiple of 2**(integer + 1 - bits).

    `bits` counts the sign, `integer` the bits left of the point. Give it one fractional bit more than the layer's
    products have (the input's and the kernel's added up). Saved as "edgeflow>tie_free_bits"; to load such a model with
    Keras itself, call this function once before. Raises ValueError beyond 2 to 24 bits, MissingTool without QKeras.
    """
    return tie_free_class(load_runtime())(bits, integer)


@functools.cache
def tie_free_class(runtime: Runtime) -> Any:
    """The quantizer's class, registered with Keras under the name that model files hold."""
    ops = runtime.keras.ops

    @runtime.keras.saving.register_keras_serializable(package="edgeflow")
    class tie_free_bits(runtime.qkeras.base_quantizer.BaseQuantizer):  # noqa: N801 - files hold the name; QKeras' quantizers are written so
        """code = clip(2 floor(x 2**(frac - 1)) + 1), worth code * 2**-frac; the gradient passes straight through."""

        def __init__(self, bits: int, integer: int = 0) -> None:
            super().__init__()
            if not 2 <= bits <= MOST_BITS:
                raise ValueError(f"tie_free_bits takes 2 to {MOST_BITS} bits, not {bits}")
            self.bits, self.integer = bits, integer

        def __call__(self, x: Tensor) -> Tensor:
            step, most = 2.0 ** (self.integer + 1 - self.bits), 2.0 ** (self.bits - 1) - 1
            codes = ops.clip(2 * ops.floor(x / (2 * step)) + 1, -most, most)
            # x - x is exactly 0, so the quantized value itself comes forward.
            return ops.stop_gradient(codes * step) + (x - ops.stop_gradient(x))

        def __str__(self) -> str:
            return f"tie_free_bits({self.bits},{self.integer})"

        def max(self) -> float:
            """The largest value, by which QKeras clips the bias."""
            return 2.0**self.integer

        def min(self) -> float:
            """The least value."""
            return -(2.0**self.integer)

        def get_config(self) -> dict[str, int]:
            """What the constructor takes."""
            return {"bits": self.bits, "integer": self.integer}

        @classmethod
        def from_config(cls, config: dict[str, int]) -> Any:
            """The quantizer of a configuration."""
            return cls(**config)

    return tie_free_bits
