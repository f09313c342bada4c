"""From a stored quantizer to what it computes: one table for activations, one for weights, one of refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from edgeflow.errors import Unsupported, near
from edgeflow.frontends.qkeras.fields import Fields, shown
from edgeflow.frontends.qkeras.quantizers.config import MOST_BITS, Auto, fails_in_qkeras, read_alpha
from edgeflow.frontends.qkeras.quantizers.po2 import (
    po2_activation,
    read_po2,
    read_relu_po2,
    relu_po2_activation,
)
from edgeflow.frontends.qkeras.quantizers.relu import relu_activation
from edgeflow.frontends.qkeras.quantizers.sign import (
    binary_activation,
    read_threshold,
    read_use_01,
    ternary_activation,
)
from edgeflow.frontends.qkeras.quantizers.smooth import (
    binary_sigmoid,
    binary_tanh,
    sigmoid_activation,
    tanh_activation,
)
from edgeflow.frontends.qkeras.quantizers.steps import Activation, Relu
from edgeflow.frontends.qkeras.quantizers.uniform import (
    bits_activation,
    hswish_activation,
    linear_activation,
    read_bits,
    read_linear,
)
from edgeflow.frontends.qkeras.quantizers.weights import (
    ActivationWeights,
    BinaryWeights,
    BitsWeights,
    LinearWeights,
    Po2Weights,
    TernaryWeights,
    TieFreeWeights,
    WeightQuantizer,
)
from edgeflow.frontends.qkeras.spelling import quantizer_entry

_MOST_UNROLLS = 100


def read_activation(data: object, where: str) -> Activation | None:
    """What an activation's configuration computes; None for linear. Raises Unsupported by name.

    A Relu for "relu" and "relu6", which quantize nothing; the importer decides whether they can stay.
    """
    if data is None:
        return None
    name, config = quantizer_entry(data, where)
    if name == "linear":
        return None
    fields = Fields(config, where)
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name](fields)
    if name in _REFUSED:
        raise _refused(name, where)
    raise Unsupported(f"activation '{shown(name)}' is not quantized", where=where, fix=_instead(name))


def read_weight_quantizer(data: object, where: str, role: str) -> WeightQuantizer | None:
    """The quantizer of a weight array (`role`: "kernel", "bias" ...); None when there is none.

    Raises Unsupported by name.
    """
    if data is None:
        return None
    name, config = quantizer_entry(data, where)
    if name in _WEIGHTS:
        return _WEIGHTS[name](Fields(config, where))
    if name in _REFUSED:
        raise _refused(name, where)
    close = near(name, _WEIGHTS)
    raise Unsupported(
        f"{role}_quantizer '{shown(name)}' is not supported", where=where, fix=f"use {close or 'quantized_bits'}"
    )


def _refused(name: str, where: str) -> Unsupported:
    reason, fix = _REFUSED[name]
    return Unsupported(f"{name} {reason}", where=where, fix=fix)


def _instead(name: str) -> str:
    if name == "softmax":
        return "end the model at its logits: the largest class stays the same"
    if name in _SMOOTH:
        return f"use '{_SMOOTH[name]}(8)', which QKeras computes with straight lines"
    close = near(name, [*_ACTIVATIONS, *_REFUSED])
    return f"use '{close}'" if close else "use 'quantized_relu(8, 2)' or 'quantized_bits(8, 2, alpha=1)'"


def _ternary_weights(fields: Fields) -> TernaryWeights:
    alpha = read_alpha(fields)
    unrolls = fields.integer("number_of_unrolls", 1, _MOST_UNROLLS, 5)
    if isinstance(alpha, Auto) and fields.raw("threshold") is not None:
        raise fails_in_qkeras(f"ternary with alpha '{alpha.value}' and a threshold", fields, "leave out one of them")
    return TernaryWeights(alpha, read_threshold(fields), unrolls)


_ACTIVATIONS: Mapping[str, Callable[[Fields], Activation]] = {
    "quantized_bits": bits_activation,
    "quantized_linear": linear_activation,
    "quantized_relu": relu_activation,
    "quantized_tanh": tanh_activation,
    "quantized_sigmoid": sigmoid_activation,
    "quantized_hswish": hswish_activation,
    "quantized_po2": po2_activation,
    "quantized_relu_po2": relu_po2_activation,
    "binary": binary_activation,
    "stochastic_binary": binary_activation,
    "ternary": ternary_activation,
    "stochastic_ternary": ternary_activation,
    "binary_tanh": binary_tanh,
    "binary_sigmoid": binary_sigmoid,
    "relu": lambda fields: Relu(),
    "relu6": lambda fields: Relu(most=Fraction(6)),
}

_WEIGHTS: Mapping[str, Callable[[Fields], WeightQuantizer]] = {
    "quantized_bits": lambda fields: BitsWeights(read_bits(fields)),
    "quantized_linear": lambda fields: LinearWeights(read_linear(fields)),
    "quantized_relu": lambda fields: ActivationWeights(relu_activation(fields), "quantized_relu"),
    "quantized_tanh": lambda fields: ActivationWeights(tanh_activation(fields), "quantized_tanh"),
    "quantized_sigmoid": lambda fields: ActivationWeights(sigmoid_activation(fields), "quantized_sigmoid"),
    "quantized_po2": lambda fields: Po2Weights(read_po2(fields)),
    "quantized_relu_po2": lambda fields: Po2Weights(read_relu_po2(fields)),
    "binary": lambda fields: BinaryWeights(read_use_01(fields), read_alpha(fields)),
    "stochastic_binary": lambda fields: BinaryWeights(read_use_01(fields), read_alpha(fields)),
    "ternary": _ternary_weights,
    "stochastic_ternary": _ternary_weights,
    "tie_free_bits": lambda fields: TieFreeWeights(
        fields.integer("bits", 2, MOST_BITS), fields.integer("integer", -32, 32, 0)
    ),
}

_REFUSED: Mapping[str, tuple[str, str]] = {
    "bernoulli": ("draws random numbers at every call, so no fixed integers equal it", "use binary"),
    "quantized_ulaw": (
        "rounds logarithms, which are no multiples of a power of two",
        "use quantized_bits(8, 0, alpha=1)",
    ),
}

_SMOOTH: Mapping[str, str] = {
    "tanh": "quantized_tanh",
    "hard_tanh": "quantized_tanh",
    "smooth_tanh": "quantized_tanh",
    "sigmoid": "quantized_sigmoid",
    "hard_sigmoid": "quantized_sigmoid",
    "smooth_sigmoid": "quantized_sigmoid",
}
