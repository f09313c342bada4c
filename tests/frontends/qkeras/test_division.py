"""Average pools: the Requant that `divide` finds equals float32 division and rounding for every sum."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from edgeflow.errors import Unsupported
from edgeflow.frontends.qkeras.division import divide
from edgeflow.frontends.qkeras.quantizers import Steps
from edgeflow.ir.graph import Bounds
from edgeflow.ops.requant import Rounding


def bounds(lo: int, hi: int, rank: int = 3) -> Bounds:
    one = (1,) * rank
    return Bounds(np.full(one, lo, dtype=np.int64), np.full(one, hi, dtype=np.int64))


def relu(bits: int, frac: int) -> Steps:
    return Steps(frac, 0, (1 << bits) - 1, frac, straight_through=False)


def signed(bits: int, frac: int) -> Steps:
    return Steps(frac, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, frac, straight_through=True)


CASES = list(itertools.product((3, 5, 6, 7, 9, 12, 25, 49, 125), (-1, 0, 2, 5, 9), (0, 3, 6)))


@pytest.mark.parametrize(("count", "frac", "step"), CASES)
def test_equals_exact_arithmetic_for_every_sum(count: int, frac: int, step: int) -> None:
    lo, hi = -40 * count, 40 * count
    steps = Steps(step, -512, 511, step, straight_through=False)
    op = divide(np.array([count]), np.array(frac), bounds(lo, hi, 1), steps, "here")
    sums = np.arange(lo, hi + 1)
    given = op.evaluate((sums[:, None],), (bounds(lo, hi, 1),))[:, 0]
    exact = [min(max(round(Fraction(int(one), count) * Fraction(2) ** (step - frac)), -512), 511) for one in sums]
    assert given.tolist() == exact


def test_without_ties_one_cheap_stage_is_enough() -> None:
    op = divide(np.array([9]), np.array(3), bounds(0, 261), relu(6, 4), "here")
    assert (op.multiplier.tolist(), op.stages[0].shift.tolist()) == ([455], [11])
    assert [stage.rounding for stage in op.stages] == [Rounding.HALF_UP]


def test_ties_to_even_take_two_stages() -> None:
    op = divide(np.array([9]), np.array(4), bounds(0, 9 * 15), relu(4, 3), "here")
    assert [stage.rounding for stage in op.stages] == [Rounding.HALF_UP, Rounding.HALF_EVEN]
    sums = np.array([[9], [27], [45]])  # 0.5, 1.5, 2.5 steps
    assert op.evaluate((sums,), ()).tolist() == [[0], [2], [2]]


def test_a_count_each_position_gives_parameters_each_position() -> None:
    counts = np.array([[4, 6], [6, 9]])[..., None]
    op = divide(counts, np.array(2), bounds(-300, 300), signed(9, 2), "here")
    assert op.multiplier.shape == (2, 2, 1)
    sums = np.arange(-300, 301).reshape(-1, 1, 1, 1) * np.ones((1, 2, 2, 1), dtype=np.int64)
    given = op.evaluate((sums,), ())
    for row, column in itertools.product(range(2), range(2)):
        count = int(counts[row, column, 0])
        exact = [min(max(round(Fraction(one, count)), -256), 255) for one in range(-300, 301)]
        assert given[:, row, column, 0].tolist() == exact


def test_a_label_each_channel() -> None:
    op = divide(np.array([3]), np.array([2, 4]), bounds(-90, 90), signed(9, 2), "here")
    sums = np.arange(-90, 91)[:, None] * np.ones((1, 2), dtype=np.int64)
    given = op.evaluate((sums,), ())
    assert given[:, 0].tolist() == [round(Fraction(one, 3)) for one in range(-90, 91)]
    assert given[:, 1].tolist() == [round(Fraction(one, 12)) for one in range(-90, 91)]


def test_a_quantizer_that_float32_loses_is_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        divide(np.array([3]), np.array(0), bounds(0, 3000), signed(8, 22), "layer 'a'")
    assert str(caught.value) == (
        "layer 'a': QKeras' float32 cannot hold this quantizer's result exactly: averages lie far outside its range\n"
        "  fix: give it more integer bits, or use quantized_relu, which has no such limit"
    )


def test_sums_beyond_float32_are_refused() -> None:
    with pytest.raises(Unsupported, match="its sums exceed 24 bits, where QKeras' float32 rounds"):
        divide(np.array([3]), np.array(0), bounds(0, (1 << 24) + 1), relu(8, 0), "layer 'a'")
