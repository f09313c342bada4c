"""A depthwise convolution on MVE: columns of results, sixteen channels in the lanes.

    static void NAME(const int8_t *const *taps, const uint32_t *w, uint8_t *y, int32_t columns);

taps: for each place of the window its channels, for the first column; `step` bytes further for each next one. w: for
each sixteen channels the words that `pack` wrote. A product of two bytes has 16 bits, and so has the sum of two of
them, unless both weights are -128: two taps share the widening to 32 bits wherever |a| + |b| <= 255. The even lanes are
multiplied apart from the odd ones, twice over, so that four vectors of sums hold the channels in the order of `ORDER`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeflow.backends.c.mve.finish import Finish, Lines, add, assembly_block, vector
from edgeflow.backends.c.mve.forms import VectorForm
from edgeflow.ir.types import IntArray

LANES = 16
ORDER = (0, 2, 1, 3)
"""The vector of sums v, lane i holds channel 4 i + ORDER[v]."""
_HELD = 9
"""Taps whose pointers have registers of their own, r0 to r8."""
MOST_TAPS = 49
_SUMS = ("q4", "q5", "q6", "q7")
_PAIR = 255
_SAVED = 64
"""Where the frame has w, and 8 bytes behind it the columns that are left."""


@dataclass(frozen=True)
class Depthwise:
    """One function. `paired`: any two taps may be summed in 16 bits."""

    taps: int
    channels: int
    step: int
    finish: Finish
    paired: bool

    @property
    def held(self) -> bool:
        """Whether every tap has a register."""
        return self.taps <= _HELD

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The taps that are summed in 16 bits."""
        size = 2 if self.paired else 1
        return tuple(tuple(range(at, min(at + size, self.taps))) for at in range(0, self.taps, size))


