"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: their graphs, their factors to the last bit, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from edgeflow.errors import Unsupported
from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.ops.conv import Conv
from edgeflow.ops.dense import Dense
from edgeflow.ops.requant import Rounding
from tests.frontends.tflite.make import Making, Value, assert_refused, imported, write
from tests.frontends.tflite.wheel import ask_wheel, assert_equal, random_inputs

AGAIN = "\n  fix: convert the model again with a current converter"
DAMAGED = "\n  fix: the file is damaged"


def conv(
    code: str = "CONV_2D",
    kind: str = "INT8",
    weight: str = "INT8",
    bias: str | None = "INT32",
    *,
    channels: int = 4,
    filters: Sequence[int] | None = None,
    axis: int | None = None,
    shape: Sequence[int] = (1, 5, 5, 4),
    count: int = 4,
    source: Sequence[int] | None = None,
    **options: Value,
) -> TfliteFile:
    """A convolution of 5 x 5 with 3 x 3; 4 outputs, each with its scale."""
    zero = 0 if kind == "INT16" else -7
    made = Making("conv")
    x = made.input(source or (1, 5, 5, channels), kind, 0.05, zero)
    depthwise = code == "DEPTHWISE_CONV_2D"
    size = tuple(filters or ((1, 3, 3, 4) if depthwise else (4, 3, 3, channels)))
    along = axis if axis is not None else 3 if depthwise else 0
    values = np.arange(np.prod(size)).reshape(size) % 15 - 7
    w = made.constant(values, weight, [0.01 * (1 + each) for each in range(size[along])], axis=along)
    inputs = [x, w, *([made.constant(np.arange(count), bias, 0.0005)] if bias else [])]
    settings: dict[str, Value] = {"padding": "SAME", "stride_h": 1, "stride_w": 1}
    settings |= {"depth_multiplier": 4 // channels} if depthwise else {}
    made.add(code, inputs, shape, 0.2, zero, settings=settings | options)
    return made.file()


def dense(
    kind: str = "INT8",
    weight: str = "INT8",
    bias: str | None = "INT32",
    *,
    scales: float | Sequence[float] = 0.01,
    weight_zero: int = 0,
    bias_scale: float = 0.0005,
    size: tuple[int, int] = (4, 6),
    shape: Sequence[int] = (1, 4),
    scale: float = 0.2,
    **options: Value,
) -> TfliteFile:
    """A FULLY_CONNECTED of (1, 2, 6)."""
    made = Making("dense")
    x = made.input((1, 6), kind, 0.05, 0 if kind == "INT16" else -7)
    values = np.arange(np.prod(size)).reshape(size) % 15 - 7
    inputs = [x, made.constant(values, weight, scales, weight_zero)]
    inputs += [made.constant(np.arange(size[0]), bias, bias_scale)] if bias else []
    made.add("FULLY_CONNECTED", inputs, shape, scale, settings=options)
    return made.file()


def test_the_input_s_zero_point_goes_into_the_bias_and_the_padding() -> None:
    sums, requant = imported(conv()).nodes
    assert isinstance(sums.op, Conv)
    assert sums.op.pad_value == -7
    assert sums.op.pads == ((1, 1), (1, 1))
    assert sums.op.bias.tolist() == (np.arange(4) + 7 * sums.op.weight.sum(axis=(0, 1, 2))).tolist()
    assert (requant.type.lo, requant.type.hi) == (-128, 127)
    assert [node.name for node in (sums, requant)] == ["conv_2d0_sums", "conv_2d0"]


def test_a_filter_of_fewer_channels_is_grouped() -> None:
    (sums, _) = imported(conv(filters=(4, 3, 3, 2))).nodes
    assert isinstance(sums.op, Conv)
    assert (sums.op.groups, sums.op.weight.shape) == (2, (3, 3, 2, 4))


def test_several_outputs_a_channel_are_a_group_each() -> None:
    (sums, _) = imported(conv("DEPTHWISE_CONV_2D", channels=2)).nodes
    assert isinstance(sums.op, Conv)
    assert (sums.op.groups, sums.op.weight.shape) == (2, (3, 3, 1, 4))


def test_one_row_is_flattened_before_the_dense_layer() -> None:
    made = Making("rows")
    x = made.input((1, 2, 3))
    made.add("FULLY_CONNECTED", (x, made.constant(np.ones((4, 6), int), scale=0.01)), (1, 4))
    ops = [type(node.op).__name__ for node in imported(made.file()).nodes]
    assert ops == ["Reshape", "Dense", "Requant"]


def test_rows_without_a_batch_stay_rows_until_they_get_one_again() -> None:
    made = Making("rows")
    x = made.input((1, 3, 6))
    y = made.add("FULLY_CONNECTED", (x, made.constant(np.ones((4, 6), int), scale=0.01)), (3, 4))
    made.add("RESHAPE", (y, made.constant([1, 3, 4], "INT32")), (1, 3, 4))
    graph = imported(made.file())
    assert [type(node.op).__name__ for node in graph.nodes] == ["Dense", "Requant"]
    assert graph.nodes[-1].type.shape == (3, 4)


def test_the_weights_zero_point_counts_with_one_scale_alone() -> None:
    one, many = (
        imported(dense(scales=scales, weight_zero=3)).nodes[0].op for scales in (0.01, (0.01, 0.02, 0.03, 0.04))
    )
    assert isinstance(one, Dense)
    assert isinstance(many, Dense)
    assert (many.weight - one.weight).tolist() == np.full((6, 4), 3).tolist()


@pytest.mark.parametrize(
    ("bias", "stages"), [("INT64", [Rounding.HALF_UP]), (None, [Rounding.HALF_UP]), ("INT32", [*Rounding][1::2])]
)
def test_int16_sums_are_as_wide_as_the_bias(bias: str | None, stages: list[Rounding]) -> None:
    requant = imported(dense("INT16", bias=bias)).nodes[-1].op
    assert [one.rounding for one in requant.stages] == stages  # pyright: ignore[reportAttributeAccessIssue]


FORMS = (
    ("FULLY_CONNECTED", "INT8", "INT32"),
    ("FULLY_CONNECTED", "INT16", "INT32"),
    ("FULLY_CONNECTED", "INT16", "INT64"),
    ("CONV_2D", "INT8", "INT32"),
    ("CONV_2D", "INT16", "INT32"),
    ("CONV_2D", "INT16", "INT64"),
    ("DEPTHWISE_CONV_2D", "INT8", "INT32"),
    ("DEPTHWISE_CONV_2D", "INT16", "INT64"),
)


def beside_ties(code: str, kind: str, bias: str, many: bool, seed: int) -> TfliteFile:
    """One value, 400 outputs; the biases lie so close to ties of the result that one unit of a factor's 31 bits counts.

    So the scales must be multiplied and divided as doubles, not as float32.
    """
    rng, outputs, reach = np.random.default_rng(seed), 400, 120 if kind == "INT8" else 32000
    source, weight = (float(np.float32(rng.uniform(0.5, 1) * unit)) for unit in (0.02, 0.002))
    result = float(np.float32(source * weight * 1e9 / reach))
    ties = np.rint((rng.integers(-reach, reach, outputs) + 0.5) * result / (source * weight))
    values = ties.astype(np.int64) + rng.integers(-40, 41, outputs)
    dense, depthwise = code == "FULLY_CONNECTED", code == "DEPTHWISE_CONV_2D"
    made = Making("ties")
    x = made.input((1, 1) if dense else (1, 1, 1, 1), kind, source)
    shape = (outputs, 1) if dense else (1, 1, 1, outputs) if depthwise else (outputs, 1, 1, 1)
    scales = [weight] * outputs if many else weight
    w = made.constant(np.ones(shape, int), "INT8", scales, axis=3 if depthwise and many else 0)
    b = made.constant(values, bias, float(np.float32(source * weight)))
    settings: dict[str, Value] = {} if dense else {"padding": "SAME", "stride_h": 1, "stride_w": 1}
    settings |= {"depth_multiplier": outputs} if depthwise else {}
    made.add(code, (x, w, b), (1, outputs) if dense else (1, 1, 1, outputs), result, 0, settings=settings)
    return made.file()


@pytest.mark.usefixtures("wheel")
def test_factors_are_exact_to_their_last_bit() -> None:
    assert_equal([beside_ties(*form, many, seed) for seed, form in enumerate(FORMS) for many in (False, True)])


REFUSED: Mapping[str, tuple[Callable[[], TfliteFile], str]] = {
    "int16 with int4": (
        lambda: conv(kind="INT16", weight="INT4", bias="INT64"),
        "operator 0 (CONV_2D): its weights are INT4, not INT8\n  fix: convert the model with int8 weights",
    ),
    "float weights": (
        lambda: dense(weight="FLOAT32"),
        "operator 0 (FULLY_CONNECTED): tensor 1 ('constant1') has the type FLOAT32",
    ),
    "int16 weights": (
        lambda: dense(weight="INT16"),
        "operator 0 (FULLY_CONNECTED): its weights are INT16, not INT8 or INT4"
        "\n  fix: convert the model with int8 weights",
    ),
    "int4 with a scale for each output": (
        lambda: dense(weight="INT4", scales=(0.01, 0.02, 0.03, 0.04)),
        "operator 0 (FULLY_CONNECTED): its int4 weights have a scale for every output, which TFLite-Micro does not take"
        "\n  fix: convert the model with int8 weights, or with one scale",
    ),
    "scales along the inputs": (
        lambda: conv(axis=3),
        f"operator 0 (CONV_2D): its weights have their scales along axis 3, not 0{AGAIN}",
    ),
    "a bias of another scale": (
        lambda: dense(bias_scale=0.5),
        f"operator 0 (FULLY_CONNECTED): its bias has the scale 0.5, its sums 0.0005{AGAIN}",
    ),
    "a wide bias of int8": (
        lambda: conv(bias="INT64"),
        f"operator 0 (CONV_2D): its bias is INT64 of shape (4,), not INT32 of 4{AGAIN}",
    ),
    "a narrow bias of an int16 depthwise": (
        lambda: conv("DEPTHWISE_CONV_2D", "INT16"),
        f"operator 0 (DEPTHWISE_CONV_2D): its bias is INT32 of shape (4,), not INT64 of 4{AGAIN}",
    ),
    "a bias of another length": (
        lambda: conv(count=3),
        f"operator 0 (CONV_2D): its bias is INT32 of shape (3,), not INT32 of 4{AGAIN}",
    ),
    "a strange activation": (
        lambda: conv(fused_activation_function="TANH"),
        "operator 0 (CONV_2D): its fused activation TANH is not one that TFLite-Micro computes on integers"
        "\n  fix: put the activation behind it",
    ),
    "an activation beyond int32": (
        lambda: dense(scale=1e-9, bias=None, fused_activation_function="RELU6"),
        "operator 0 (FULLY_CONNECTED): its output's scale 1e-09 is too small for its fused activation" + AGAIN,
    ),
    "sums beyond 32 bits": (
        lambda: dense(scale=1e-9, bias=None),
        "operator 0 (FULLY_CONNECTED): what it computes could reach 2^31.2, beyond TFLite-Micro's 32 bits"
        "\n  fix: convert the model again with more calibration data",
    ),
    "groups that do not divide": (
        lambda: conv(filters=(4, 3, 3, 3)),
        f"operator 0 (CONV_2D): its filter of shape (4, 3, 3, 3) cannot read 4 channels{DAMAGED}",
    ),
    "another depth multiplier": (
        lambda: conv("DEPTHWISE_CONV_2D", depth_multiplier=2),
        "operator 0 (DEPTHWISE_CONV_2D): its filter of shape (1, 3, 3, 4) with a depth multiplier of 2 cannot read "
        f"4 channels{DAMAGED}",
    ),
    "a filter with too few axes": (
        lambda: conv(filters=(4, 9)),
        f"operator 0 (CONV_2D): its weights have the shape (4, 9){DAMAGED}",
    ),
    "no image": (
        lambda: conv(source=(1, 25, 4), shape=(1, 25, 4)),
        "operator 0 (CONV_2D): it reads a tensor of shape (1, 25, 4)"
        "\n  fix: give it one image: a batch of 1, height, width and channels",
    ),
    "another shape of the result": (
        lambda: conv(shape=(1, 4, 5, 4)),
        "tensor 3 ('conv_2d0'): the file gives it the shape (1, 4, 5, 4), its operator makes (5, 5, 4)",
    ),
    "a filter of another length": (
        lambda: dense(size=(4, 5)),
        "operator 0 (FULLY_CONNECTED): its filter of shape (4, 5) cannot bring a tensor of shape (1, 6) to (1, 4)"
        + DAMAGED,
    ),
    "shuffled weights": (
        lambda: dense(weights_format="SHUFFLED4x16INT8"),
        "operator 0 (FULLY_CONNECTED): its weights are shuffled"
        "\n  fix: convert the model with weights in the usual order",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_operator_and_the_fix(case: str) -> None:
    file, text = REFUSED[case]
    assert_refused(file(), text)


def test_a_depthwise_bias_left_out_by_a_minus_one_is_refused() -> None:
    file = conv("DEPTHWISE_CONV_2D", bias=None)
    made = Making("conv")
    made.tensors, made.inputs = list(file.tensors), list(file.inputs)
    (operator,) = file.operators
    made.operator(operator.code, (*operator.inputs, -1), operator.outputs, settings=operator.options)
    assert_refused(
        made.file(),
        "operator 0 (DEPTHWISE_CONV_2D): its bias is left out by a -1, with which TFLite-Micro crashes\n"
        "  fix: give it two inputs, or a bias of zeros",
    )


def test_an_int16_zero_point_is_refused() -> None:
    made = Making("dense")
    x = made.input((1, 6), "INT16", 0.05, 9)
    made.add("FULLY_CONNECTED", (x, made.constant(np.ones((4, 6), int), scale=0.01)), (1, 4), 0.2, 0)
    with pytest.raises(Unsupported, match=r"the int16 tensor 0 .'input0'. has the zero point 9; that of int16 tensors"):
        imported(made.file())


WHEEL_REFUSES = (
    *("int16 with int4", "int4 with a scale for each output"),
    *("a bias of another scale", "an activation beyond int32"),
)


@pytest.mark.usefixtures("wheel")
def test_tflite_micro_refuses_them_too() -> None:
    files = [REFUSED[case][0]() for case in WHEEL_REFUSES]
    answers = ask_wheel(
        [write(file) for file in files], [random_inputs(file, 4, 0) for file in files], [1] * len(files)
    )
    assert {case: answer.words for case, answer in zip(WHEEL_REFUSES, answers, strict=True)} == dict.fromkeys(
        WHEEL_REFUSES, "TFLM failed to allocate tensors"
    )
