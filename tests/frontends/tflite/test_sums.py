"""ADD, SUB and MUL: their graphs, broadcasting, constants, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.ops.requant import Requant
from tests.frontends.tflite.make import Making, Value, assert_refused, imported, ops, write
from tests.frontends.tflite.wheel import ask_wheel, random_inputs

AGAIN = "\n  fix: convert the model again with a current converter"


def two(
    code: str,
    first: Sequence[int],
    second: Sequence[int],
    *,
    shape: Sequence[int] | None = None,
    scale: float = 0.1,
    kinds: tuple[str, str] = ("INT8", "INT8"),
    **options: Value,
) -> TfliteFile:
    """An operator of two inputs, with zero points 3 and 0."""
    made = Making("two")
    inputs = [made.input(first, kinds[0], 0.05, 3 * (kinds[0] == "INT8")), made.input(second, kinds[1], 0.02, 0)]
    made.add(code, inputs, shape or np.broadcast_shapes(first, second), scale, 0, settings=options)
    return made.file()


def constant(code: str, values: object, *, first: bool = False, shape: Sequence[int] = (1, 4, 3)) -> TfliteFile:
    """An operator of a (1, 4, 3) input and a constant, perhaps the constant first."""
    made = Making("constant")
    x = made.input((1, 4, 3), scale=0.05, zero=3)
    c = made.constant(np.asarray(values), scale=0.02, zero=-1)
    made.add(code, (c, x) if first else (x, c), shape, 0.1, 5)
    return made.file()


@pytest.mark.parametrize("code", ["ADD", "SUB"])
def test_a_sum_rescales_both_inputs_adds_and_rescales(code: str) -> None:
    assert ops(two(code, (1, 4, 3), (1, 4, 3))) == ["Requant", "Requant", "Add", "Requant"]


def test_a_product_takes_a_zero_point_off_multiplies_and_rescales() -> None:
    assert ops(two("MUL", (1, 4, 3), (1, 4, 3))) == ["Requant", "Multiply", "Requant"]


def test_a_sum_repeats_what_broadcasts() -> None:
    assert ops(two("ADD", (1, 4, 3), (1, 1, 3))) == ["Requant", "Requant", "Upsample", "Add", "Requant"]
    assert ops(two("ADD", (1, 4, 3), (1, 4, 1))) == ["Requant", "Requant", "Dense", "Add", "Requant"]
    assert ops(two("ADD", (1, 4, 3), (3,))) == ["Reshape", "Requant", "Requant", "Upsample", "Add", "Requant"]


def test_a_product_broadcasts_by_itself() -> None:
    assert ops(two("MUL", (1, 4, 3), (1, 1, 3))) == ["Requant", "Multiply", "Requant"]
    assert ops(two("MUL", (1, 4, 3), (3,))) == ["Reshape", "Requant", "Multiply", "Requant"]


def test_a_constant_goes_into_the_bias_of_a_sum_and_the_multiplier_of_a_product() -> None:
    for code in ("ADD", "SUB", "MUL"):
        assert ops(constant(code, [1, 2, 3])) == ["Requant", "Requant"]
    last = imported(constant("SUB", [1, 2, 3], first=True)).nodes[-1].op
    assert isinstance(last, Requant)
    assert int(last.multiplier.max()) < 0
    product = imported(constant("MUL", [1, 2, 3])).nodes[0].op
    assert isinstance(product, Requant)
    assert (product.multiplier.tolist(), product.bias.tolist()) == ([[2, 3, 4]], [[-6, -9, -12]])


def test_an_input_smaller_than_its_constant_is_repeated() -> None:
    file = constant("ADD", np.ones((1, 2, 4, 3), int), shape=(1, 2, 4, 3))
    assert ops(file) == ["Reshape", "Requant", "Upsample", "Requant"]


def test_both_operands_may_be_one_tensor() -> None:
    made = Making("square")
    x = made.input((1, 5))
    made.add("MUL", (x, x), (1, 5))
    assert [node.inputs for node in imported(made.file()).nodes] == [("input0", "input0"), ("mul0_products",)]


def constants() -> TfliteFile:
    made = Making("constants")
    x = made.input((1, 3))
    a, b = (made.constant([1, 2, 3], scale=0.1) for _ in range(2))
    y = made.add("ADD", (a, b), (1, 3))
    made.add("ADD", (x, y), (1, 3))
    return made.file()


REFUSED: Mapping[str, tuple[Callable[[], TfliteFile], str]] = {
    "a scale too small": (
        lambda: two("ADD", (1, 3), (1, 3), scale=2.0**-25),
        "operator 0 (ADD): its output's scale 2.98023e-08 is less than 2^-19 of an input's, 0.05" + AGAIN,
    ),
    "two types": (
        lambda: two("ADD", (1, 3), (1, 3), kinds=("INT8", "INT16")),
        "operator 0 (ADD): it mixes the types INT16 and INT8" + AGAIN,
    ),
    "shapes that do not broadcast": (
        lambda: two("MUL", (1, 4, 3), (1, 2, 3), shape=(1, 4, 3)),
        "operator 0 (MUL): its input of shape (1, 2, 3) does not broadcast to (1, 4, 3)" + AGAIN,
    ),
    "a result that is smaller": (
        lambda: two("MUL", (1, 4, 3), (1, 4, 3), shape=(1, 3)),
        "operator 0 (MUL): its input of shape (1, 4, 3) does not broadcast to (1, 3)" + AGAIN,
    ),
    "constants alone": (
        constants,
        "operator 0 (ADD): both its inputs are constants\n  fix: convert the model with constants folded",
    ),
    "a product beyond 32 bits": (
        lambda: two("MUL", (1, 3), (1, 3), scale=2.0**-30),
        "operator 0 (MUL): what it computes could reach 2^35.0, beyond TFLite-Micro's 32 bits"
        "\n  fix: convert the model again with more calibration data",
    ),
    "a strange activation": (
        lambda: two("ADD", (1, 3), (1, 3), fused_activation_function="SIGN_BIT"),
        "operator 0 (ADD): its fused activation SIGN_BIT is not one that TFLite-Micro computes on integers"
        "\n  fix: put the activation behind it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_operator_and_the_fix(case: str) -> None:
    file, text = REFUSED[case]
    assert_refused(file(), text)


@pytest.mark.usefixtures("wheel")
def test_tflite_micro_ends_where_an_output_scale_of_a_sum_is_too_small() -> None:
    file = REFUSED["a scale too small"][0]()
    (answer,) = ask_wheel([write(file)], [random_inputs(file, 4, 0)], [1])
    assert answer.words.startswith("died with -6")