def pairs_fit(weights: IntArray) -> bool:
    """Whether the products of taps 0 and 1, 2 and 3, ... have sums of 16 bits; weights (channels, taps)."""
    sizes = np.abs(weights[:, : weights.shape[1] // 2 * 2])
    return bool((sizes[:, ::2] + sizes[:, 1::2]).max(initial=0) <= _PAIR)


def pack(weights: IntArray, forms: Sequence[VectorForm], finish: Finish) -> npt.NDArray[np.uint32]:
    """The words that the function reads, for weights (channels, taps) of 8 bits.

    For each sixteen channels: their bytes of each tap; then, for each vector of sums, each constant of its four.
    """
    channels, taps = weights.shape
    blocks = -(-channels // LANES)
    filled = np.zeros((blocks * LANES, taps), np.int8)
    filled[:channels] = weights
    words = np.ascontiguousarray(filled.reshape(blocks, LANES, taps).transpose(0, 2, 1)).reshape(blocks, -1).view("<u4")
    constants = np.zeros((blocks * LANES, finish.constants), np.int64)
    constants[:channels] = [finish.words(one) for one in forms]
    lanes = constants.reshape(blocks, 4, 4, finish.constants)[:, :, ORDER].transpose(0, 2, 3, 1)
    heads = (lanes.reshape(blocks, -1) & 0xFFFFFFFF).astype("<u4")
    return np.concatenate([words, heads], axis=1).reshape(-1)


def source(name: str, shape: Depthwise, finish: str) -> str:
    """The C text of the function: assembly where the core has MVE, else its twin, which calls `finish`."""
    parameters = ("const int8_t *const *taps", "const uint32_t *w", "uint8_t *y", "int32_t columns")
    return vector(name, parameters, _assembly(shape), _twin(shape, finish))


def _assembly(shape: Depthwise) -> Lines:
    whole, rest = divmod(shape.channels, LANES)
    loop = [f"movw r12, #{whole}", "dls lr, r12", "2:", *_channels(shape, ""), "le lr, 2b"] if whole else []
    left = [f"movw r12, #{rest}", "vctp.8 r12", *_channels(shape, "t")] if rest else []
    return [
        *assembly_block("taps in r0 to r8, w in r9, y in r10, the offset in r11", _enter(shape)),
        *assembly_block("a column, sixteen channels: products, two taps at a time; requantize, store", ["1:", *loop]),
        *assembly_block("the channels that are left", left),
        *assembly_block("next column", [*_next(shape), "bne 1b", "vpop {d8-d15}", "pop {r1-r11, pc}"]),
    ]


def _enter(shape: Depthwise) -> Lines:
    offset = [f"movw r11, #{shape.finish.clamp.offset & 0xFFFF}"] if shape.finish.clamp.offset else []
    taps = ["mov r12, r0", f"ldm r12, {{r0-r{shape.taps - 1}}}"] if shape.taps > 1 else ["ldr r0, [r0]"]
    return [
        "push {r1-r11, lr}",
        "vpush {d8-d15}",
        *offset,
        "mov r9, r1",
        "mov r10, r2",
        *(taps if shape.held else ["movs r4, #0"]),
    ]


def _channels(shape: Depthwise, mask: str) -> Lines:
    """Sixteen channels; `mask` "t" loads and stores those that the predicate names."""
    return [*_sums(shape, mask), *_finish(shape, mask)]


def _next(shape: Depthwise) -> Lines:
    """Pointers to where the next column begins: vectors were read to their ends, results not written as far."""
    read = -(-shape.channels // LANES) * LANES
    moved = [f"r{tap}" for tap in range(shape.taps)] if shape.held else ["r4"]
    back = [f"sub r10, r10, #{read - shape.channels}"] if read > shape.channels else []
    ahead = [line for one in moved for line in add(one, one, shape.step - read, "r12")]
    left = f"[sp, #{_SAVED + 8}]"
    count = [f"ldr r12, {left}", "subs r12, r12, #1", f"str r12, {left}"]
    return [*ahead, *back, f"ldr r9, [sp, #{_SAVED}]", *count]


def _load(shape: Depthwise, tap: int, q: str, mask: str) -> Lines:
    """Sixteen channels of a tap."""
    predicate = ["vpst"] if mask else []
    if shape.held:
        return [*predicate, f"vldrb{mask}.u8 {q}, [r{tap}], #{LANES}"]
    return [f"ldr r1, [r0, #{4 * tap}]", "add r1, r1, r4", *predicate, f"vldrb{mask}.u8 {q}, [r1]"]


def _sums(shape: Depthwise, mask: str) -> Lines:
    lines: Lines = []
    weight = f"[r9], #{LANES}"
    for number, (first, *second) in enumerate(shape.groups):
        lines += [*_load(shape, first, "q0", mask), f"vldrw.u32 q1, {weight}"]
        lines += ["vmullb.s8 q2, q0, q1", "vmullt.s8 q0, q0, q1"]
        for tap in second:
            lines += [*_load(shape, tap, "q1", mask), f"vldrw.u32 q3, {weight}"]
            lines += ["vmullb.s8 q3, q1, q3", "vadd.i16 q2, q2, q3"]
            lines += [f"vldrw.u32 q3, [r9, #-{LANES}]", "vmullt.s8 q3, q1, q3", "vadd.i16 q0, q0, q3"]
        for at, one in enumerate(_SUMS):
            widen = f"vmovl{'bt'[at % 2]}.s16"
            products = ("q2", "q0")[at // 2]
            lines += (
                [f"{widen} q3, {products}", f"vadd.i32 {one}, {one}, q3"] if number else [f"{widen} {one}, {products}"]
            )
    return lines if shape.held else [*lines, f"adds r4, #{LANES}"]


def _finish(shape: Depthwise, mask: str) -> Lines:
    finish = shape.finish
    lines = [line for one in _SUMS for line in finish.wide([one], "r9")]
    for even, odd in (_SUMS[:2], _SUMS[2:]):
        lines += [f"vqmovnb.s32 {even}, {even}", f"vqmovnt.s32 {even}, {odd}", *finish.offset(even, "r11")]
    lines += [*finish.narrow("q0", _SUMS[0]), *finish.narrow("q0", _SUMS[2], "t")]
    if finish.bounded:
        lines += [*finish.ends("r12"), *finish.bound("q0")]
    predicate = ["vpst"] if mask else []
    return [*lines, *predicate, f"vstrb{mask}.8 q0, [r10], #{LANES}"]


def _twin(shape: Depthwise, finish: str) -> Lines:
    places = ", ".join(str(4 * ORDER.index(one) * shape.finish.constants) for one in range(4))
    return f"""\
    static const uint8_t place[] = {{{places}}}; /* where the constants of a channel lie, by its last two bits */
    for (int32_t column = 0; column < columns; column++) {{
        const uint32_t *at = w;
        for (int32_t first = 0; first < {shape.channels}; first += {LANES}) {{
            const int8_t *const weights = (const int8_t *)at;
            at += {LANES * shape.taps // 4};
            for (int32_t lane = 0; lane < {LANES} && first + lane < {shape.channels}; lane++) {{
                int32_t sum = 0;
                for (int32_t tap = 0; tap < {shape.taps}; tap++) {{
                    sum += taps[tap][{shape.step} * column + first + lane] * weights[{LANES} * tap + lane];
                }}
                *y++ = (uint8_t){finish}(sum, at + place[lane % 4] + lane / 4);
            }}
            at += {LANES * shape.finish.constants};
        }}
    }}""".splitlines()
