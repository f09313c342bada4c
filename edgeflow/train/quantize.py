"""A float Keras student becomes a QKeras student, layer by layer, as `[quantize]` says."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeflow.errors import EdgeflowError, Unsupported, did_you_mean
from edgeflow.train.fractions import BiasFormat, bias_formats
from edgeflow.train.kinds import ACTIVATIONS, KEPT, WEIGHTED, is_linear
from edgeflow.train.recipe import Config, InputWidth, LayerWidths, Quantize, Width
from edgeflow.train.runtime import Runtime, quiet
from edgeflow.train.tiefree import tie_free_class

if TYPE_CHECKING:
    import keras

_COPIED = (
    "units",
    "filters",
    "kernel_size",
    "strides",
    "padding",
    "dilation_rate",
    "depth_multiplier",
    "use_bias",
)
_PARTS: tuple[str, ...] = ("weights", "biases", "activations")
_TAKES = dict[str, tuple[str, ...]](
    [(kind, _PARTS) for kind in WEIGHTED] + [(kind, _PARTS[2:]) for kind in ACTIVATIONS]
)
_FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerSize:
    """One layer with weights: how many, how wide, and how many of its kernel's are zero (stored, and as integers)."""

    name: str
    weights: int
    weight_bits: int
    biases: int
    bias_bits: int
    zeros: int
    quantized_zeros: int

    @property
    def bits(self) -> int:
        """Parameters times their declared width."""
        return self.weights * self.weight_bits + self.biases * self.bias_bits


def is_quantized(model: keras.Model) -> bool:
    """Whether a model has a layer of QKeras."""
    return any(type(layer).__module__.split(".")[0] == "qkeras" for layer in model.layers)


def quantize_model(runtime: Runtime, model: keras.Model, config: Config, quantize: Quantize) -> keras.Model:
    """A fresh QKeras model with the structure and the layer names of a float functional model.

    Each input is quantized first; Dense and Conv layers get quantized kernels and biases, a relu becomes
    quantized_relu, a linear activation quantized_bits. A linear layer whose result goes straight into an
    activation layer, or out of the model, has no quantizer of its own.
    Raises Unsupported naming the layer, and EdgeflowError for a recipe that names no such layer.
    """
    _check_overrides(model, config, quantize)
    outputs = {id(tensor._keras_history.operation) for tensor in model.outputs}
    inside = {id(layer) for layer in model.layers}
    made: dict[int, object] = {}
    quantized_inputs: dict[int, object] = {}

    def rounds_itself(layer: keras.layers.Layer) -> bool:
        given = quantize.layers.get(layer.name, LayerWidths()).activations
        return not is_linear(layer) or given is not None or _needs_quantizer(layer, outputs, inside)

    def clone(layer: keras.layers.Layer) -> object:
        if id(layer) not in made:
            made[id(layer)] = _convert(runtime, layer, quantize, rounds_itself, biases.get(layer.name))
        return made[id(layer)]

    def apply(layer: keras.layers.Layer, *arguments: object, **keywords: object) -> object:
        return layer(*runtime.keras.tree.map_structure(quantized, arguments), **keywords)

    def quantized(value: object) -> object:
        history = getattr(value, "_keras_history", None)
        if history is None or not isinstance(history.operation, runtime.keras.layers.InputLayer):
            return value
        if id(value) not in quantized_inputs:
            name = f"{history.operation.name}_quantizer"
            quantized_inputs[id(value)] = _input_quantizer(runtime, quantize.input, name)(value)
        return quantized_inputs[id(value)]

    biases = bias_formats(model, quantize, rounds_itself) if quantize.tie_free else {}
    with quiet():
        return runtime.keras.models.clone_model(model, clone_function=clone, call_function=apply)


def layer_sizes(model: keras.Model) -> tuple[LayerSize, ...]:
    """Every layer with weights, in the model's order."""
    return tuple(_sizes(model))


