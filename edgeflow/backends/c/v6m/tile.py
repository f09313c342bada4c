"""The tile product on Armv6-M: two or four positions times all outputs.

A word of x holds the values of two positions, less a center: x0 + 65536 * x1. One multiplication by a weight makes
both products, and the sums of two, four or eight products still fit the halves: with 32768 in each half beside them,
UXTH and LSRS take them apart. x has two words for each value k, of which a tile of two positions uses the first. Eight
outputs' weights stand side by side, [k][8], so that the pointer that walks over x, 8 bytes a value, addresses the
weights as well.

    static void NAME(const uint32_t *x, const v6m_product_t *p, uint8_t *y, uint32_t distance);

writes y[distance * position + output]. Where the outputs are no multiple of 8, the first block has the rest, at its
end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.backends.c.v6m import listing
from edgeflow.backends.c.v6m.listing import Lines
from edgeflow.backends.c.v6m.refine import Levels
from edgeflow.ir.types import IntArray

BLOCK = 8
"""Outputs whose weights stand side by side."""
_TOGETHER = (8, 4, 2)
"""Products that may be summed in half a word."""
HALF = 1 << 15
_X, _W, _C, _Y, _DISTANCE, _LEFT, _SIZE, _END, _BIAS, _DELTA, _COMMON = range(0, 44, 4)
_FRAME = 44
PRODUCT = """/* Weights, constants of each output, outputs, and bytes of a block of 8 outputs' weights. */
typedef struct {
    const void *w;
    const uint32_t *c;
    uint32_t outputs;
    uint32_t size;
} v6m_product_t;
"""


@dataclass(frozen=True)
class Tile:
    """One function: 2 or 4 positions, with so many values of x written out in its loop, summed so many together."""

    positions: int
    levels: Levels
    chunk: int
    together: int

    def __post_init__(self) -> None:
        if self.positions not in (2, 4) or self.chunk % self.together:
            raise ValueError(f"no tile has {self.positions} positions {self.chunk} values, {self.together} together")


def center_of(lo: int, hi: int) -> int:
    """What is taken from x in [lo, hi] so that its products are small."""
    return (lo + hi + 1) >> 1


def shape_of(weights: IntArray, lo: int, hi: int) -> tuple[int, int] | None:
    """(chunk, together) at least cost for weights (outputs, values) and x in [lo, hi]; None where not even two fit."""
    values = weights.shape[1]
    shapes = [(chunk, together) for chunk in _TOGETHER for together in _TOGETHER if together <= chunk]
    shapes.sort(key=lambda one: -(-values // one[0]) * (6 * one[0] + 8 * (one[0] // one[1]) + 2))
    return next((one for one in shapes if _fits(weights, lo, hi, one[1])), None)


def _fits(weights: IntArray, lo: int, hi: int, together: int) -> bool:
    """Whether sums of so many products fit 16 bits, and weights 8."""
    if weights.min(initial=0) < -128 or weights.max(initial=0) > 127:
        return False
    center = center_of(lo, hi)
    ends = _padded(weights, together)[:, :, None] * np.array([lo - center, hi - center])
    sums = ends.reshape(len(weights), -1, together, 2)
    least, most = sums.min(axis=3).sum(axis=2), sums.max(axis=3).sum(axis=2)
    return bool(least.min(initial=0) >= -HALF and most.max(initial=0) < HALF)


def _padded(weights: IntArray, chunk: int) -> IntArray:
    return np.pad(weights, ((0, 0), (0, -weights.shape[1] % chunk)))


def pack(weights: IntArray, chunk: int) -> IntArray:
    """The bytes of weights (outputs, values): blocks [k][8], values padded to a multiple of `chunk`."""
    padded = _padded(weights, chunk)
    blocks = np.pad(padded, ((-len(weights) % BLOCK, 0), (0, 0)))
    return blocks.reshape(-1, BLOCK, padded.shape[1]).transpose(0, 2, 1).reshape(-1)


def addends(weights: IntArray, shape: tuple[int, int], center: int) -> IntArray:
    """What the sums of each output must have added for the center and for the halves' 32768."""
    chunk, together = shape
    halves = -(-weights.shape[1] // chunk) * chunk // together * HALF
    return weights.sum(axis=1) * center - halves


def source(name: str, finisher: str, tile: Tile) -> str:
    """The C text of the function."""
    parameters = ["const uint32_t *x", "const v6m_product_t *p", "uint8_t *y", "uint32_t distance"]
    assembly = [
        ("frame: x, w - x, constants, y, distance, outputs left, size of a block, end of x", _enter(tile)),
        ("an output: its addend starts the sums", _start(tile)),
        ("products of some values, then their halves", _loop(tile)),
        ("results", _finish(tile)),
        ("the next output's weights lie beside, or behind the block", _next()),
        ("levels outside", [line for place in range(tile.positions) for line in listing.outside(tile.levels, place)]),
        ("leave", ["9:", f"add sp, #{_FRAME}", *listing.RESTORE]),
    ]
    return listing.thumb(name, parameters, assembly, _twin(tile, finisher))


def _enter(tile: Tile) -> Lines:
    return [
        *listing.SAVE,
        f"sub sp, #{_FRAME}",
        "ldmia r1!, {r4-r7}",
        "rsbs r1, r6, #0",
        *_first_column(),
        f"str r0, [sp, #{_X}]",
        f"str r4, [sp, #{_W}]",
        *listing.start_constants(tile.levels, "r5", _C, _COMMON),
        f"str r2, [sp, #{_Y}]",
        f"str r3, [sp, #{_DISTANCE}]",
        f"str r6, [sp, #{_LEFT}]",
        f"str r7, [sp, #{_SIZE}]",
        "adds r0, r0, r7",
        f"str r0, [sp, #{_END}]",
        "movs r7, #128",
        "lsls r7, r7, #8",
        "lsls r0, r7, #16",
        "adds r7, r7, r0",
        f"str r7, [sp, #{_BIAS}]",
    ]


def _first_column() -> Lines:
    """r4 = w - x + the column of the first output, (8 - outputs) % 8."""
    return ["lsls r1, r1, #29", "lsrs r1, r1, #29", "adds r4, r4, r1", "subs r4, r4, r0"]


def _start(tile: Tile) -> Lines:
    return [
        "1:",
        f"ldr r0, [sp, #{_C}]",
        "ldmia r0!, {r1}",
        f"str r0, [sp, #{_C}]",
        *(f"mov {register}, r1" for register in _sums(tile)),
        f"ldr r5, [sp, #{_X}]",
        f"ldr r6, [sp, #{_W}]",
        f"ldr r7, [sp, #{_BIAS}]",
        f"ldr r0, [sp, #{_END}]",
        "mov r12, r0",
    ]


def _sums(tile: Tile) -> list[str]:
    return [f"r{8 + place}" for place in range(tile.positions)]


def _loop(tile: Tile) -> Lines:
    pairs = tile.positions // 2
    sums = _sums(tile)
    body: Lines = []
    for place in range(tile.together):
        body += ["ldrsb r2, [r6, r5]", "ldmia r5!, {r0, r1}"]
        body += [f"muls r{pair}, r2, r{pair}" for pair in range(pairs)]
        other = "r7" if place == 0 else None
        body += [f"adds r{3 + pair}, r{pair}, {other or f'r{3 + pair}'}" for pair in range(pairs)]
    for pair in range(pairs):
        low, high = sums[2 * pair : 2 * pair + 2]
        body += [f"uxth r{pair}, r{3 + pair}", f"add {low}, r{pair}"]
        body += [f"lsrs r{3 + pair}, r{3 + pair}, #16", f"add {high}, r{3 + pair}"]
    return ["2:", f".rept {tile.chunk // tile.together}", *body, ".endr", "cmp r5, r12", "bne 2b"]


def _finish(tile: Tile) -> Lines:
    split = tile.levels.split is not None
    behind, passed = listing.load_behind(tile.levels, _C, _COMMON)
    lines = [
        *behind,
        "ldmia r7!, {r0, r1, r4}",
        "mov r12, r0",
        "mov lr, r1",
        *(["ldmia r7!, {r0}", f"str r0, [sp, #{_DELTA}]"] if split else []),
        *passed,
        "lsrs r3, r4, #16",
        "lsrs r5, r4, #8",
        f"ldr r6, [sp, #{_Y}]",
        "adds r0, r6, #1",
        f"str r0, [sp, #{_Y}]",
        f"ldr r7, [sp, #{_DISTANCE}]",
    ]
    for place, register in enumerate(_sums(tile)):
        last = place == tile.positions - 1
        lines += [f"mov r0, {register}", *listing.finish(tile.levels, place, f"[sp, #{_DELTA}]"), "strb r1, [r6]"]
        lines += [] if last else ["adds r6, r6, r7"]
    return lines


def _next() -> Lines:
    return [
        f"ldr r1, [sp, #{_LEFT}]",
        "subs r1, r1, #1",
        "beq 9f",
        f"str r1, [sp, #{_LEFT}]",
        f"ldr r0, [sp, #{_W}]",
        "adds r0, r0, #1",
        "lsls r1, r1, #29",
        "bne 3f",
        f"ldr r1, [sp, #{_SIZE}]",
        "adds r0, r0, r1",
        f"subs r0, r0, #{BLOCK}",
        "3:",
        f"str r0, [sp, #{_W}]",
        "b 1b",
    ]


def _twin(tile: Tile, finisher: str) -> Lines:
    pairs, words = tile.positions // 2, tile.levels.words
    start, behind = listing.twin_constants(tile.levels)
    return [
        *start,
        f"const int8_t *w = (const int8_t *)p->w + (0u - p->outputs) % {BLOCK}u;",
        "for (uint32_t left = p->outputs; left != 0;) {",
        f"    for (uint32_t pair = 0; pair < {pairs}u; pair++) {{",
        "        uint32_t low = c[0];",
        "        uint32_t high = c[0];",
        f"        for (uint32_t k = 0; k < p->size / {BLOCK}u;) {{",
        "            uint32_t t = 0x80008000u;",
        f"            const uint32_t end = k + {tile.together}u;",
        "            for (; k < end; k++) {",
        f"                const uint32_t weight = (uint32_t)w[{BLOCK} * k];",
        "                t += x[2 * k + pair] * weight;",
        "            }",
        "            low += t & 0xffffu;",
        "            high += t >> 16;",
        "        }",
        f"        y[2 * pair * distance] = {finisher}(low, {behind});",
        f"        y[(2 * pair + 1) * distance] = {finisher}(high, {behind});",
        "    }",
        f"    c += {words};",
        "    y++;",
        "    w++;",
        "    left--;",
        f"    if (left % {BLOCK}u == 0) {{",
        f"        w += p->size - {BLOCK}u;",
        "    }",
        "}",
    ]


def code_size(tile: Tile) -> int:
    """About the bytes of the function."""
    pairs = tile.positions // 2
    return 150 + tile.chunk * (4 + 4 * pairs) + tile.chunk // tile.together * 8 * pairs + 44 * tile.positions
