"""A matrix times one vector of bytes on Armv6-M: eight outputs at a time, each value of x loaded once for them.

The weights are stored with 128 added, so that LDRB reaches them from one pointer without an index; what that adds to
every sum, 128 times the sum of x, the caller gives as `excess`.

    static void NAME(const uint8_t *x, const v6m_product_t *p, uint8_t *y, uint32_t excess);
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeflow.backends.c.v6m import listing
from edgeflow.backends.c.v6m.listing import Lines
from edgeflow.backends.c.v6m.refine import Levels
from edgeflow.backends.c.v6m.tile import BLOCK
from edgeflow.ir.types import IntArray

EXCESS = 128
_CHUNKS = (4, 2, 1)
_X, _C, _Y, _EXCESS, _LEFT, _SIZE, _COUNT, _DELTA, _COMMON, _SUMS = range(0, 40, 4)
_FRAME = _SUMS + 4 * BLOCK


@dataclass(frozen=True)
class Vector:
    """One function, for bytes of x with or without a sign, with so many values written out in its loop."""

    levels: Levels
    signed: bool
    chunk: int


def chunk_of(values: int) -> int:
    """How many values to write out: a divisor of theirs, for nothing behind x may be read."""
    return next(chunk for chunk in _CHUNKS if values % chunk == 0)


def pack(weights: IntArray) -> IntArray:
    """The bytes of weights (outputs, values): blocks [k][8], a smaller first block filled up before it."""
    blocks = np.pad(weights + EXCESS, ((-len(weights) % BLOCK, 0), (0, 0)))
    return blocks.reshape(-1, BLOCK, weights.shape[1]).transpose(0, 2, 1).reshape(-1)


def source(name: str, finisher: str, vector: Vector) -> str:
    """The C text of the function."""
    parameters = ["const uint8_t *x", "const v6m_product_t *p", "uint8_t *y", "uint32_t excess"]
    assembly = [
        ("frame: x, constants, y, excess, outputs left, values, outputs of a block, delta, sums", _enter(vector)),
        ("a block: its sums in r4-r11", _start()),
        ("a value times eight weights", _loop(vector)),
        ("results", _finish(vector)),
        ("levels outside", listing.outside(vector.levels, 0)),
    ]
    return listing.thumb(name, parameters, assembly, _twin(vector, finisher))


def _enter(vector: Vector) -> Lines:
    return [
        *listing.SAVE,
        f"sub sp, #{_FRAME}",
        "ldmia r1!, {r4-r7}",
        f"str r0, [sp, #{_X}]",
        *listing.start_constants(vector.levels, "r5", _C, _COMMON),
        f"str r2, [sp, #{_Y}]",
        f"str r3, [sp, #{_EXCESS}]",
        f"str r6, [sp, #{_LEFT}]",
        "lsrs r7, r7, #3",
        f"str r7, [sp, #{_SIZE}]",
        "movs r3, r4",
        "subs r6, r6, #1",
        "lsls r6, r6, #29",
        "lsrs r6, r6, #29",
        "adds r6, r6, #1",
        f"str r6, [sp, #{_COUNT}]",
    ]


def _start() -> Lines:
    return [
        "1:",
        f"ldr r2, [sp, #{_X}]",
        f"ldr r0, [sp, #{_SIZE}]",
        "adds r0, r0, r2",
        "mov r12, r0",
        f"ldr r4, [sp, #{_EXCESS}]",
        "rsbs r4, r4, #0",
        *(f"mov r{register}, r4" for register in range(5, 12)),
    ]


def _loop(vector: Vector) -> Lines:
    body: Lines = []
    for k in range(vector.chunk):
        body += [f"ldrb r0, [r2, #{k}]", *(["sxtb r0, r0"] if vector.signed else [])]
        for output in range(BLOCK):
            total = f"adds r{4 + output}, r{4 + output}, r1" if output < 4 else f"add r{4 + output}, r1"
            body += [f"ldrb r1, [r3, #{BLOCK * k + output}]", "muls r1, r0, r1", total]
    step = [f"adds r3, #{BLOCK * vector.chunk}", f"adds r2, #{vector.chunk}"]
    return ["2:", *body, *step, "cmp r2, r12", "bne 2b"]


def _finish(vector: Vector) -> Lines:
    """The last sums of the block are the ones that count; r7 walks over them, r6 over y."""
    split = vector.levels.split is not None
    one = ["ldmia r5!, {r0, r1, r2, r4}"]
    passed = [f"str r5, [sp, #{_C}]"]
    if vector.levels.alike:
        one = ["ldmia r5!, {r0}", *passed, f"ldr r5, [sp, #{_COMMON}]", "ldmia r5!, {r1, r2, r4}"]
        passed = []
    return [
        "mov r0, r8",
        "mov r1, r9",
        f"str r4, [sp, #{_SUMS}]",
        f"str r5, [sp, #{_SUMS + 4}]",
        f"str r6, [sp, #{_SUMS + 8}]",
        f"str r7, [sp, #{_SUMS + 12}]",
        f"str r0, [sp, #{_SUMS + 16}]",
        f"str r1, [sp, #{_SUMS + 20}]",
        "mov r0, r10",
        "mov r1, r11",
        f"str r0, [sp, #{_SUMS + 24}]",
        f"str r1, [sp, #{_SUMS + 28}]",
        "mov r11, r3",
        f"ldr r0, [sp, #{_COUNT}]",
        "lsls r0, r0, #2",
        f"add r7, sp, #{_FRAME}",
        "subs r7, r7, r0",
        f"ldr r6, [sp, #{_Y}]",
        "3:",
        f"ldr r5, [sp, #{_C}]",
        *one,
        "mov r12, r1",
        "mov lr, r2",
        *(["ldmia r5!, {r1}", f"str r1, [sp, #{_DELTA}]"] if split else []),
        *passed,
        "lsrs r3, r4, #16",
        "lsrs r5, r4, #8",
        "ldmia r7!, {r1}",
        "adds r0, r0, r1",
        *listing.finish(vector.levels, 0, f"[sp, #{_DELTA}]"),
        "strb r1, [r6]",
        "adds r6, r6, #1",
        f"add r0, sp, #{_FRAME}",
        "cmp r7, r0",
        "bne 3b",
        f"str r6, [sp, #{_Y}]",
        "mov r3, r11",
        f"ldr r0, [sp, #{_LEFT}]",
        f"ldr r1, [sp, #{_COUNT}]",
        "subs r0, r0, r1",
        f"str r0, [sp, #{_LEFT}]",
        f"movs r1, #{BLOCK}",
        f"str r1, [sp, #{_COUNT}]",
        "cmp r0, #0",
        "bne 7f",
        f"add sp, #{_FRAME}",
        *listing.RESTORE,
        "7:",
        "b 1b",
    ]


def _twin(vector: Vector, finisher: str) -> Lines:
    value = "(uint32_t)(int8_t)x[k]" if vector.signed else "x[k]"
    start, behind = listing.twin_constants(vector.levels)
    return [
        f"const uint8_t *w = (const uint8_t *)p->w + (0u - p->outputs) % {BLOCK}u;",
        *start,
        "for (uint32_t left = p->outputs; left != 0;) {",
        "    uint32_t a = c[0] - excess;",
        f"    for (uint32_t k = 0; k < p->size / {BLOCK}u; k++) {{",
        f"        a += {value} * w[{BLOCK} * k];",
        "    }",
        f"    *y++ = {finisher}(a, {behind});",
        f"    c += {vector.levels.words};",
        "    w++;",
        "    left--;",
        f"    if (left % {BLOCK}u == 0) {{",
        f"        w += p->size - {BLOCK}u;",
        "    }",
        "}",
    ]


def code_size(vector: Vector) -> int:
    """About the bytes of the function."""
    return 240 + 50 * vector.chunk
