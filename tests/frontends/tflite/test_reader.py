"""What the reader takes from a `.tflite` file, and every way in which a file may be wrong."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.backends.tflm.flatbuffer import schema
from edgeflow.errors import EdgeflowError
from edgeflow.frontends.tflite.flatbuffer import MOST_WORK
from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.frontends.tflite.reader import LARGEST_FILE, read_tflite
from edgeflow.frontends.tflite.schema import ACTIVATIONS, BITS, FORMS, OPERATORS, PADDINGS, TYPES, WEIGHT_FORMATS, Kind
from tests.frontends.tflite.objects import (
    Change,
    at_graph,
    at_model,
    at_operator,
    at_scales,
    at_tensor,
    changed,
    ints,
    model,
    packed,
)

MODELS = ("ad01_int8", "kws_ref_model")
AGAIN = "\n  fix: convert the model again, or copy the file again"


def read(change: Change) -> TfliteFile:
    return read_tflite(changed(change), "FILE")


def failure(data: bytes) -> str:
    with pytest.raises(EdgeflowError) as caught:
        read_tflite(data, "FILE")
    return str(caught.value)


def test_a_small_file_is_read_whole() -> None:
    found = read(lambda root: None)
    assert (found.name, found.inputs, found.outputs) == ("dense", (0,), (4,))
    dense, curve = found.operators
    assert (dense.code, dense.inputs, dense.outputs, dense.version) == ("FULLY_CONNECTED", (0, 1, 2), (3,), 1)
    assert dense.options == {
        "fused_activation_function": "RELU",
        "weights_format": "DEFAULT",
        "keep_num_dims": False,
        "asymmetric_quantize_inputs": False,
        "quantized_bias_type": "FLOAT32",
    }
    assert (curve.code, curve.options) == ("LOGISTIC", {})
    weight = found.tensors[1]
    assert (weight.name, weight.shape, weight.kind, weight.data) == ("w", (3, 4), "INT8", bytes(range(12)))
    assert weight.quantization is not None
    assert (weight.quantization.scales, weight.quantization.axis) == ((0.25, 0.5, 1.0), 0)
    assert found.tensors[0].data is None


@pytest.mark.parametrize("name", MODELS)
def test_a_converters_file_says_what_the_schemas_own_reader_says(data: Path, name: str) -> None:
    content = (data / "models" / f"{name}.tflite").read_bytes()
    found = read_tflite(content, f"{name}.tflite")
    root = schema().ModelT.InitFromObj(schema().Model.GetRootAs(content))
    graph = root.subgraphs[0]
    assert found.name == name
    assert (found.inputs, found.outputs) == (tuple(graph.inputs), tuple(graph.outputs))
    assert [one.name for one in found.tensors] == [one.name.decode() for one in graph.tensors]
    for mine, theirs in zip(found.tensors, graph.tensors, strict=True):
        assert mine.shape == tuple(theirs.shape)
        assert TYPES.index(mine.kind) == theirs.type
        stored = root.buffers[theirs.buffer].data
        assert mine.data == (None if stored is None else bytes(stored))
        scales = theirs.quantization.scale
        assert (mine.quantization is None) == (scales is None)
        if mine.quantization is not None:
            assert mine.quantization.scales == tuple(float(one) for one in scales)
            assert mine.quantization.zero_points == tuple(theirs.quantization.zeroPoint)
    for mine, theirs in zip(found.operators, graph.operators, strict=True):
        code = root.operatorCodes[theirs.opcodeIndex]
        assert OPERATORS.index(mine.code) == max(code.builtinCode, code.deprecatedBuiltinCode)
        assert (mine.inputs, mine.outputs, mine.version) == (tuple(theirs.inputs), tuple(theirs.outputs), code.version)
        for option, value in mine.options.items() if theirs.builtinOptions is not None else ():
            head, *rest = option.split("_")
            expected = getattr(theirs.builtinOptions, head + "".join(one.capitalize() for one in rest))
            field = next(one for one in FORMS[mine.code].fields if one.name == option)
            assert (field.names.index(str(value)) if field.names else value) == (() if expected is None else expected)
    assert found.metadata["min_runtime_version"].rstrip(b"\0") == b"1.5.0"


def test_the_numbers_are_the_schemas() -> None:
    fb = schema()
    enums = {
        "BuiltinOperator": OPERATORS,
        "TensorType": TYPES,
        "Padding": PADDINGS,
        "ActivationFunctionType": ACTIVATIONS,
        "FullyConnectedOptionsWeightsFormat": WEIGHT_FORMATS,
    }
    for kind, names in enums.items():
        for number, name in enumerate(names):
            assert getattr(getattr(fb, kind), name, number) == number, name
    assert set(BITS) <= set(TYPES)
    unions = {number: name for name, number in vars(fb.BuiltinOptions).items() if isinstance(number, int)}
    for name, form in FORMS.items():
        assert name in OPERATORS
        if form.fields:
            table = getattr(fb, f"{unions[form.options]}T")()
            for field in form.fields:
                head, *rest = field.name.split("_")
                attribute = head + "".join(one.capitalize() for one in rest)
                assert (getattr(table, attribute) or 0) == (field.default or 0), (name, field.name)
                assert field.kind is not Kind.ENUM or field.names


@pytest.mark.parametrize(
    ("number", "small", "name"),
    [(25, 25, "SOFTMAX"), (0, 25, "SOFTMAX"), (150, 127, "GELU"), (777, 127, "BUILTIN_777"), (-3, -5, "BUILTIN_-3")],
)
def test_an_operators_code_stands_in_one_field_or_the_other(number: int, small: int, name: str) -> None:
    def change(root: Any) -> None:
        root.operatorCodes[1].builtinCode, root.operatorCodes[1].deprecatedBuiltinCode = number, small

    assert read(change).operators[1].code == name


def test_custom_operators_keep_their_name() -> None:
    def change(root: Any) -> None:
        root.operatorCodes[1].builtinCode = root.operatorCodes[1].deprecatedBuiltinCode = 32
        root.operatorCodes[1].customCode = "Flex\x1bErf"

    operator = read(change).operators[1]
    assert (operator.code, operator.custom) == ("Flex\x1bErf", True)


def test_codes_that_no_operator_uses_do_not_matter() -> None:
    def change(root: Any) -> None:
        code = schema().OperatorCodeT()
        code.builtinCode, code.customCode = 32, "Nobody"
        root.operatorCodes = [*root.operatorCodes, code]

    assert [one.code for one in read(change).operators] == ["FULLY_CONNECTED", "LOGISTIC"]


def test_axes_without_a_fixed_length() -> None:
    def change(root: Any) -> None:
        root.subgraphs[0].tensors[0].shapeSignature = ints(-1, 4)

    assert read(change).tensors[0].dynamic == (0,)


def test_a_signature_names_inputs_and_outputs() -> None:
    def change(root: Any) -> None:
        fb = schema()
        signature = fb.SignatureDefT()
        signature.inputs, signature.outputs = [fb.TensorMapT()], [fb.TensorMapT()]
        signature.inputs[0].name, signature.inputs[0].tensorIndex = "audio", 0
        signature.outputs[0].name, signature.outputs[0].tensorIndex = "word", 4
        signature.signatureKey = "serving_default"
        root.signatureDefs = [signature]

    assert read(change).names == {0: "audio", 4: "word"}


def test_an_optional_input_may_be_left_out() -> None:
    def change(root: Any) -> None:
        root.subgraphs[0].operators[0].inputs = ints(0, 1, -1)

    assert read(change).operators[0].inputs == (0, 1, -1)


def test_a_name_that_says_nothing_gives_way_to_the_files() -> None:
    for name, expected in (("main", "kws"), ("", "kws"), ("subgraph_0", "kws"), ("maintenance", "maintenance")):

        def change(root: Any, name: str = name) -> None:
            root.subgraphs[0].name = name

        assert read_tflite(changed(change), "models/kws.tflite").name == expected


def test_int4_values_lie_two_in_a_byte() -> None:
    def change(root: Any) -> None:
        root.subgraphs[0].tensors[1].type = schema().TensorType.INT4
        root.buffers[1].data = np.arange(6, dtype=np.uint8)

    assert read(change).tensors[1].data == bytes(range(6))


def other_options(root: Any) -> None:
    root.subgraphs[0].operators[0].builtinOptionsType = schema().BuiltinOptions.SoftmaxOptions
    root.subgraphs[0].operators[0].builtinOptions = schema().SoftmaxOptionsT()


def unknown_activation(root: Any) -> None:
    root.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 77


def second_graph(root: Any) -> None:
    root.subgraphs = [*root.subgraphs, *model().subgraphs]


def external_buffer(root: Any) -> None:
    root.buffers[1].data, root.buffers[1].offset, root.buffers[1].size = None, 4096, 12


def conv(strides: int | None) -> Change:
    """The first operator as a CONV_2D, without options or with these strides."""

    def change(root: Any) -> None:
        fb = schema()
        root.operatorCodes[0].builtinCode = root.operatorCodes[0].deprecatedBuiltinCode = fb.BuiltinOperator.CONV_2D
        operator = root.subgraphs[0].operators[0]
        operator.builtinOptionsType, operator.builtinOptions = fb.BuiltinOptions.NONE, None
        if strides is not None:
            operator.builtinOptionsType, operator.builtinOptions = fb.BuiltinOptions.Conv2DOptions, fb.Conv2DOptionsT()
            operator.builtinOptions.strideW = operator.builtinOptions.strideH = strides

    return change


def sparse(root: Any) -> None:
    root.subgraphs[0].tensors[1].sparsity = schema().SparsityParametersT()


def other_quantization(root: Any) -> None:
    quantization = root.subgraphs[0].tensors[1].quantization
    quantization.detailsType = schema().QuantizationDetails.CustomQuantization
    quantization.details = schema().CustomQuantizationT()


DAMAGED = "FILE: damaged TFLite file: "


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (at_model(version=4), "FILE: a TFLite file of version 4; edgeflow reads 3" + AGAIN),
        (at_model(subgraphs=[]), DAMAGED + "it holds no subgraph" + AGAIN),
        (
            second_graph,
            "FILE: the file holds 2 subgraphs; edgeflow reads models of one\n"
            "  fix: convert one signature, without if and while",
        ),
        (
            external_buffer,
            "FILE: the data of tensor 1 (buffer 1) lies behind the flatbuffer, where TFLite-Micro does not look\n"
            "  fix: convert the model without buffer offsets",
        ),
        (
            at_tensor(1, externalBuffer=2),
            "FILE: the data of tensor 1 ('w') lies in another file\n  fix: convert the model into one file",
        ),
        (
            other_quantization,
            "FILE: tensor 1 has a quantization of another form than scale and zero point\n"
            "  fix: convert the model with one scale a tensor or a channel",
        ),
        (
            at_tensor(3, isVariable=True),
            "FILE: operator 1 (LOGISTIC) keeps tensor 3 ('y') from one call to the next\n"
            "  fix: give a model without states",
        ),
        (at_tensor(0, type=99), DAMAGED + "tensor 0 has the type 99, which TFLite does not know" + AGAIN),
        (at_tensor(0, shape=ints(1, -4)), DAMAGED + "tensor 0 has the shape (1, -4)" + AGAIN),
        (
            at_tensor(0, shape=ints(4096, 4097)),
            DAMAGED + "tensor 0 has the shape (4096, 4097), more than 2^24 elements" + AGAIN,
        ),
        (at_tensor(0, shape=ints(*[1] * 9)), DAMAGED + "tensor 0 has 9 axes; edgeflow reads up to 8" + AGAIN),
        (
            at_tensor(0, shapeSignature=ints(-1, 2, 2)),
            DAMAGED + "tensor 0 has the shape (1, 4) and the signature (-1, 2, 2)" + AGAIN,
        ),
        (
            at_tensor(1, shape=ints(3, 5)),
            DAMAGED + "tensor 1 has 12 bytes; INT8 of shape (3, 5) takes 15" + AGAIN,
        ),
        (at_tensor(1, buffer=3), DAMAGED + "tensor 1 refers to buffer 3 of 3" + AGAIN),
        (
            at_scales(1, scale=np.ones(2, np.float32), zeroPoint=np.zeros(2, np.int64)),
            DAMAGED + "tensor 1 has 2 scales for axis 0 of the shape (3, 4)" + AGAIN,
        ),
        (
            at_scales(1, quantizedDimension=2),
            DAMAGED + "tensor 1 has 3 scales for axis 2 of the shape (3, 4)" + AGAIN,
        ),
        (at_scales(1, zeroPoint=np.zeros(2, np.int64)), DAMAGED + "tensor 1 has 3 scales and 2 zero points" + AGAIN),
        (at_scales(0, scale=np.array([np.nan], np.float32)), DAMAGED + "tensor 0 has the scale nan" + AGAIN),
        (at_scales(0, scale=np.array([-1], np.float32)), DAMAGED + "tensor 0 has the scale -1.0" + AGAIN),
        (
            at_scales(0, zeroPoint=np.array([128], np.int64)),
            DAMAGED + "tensor 0 has the zero point 128, which is no INT8" + AGAIN,
        ),
        (at_operator(0, opcodeIndex=2), DAMAGED + "operator 0 has operator code 2 of 2" + AGAIN),
        (at_operator(0, inputs=ints(0, 1, 5)), DAMAGED + "operator 0 refers to tensor 5 of 5" + AGAIN),
        (at_operator(0, outputs=ints(-1)), DAMAGED + "operator 0 refers to tensor -1 of 5" + AGAIN),
        (at_operator(0, outputs=ints()), DAMAGED + "operator 0 (FULLY_CONNECTED) has no output" + AGAIN),
        (
            at_operator(0, inputs=ints(0)),
            DAMAGED + "operator 0 (FULLY_CONNECTED) has 1 inputs; it takes 2 to 3" + AGAIN,
        ),
        (at_operator(0, inputs=ints(0, -1, 2)), DAMAGED + "operator 0 (FULLY_CONNECTED) lacks its input 1" + AGAIN),
        (
            other_options,
            DAMAGED + "operator 0 (FULLY_CONNECTED) has the options of another operator, type 9" + AGAIN,
        ),
        (
            unknown_activation,
            DAMAGED + "operator 0 (in its options) has the fused_activation_function 77, which TFLite does not know"
            "" + AGAIN,
        ),
        (conv(None), DAMAGED + "operator 0 (CONV_2D) has no options" + AGAIN),
        (conv(0), DAMAGED + "operator 0 (in its options) has stride_w 0" + AGAIN),
        (conv(1 << 17), DAMAGED + "operator 0 (in its options) has stride_w 131072" + AGAIN),
        (at_graph(inputs=ints(7)), DAMAGED + "subgraph 0 refers to tensor 7 of 5" + AGAIN),
        (at_graph(inputs=ints()), DAMAGED + "the model has no input" + AGAIN),
        (at_graph(outputs=ints()), DAMAGED + "the model has no output" + AGAIN),
        (at_graph(inputs=ints(0, 0)), DAMAGED + "a tensor is twice an input of the model" + AGAIN),
        (at_graph(inputs=ints(0, 2)), DAMAGED + "input tensor 2 ('b') is a constant" + AGAIN),
    ],
)
def test_what_is_wrong_is_said(change: Change, text: str) -> None:
    assert failure(changed(change)) == text


def swapped(root: Any) -> None:
    root.subgraphs[0].operators.reverse()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (swapped, "operator 0 (LOGISTIC) reads tensor 3 ('y') before it is computed"),
        (at_operator(1, inputs=ints(4)), "operator 1 (LOGISTIC) reads tensor 4 ('z') before it is computed"),
        (
            at_operator(1, outputs=ints(3)),
            "operator 1 (LOGISTIC) computes tensor 3 ('y'), which is computed already",
        ),
        (at_operator(1, outputs=ints(0)), "operator 1 (LOGISTIC) computes tensor 0 ('x'), an input of the model"),
        (at_operator(1, outputs=ints(1)), "operator 1 (LOGISTIC) computes tensor 1 ('w'), a constant"),
        (at_graph(operators=[]), "output tensor 4 ('z') is never computed"),
    ],
)
def test_operators_run_in_order_and_write_each_tensor_once(change: Change, text: str) -> None:
    assert failure(changed(change)) == DAMAGED + text + AGAIN


def test_sparse_tensors_are_read_as_such() -> None:
    assert [one.sparse for one in read(sparse).tensors] == [False, True, False, False, False]


def test_no_tflite_file() -> None:
    for data in (b"", b"TFL3", b"\0" * 7, b"\x1c\0\0\0TFL2", bytes(100)):
        assert failure(data) == DAMAGED + "it does not begin like a .tflite file" + AGAIN
    for root in (0, 2, 8, 0xFFFFFFFF):
        assert failure(struct.pack("<I", root) + b"TFL3") == DAMAGED + "the model lies outside the file" + AGAIN
    text = failure(bytes(LARGEST_FILE + 1))
    assert text == "FILE: larger than 64 MiB\n  fix: give a model that a microcontroller can hold"


def test_a_table_that_is_none() -> None:
    head = struct.pack("<I4s", 12, b"TFL3")
    for slots, size in ((2, 4), (5, 4), (4, 3)):
        bad = head + struct.pack("<HHi", slots, size, 4) + bytes(64)
        assert failure(bad) == DAMAGED + "the model is no table" + AGAIN
    outside = head + struct.pack("<HHi", 4, 4, 400) + bytes(64)
    assert failure(outside) == DAMAGED + "the model lies outside the file" + AGAIN
    field = head[:4].replace(b"\x0c", b"\x0e") + b"TFL3" + struct.pack("<HHHi", 6, 8, 6, 6) + bytes(64)
    assert failure(field) == DAMAGED + "the model has a field outside of it" + AGAIN


def test_every_beginning_of_a_file_is_refused() -> None:
    whole = packed(model())
    for size in range(len(whole)):
        text = failure(whole[:size])
        assert text.startswith(DAMAGED)
        assert len(text.splitlines()) == 2


def many(kind: Any, count: int) -> list[Any]:
    """Many references to one object, which is packed once."""

    class Once:
        at: int | None = None

        def Pack(self, builder: Any) -> int:  # noqa: N802
            if self.at is None:
                self.at = int(kind.Pack(builder))
            return self.at

    return [Once()] * count


def test_counts_are_bounded() -> None:
    for field, name, most in (("operators", "operator", 2000), ("tensors", "tensor", 20_000)):

        def change(root: Any, field: str = field, most: int = most) -> None:
            one = getattr(root.subgraphs[0], field)[0]
            setattr(root.subgraphs[0], field, many(one, most + 1))

        text = f"subgraph 0 has {most + 1:,} {name}s; edgeflow reads up to {most:,}"
        assert failure(changed(change)) == DAMAGED + text + AGAIN


def test_what_many_tables_share_is_counted_each_time() -> None:
    def change(root: Any) -> None:
        wide = root.subgraphs[0].operators[1]
        wide.inputs = np.zeros(MOST_WORK // 1000, np.int32)
        root.subgraphs[0].operators = many(wide, 2000)
        root.operatorCodes[1].builtinCode = 777

    assert failure(changed(change)) == DAMAGED + "it refers to the same places over and over" + AGAIN
