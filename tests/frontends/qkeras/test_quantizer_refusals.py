"""Quantizers that cannot be exact, and weights that float32 decides: refused by name, with the layer and the fix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras.quantizers import read_activation, read_weight_quantizer

Entry = dict[str, Any]


def named(name: str, **config: Any) -> Entry:
    return {"class_name": name, "config": config}


REFUSED: list[tuple[str, object, str]] = [
    (
        "activation",
        named("bernoulli"),
        "bernoulli draws random numbers at every call, so no fixed integers equal it\n  fix: use binary",
    ),
    (
        "activation",
        named("quantized_ulaw", bits=8),
        "quantized_ulaw rounds logarithms, which are no multiples of a power of two\n"
        "  fix: use quantized_bits(8, 0, alpha=1)",
    ),
    (
        "activation",
        named("quantized_tanh", use_real_tanh=True),
        "quantized_tanh with use_real_tanh=True rounds a float tanh, which has no exact integers\n"
        "  fix: leave use_real_tanh at False and train: QKeras then uses straight lines",
    ),
    (
        "activation",
        named("quantized_sigmoid", use_real_sigmoid=True),
        "quantized_sigmoid with use_real_sigmoid=True rounds a float sigmoid, which has no exact integers\n"
        "  fix: leave use_real_sigmoid at False and train: QKeras then uses straight lines",
    ),
    (
        "activation",
        named("ternary", alpha="auto"),
        "alpha='auto' on an activation depends on the batch, so no fixed integers equal it\n"
        "  fix: give the activation's ternary alpha=1",
    ),
    (
        "activation",
        named("binary", alpha=0.3),
        "alpha 0.3 is not a power of two\n  fix: use alpha=1 or a power of two",
    ),
    (
        "activation",
        named("quantized_linear", alpha=[1, 2]),
        "alpha is a list, and an activation has one step\n  fix: use alpha=1 or a power of two",
    ),
    (
        "activation",
        named("quantized_hswish", qnoise_factor=0.5),
        "qnoise_factor 0.5 blends unquantized values in\n  fix: set qnoise_factor to 1 before saving",
    ),
    (
        "activation",
        named("quantized_hswish", relu_shift=0),
        "relu_shift and relu_upper_bound must lie between 0 and 65536\n  fix: use relu_shift=3 and relu_upper_bound=6",
    ),
    (
        "activation",
        named("quantized_relu", bits=20, negative_slope=0.5),
        "this quantized_relu has 786432 different pieces, above 65536\n  fix: use 16 bits or fewer",
    ),
    (
        "activation",
        named("quantized_relu", negative_slope=0.3),
        "negative_slope 0.3 is not a power of two from 2^-32 to 2^8\n  fix: use a power of two, such as 0.25",
    ),
    (
        "activation",
        named("quantized_relu", bits=4, integer=1, relu_upper_bound=0.3, is_quantized_clip=False),
        "relu_upper_bound 0.3 is not a positive multiple of 2^-3, the quantizer's step\n"
        "  fix: choose such a multiple, or leave relu_upper_bound out",
    ),
    (
        "activation",
        named("quantized_relu", bits=4, integer=-1),
        "quantized_relu with -1 integer bits fails in QKeras itself\n"
        "  fix: use quantized_bits(4, -1, keep_negative=False, alpha=1)",
    ),
    (
        "activation",
        named("quantized_po2", bits=8),
        "the values of this quantized_po2 lie between 2^-64 and 2^63, and integers for them hold at most 40 powers "
        "of two\n  fix: use fewer bits, such as quantized_po2(4)",
    ),
    (
        "activation",
        named("quantized_po2", bits=1),
        "quantized_po2(1) has no bit for its exponent\n  fix: use 2 bits or more, or max_value=1",
    ),
    (
        "activation",
        named("quantized_relu_po2", max_value=0),
        "max_value 0 is not a number from 2^-32 to 2^32\n  fix: use max_value=1, or leave it out",
    ),
    (
        "activation",
        named("quantized_po2", log2_rounding="up"),
        "its log2_rounding is up, not 'rnd' or 'floor'\n"
        "  fix: correct the layer, or save the model again if the file is damaged",
    ),
    (
        "activation",
        named("binary", use_stochastic_rounding=True),
        "binary with use_stochastic_rounding fails in QKeras itself\n  fix: leave use_stochastic_rounding at False",
    ),
    (
        "activation",
        named("ternary", threshold="auto"),
        "threshold 'auto' fails in QKeras itself\n  fix: use a number",
    ),
    (
        "activation",
        "hard_tanh",
        "activation 'hard_tanh' is not quantized\n"
        "  fix: use 'quantized_tanh(8)', which QKeras computes with straight lines",
    ),
    ("activation", "elu", "activation 'elu' is not quantized\n  fix: use 'relu'"),
    (
        "activation",
        "softmax",
        "activation 'softmax' is not quantized\n  fix: end the model at its logits: the largest class stays the same",
    ),
    (
        "kernel",
        named("quantized_hswish"),
        "kernel_quantizer 'quantized_hswish' is not supported\n  fix: use quantized_bits",
    ),
    (
        "kernel",
        named("quantized_bits", alpha="best"),
        "alpha 'best' is not one that QKeras knows\n  fix: use alpha=1",
    ),
    (
        "kernel",
        named("quantized_bits", alpha=-1.0),
        "alpha -1 is not a number from 2^-32 to 2^32\n  fix: use alpha=1",
    ),
    (
        "kernel",
        named("quantized_bits", alpha=[[1.0], [2.0]]),
        "alpha of shape (2, 1) varies along another axis than the last\n"
        "  fix: give it one alpha for each output channel",
    ),
    (
        "kernel",
        named("quantized_bits", alpha={"config": 3}),
        "its alpha is an object, not a number or a list of numbers\n"
        "  fix: correct the layer, or save the model again if the file is damaged",
    ),
    (
        "kernel",
        named("quantized_bits", alpha=1.0, post_training_scale=[1.0]),
        "post_training_scale without alpha 'auto' or 'auto_po2' fails in QKeras itself\n  fix: remove it",
    ),
    (
        "kernel",
        named("quantized_bits", scale_axis=0),
        "scale_axis is not supported\n  fix: leave scale_axis out",
    ),
    (
        "kernel",
        named("ternary", alpha="auto", threshold=0.2),
        "ternary with alpha 'auto' and a threshold fails in QKeras itself\n  fix: leave out one of them",
    ),
]


@pytest.mark.parametrize(("role", "data", "text"), REFUSED)
def test_refusal(role: str, data: object, text: str) -> None:
    with pytest.raises(EdgeflowError) as caught:
        read_activation(data, "layer 'a'") if role == "activation" else read_weight_quantizer(data, "layer 'a'", role)
    assert str(caught.value) == f"layer 'a': {text}"


WEIGHTS_REFUSED: list[tuple[Entry, list[float], str]] = [
    (
        named("quantized_bits", bits=1),
        [0.5],
        "quantized_bits(1) with alpha 'auto_po2', or None on a kernel, makes every weight zero in QKeras",
    ),
    (
        named("quantized_bits", bits=1, alpha="auto"),
        [0.5],
        "quantized_bits(1) with alpha 'auto', or None on a kernel, makes every weight NaN in QKeras",
    ),
    (named("binary", alpha=1), [float("nan")], "a weight is NaN or infinite"),
    (
        named("quantized_bits", bits=4, alpha=0.3),
        [1e7],
        "a weight of 1e+07 lies so far outside the range of its quantizer (4 bits, 0 integer) that float32 loses the "
        "quantized value",
    ),
    (
        named("quantized_tanh", bits=4),
        [1e30],
        "a weight of 1e+30 lies so far outside the range of its quantizer (quantized_tanh) that float32 loses the "
        "quantized value",
    ),
    (named("quantized_bits", alpha=[1, 2, 3]), [1.0], "its quantizer has 3 scales for 1 channels"),
    (
        named("quantized_po2", bits=8),
        [1.0, 0.0],
        "the values of this quantized_po2 lie between 2^-64 and 2^0, and integers for them hold at most 40 powers of "
        "two",
    ),
    (
        named("quantized_po2", bits=4),
        [0.7071067690849304],
        "a weight lies so near a tie between two powers of two that the rounding of TensorFlow's logarithm decides "
        "its code",
    ),
    (
        named("quantized_linear", bits=4, symmetric=0, alpha="auto"),
        [-1 / 7, 0.1],
        "a weight divided by its 'auto' scale lies so near a tie that the order of float32 operations decides it",
    ),
]


@pytest.mark.parametrize(("entry", "values", "text"), WEIGHTS_REFUSED)
def test_weights_refused(entry: Entry, values: list[float], text: str) -> None:
    ours = read_weight_quantizer(entry, "layer 'a'", "kernel")
    assert ours is not None
    with pytest.raises(EdgeflowError) as caught:
        ours.on_kernel().weights(np.array(values, dtype=np.float32)[:, None], "layer 'a'")
    assert caught.value.what == text
    assert caught.value.fix


def test_a_scale_near_a_tie_is_refused() -> None:
    ours = read_weight_quantizer(named("quantized_bits", bits=2, alpha="auto_po2"), "layer 'a'", "kernel")
    assert ours is not None
    values = np.full((3, 3, 2, 1), 2**0.5, dtype=np.float32)
    with pytest.raises(Unsupported) as caught:
        ours.weights(values, "layer 'a'")
    assert str(caught.value) == (
        "layer 'a': an auto_po2 scale lies so near a tie that the order of float32 operations decides it\n"
        "  fix: give the kernel_quantizer alpha=1 or a fixed power of two"
    )
