"""AVERAGE_POOL_2D, MAX_POOL_2D and MEAN: their graphs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from edgeflow.errors import Unsupported
from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.ops.requant import Requant
from tests.frontends.tflite.make import Making, Value, assert_refused, imported, ops, write
from tests.frontends.tflite.wheel import ask_wheel, assert_equal, random_inputs


def pool(code: str, shape: Sequence[int], source: Sequence[int] = (1, 4, 5, 2), **options: Value) -> TfliteFile:
    """A pool of 2 x 2 in steps of 2."""
    settings: dict[str, Value] = {"padding": "SAME", "stride_h": 2, "stride_w": 2}
    settings |= {"filter_height": 2, "filter_width": 2}
    made = Making("pool")
    made.input(source, scale=0.1, zero=4)
    made.add(code, (0,), shape, settings=settings | options)
    return made.file()


def mean(
    axes: Sequence[int], shape: Sequence[int], source: Sequence[int] = (1, 4, 5, 3), scale: float = 0.1, **kind: Value
) -> TfliteFile:
    made = Making("mean")
    x = made.input(source, scale=0.1, zero=4)
    made.add("MEAN", (x, made.constant(np.array(axes), "INT32")), shape, scale, settings=kind)
    return made.file()


def test_an_average_divides_by_the_elements_that_are_no_padding() -> None:
    graph = imported(pool("AVERAGE_POOL_2D", (1, 2, 3, 2)))
    assert [type(node.op).__name__ for node in graph.nodes] == ["SumPool", "Requant"]
    op = graph.nodes[-1].op
    assert isinstance(op, Requant)
    shares = op.multiplier / 2.0 ** int(op.stages[0].shift[0])
    np.testing.assert_allclose(shares[0, :, 0], (1 / 4, 1 / 4, 1 / 2), rtol=1e-3)


def test_one_count_is_one_multiplier() -> None:
    op = imported(pool("AVERAGE_POOL_2D", (1, 2, 2, 2), padding="VALID")).nodes[-1].op
    assert isinstance(op, Requant)
    assert op.multiplier.shape == (1,)


def test_a_largest_is_clamped_by_its_activation_alone() -> None:
    assert ops(pool("MAX_POOL_2D", (1, 2, 3, 2))) == ["MaxPool"]
    graph = imported(pool("MAX_POOL_2D", (1, 2, 3, 2), fused_activation_function="RELU"))
    assert [node.name for node in graph.nodes] == ["max_pool_2d0_largest", "max_pool_2d0"]
    assert (graph.nodes[-1].type.lo, graph.nodes[-1].type.hi) == (4, 127)


def test_a_mean_sums_space_by_a_pool_and_channels_by_ones() -> None:
    assert ops(mean((1, 2), (1, 3))) == ["SumPool", "Requant", "Reshape"]
    assert ops(mean((1, 2), (1, 1, 1, 3), keep_dims=True)) == ["SumPool", "Requant"]
    assert ops(mean((-1,), (1, 4, 5))) == ["Dense", "Requant", "Reshape"]
    assert ops(mean((1, 2, 3), (1, 1, 1, 1), keep_dims=True)) == ["SumPool", "Dense", "Requant"]


def test_the_batch_does_not_count_in_a_mean() -> None:
    assert ops(mean((0, 2), (4, 3))) == ["SumPool", "Requant", "Reshape"]


@pytest.mark.usefixtures("wheel")
def test_a_mean_of_the_batch_too_gives_the_bytes_of_tflite_micro() -> None:
    assert_equal([mean((0, 2), (4, 3), scale=0.07), mean((0,), (4, 5, 3)), mean((0, 1, 2, 3), (1,))])


def rescaling(code: str, kind: str, apart: float, zero: int = 0) -> TfliteFile:
    """A pool whose output's scale and zero point differ from its input's."""
    made = Making("pool")
    made.input((1, 2, 2, 2), kind, scale=0.1, zero=0)
    settings: dict[str, Value] = {"padding": "VALID", "stride_h": 1, "stride_w": 1}
    settings |= {"filter_height": 2, "filter_width": 2}
    made.add(code, (0,), (1, 1, 1, 2), 0.1 + apart, zero, settings=settings)
    return made.file()


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("code", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_a_pool_takes_scales_a_millionth_apart_as_tflite_micro_does(code: str) -> None:
    assert_equal([rescaling(code, kind, 0.8e-6) for kind in ("INT8", "INT16")])
    files = [rescaling(code, "INT8", 0, 1), *(rescaling(code, kind, 1.2e-6) for kind in ("INT8", "INT16"))]
    answers = ask_wheel([write(file) for file in files], [random_inputs(file, 4, 0) for file in files], [1] * 3)
    assert [answer.words for answer in answers] == ["TFLM failed to allocate tensors"] * 3
    for file in files:
        with pytest.raises(Unsupported, match="TFLite-Micro's pools do not rescale"):
            imported(file)


REFUSED: Mapping[str, tuple[Callable[[], TfliteFile], str]] = {
    "no image": (
        lambda: pool("MAX_POOL_2D", (1, 2, 2), (1, 4, 5)),
        "operator 0 (MAX_POOL_2D): it reads a tensor of shape (1, 4, 5)"
        "\n  fix: give it one image: a batch of 1, height, width and channels",
    ),
    "another scale": (
        lambda: rescaling("MAX_POOL_2D", "INT8", 0.1, 3),
        "operator 0 (MAX_POOL_2D): it brings the scale 0.1 and zero point 0 to 0.2 and 3; TFLite-Micro's pools do not "
        "rescale\n  fix: convert the model again with a current converter",
    ),
    "a window that does not fit": (
        lambda: pool("AVERAGE_POOL_2D", (1, 1, 1, 2), padding="VALID", filter_height=5),
        "operator 0 (AVERAGE_POOL_2D): a window of 5 does not fit in 4",
    ),
    "an axis that there is not": (
        lambda: mean((4,), (1, 4, 5)),
        "operator 0 (MEAN): it reduces the axes [4] of 4\n  fix: the file is damaged",
    ),
    "a shape that does not follow": (
        lambda: mean((1,), (1, 4, 5)),
        "operator 0 (MEAN): shape (1, 5, 3) cannot become (4, 5)",
    ),
    "sums beyond 32 bits": (
        lambda: mean((1, 2), (1, 3), scale=2.0**-30),
        "operator 0 (MEAN): what it computes could reach 2^34.3, beyond TFLite-Micro's 32 bits"
        "\n  fix: convert the model again with more calibration data",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_operator_and_the_fix(case: str) -> None:
    file, text = REFUSED[case]
    assert_refused(file(), text)
