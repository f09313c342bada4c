"""What a Keras file stores for a layer: its quantizers, and its float weights beside the integers that they became."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from edgeflow.errors import EdgeflowError
from edgeflow.frontends import is_keras, is_tflite, weights_of
from edgeflow.frontends.qkeras.content import Float32Array, read_content
from edgeflow.frontends.qkeras.fields import Fields, shown
from edgeflow.frontends.qkeras.model import Layer, read_model
from edgeflow.frontends.qkeras.quantizers import (
    Activation,
    Codes,
    Curve,
    Relu,
    Steps,
    read_activation,
    read_weight_quantizer,
)
from edgeflow.frontends.qkeras.spelling import quantizer_entry
from edgeflow.ir.types import Dyadic, Shape
from edgeflow.report.inspect.words import label_words, number, plural, power_words

_HALF_A_STEP = 0.5 + 2**-20
"""Rounding moves a weight by at most half a step, and by a little more in float32."""


@dataclass(frozen=True)
class Quantizer:
    """A quantizer as the file stores it: whose it is, its class with its parameters, and its formula in words."""

    role: str
    stored: str
    formula: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """One weight: where it stands, the float32 in the file, its code, what the code means, the difference in steps."""

    what: str
    place: tuple[int, ...]
    stored: float
    code: int
    value: float
    steps: float


@dataclass(frozen=True)
class Weights:
    """Weights of one role: their quantizer, shape, unit, the interval of their codes, and errors.

    `worst_steps` is the largest |stored - value| in steps; `beyond` counts the weights that lie further than half
    a step from their value: they were clipped, or the quantizer is no plain rounding.
    """

    quantizer: Quantizer
    shape: Shape
    unit: str
    lo: int
    hi: int
    zeros: int
    worst_steps: float
    beyond: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class _Slot:
    """Where a layer keeps one weight: its quantizer's key, its names in a file, whether it is a kernel."""

    key: str
    names: tuple[str, ...]
    kernel: bool


_SLOTS: Mapping[str, _Slot] = {
    "kernel": _Slot("kernel_quantizer", ("0", "kernel"), True),
    "depthwise kernel": _Slot("depthwise_quantizer", ("0", "depthwise_kernel"), True),
    "pointwise kernel": _Slot("pointwise_quantizer", ("1", "pointwise_kernel"), True),
    "bias": _Slot("bias_quantizer", ("1", "bias"), False),
}
_SEPARABLE_BIAS = ("2", "bias")
_FOLDING = "Batchnorm"
_FOLDED = "quantizes what folding the batch normalization in makes of the weights"


def read_layers(path: Path, weights: Path | None = None) -> Mapping[str, Layer]:
    """The Keras layers of a model file by name, `weights` as in `load_model`; none for a folder or a `.tflite` file.

    Raises EdgeflowError.
    """
    if path.is_dir() or is_tflite(path):
        return {}
    stored = read_content(path, None if is_keras(path) else weights_of(path, weights))
    model = read_model(stored, str(path))
    return {call.layer.name: call.layer for call in model.calls}


def quantizers(layer: Layer, told: Collection[str]) -> Iterator[Quantizer]:
    """The layer's quantizers but for those of the roles in `told`: its activation, and what `weights` leaves out."""
    for role, slot in _SLOTS.items():
        data = layer.fields.raw(slot.key)
        if data is not None and role not in told:
            folded = (_FOLDED,) if layer.kind.endswith(_FOLDING) else ()
            yield Quantizer(role, _stored(data, layer.where), folded)
    data = layer.fields.raw("activation")
    found = read_activation(data, layer.where) if data is not None else None
    if found is not None:
        yield Quantizer("activation", _stored(data, layer.where), activation_words(found))


def activation_words(activation: Activation) -> tuple[str, ...]:
    """An activation's formula: steps rounded half to even, a staircase of other steps, or a float ReLU."""
    match activation:
        case Steps(frac=frac, lo=lo, hi=hi, unit=unit, offset=offset):
            moved = f" {'-' if offset < 0 else '+'} {abs(offset)}" if offset else ""
            rounded = f"round_half_even(x * {power_words(frac)}){moved}"
            return f"code = clip({rounded}, {lo}, {hi})", f"value = code * {power_words(-unit)}"
        case Curve(breaks=breaks, codes=codes, unit=unit):
            ends = f"from code {int(codes[0])} to code {int(codes[-1])}"
            first = f", the first at x = {number(float(breaks[0].at))}" if breaks else ""
            return f"{plural(len(breaks), 'step')} {ends}{first}", f"value = code * {power_words(-unit)}"
        case Relu(most=most):
            return (f"max(x, 0){'' if most is None else f', at most {number(float(most))}'}: rounds nothing",)


