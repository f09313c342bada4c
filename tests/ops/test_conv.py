from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds
from edgeflow.ir.types import IntArray, frozen_array
from edgeflow.ops.conv import Conv


def plain(op: Conv, x: IntArray) -> IntArray:
    """The docstring's formula, tap by tap, for x (*spatial, channels)."""
    shape = op.shape((x.shape,))
    result = np.empty(shape, dtype=np.int64)
    each, outputs = op.weight.shape[-2], op.weight.shape[-1] // op.groups
    for place in np.ndindex(shape):
        *at, m = place
        total = int(op.bias[m])
        for tap in product(*(range(length) for length in op.window)):
            source = [
                o * stride + t * step - before
                for o, stride, t, step, (before, _) in zip(at, op.strides, tap, op.dilation, op.pads, strict=True)
            ]
            inside = all(0 <= one < length for one, length in zip(source, x.shape[:-1], strict=True))
            for c in range(each):
                value = int(x[(*source, m // outputs * each + c)]) if inside else op.pad_value
                total += value * int(op.weight[(*tap, c, m)])
        result[place] = total
    return result


def test_by_hand() -> None:
    weight = frozen_array(np.array([[1, 2], [3, 4]]).reshape(2, 2, 1, 1))
    op = Conv(weight, frozen_array([5]), (1, 1), ((0, 0), (0, 0)), (1, 1))
    x = np.arange(9).reshape(1, 3, 3, 1)
    bounds = (Bounds(np.zeros((1, 1, 1), dtype=int), np.full((1, 1, 1), 8)),)
    assert op.evaluate((x,), bounds)[0, :, :, 0].tolist() == [[32, 42], [62, 72]]


def test_padding_counts_as_the_pad_value() -> None:
    op = Conv(frozen_array(np.ones((3, 1, 1), dtype=int)), frozen_array([0]), (1,), ((1, 1),), (1,), pad_value=-7)
    x = np.array([[[1], [2]]])
    bounds = (Bounds(np.array([[0]]), np.array([[9]])),)
    assert op.evaluate((x,), bounds)[0, :, 0].tolist() == [-4, -4]
    assert op.bounds(bounds, ((2, 1),)).lo.tolist() == [[-21]]


def test_bounds_are_tight_per_channel() -> None:
    op = Conv(frozen_array(np.array([[[2, -1]]])), frozen_array([1, 0]), (1,), ((0, 0),), (1,))
    bounds = op.bounds((Bounds(np.array([[-3]]), np.array([[5]])),), ((4, 1),))
    assert (bounds.lo.tolist(), bounds.hi.tolist()) == ([[-5, -5]], [[11, 3]])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Conv, tuple[int, ...]]:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    rank = draw(st.integers(1, 2))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    each, outputs = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    window = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    pads = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    spatial = tuple(
        max(1, step * (length - 1) + 1 - sum(pair) + draw(st.integers(0, 3)))
        for length, step, pair in zip(window, dilation, pads, strict=True)
    )
    op = Conv(
        weight=frozen_array(rng.integers(-8, 8, (*window, each, outputs))),
        bias=frozen_array(rng.integers(-50, 50, outputs)),
        strides=tuple(draw(st.integers(1, 2)) for _ in range(rank)),
        pads=pads,
        dilation=dilation,
        groups=groups,
        pad_value=draw(st.sampled_from((0, 0, -5, 9))),
    )
    return op, (*spatial, each * groups)


@settings(max_examples=60, deadline=None)
@given(case=convolutions(), seed=st.integers(0, 1 << 30))
def test_equals_the_formula_and_stays_within_its_bounds(
    sound: Callable[..., None], case: tuple[Conv, tuple[int, ...]], seed: int
) -> None:
    op, shape = case
    x = np.random.default_rng(seed).integers(-50, 51, shape)
    bounds = (Bounds(np.full((1,) * len(shape), -50), np.full((1,) * len(shape), 50)),)
    np.testing.assert_array_equal(op.evaluate((x[None],), bounds)[0], plain(op, x))
    sound(op, (shape,), seed)


@pytest.mark.parametrize("bits", [23, 24, 25, 52, 53, 54])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_sums_are_exact_on_both_sides_of_what_floats_hold(bits: int, groups: int) -> None:
    """The largest sums of 4 taps reach 2**bits, and are odd."""
    each = 4 // groups
    weight = np.full((1, 4, each, 8), (1 << bits) // (4 * each * 3) | 1)
    op = Conv(frozen_array(weight), frozen_array(np.arange(8)), (1, 1), ((0, 0), (0, 0)), (1, 1), groups)
    x = np.random.default_rng(bits).integers(2, 4, (3, 4, 4))
    bounds = (Bounds(np.full((1, 1, 1), 2), np.full((1, 1, 1), 3)),)
    np.testing.assert_array_equal(op.evaluate((x[None],), bounds)[0], plain(op, x))


def test_the_integer_path_serves_wide_sums() -> None:
    op = Conv(frozen_array(np.full((1, 1, 2), (1 << 30) + 1)), frozen_array([0, 1]), (1,), ((0, 0),), (1,))
    x = np.full((1, 1, 1), (1 << 30) + 1)
    bounds = (Bounds(np.array([[0]]), np.array([[(1 << 30) + 1]])),)
    assert op.evaluate((x,), bounds).tolist() == [[[((1 << 30) + 1) ** 2, ((1 << 30) + 1) ** 2 + 1]]]


@pytest.mark.parametrize(
    ("weight", "source", "groups", "text"),
    [
        ((3, 3, 1, 2), (4, 1), 1, "a kernel of shape (3, 3, 1, 2) cannot read a tensor of shape (4, 1)"),
        ((3, 3, 1, 2), (4, 4, 2), 1, "a kernel of shape (3, 3, 1, 2) in 1 groups cannot read 2 channels"),
        ((3, 3, 1, 3), (4, 4, 2), 2, "a kernel of shape (3, 3, 1, 3) in 2 groups cannot read 2 channels"),
        ((5, 3, 1, 2), (4, 4, 1), 1, "a window of 5 does not fit in 4"),
    ],
)
def test_refusals(weight: tuple[int, ...], source: tuple[int, ...], groups: int, text: str) -> None:
    op = Conv(
        frozen_array(np.ones(weight, dtype=int)),
        frozen_array(np.ones(weight[-1], dtype=int)),
        (1, 1),
        ((0, 0), (0, 0)),
        (1, 1),
        groups,
    )
    with pytest.raises(InvalidGraph) as caught:
        op.shape((source,))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"strides": (0, 1)}, "window, strides and dilation must be at least 1"),
        ({"dilation": (1, 0)}, "window, strides and dilation must be at least 1"),
        ({"pads": ((-1, 0), (0, 0))}, "padding must not be negative"),
        ({"strides": (1,)}, "window of rank 2 on 2 spatial axes"),
        ({"bias": frozen_array([1, 2])}, "bias of shape (2,) for 1 output channels"),
    ],
)
def test_malformed_parameters(change: dict[str, object], text: str) -> None:
    good: dict[str, object] = {
        "weight": frozen_array(np.ones((1, 1, 1, 1), dtype=int)),
        "bias": frozen_array([0]),
        "strides": (1, 1),
        "pads": ((0, 0), (0, 0)),
        "dilation": (1, 1),
    }
    with pytest.raises(InvalidGraph) as caught:
        Conv(**{**good, **change}).shape(((2, 2, 1),))  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == text
