"""What QKeras' quantizers compute, as integers: steps and curves for activations, codes for weights."""

from edgeflow.frontends.qkeras.quantizers.read import read_activation, read_weight_quantizer
from edgeflow.frontends.qkeras.quantizers.steps import Activation, Break, Curve, Relu, Steps
from edgeflow.frontends.qkeras.quantizers.weights import Codes, WeightQuantizer

__all__ = [
    "Activation",
    "Break",
    "Codes",
    "Curve",
    "Relu",
    "Steps",
    "WeightQuantizer",
    "read_activation",
    "read_weight_quantizer",
]
