"""The depthwise kernels of Armv7E-M: the bytes that NumPy gives, on this machine and under QEMU, and their cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow.backends.c.dsp.depthwise import Depthwise, channel_order, has_assembly, pack, scratch_words, source
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue, HighProduct, ShiftDown, ShiftHalfword, Sums, TwoStage
from edgeflow.backends.c.dsp.tile_weights import Constants
from edgeflow.ir.types import IntArray
from edgeflow.toolchain.gcc import compile_object
from edgeflow.toolchain.process import Limits, run
from tests.backends.c.dsp.bare import CORE, Call, Outcome, on_host, under_qemu
from tests.conftest import NeedTool

Runner: TypeAlias = Callable[[Sequence[str], Sequence[Call], Path], list[Outcome]]


@dataclass(frozen=True)
class Case:
    """A function, its packed words, the rows of a few calls and what they must give."""

    name: str
    shape: Depthwise
    epilogue: Epilogue
    words: npt.NDArray[np.uint32]
    inputs: IntArray
    expected: IntArray


def sums(shape: Depthwise, rows: IntArray, weight: IntArray) -> IntArray:
    """(rows, columns, channels) -> (output rows, outputs, channels), from the definition."""
    widths = ((0, 0), (shape.before, shape.after), (0, 0))
    padded = np.pad(rows[:, : shape.inside], widths, constant_values=shape.pad)
    total = np.zeros((shape.rows, shape.outputs, shape.channels), np.int64)
    for i in range(shape.kernel[0]):
        for j in range(shape.kernel[1]):
            taps = padded[i :: shape.stride[0], j :: shape.stride[1]][: shape.rows, : shape.outputs]
            total += taps * weight[i, j]
    return total


def requantize(epilogue: Epilogue, total: IntArray, constants: list[Constants]) -> IntArray:
    """The epilogue's meaning, from the definition, on Python-sized integers; addends go to the sums first."""
    v = total + np.array([one.addend for one in constants])
    words = np.array([one.words for one in constants], np.int64).reshape(len(constants), -1).T
    match epilogue:
        case HighProduct():
            v = (v * words[0]) >> 32 >> epilogue.shift
        case TwoStage():
            multiplier = (words[0] % 2**32) >> 1
            v = (v * multiplier + 2**30) >> 31
            v = (v + (v >> 31) + words[1]) >> (epilogue.shift if epilogue.shift is not None else words[2])
        case ShiftDown() | ShiftHalfword():
            floor, rest = v >> epilogue.shift, v % 2**epilogue.shift
            tie = isinstance(epilogue, ShiftHalfword) or (epilogue.half_even and epilogue.shift > 0)
            v = floor - ((rest == 0) & (floor % 2 == 1)) if tie else floor
        case _:
            return v
    half = 1 << (epilogue.bits - 1)
    return np.clip(v, -half, half - 1) if epilogue.signed else np.clip(v, 0, 2 * half - 1)