def _sizes(model: keras.Model) -> Iterator[LayerSize]:
    for layer in model.layers:
        if not layer.weights:
            continue
        variable = kernel_of(layer)
        if variable is None:
            count = sum(int(np.prod(weight.shape)) for weight in layer.weights)
            yield LayerSize(layer.name, count, _FLOAT_BITS, 0, _FLOAT_BITS, 0, 0)
            continue
        kernel = variable.numpy()
        quantizer = _internal(layer, "depthwise_quantizer") or _internal(layer, "kernel_quantizer")
        codes = kernel if quantizer is None else np.asarray(quantizer(variable.value))
        biases = sum(int(np.prod(weight.shape)) for weight in layer.weights) - kernel.size
        yield LayerSize(
            name=layer.name,
            weights=kernel.size,
            weight_bits=_bits(quantizer),
            biases=biases,
            bias_bits=_bits(_internal(layer, "bias_quantizer")),
            zeros=int(np.count_nonzero(kernel == 0)),
            quantized_zeros=int(np.count_nonzero(codes == 0)),
        )


def kernel_of(layer: keras.layers.Layer) -> keras.Variable | None:
    """The kernel that pruning acts on, if the layer has one."""
    for name in ("kernel", "depthwise_kernel"):
        variable = getattr(layer, name, None)
        if variable is not None and any(variable is weight for weight in layer.weights):
            return variable
    return None


def _internal(layer: keras.layers.Layer, name: str) -> Callable[..., object] | None:
    return getattr(layer, f"{name}_internal", None)


def _bits(quantizer: object) -> int:
    if quantizer is None:
        return _FLOAT_BITS
    bits = getattr(quantizer, "bits", None)
    if bits is not None:
        return int(bits)
    return {"binary": 1, "stochastic_binary": 1, "ternary": 2, "stochastic_ternary": 2}.get(
        type(quantizer).__name__, _FLOAT_BITS
    )


def _check_overrides(model: keras.Model, config: Config, quantize: Quantize) -> None:
    layers = {layer.name: type(layer).__name__ for layer in model.layers}
    for name, widths in quantize.layers.items():
        key = ("quantize", "layers", name)
        if name not in layers:
            quantizable = [layer for layer, kind in layers.items() if kind in _TAKES]
            raise config.error(
                key,
                f'[quantize.layers] names "{name}", which is no layer of the student{did_you_mean(name, layers)}',
                fix=f"its layers with something to quantize: {', '.join(quantizable)}",
            )
        possible = _TAKES.get(layers[name], ())
        for part in _PARTS:
            if getattr(widths, part) is not None and part not in possible:
                raise config.error(
                    (*key, part), f"layer '{name}' ({layers[name]}) has no {part}", fix="remove that key"
                )


def _needs_quantizer(layer: keras.layers.Layer, outputs: set[int], inside: set[int]) -> bool:
    """Whether a linear layer's result needs a quantizer: not the model's output, nor what an activation takes next."""
    if id(layer) in outputs:
        return False
    nodes = [node for node in layer._outbound_nodes if id(node.operation) in inside]
    return not all(type(node.operation).__name__ in ACTIVATIONS for node in nodes)


def _convert(
    runtime: Runtime,
    layer: keras.layers.Layer,
    quantize: Quantize,
    rounds_itself: Callable[[keras.layers.Layer], bool],
    bias: BiasFormat | None,
) -> keras.layers.Layer:
    kind = type(layer).__name__
    widths = quantize.layers.get(layer.name, LayerWidths())
    if type(layer).__module__.split(".")[0] != "keras":
        raise _unsupported(layer, "is not one of Keras' own layers", "use Keras' layers, or return a QKeras model")
    if kind == "InputLayer" or kind in KEPT:
        return type(layer).from_config(layer.get_config())
    if kind in WEIGHTED:
        bias = bias or BiasFormat(widths.biases or quantize.biases, odd=False)
        return _convert_weighted(runtime, layer, quantize, rounds_itself(layer), bias)
    if kind in ACTIVATIONS:
        quantizer = _activation(runtime, layer, widths.activations or quantize.activations)
        return runtime.qkeras.QActivation(quantizer, name=layer.name)
    if kind == "BatchNormalization":
        raise _unsupported(
            layer, "cannot be quantized by [quantize]", "leave it out, or return a QKeras model with QConv2DBatchnorm"
        )
    if kind in ("Functional", "Sequential"):
        raise _unsupported(layer, "is a model inside the student", "put its layers into the student itself")
    raise _unsupported(
        layer,
        "cannot be quantized by [quantize]",
        f"use {', '.join(WEIGHTED)}, relu, pooling, Add or Flatten, or return a QKeras model and remove [quantize]",
    )


