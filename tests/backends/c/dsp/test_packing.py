"""Weights as codes in words: every width comes out of its words again, and the narrowest is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow.backends.c.dsp.packing import Packing, packing_of
from edgeflow.ir.types import IntArray

PACKINGS = (
    Packing(1, 0),
    Packing(1, -1),
    Packing(1, -1, 2),
    *(Packing(bits, -(1 << (bits - 1))) for bits in range(2, 7)),
)


def unpacked(packing: Packing, words: IntArray, count: int) -> IntArray:
    """(codes, 4): the bytes that the C expression gives, evaluated as Python."""
    found: list[list[int]] = []
    for place in range(count):
        period, code = divmod(place, packing.period)
        text = packing.c(code, lambda word, first=period * packing.words: f"words[{first + word}]").replace("u)", ")")
        value = int(eval(text, {"words": [int(one) for one in words]}))
        found.append([value >> 8 * byte & 0xFF for byte in range(4)])
    return np.array(found)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PACKINGS), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_every_weight_comes_out_of_its_word_again(packing: Packing, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << packing.bits, (count, 4))
    words = packing.pack(packing.step * codes + packing.low)
    assert len(words) == packing.packed(count) <= -(-count // packing.period) * packing.words
    assert ((words >= 0) & (words < 1 << 32)).all()
    np.testing.assert_array_equal(unpacked(packing, words, count), packing.step * codes)


@pytest.mark.parametrize(
    ("bits", "period", "words", "instructions"),
    [(1, 8, 1, 2.875), (2, 4, 1, 2.75), (3, 8, 3, 3.375), (4, 2, 1, 2.5), (5, 8, 5, 3.875), (6, 4, 3, 3.75)],
)
def test_a_width_fills_whole_words(bits: int, period: int, words: int, instructions: float) -> None:
    packing = Packing(bits, -(1 << (bits - 1)), 2 if bits == 1 else 1)
    assert (packing.period, packing.words, packing.instructions) == (period, words, instructions)


def test_codes_of_4_bits_need_a_mask_or_a_shift_and_a_mask() -> None:
    packing = Packing(4, -8)
    lines = [
        packing.unpack(code, lambda word, register: ([f"vmov {register}, s{word}"], register), "r5", "r1")
        for code in (0, 1)
    ]
    assert lines == [
        ["vmov r5, s0", "and r5, r5, #0x0f0f0f0f"],
        ["vmov r5, s0", "lsr r5, r5, #4", "and r5, r5, #0x0f0f0f0f"],
    ]


def test_leftover_bits_of_two_words_make_a_code() -> None:
    packing = Packing(3, -4)
    assert packing.unpack(6, lambda word, register: ([], f"r{8 + word}"), "r5", "r1") == [
        "lsr r5, r8, #6",
        "and r5, r5, #0x03030303",
        "and r1, r9, #0x40404040",
        "orr r5, r5, r1, lsr #4",
    ]


@pytest.mark.parametrize(
    ("weights", "holes", "packing"),
    [
        ((-1, 1), False, Packing(1, -1, 2)),
        ((-1, 1), True, Packing(2, -2)),
        ((-1, 0, 1), False, Packing(2, -2)),
        ((-1, 0), False, Packing(1, -1)),
        ((0, 0), False, Packing(1, 0)),
        ((0, 3), False, Packing(2, 0)),
        ((-3, 3), False, Packing(3, -4)),
        ((-8, 7), False, Packing(4, -8)),
        ((-8, 8), False, Packing(5, -16)),
        ((-32, 31), True, Packing(6, -32)),
        ((-33, 0), False, None),
    ],
)
def test_the_narrowest_packing_is_found(weights: tuple[int, ...], holes: bool, packing: Packing | None) -> None:
    values = np.array(weights)
    assert packing_of(values, holes=holes) == packing
    assert packing is None or packing.holds(values, holes=holes)


@pytest.mark.parametrize(
    ("packing", "weights", "holes"),
    [
        (Packing(4, -8), (8,), False),
        (Packing(4, -8), (-9,), False),
        (Packing(1, -1, 2), (0,), False),
        (Packing(1, -1, 2), (1,), True),
    ],
)
def test_weights_without_a_code_are_not_held(packing: Packing, weights: tuple[int, ...], holes: bool) -> None:
    assert not packing.holds(np.array(weights), holes=holes)


@pytest.mark.parametrize(
    ("bits", "low", "step"), [(0, 0, 1), (7, -64, 1), (4, -7, 1), (4, 1, 1), (2, -1, 3), (6, -32, 4)]
)
def test_other_codes_are_refused(bits: int, low: int, step: int) -> None:
    with pytest.raises(ValueError, match="no weights are packed so"):
        Packing(bits, low, step)