def constants_of(epilogue: Epilogue, weight: IntArray, random: np.random.Generator) -> list[Constants]:
    """Constants that spread the sums of random inputs over the results."""
    made: list[Constants] = []
    for channel in range(weight.shape[-1]):
        reach = max(1, int(np.abs(weight[..., channel]).sum())) * 255
        addend = int(random.integers(-reach // 4, reach // 4 + 1))
        if isinstance(epilogue, ShiftHalfword):
            addend -= addend % LIFT
        match epilogue:
            case HighProduct():
                factor = min(2**31 - 1, (300 << (32 + epilogue.shift)) // reach)
                words: tuple[int, ...] = (factor,)
            case TwoStage():
                multiplier = int(random.integers(2**30, 2**31))
                shift = epilogue.shift or int(random.integers(1, 12))
                offset = (1 << shift >> 1) + (int(random.integers(-128, 128)) << shift)
                words = (2 * multiplier, offset) if epilogue.shift else (2 * multiplier, offset, shift)
            case _:
                words = ()
        made.append(Constants(addend, words))
    return made


def make(name: str, shape: Depthwise, epilogue: Epilogue, seed: int) -> Case:
    """Random and extreme rows through one function."""
    random = np.random.default_rng(seed)
    weight = random.integers(-128, 128, (*shape.kernel, shape.channels))
    weight[..., 0] = 127
    weight[..., -1] = -128
    if isinstance(epilogue, ShiftHalfword):
        weight *= LIFT
    constants = constants_of(epilogue, weight, random)
    inputs = random.integers(0, 256, (5, shape.inputs, shape.columns, shape.channels))
    inputs[1] = 255
    inputs[2] = np.where(random.random(inputs[2].shape) < 0.5, 0, 255)
    inputs[3] = np.where(weight.sum((0, 1)) > 0, 255, 0)
    inputs[4, 0] = shape.pad
    expected = np.stack([requantize(epilogue, sums(shape, rows, weight), constants) for rows in inputs])
    return Case(name, shape, epilogue, pack(weight, shape.stride, constants, epilogue), inputs, expected)


def call_of(case: Case, call: int, times: int = 1) -> Call:
    """The function on one set of rows; y[0] comes out wrong if it writes behind its scratch."""
    shape, name = case.shape, case.name
    inputs = case.inputs[call].astype(np.uint8).tobytes()
    words = np.frombuffer(inputs + bytes(-len(inputs) % 4), np.uint32)
    scratch = scratch_words(shape, case.epilogue)
    size = shape.columns * shape.channels
    rows = ", ".join(f"(const uint8_t *)x + {i * size}" for i in range(shape.inputs))
    statements = [
        f"static uint32_t scratch[{scratch + 1}]; scratch[{scratch}] = 0xa5c35a3cu;",
        f"const uint8_t *const rows[] = {{{rows}}};",
        *([f"{name}(rows, w, scratch, (uint8_t *)y);"] * times),
        f"if (scratch[{scratch}] != 0xa5c35a3cu) {{ y[0] = ({case.epilogue.ctype})~y[0]; }}",
    ]
    arrays = {"x": words, "w": case.words}
    return Call(f"{name} {call}", arrays, statements, case.epilogue.ctype, case.expected[call].size)


def check(cases: list[Case], runner: Runner, folder: Path) -> None:
    """Runs every case on all its rows and compares every result."""
    functions = [source(case.name, case.shape, case.epilogue) for case in cases]
    calls = [(case, call) for case in cases for call in range(len(case.inputs))]
    outcomes = runner(functions, [call_of(*one) for one in calls], folder)
    for (case, call), outcome in zip(calls, outcomes, strict=True):
        expected = case.expected[call].reshape(-1)
        expected = expected & 0xFF if case.epilogue.size == 1 else expected
        np.testing.assert_array_equal(outcome.y[:-1], expected, f"{case.name} call {call} {case.shape} {case.epilogue}")
        assert outcome.y[-1] in (0xA5, 0xA5A5A5A5 - 2**32), f"{case.name} wrote behind y"


def instructions(cases: list[Case], folder: Path) -> list[float]:
    """Instructions an output: what a second call adds."""
    functions = [source(case.name, case.shape, case.epilogue) for case in cases]
    calls = [call_of(case, 0, times) for case in cases for times in (1, 2)]
    counts = [one.instructions for one in under_qemu(functions, calls, folder)]
    pairs = zip(counts[::2], counts[1::2], cases, strict=True)
    return [(twice - once) / case.expected[0].size for once, twice, case in pairs]


LIFT = 256
"""Of weights whose results are a ShiftHalfword's: so that ties are many."""

KWS = Depthwise(2, (3, 3), (1, 1), 5, 64, 5, 1)

SHAPES = {
    "kws": KWS,
    "kws_one": Depthwise(1, (3, 3), (1, 1), 5, 64, 5, 1),
    "padded": Depthwise(2, (3, 3), (1, 1), 5, 8, 5, 1, pad=131),
    "halved": Depthwise(2, (3, 3), (2, 2), 6, 8, 3, 0),
    "halved_odd": Depthwise(2, (3, 3), (2, 2), 5, 8, 3, 1, pad=3),
    "halved_one": Depthwise(1, (3, 3), (2, 2), 5, 12, 3, 1),
    "valid": Depthwise(2, (3, 3), (1, 1), 6, 4, 4, 0),
    "tail": Depthwise(2, (3, 3), (1, 1), 4, 7, 4, 1),
    "single": Depthwise(2, (3, 1), (1, 1), 1, 9, 1, 0),
    "narrow": Depthwise(2, (3, 3), (1, 1), 1, 8, 1, 1),
    "wide": Depthwise(2, (3, 3), (1, 1), 24, 16, 24, 1),
    "wide_halved": Depthwise(2, (3, 3), (2, 2), 24, 16, 12, 0, pad=7),
    "wide_odd": Depthwise(2, (3, 3), (1, 1), 25, 4, 25, 1),
    "wide_halved_odd": Depthwise(2, (3, 3), (2, 2), 17, 4, 9, 1),
    "wide_one": Depthwise(1, (3, 3), (1, 1), 49, 4, 49, 1),
    "large": Depthwise(2, (5, 5), (1, 1), 7, 8, 7, 2, pad=128),
    "large_halved": Depthwise(1, (5, 5), (2, 2), 13, 6, 7, 2),
    "row": Depthwise(2, (1, 7), (1, 1), 11, 260, 11, 3),
    "row_one": Depthwise(1, (1, 3), (1, 1), 8, 5, 8, 1),
    "column": Depthwise(2, (5, 1), (1, 1), 3, 8, 3, 0),
    "point": Depthwise(2, (1, 1), (1, 1), 3, 8, 3, 0),
    "even": Depthwise(2, (2, 2), (1, 1), 5, 8, 5, 0),
    "four": Depthwise(2, (4, 4), (1, 1), 20, 8, 20, 1, pad=9),
    "few": Depthwise(2, (3, 3), (1, 1), 5, 3, 5, 1, pad=5),
    "far": Depthwise(2, (7, 7), (1, 1), 9, 4, 9, 3),
}

EPILOGUES: tuple[Epilogue, ...] = (
    HighProduct(3),
    HighProduct(0, signed=True),
    TwoStage(5),
    TwoStage(None, signed=False),
    ShiftDown(9),
    ShiftDown(9, signed=True, half_even=True),
    ShiftHalfword(),
    ShiftHalfword(signed=True, bits=6),
    Sums(),
)


EXACT = [make(name, shape, EPILOGUES[0], i) for i, (name, shape) in enumerate(SHAPES.items())] + [
    make(f"{name}_{i}", SHAPES[name], epilogue, 100 + i)
    for name in ("padded", "halved_odd", "tail", "wide", "wide_halved_odd", "wide_odd", "large", "row", "row_one")
    for i, epilogue in enumerate(EPILOGUES[1:])
]
"""Every shape with the usual epilogue, some with all others."""

BUDGETS = {
    "kws": (12.4, 1160),
    "kws_one": (14.9, 740),
    "wide": (14.4, 480),
    "wide_halved": (22.1, 550),
    "halved": (18.7, 1100),
    "large": (33.6, 660),
}
"""Instructions an output and bytes of code, at most."""


def random_case(number: int, random: np.random.Generator) -> Case:
    """A shape that some network could have."""
    kernel = (int(random.integers(1, 6)), int(random.integers(1, 6)))
    stride = (int(random.integers(1, 3)), int(random.integers(1, 3)))
    columns, channels = int(random.integers(1, 18)), int(random.integers(1, 20))
    before = int(random.integers(0, kernel[1]))
    most = (columns - 1 + before) // stride[1] + 1
    outputs = int(random.integers(1, most + 1))
    pad = int(random.choice([0, 128, 255]))
    shape = Depthwise(int(random.integers(1, 3)), kernel, stride, columns, channels, outputs, before, pad)
    return make(f"random_{number}", shape, EPILOGUES[number % len(EPILOGUES)], number)


def test_the_twin_is_exact(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("gcc")
    check(EXACT, on_host, tmp_path)


def test_the_assembly_is_exact_under_interrupts_and_keeps_registers(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    assert {has_assembly(one.shape, one.epilogue) for one in EXACT} == {True, False}
    check(EXACT, under_qemu, tmp_path)


@pytest.mark.parametrize(("seed", "count"), [(1, 24), pytest.param(2, 300, marks=pytest.mark.slow)])
def test_random_shapes_are_exact(seed: int, count: int, tmp_path: Path, need_tool: NeedTool) -> None:
    for name in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_tool(name)
    random = np.random.default_rng(seed)
    made = [random_case(number, random) for number in range(count)]
    check(made, on_host, tmp_path)
    check(made, under_qemu, tmp_path)


def test_instructions_stay_in_their_budget(tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    need_tool("qemu-system-arm")
    chosen = [one for one in EXACT if one.name in BUDGETS]
    measured = dict(zip([one.name for one in chosen], instructions(chosen, tmp_path), strict=True))
    assert {name: count for name, count in measured.items() if count > BUDGETS[name][0]} == {}


@pytest.mark.parametrize("name", BUDGETS)
def test_code_stays_in_its_budget(name: str, tmp_path: Path, need_tool: NeedTool) -> None:
    need_tool("arm-none-eabi-gcc")
    text = source("dw", SHAPES[name], EPILOGUES[0]).replace("static void dw_quads(", "void dw_quads(")
    path = tmp_path / "dw.c"
    path.write_text(f"#include <stdint.h>\n{text}")
    compile_object(path, tmp_path, tmp_path / "dw.o", (*CORE, "-O2"))
    sizes = run([need_tool("arm-none-eabi-nm"), "-S", "--radix=d", str(tmp_path / "dw.o")], Limits(seconds=30)).stdout
    assert [int(line.split()[1]) <= BUDGETS[name][1] for line in sizes.decode().splitlines() if " T " in line] == [True]


def test_one_row_and_two_rows_share_packed_weights() -> None:
    assert SHAPES["kws"].words == SHAPES["kws_one"].words == ((0, 1), (1, 2))
    assert SHAPES["halved"].words == SHAPES["halved_one"].words == ((0, 1), (2, None))
    assert SHAPES["large"].words == ((0, 1), (2, 3), (1, 2), (3, 4))


def test_nine_taps_are_six_multiplications() -> None:
    assert [len(SHAPES["kws"].products(row)) for row in (0, 1)] == [2, 2]
    assert [len(SHAPES["halved"].products(row)) for row in (0, 1)] == [2, 2]


def test_packed_weights_lie_in_halves_behind_their_constants() -> None:
    weight = np.array([1, -2, 3]).reshape(3, 1, 1)
    words = pack(weight, (1, 1), [Constants(-1, (7,))], HighProduct(0))
    assert words.tolist() == [0xFFFFFFFF, 7, 0xFFFE0001, 0x0003FFFE]


def test_the_last_channels_are_made_again_where_they_do_not_come_out_even() -> None:
    assert channel_order(8).tolist() == [*range(8)]
    assert channel_order(6).tolist() == [0, 1, 2, 3, 2, 3, 4, 5]
    assert channel_order(3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("weight", "words", "text"),
    [
        (1 << 15, (1,), "a depthwise weight has more than 16 bits"),
        (1, (), "1 channels need an addend and 1 constants each"),
    ],
)
def test_what_cannot_be_packed_is_refused(weight: int, words: tuple[int, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        pack(np.full((3, 3, 1), weight), (1, 1), [Constants(0, words)], HighProduct(0))


@pytest.mark.parametrize("wrong", [{"rows": 3}, {"before": 3}, {"outputs": 8}])
def test_a_window_outside_the_image_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not the rows of a depthwise convolution"):
        replace(KWS, **wrong)