def weights(layer: Layer) -> Iterator[tuple[Weights, Codes]]:
    """Every quantized weight of the layer that the file holds and edgeflow reads, with its codes.

    None of a layer that folds a batch normalization in: it quantizes other numbers than those of the file.
    """
    if layer.kind.endswith(_FOLDING):
        return
    for role, slot in _SLOTS.items():
        data = layer.fields.raw(slot.key)
        names = _SEPARABLE_BIAS if role == "bias" and layer.fields.raw("pointwise_quantizer") else slot.names
        values = next((layer.weights[name] for name in names if name in layer.weights), None)
        if data is None or values is None or not values.size:
            continue
        try:
            quantizer = read_weight_quantizer(data, layer.where, role)
            if quantizer is None:
                continue
            codes = (quantizer.on_kernel() if slot.kernel else quantizer).weights(values, layer.where)
        except EdgeflowError:
            continue
        words = Quantizer(role, _stored(data, layer.where), _formula(data, layer.where, codes))
        yield _weights(words, values, codes), codes


def _weights(quantizer: Quantizer, values: Float32Array, codes: Codes) -> Weights:
    step = np.ldexp(1.0 if codes.scale is None else codes.scale.astype(np.float64), -codes.frac.astype(np.int32))
    real = codes.codes.astype(np.float64) * step
    errors = (values.astype(np.float64) - real) / step
    picks: Mapping[str, int] = {
        "first": 0,
        "smallest": int(values.argmin()),
        "largest": int(values.argmax()),
        "furthest off": int(np.abs(errors).argmax()),
    }
    return Weights(
        quantizer=quantizer,
        shape=values.shape,
        unit=f"one step = {_step_words(codes)}",
        lo=int(codes.codes.min()),
        hi=int(codes.codes.max()),
        zeros=int((codes.codes == 0).sum()),
        worst_steps=float(np.abs(errors).max()),
        beyond=int((np.abs(errors) > _HALF_A_STEP).sum()),
        examples=tuple(_example(what, flat, values, codes, real, errors) for what, flat in picks.items()),
    )


def _example(
    what: str,
    flat: int,
    values: Float32Array,
    codes: Codes,
    real: npt.NDArray[np.float64],
    errors: npt.NDArray[np.float64],
) -> Example:
    place = tuple(int(one) for one in np.unravel_index(flat, values.shape))
    return Example(
        what, place, float(values[place]) + 0.0, int(codes.codes[place]), float(real[place]), float(errors[place]) + 0.0
    )


def _stored(data: object, where: str) -> str:
    """`quantized_bits(bits=8, integer=0, alpha=1.0)`: class and parameters as the file has them."""
    if isinstance(data, str):
        return shown(data)
    name, filled = quantizer_entry(data, where)
    config = cast(Mapping[str, object], data).get("config")
    given = cast(Mapping[str, object], config) if isinstance(config, dict) else filled
    parts = (f"{shown(key)}={shown(value)}" for key, value in given.items() if value is not None)
    return f"{shown(name)}({', '.join(parts)})"


def _step_words(codes: Codes) -> str:
    """`2^-7`, `2^-4 to 2^-3, by channel`, or with a scale `0.0123`."""
    if codes.scale is None:
        return label_words(Dyadic(tuple(int(one) for one in codes.frac.reshape(-1)))).removeprefix("one step = ")
    steps = np.ldexp(codes.scale.astype(np.float64), -codes.frac.astype(np.int32))
    lo, hi = float(steps.min()), float(steps.max())
    return number(lo) if lo == hi else f"{number(lo)} to {number(hi)}, by channel"


def _formula(data: object, where: str, codes: Codes) -> tuple[str, ...]:
    name, config = quantizer_entry(data, where)
    value = f"value = code * {_step_words(codes)}"
    return (_FORMULAS[name](Fields(config, where)), value) if name in _FORMULAS else (value,)


def _bits_formula(fields: Fields) -> str:
    """quantized_bits: the fixed scale, or the one that is fitted to the weights."""
    signed = fields.flag("keep_negative", True)
    unsigned = fields.integer("bits", 1, 64) - signed
    alpha = fields.raw("alpha")
    if isinstance(alpha, str):
        most = (1 << unsigned) - 1
        power = "a power of two " if alpha == "auto_po2" else ""
        return f"code = sign(x) * min(floor(|x| / step + 1/2), {most}), the step {power}fitted to the weights"
    if unsigned == 0:
        return "code = 1 if x >= 0, else -1"
    lo = (-(1 << unsigned) + fields.flag("symmetric", False)) if signed else 0
    scale = power_words(unsigned - fields.integer("integer", -64, 64, 0))
    return f"code = clip(round_half_even(x * {scale}), {lo}, {(1 << unsigned) - 1})"


_FORMULAS: Mapping[str, Callable[[Fields], str]] = {"quantized_bits": _bits_formula}
