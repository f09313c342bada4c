"""Depthwise weights of few bits: their layouts, and functions that give the bytes that NumPy gives from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.dsp.depthwise import Depthwise, has_assembly, pack
from edgeflow.backends.c.dsp.packed_depthwise import layouts
from edgeflow.backends.c.dsp.packed_taps import CARRIED, HALF, Taps, bits_of
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue, HighProduct, ShiftDown
from tests.backends.c.dsp.bare import on_host, under_qemu
from tests.backends.c.dsp.test_depthwise import SHAPES, Case, check, constants_of, instructions, make, requantize, sums
from tests.conftest import NeedTool

BITS = (2, 3, 4, 5, 6, 8)
NAMES = (
    "kws",
    "kws_one",
    "padded",
    "halved_odd",
    "tail",
    "single",
    "wide",
    "wide_halved",
    "row_one",
    "column",
    "even",
    "few",
    "large",
)
EPILOGUES: tuple[Epilogue, ...] = (HighProduct(3), ShiftDown(18), ShiftDown(17, signed=True, half_even=True))


def narrow(shape: Depthwise, bits: int) -> Depthwise:
    """The shape with a layout for so many bits, where addends carry taps every other time."""
    return replace(shape, taps=Taps(bits, shape.kernel[1], shape.words, shape.channels != 8))


def packed(name: str, shape: Depthwise, epilogue: Epilogue, seed: int) -> Case:
    """Random and extreme weights of the shape's bits through one function; addends carry what they must."""
    random = np.random.default_rng(seed)
    taps = shape.taps
    assert taps is not None
    half = 1 << (taps.bits - 1)
    weight = random.integers(-half, half, (*shape.kernel, shape.channels))
    weight[..., 0], weight[..., -1] = half - 1, -half
    lanes = weight * taps.scale
    constants = constants_of(epilogue, lanes, random)
    if taps.carried:
        codes = weight[taps.carried] & (2 * half - 1)
        constants = [
            replace(one, addend=one.addend - one.addend % (2 * half) + int(code))
            for one, code in zip(constants, codes, strict=True)
        ]
    inputs = random.integers(0, 256, (3, shape.inputs, shape.columns, shape.channels))
    inputs[1] = 255
    inputs[2] = np.where(random.random(inputs[2].shape) < 0.5, 0, 255)
    expected = np.stack([requantize(epilogue, sums(shape, rows, lanes), constants) for rows in inputs])
    return Case(name, shape, epilogue, pack(lanes, shape.stride, constants, epilogue, taps), inputs, expected)


CASES = [
    packed(f"{name}_{bits}", narrow(SHAPES[name], bits), EPILOGUES[(at + bits) % len(EPILOGUES)], 10 * at + bits)
    for at, name in enumerate(NAMES)
    for bits in BITS
]
MADE = [one for one in CASES if has_assembly(one.shape, one.epilogue)]


def test_functions_that_read_weights_again_for_every_column_have_no_assembly_for_packed_ones() -> None:
    plain = {one.name for one in CASES} - {one.name for one in MADE}
    assert plain == {f"{name}_{bits}" for name in ("few", "large") for bits in BITS}


def test_the_twin_is_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    check(CASES[::4], on_host, tmp_path)


def test_the_assembly_is_exact_under_interrupts_and_keeps_registers(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    check(MADE, under_qemu, tmp_path)


def test_unpacking_costs_little_beside_the_columns(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    shape = SHAPES["kws"]
    plain = make("plain", shape, EPILOGUES[0], 1)
    fewer = [packed(f"bits_{bits}", narrow(shape, bits), EPILOGUES[0], bits) for bits in (2, 4, 8)]
    whole, *others = instructions([plain, *fewer], tmp_path)
    assert [count < 1.13 * whole for count in others] == [True] * 3


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("kws", (1, 1, 1, 2, 3, 3)),
        ("halved", (1, 1, 1, 2, 3, 3)),
        ("large", (2, 3, 3, 5, 7, 7)),
        ("even", (1, 1, 1, 1, 1, 1)),
        ("row", (1, 1, 1, 2, 2, 2)),
    ],
)
def test_words_of_a_channel(name: str, stored: tuple[int, ...]) -> None:
    shape = SHAPES[name]
    assert tuple(Taps(bits, shape.kernel[1], shape.words).stored for bits in BITS) == stored


def test_the_ninth_tap_of_4_bits_rides_in_the_addend() -> None:
    taps = Taps(4, 3, SHAPES["kws"].words)
    assert taps.carried == (2, 2)
    assert [field.word for field in taps.fields.values()].count(CARRIED) == 1
    assert taps.instructions == 14
    assert Taps(3, 3, SHAPES["kws"].words).carried is None


def test_two_taps_come_out_of_a_word_at_once_and_one_is_taken_from_them() -> None:
    taps = Taps(8, 1, ((0, 1), (1, 2)))
    assert taps.unpack(["r8", "r9"], "r0", ["r2", "r3"]) == [
        "and r2, r8, #0xff00ff00",
        "lsl r3, r8, #24",
        "and r3, r3, #0xff00ff00",
        "pkhtb r3, r3, r2, asr #16",
    ]


@pytest.mark.parametrize(
    ("weights", "bits"), [((0,), 2), ((-1, 1), 2), ((-2, 1), 2), ((2,), 3), ((-8, 7), 4), ((-9,), 5), ((-128, 127), 8)]
)
def test_the_bits_of_weights(weights: tuple[int, ...], bits: int) -> None:
    assert bits_of(np.array(weights)) == bits


def test_two_layouts_where_an_addend_could_carry_a_tap_but_may_not() -> None:
    words = SHAPES["kws"].words
    found = layouts(np.full((3, 3, 4), 7), 4, words)
    assert found == (Taps(4, 3, words), Taps(4, 3, words, carries=False))
    assert [one.stored for one in found] == [1, 2]


def test_no_layout_where_nothing_is_saved_or_weights_are_wider() -> None:
    weight = np.full((3, 3, 4), 7)
    words = SHAPES["kws"].words
    assert layouts(weight, HALF, words) == ()
    assert layouts(weight, 3, words) == ()
    assert layouts(weight, 8, words) == (Taps(8, 3, words, carries=False),)
    assert layouts(np.ones((1, 1, 4), np.int64), 8, ((0, None),)) == ()
