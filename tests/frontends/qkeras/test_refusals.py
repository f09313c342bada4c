"""What cannot be exact is refused by name, with the layer and the fix; the texts are pinned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError, Unsupported
from edgeflow.frontends.qkeras import import_content
from edgeflow.frontends.qkeras.content import Content, StoredArray

Edited = Callable[[Callable[[dict[str, Any]], object]], Content]


def refuse(content: Content) -> str:
    with pytest.raises(EdgeflowError) as caught:
        import_content(content, "model.keras")
    text = str(caught.value)
    assert 1 <= len(text.splitlines()) <= 3
    assert not isinstance(caught.value.__cause__, Exception)
    return text


def setting(layer: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda layers: layers[layer]["config"].update(values)


def quantizer(layer: str, role: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda layers: layers[layer]["config"][role]["config"].update(values)


def kind(layer: str, class_name: str, module: str = "keras.layers") -> Callable[[dict[str, Any]], None]:
    return lambda layers: layers[layer].update(class_name=class_name, module=module)


def becomes(layer: str, class_name: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    def edit(layers: dict[str, Any]) -> None:
        kind(layer, class_name)(layers)
        layers[layer]["config"].update(values)

    return edit


BITS = {
    "class_name": "quantized_bits",
    "config": {"bits": 8, "integer": -1, "alpha": 1},
}
CONV = "layer 'conv_1' (QConv2D): "
CASES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    (
        "plain dense",
        kind("logits", "Dense"),
        "layer 'logits' (Dense): Dense is not supported yet (layer 11 of 11)\n"
        "  fix: use QDense with a kernel_quantizer, or `edgeflow quantize` the model",
    ),
    (
        "near name",
        kind("drop", "Flaten"),
        "layer 'drop' (Flaten): Flaten is not supported yet (layer 10 of 11)\n  fix: use Flatten",
    ),
    (
        "foreign class",
        kind("drop", "Dropout", "evil.layers"),
        "layer 'drop' (evil.layers.Dropout): evil.layers.Dropout is not supported yet (layer 10 of 11)\n"
        "  fix: use Dropout",
    ),
    (
        "lambda",
        kind("drop", "Lambda"),
        "layer 'drop' (Lambda): a Lambda holds Python code, and edgeflow runs nothing from a model file\n"
        "  fix: replace it with a QKeras layer",
    ),
    (
        "stored function",
        setting(
            "conv_1",
            activation={"class_name": "__lambda__", "config": {"code": "4wEAAA=="}},
        ),
        "model.keras: a Lambda holds Python code, and edgeflow runs nothing from a model file\n"
        "  fix: replace it with a QKeras layer",
    ),
    (
        "no input quantizer",
        lambda layers: layers["quantize"].update(class_name="Dropout", module="keras.layers"),
        "layer 'image' (InputLayer): nothing quantizes this input\n"
        '  fix: put QActivation("quantized_bits(8, 0, alpha=1)") right after the input, or say what the data is: '
        '--input "quantized_bits(8, 0, alpha=1)"',
    ),
    (
        "input alpha",
        quantizer("quantize", "activation", alpha=2.0),
        "layer 'image' (InputLayer): its quantizer has another alpha than 1\n  fix: use alpha=1 and more integer bits",
    ),
    (
        "open input shape",
        setting("image", batch_shape=[None, None, 6, 1]),
        "layer 'image' (InputLayer): an axis of the input has no fixed length\n  fix: give keras.Input a full shape",
    ),
    (
        "no kernel quantizer",
        setting("conv_1", kernel_quantizer=None),
        CONV + "it has no kernel_quantizer, so its weights are floats\n"
        "  fix: add kernel_quantizer=quantized_bits(8, 0, alpha=1) and train",
    ),
    (
        "no bias quantizer at the end",
        setting("logits", bias_quantizer=None),
        "layer 'logits' (QDense): it has no bias_quantizer, and nothing quantizes its result\n"
        "  fix: add bias_quantizer=quantized_bits(8, 0, alpha=1) and train",
    ),
    (
        "no bias quantizer in front of a layer that reads the sums",
        lambda layers: (
            setting("conv_1", activation="linear", bias_quantizer=None)(layers),
            setting("conv_2", bias_quantizer=None)(layers),
        ),
        CONV + "it has no bias_quantizer, and nothing quantizes its result\n"
        "  fix: add bias_quantizer=quantized_bits(8, 0, alpha=1) and train",
    ),
    (
        "auto_po2 on an activation",
        quantizer("quantize", "activation", alpha="auto_po2"),
        "layer 'quantize' (QActivation): alpha='auto_po2' on an activation depends on the batch, "
        "so no fixed integers equal it\n  fix: give the activation's quantized_bits alpha=1",
    ),
    (
        "noise",
        quantizer("conv_1", "kernel_quantizer", qnoise_factor=0.5),
        CONV + "qnoise_factor 0.5 blends unquantized values in\n  fix: set qnoise_factor to 1 before saving",
    ),
    (
        "relu that QKeras cannot run",
        quantizer("conv_1", "activation", integer=-1),
        CONV + "quantized_relu with -1 integer bits fails in QKeras itself\n"
        "  fix: use quantized_bits(4, -1, keep_negative=False, alpha=1)",
    ),
    (
        "beyond float32",
        lambda layers: (
            layers["quantize"]["config"]["activation"]["config"].update(bits=22),
            layers["conv_1"]["config"]["kernel_quantizer"]["config"].update(bits=8),
        ),
        CONV + "its sums can reach 2^29.9 steps, and QKeras' float32 is exact only up to 2^24\n"
        "  fix: use fewer bits for its weights, its bias or its input",
    ),
    (
        "fine quantizer on a coarse wide sum",
        lambda layers: layers["relu_1"]["config"].update(
            activation={
                "class_name": "quantized_bits",
                "config": {"bits": 20, "integer": -4, "alpha": 1},
            }
        ),
        "layer 'relu_1' (QActivation): QKeras' float32 cannot hold this quantizer's result exactly: its input spans "
        "24.8 bits in units of its step, above 24\n"
        "  fix: use fewer fractional bits here, or quantized_relu, which has no such limit",
    ),
    (
        "average read unquantized",
        kind("pool_act", "Dropout"),
        "layer 'pool' (AveragePooling2D): its average over 9 elements is no multiple of a power of two, and layer "
        "'logits' reads it unquantized\n"
        '  fix: put QActivation("quantized_bits(8, 2, alpha=1)") or quantized_relu right after it',
    ),
    (
        "channels first",
        setting("conv_1", data_format="channels_first"),
        CONV + "data_format 'channels_first' is not supported\n  fix: use channels_last",
    ),
    (
        "half precision",
        setting("conv_1", dtype="float16"),
        CONV + "its dtype policy is not float32\n  fix: build the model with dtype='float32'",
    ),
    (
        "dropout that drops",
        lambda layers: layers["drop"]["inbound_nodes"][0]["kwargs"].update(training=True),
        "layer 'drop' (Dropout): it is called with training=True\n  fix: call it without training",
    ),
    (
        "pool too large",
        setting("pool", pool_size=[7, 7]),
        "layer 'pool' (AveragePooling2D): a window of 7x7 does not fit in an input of 6x6\n"
        "  fix: use a smaller window or padding='same'",
    ),
    (
        "wrong type",
        setting("conv_1", filters="three"),
        CONV + "its filters is three, not a whole number from 1 to 1048576\n"
        "  fix: correct the layer, or save the model again if the file is damaged",
    ),
    (
        "unknown padding",
        setting("conv_1", padding="causal"),
        CONV + "padding 'causal' is not supported\n  fix: use 'same' or 'valid'",
    ),
    (
        "no name",
        lambda layers: layers["add"]["config"].update(name=""),
        "model.keras: layer 5 (Add) has no name\n  fix: name it",
    ),
    (
        "two names",
        lambda layers: layers["add"]["config"].update(name="conv_1"),
        "model.keras: two layers are named 'conv_1'\n  fix: rename one of them",
    ),
    (
        "subclassed model",
        lambda layers: layers[""].update(class_name="MyModel"),
        "model.keras: a MyModel is not a Sequential or Functional model\n"
        "  fix: build the model with keras.Sequential or keras.Model(inputs, outputs)",
    ),
    (
        "mask",
        setting("conv_1", mask=[[[[0.5]]] * 3] * 3),
        CONV + "its mask holds other values than 0 and 1\n  fix: use a mask of 0 and 1",
    ),
    (
        "plain convolution",
        kind("conv_1", "Conv2D"),
        "layer 'conv_1' (Conv2D): Conv2D is not supported yet (layer 3 of 11)\n"
        "  fix: use QConv2D with a kernel_quantizer, or `edgeflow quantize` the model",
    ),
    (
        "recurrent",
        kind("drop", "QLSTM", "qkeras"),
        "layer 'drop' (QLSTM): recurrent layers are not supported yet (layer 10 of 11)\n"
        "  fix: use QConv1D over the time axis, or unroll it into QDense layers",
    ),
    (
        "wrapper",
        kind("drop", "TimeDistributed"),
        "layer 'drop' (TimeDistributed): TimeDistributed is not supported yet (layer 10 of 11)\n"
        "  fix: QDense and the other layers take the time axis as it is: use the inner layer alone",
    ),
    (
        "adaptive activation",
        kind("relu_1", "QAdaptiveActivation", "qkeras"),
        "layer 'relu_1' (QAdaptiveActivation): QAdaptiveActivation is not supported yet (layer 6 of 11)\n"
        "  fix: use QActivation: qkeras-v3 cannot save or reload QAdaptiveActivation",
    ),
    (
        "softmax in the middle",
        kind("drop", "Softmax"),
        "layer 'logits' (QDense): it reads a softmax, which edgeflow leaves out: only the end of a model may be one\n"
        "  fix: end the model at its softmax",
    ),
    (
        "softmax of a layer in the middle",
        setting("conv_1", activation="softmax"),
        "layer 'conv_2' (QConv2D): it reads a softmax, which edgeflow leaves out: only the end of a model may be one\n"
        "  fix: end the model at its softmax",
    ),
    (
        "softmax over space",
        becomes("pool", "Softmax", axis=1),
        "layer 'pool' (Softmax): a softmax over axis 1 is not supported\n  fix: use the last axis, -1",
    ),
    (
        "bilinear upsampling",
        becomes("pool", "UpSampling2D", size=[2, 2], interpolation="bilinear"),
        "layer 'pool' (UpSampling2D): interpolation 'bilinear' mixes values in float32\n"
        "  fix: use interpolation='nearest'",
    ),
    (
        "cropping everything",
        becomes("pool", "Cropping2D", cropping=[[3, 3], [0, 0]]),
        "layer 'pool' (Cropping2D): it crops all of an input of shape (6, 6, 3)\n  fix: use smaller croppings",
    ),
    (
        "padding that is none",
        becomes("pool", "ZeroPadding2D", padding=[[1, -1], [0, 0]]),
        "layer 'pool' (ZeroPadding2D): its padding is a list, not pairs of whole numbers\n"
        "  fix: correct the layer, or save the model again if the file is damaged",
    ),
    (
        "an order that is none",
        becomes("pool", "Permute", dims=[1, 1, 2]),
        "layer 'pool' (Permute): its dims (1, 1, 2) are no order of 3 axes\n  fix: correct its dims",
    ),
    (
        "a vector repeated that is none",
        becomes("pool", "RepeatVector", n=3),
        "layer 'pool' (RepeatVector): it reads a tensor of shape (6, 6, 3), not of 1 axis",
    ),
    (
        "one axis too few",
        becomes("drop", "MaxPooling1D", pool_size=2),
        "layer 'drop' (MaxPooling1D): it reads a tensor of shape (12,), not (length, channels)",
    ),
    (
        "transposed with output padding",
        becomes("pool", "QConv2DTranspose", output_padding=[1, 1]),
        "layer 'pool' (QConv2DTranspose): QKeras ignores its output_padding, so the saved value is not what it "
        "computes\n  fix: leave output_padding at None",
    ),
    (
        "transposed with dilation",
        becomes("pool", "QConv2DTranspose", dilation_rate=[2, 2]),
        "layer 'pool' (QConv2DTranspose): a dilated transposed convolution is not supported: TensorFlow cannot run "
        "it on a CPU either\n  fix: leave dilation_rate at 1",
    ),
    (
        "uneven quantized average",
        becomes(
            "pool",
            "QAveragePooling2D",
            pool_size=[5, 5],
            strides=1,
            padding="same",
            average_quantizer=BITS,
        ),
        "layer 'pool' (QAveragePooling2D): its windows hold 9 to 25 elements, and QKeras' float32 "
        "divides 25 by them inexactly\n  fix: use padding='valid', or a window of 2x2 or 3x3",
    ),
    (
        "wide quantized average",
        becomes(
            "pool",
            "QAveragePooling2D",
            pool_size=[2, 2],
            average_quantizer={**BITS, "config": {"bits": 24, "alpha": 1}},
        ),
        "layer 'pool' (QAveragePooling2D): its products with the quantized 1/area can reach 2^27.9 steps, and "
        "QKeras' float32 is exact only up to 2^24\n  fix: use fewer bits in its average_quantizer or its input",
    ),
    (
        "wide product",
        lambda layers: (
            layers["conv_1"]["config"]["activation"]["config"].update(bits=16),
            kind("add", "Multiply")(layers),
        ),
        "layer 'add' (Multiply): its products can reach 2^36.1 steps, and QKeras' float32 is exact only up to 2^24\n"
        "  fix: use fewer bits for its inputs",
    ),
    (
        "average of three",
        lambda layers: (
            kind("add", "Average")(layers),
            layers["add"]["inbound_nodes"][0]["args"][0].extend(layers["add"]["inbound_nodes"][0]["args"][0][:1]),
        ),
        "layer 'add' (Average): an average of 3 tensors rounds in QKeras' float32\n"
        "  fix: average 2, 4 or 8 tensors, or use Add",
    ),
    (
        "difference of three",
        lambda layers: (
            kind("add", "Subtract")(layers),
            layers["add"]["inbound_nodes"][0]["args"][0].extend(layers["add"]["inbound_nodes"][0]["args"][0][:1]),
        ),
        "layer 'add' (Subtract): it reads 3 tensors, not two",
    ),
    (
        "shapes that do not fit",
        setting("conv_2", strides=[2, 2]),
        "layer 'add' (Add): its inputs have shapes that do not fit: (6, 6, 3), (3, 3, 3)\n"
        "  fix: give all its inputs one shape",
    ),
    (
        "joined along the batch",
        becomes("add", "Concatenate", axis=0),
        "layer 'add' (Concatenate): it joins along the batch axis\n  fix: use axis 1 or later",
    ),
    (
        "window wider than the input",
        setting("conv_1", kernel_size=[7, 7], padding="valid"),
        CONV + "a window of 7x7 does not fit in an input of 6x6\n  fix: use a smaller window or padding='same'",
    ),
    (
        "kernel of another shape",
        setting("conv_1", kernel_size=[5, 5]),
        CONV + "its kernel has shape (3, 3, 1, 3) in the file, its configuration asks for (5, 5, 1, 3)\n"
        "  fix: save the whole model again",
    ),
    (
        "unfinished batch normalization",
        kind("drop", "BatchNormalization"),
        "layer 'drop' (BatchNormalization): the file holds no gamma for it\n  fix: save the whole model again",
    ),
]


@pytest.mark.parametrize(("edit", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_refusal(edited: Edited, edit: Callable[[dict[str, Any]], object], text: str) -> None:
    assert refuse(edited(edit)) == text


def with_weight(small: Content, layer: str, slot: str, value: float) -> Content:
    def change(one: StoredArray) -> StoredArray:
        if (one.layer, one.slot) != (layer, slot):
            return one
        values = one.values.copy()
        values.flat[0] = value
        return replace(one, values=values)

    return replace(small, arrays=tuple(change(one) for one in small.arrays))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(small: Content, value: float) -> None:
    text = refuse(with_weight(small, "conv_1", "0", value))
    assert text == CONV + "a weight is NaN or infinite\n  fix: train the model again"


@pytest.mark.parametrize("value", [1e8, -1e30, 3e38])
def test_weights_that_float32_loses(small: Content, value: float) -> None:
    assert refuse(with_weight(small, "conv_1", "0", value)).startswith(
        CONV + f"a weight of {abs(value):.3g} lies so far outside the range of its quantizer (4 bits, 0 integer)"
    )


def test_missing_weights(small: Content) -> None:
    text = refuse(replace(small, arrays=tuple(one for one in small.arrays if one.layer != "logits")))
    assert text == "layer 'logits' (QDense): the file holds no kernel for it\n  fix: save the whole model again"


def test_zero_float_bias_is_exact(small: Content, edited: Edited) -> None:
    content = edited(setting("conv_1", bias_quantizer=None))
    zeroed = tuple(
        replace(one, values=np.zeros_like(one.values)) if (one.layer, one.slot) == ("conv_1", "1") else one
        for one in small.arrays
    )
    import_content(replace(content, arrays=zeroed), "x")


def test_two_quantizers_on_one_input(edited: Edited) -> None:
    def edit(layers: dict[str, Any]) -> None:
        layers["relu_1"]["inbound_nodes"] = layers["quantize"]["inbound_nodes"]

    assert refuse(edited(edit)) == (
        "layer 'relu_1' (QActivation): the input 'image' is quantized in two different ways\n"
        "  fix: quantize the input once and branch behind the QActivation"
    )


def test_a_reader_of_the_raw_input(edited: Edited) -> None:
    def edit(layers: dict[str, Any]) -> None:
        layers["conv_1"]["inbound_nodes"] = layers["quantize"]["inbound_nodes"]

    assert refuse(edited(edit)) == (
        "layer 'conv_1' (QConv2D): it reads the raw input 'image', whose other reader quantizes it\n"
        "  fix: let every layer read the QActivation that follows the input"
    )


def test_a_circle(edited: Edited) -> None:
    def edit(layers: dict[str, Any]) -> None:
        layers["conv_1"]["inbound_nodes"] = layers["pool"]["inbound_nodes"]

    assert refuse(edited(edit)).startswith(
        "model.keras: damaged or not a Keras model: its layers form a circle or read what does not exist"
    )


def test_unsupported_is_what_it_raises(edited: Edited) -> None:
    with pytest.raises(Unsupported):
        import_content(edited(setting("conv_1", activation="softmax")), "x")
