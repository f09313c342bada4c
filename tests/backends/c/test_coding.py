"""Rows of values of few bits: where each lies in its word, and the C that packs and unpacks them."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeflow.backends.c.coding import Coder, Coding, coder, coding_of
from edgeflow.ir.types import IntArray
from tests.conftest import NeedTool

STRICT = ("-std=c99", "-O0", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-fsanitize=undefined,address")
ROWS = (3, 8, 12, 33, 70)
STARTS = (0, 240, -1)
CODINGS = tuple(Coding(bits, lo, row) for bits in (1, 2, 4) for lo in STARTS for row in ROWS)


@pytest.mark.parametrize(
    ("lo", "hi", "bits"),
    [(0, 0, 1), (0, 1, 1), (-1, 0, 1), (5, 6, 1), (-1, 1, 2), (0, 3, 2), (0, 4, 4), (-8, 7, 4), (0, 15, 4), (0, 16, 0)],
)
def test_the_narrowest_coding_holds_the_interval(lo: int, hi: int, bits: int) -> None:
    found = coding_of(lo, hi, 10)
    assert (found.bits if found else 0) == bits


@pytest.mark.parametrize(
    ("bits", "row", "words"), [(4, 8, 1), (4, 9, 2), (2, 16, 1), (2, 40, 3), (1, 31, 1), (1, 64, 2)]
)
def test_a_row_starts_with_a_word_of_its_own(bits: int, row: int, words: int) -> None:
    assert Coding(bits, 0, row).words == words


def reference(coding: Coding, values: IntArray) -> IntArray:
    """The words of a row, as the class describes them."""
    words = np.zeros(coding.words, dtype=np.int64)
    for number, value in enumerate(values):
        word, inside = divmod(number, coding.values)
        words[word] |= int(value - coding.lo) << (8 * (inside % 4) + coding.bits * (inside // 4))
    return words


MAIN = """
static int check(const uint8_t *got, const uint8_t *wanted, uint32_t size)
{
    return memcmp(got, wanted, size) != 0;
}

int main(void)
{
    int bad = 0;
    static uint32_t words[64], aligned[64], place[64];
    uint8_t *const bytes = (uint8_t *)aligned;
    uint8_t *const apart = (uint8_t *)place + 1;
%s
    return bad;
}
"""


def _case(number: int, coding: Coding, values: IntArray) -> str:
    """Both functions in both forms on one row: bytes behind it must stay, and a row may be unpacked where it lies."""
    wanted = ", ".join(str(int(one) & 0xFF) for one in values)
    packed = ", ".join(f"0x{int(one):08x}u" for one in reference(coding, values))
    behind = coding.row - 4 * coding.words
    lines = [
        f"    static const uint8_t v{number}[] = {{ {wanted} }};",
        f"    static const uint32_t p{number}[] = {{ {packed} }};",
        f"    memset(aligned, 0xa5, sizeof aligned), memcpy(bytes, v{number}, {coding.row});",
        f"    pack_aligned_{number}(aligned, words, {coding.full});",
        f"    bad |= check((uint8_t *)words, (const uint8_t *)p{number}, sizeof p{number});",
        f"    memset(words, 0, sizeof words), memcpy(apart, v{number}, {coding.row});",
        f"    pack_{number}(apart, words, {coding.full});",
        f"    bad |= check((uint8_t *)words, (const uint8_t *)p{number}, sizeof p{number});",
        f"    unpack_aligned_{number}(p{number}, aligned, {coding.full});",
        f"    bad |= check(bytes, v{number}, {coding.row});",
        f"    memset(place, 0xa5, sizeof place), unpack_{number}(p{number}, apart, {coding.full});",
        f"    bad |= check(apart, v{number}, {coding.row}) | (apart[{coding.row}] != 0xa5);",
    ]
    if coding.in_place and behind >= 0 and behind % 4 == 0:
        lines += [
            f"    memcpy(bytes + {behind}, p{number}, sizeof p{number});",
            f"    unpack_{number}(aligned + {behind // 4}, bytes, {coding.full});",
            f"    bad |= check(bytes, v{number}, {coding.row});",
        ]
    return "\n".join(lines)


def _named(number: int, coding: Coding) -> list[str]:
    forms = itertools.product((False, True), (False, True))
    made: list[tuple[Coder, str]] = []
    for packs, aligned in forms:
        one = coder(coding, packs=packs, aligned=aligned)
        made.append((one, f"{one.stem}{'_aligned' if aligned else ''}_{number}"))
    return [one.text(name) for one, name in made]


def test_c_packs_and_unpacks_every_coding(tmp_path: Path, need_tool: NeedTool) -> None:
    random = np.random.default_rng(1)
    functions: list[str] = []
    cases: list[str] = []
    for number, coding in enumerate(CODINGS):
        values = random.integers(coding.lo, coding.lo + (1 << coding.bits), coding.row)
        functions += _named(number, coding)
        cases.append(_case(number, coding, values))
    source = tmp_path / "coding.c"
    head = "#include <stdint.h>\n#include <string.h>\n"
    source.write_text(head + "\n".join(functions) + MAIN % "\n".join(cases))
    program = tmp_path / "coding"
    subprocess.run([need_tool("gcc"), *STRICT, source, "-o", program], check=True)
    assert subprocess.run([program], check=False).returncode == 0