def _convert_weighted(
    runtime: Runtime, layer: keras.layers.Layer, quantize: Quantize, rounds: bool, bias: BiasFormat
) -> keras.layers.Layer:
    settings = layer.get_config()
    widths = quantize.layers.get(layer.name, LayerWidths())
    if settings.get("groups", 1) != 1:
        raise _unsupported(layer, "has groups, which QKeras' convolution lacks", "use DepthwiseConv2D, or groups=1")
    if settings.get("data_format", "channels_last") != "channels_last":
        raise _unsupported(layer, "has channels first", 'use data_format="channels_last"')
    arguments = {key: settings[key] for key in _COPIED if key in settings}
    kernel = "depthwise" if type(layer).__name__ == "DepthwiseConv2D" else "kernel"
    initializer = f"{kernel}_initializer"
    arguments[initializer] = getattr(layer, initializer)
    arguments["bias_initializer"] = layer.bias_initializer
    arguments[f"{kernel}_quantizer"] = _fixed_point(runtime, widths.weights or quantize.weights, symmetric=True)
    if layer.use_bias:
        arguments["bias_quantizer"] = _bias_quantizer(runtime, bias)
    if rounds:
        arguments["activation"] = _activation(runtime, layer, widths.activations or quantize.activations)
    return getattr(runtime.qkeras, f"Q{type(layer).__name__}")(name=layer.name, **arguments)


def _activation(runtime: Runtime, layer: keras.layers.Layer, width: Width) -> object:
    """The quantizer in place of a layer's activation function."""
    if type(layer).__name__ == "ReLU":
        settings = layer.get_config()
        if settings["max_value"] is not None or settings["negative_slope"] or settings["threshold"]:
            raise _unsupported(
                layer,
                "is more than a plain relu",
                "use ReLU() as it is: the quantizer limits its range by `integer` in activations",
            )
        return runtime.qkeras.quantized_relu(width.bits, width.integer)
    if is_linear(layer):
        return _fixed_point(runtime, width)
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name != "relu":
        raise _unsupported(
            layer,
            f"has the activation '{name}', which [quantize] cannot make exact",
            "use relu; the last layer has none, so that it gives logits",
        )
    return runtime.qkeras.quantized_relu(width.bits, width.integer)


def _fixed_point(runtime: Runtime, width: Width, *, symmetric: bool = False) -> object:
    """quantized_bits with a fixed scale. Kernels leave out the lowest code, which some targets cannot hold."""
    return runtime.qkeras.quantized_bits(width.bits, width.integer, int(symmetric), alpha=1.0)


def _bias_quantizer(runtime: Runtime, bias: BiasFormat) -> object:
    if bias.odd:
        return tie_free_class(runtime)(bias.width.bits, bias.width.integer)
    return _fixed_point(runtime, bias.width)


def _input_quantizer(runtime: Runtime, width: InputWidth, name: str) -> keras.layers.Layer:
    quantizer = runtime.qkeras.quantized_bits(width.bits, width.integer, 0, keep_negative=width.signed, alpha=1.0)
    return runtime.qkeras.QActivation(quantizer, name=name)


def _unsupported(layer: keras.layers.Layer, what: str, fix: str) -> EdgeflowError:
    return Unsupported(f"layer '{layer.name}' ({type(layer).__name__}) {what}", fix=fix)
