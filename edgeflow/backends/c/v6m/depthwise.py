"""Depthwise convolutions on Armv6-M: up to five neighbouring results of a channel at a time, each weight loaded once.

    static void NAME(const uint8_t *x, const v6m_product_t *p, uint8_t *y, uint32_t step);

x holds the rows of a window over all positions, `p->size` bytes each, one behind the other, padding included; the
windows of neighbouring results lie `step` bytes apart. `p->outputs` is the number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.backends.c.v6m import listing
from edgeflow.backends.c.v6m.listing import Lines
from edgeflow.backends.c.v6m.refine import Levels

MOST_POSITIONS = 5
MOST_TAPS = 32
"""As far as LDRB reaches."""
_X, _W, _C, _Y, _STEP, _CHANNELS, _LEFT, _ROW, _DELTA, _LAST = range(0, 40, 4)
_FRAME = 40
_OFFSETS = ("r3", "r4", "r5", "r6")
_SUMS = ("r8", "r9", "r10", "r11", "r12")


@dataclass(frozen=True)
class Depthwise:
    """One function: a window of `rows` by `columns` taps for so many positions; bytes of x with or without a sign."""

    rows: int
    columns: int
    positions: int
    signed: bool
    levels: Levels

    def __post_init__(self) -> None:
        if self.rows * self.columns > MOST_TAPS or not 1 <= self.positions <= MOST_POSITIONS:
            raise ValueError(f"no function has {self.rows}x{self.columns} taps, {self.positions} positions")


def positions_of(width: int) -> int:
    """How many results of a row to make at a time: as many as compute least twice, then as many as possible."""
    return min(range(min(width, MOST_POSITIONS), 0, -1), key=lambda count: -(-width // count) * (3 * count + 3))


def source(name: str, finisher: str, shape: Depthwise) -> str:
    """The C text of the function."""
    parameters = ["const uint8_t *x", "const v6m_product_t *p", "uint8_t *y", "uint32_t step"]
    assembly = [
        (
            "frame: x, w, constants, y, step, channels, channels left, to the next row, delta, the last sum",
            _enter(shape),
        ),
        ("a channel: its addend starts the sums", _start(shape)),
        ("a weight times a value of each window", _taps(shape)),
        ("results", _finish(shape)),
        ("the next channel", _next(shape)),
        ("levels outside", [line for place in range(shape.positions) for line in listing.outside(shape.levels, place)]),
        ("leave", ["9:", f"add sp, #{_FRAME}", *listing.RESTORE]),
    ]
    return listing.thumb(name, parameters, assembly, _twin(shape, finisher))


def _enter(shape: Depthwise) -> Lines:
    """From the last column of a row's window to the first of the next one it is a row less the columns between."""
    return [
        *listing.SAVE,
        f"sub sp, #{_FRAME}",
        "ldmia r1!, {r4-r7}",
        f"str r0, [sp, #{_X}]",
        f"str r4, [sp, #{_W}]",
        f"str r5, [sp, #{_C}]",
        f"str r2, [sp, #{_Y}]",
        f"str r3, [sp, #{_STEP}]",
        f"str r6, [sp, #{_CHANNELS}]",
        f"str r6, [sp, #{_LEFT}]",
        *["subs r7, r7, r6"] * (shape.columns - 1),
        f"str r7, [sp, #{_ROW}]",
    ]


def _start(shape: Depthwise) -> Lines:
    offsets = ["lsls r4, r3, #1", "adds r5, r3, r4", "lsls r6, r3, #2"][: max(shape.positions - 2, 0)]
    return [
        "1:",
        f"ldr r0, [sp, #{_C}]",
        "ldmia r0!, {r1}",
        f"str r0, [sp, #{_C}]",
        *(f"mov {register}, r1" for register in _SUMS[: shape.positions]),
        f"ldr r0, [sp, #{_CHANNELS}]",
        "mov lr, r0",
        f"ldr r2, [sp, #{_X}]",
        f"ldr r7, [sp, #{_W}]",
        f"ldr r3, [sp, #{_STEP}]",
        *offsets,
    ]


def _taps(shape: Depthwise) -> Lines:
    lines: Lines = []
    for tap in range(shape.rows * shape.columns):
        if tap:
            row = [f"ldr r1, [sp, #{_ROW}]", "adds r2, r2, r1"]
            lines += ["add r2, lr"] if tap % shape.columns else row
        lines += [f"ldrb r1, [r7, #{tap}]", "sxtb r1, r1"]
        for place in range(shape.positions):
            at = f"[r2, {_OFFSETS[place - 1]}]" if place else "[r2]"
            if shape.signed and not place:
                value = ["ldrb r0, [r2]", "sxtb r0, r0"]
            else:
                value = [f"{'ldrsb' if shape.signed else 'ldrb'} r0, {at}"]
            lines += [*value, "muls r0, r1, r0", f"add {_SUMS[place]}, r0"]
    return lines


def _finish(shape: Depthwise) -> Lines:
    split, positions = shape.levels.split is not None, shape.positions
    last = ["mov r0, r12", f"str r0, [sp, #{_LAST}]"] if positions == MOST_POSITIONS else []
    lines = [
        *last,
        f"ldr r7, [sp, #{_C}]",
        "ldmia r7!, {r0, r1, r4}",
        "mov r12, r0",
        "mov r0, lr",
        "mov lr, r1",
        *(["ldmia r7!, {r1}", f"str r1, [sp, #{_DELTA}]"] if split else []),
        f"str r7, [sp, #{_C}]",
        "movs r7, r0",
        "lsrs r3, r4, #16",
        "lsrs r5, r4, #8",
        f"ldr r6, [sp, #{_Y}]",
    ]
    for place in range(positions):
        value = f"ldr r0, [sp, #{_LAST}]" if place == MOST_POSITIONS - 1 else f"mov r0, {_SUMS[place]}"
        lines += [value, *listing.finish(shape.levels, place, f"[sp, #{_DELTA}]"), "strb r1, [r6]"]
        lines += ["adds r6, r6, r7"] if place < positions - 1 else []
    return lines


def _next(shape: Depthwise) -> Lines:
    return [
        f"ldr r0, [sp, #{_LEFT}]",
        "subs r0, r0, #1",
        "beq 9f",
        f"str r0, [sp, #{_LEFT}]",
        *(
            line
            for place, step in ((_X, 1), (_W, shape.rows * shape.columns), (_Y, 1))
            for line in (f"ldr r0, [sp, #{place}]", f"adds r0, #{step}", f"str r0, [sp, #{place}]")
        ),
        "b 1b",
    ]


def _twin(shape: Depthwise, finisher: str) -> Lines:
    value = "(uint32_t)(int8_t)x[at]" if shape.signed else "x[at]"
    return [
        "const int8_t *w = (const int8_t *)p->w;",
        "const uint32_t *c = p->c;",
        "for (uint32_t channel = 0; channel < p->outputs; channel++) {",
        f"    for (uint32_t position = 0; position < {shape.positions}u; position++) {{",
        "        uint32_t a = c[0];",
        f"        for (uint32_t tap = 0; tap < {shape.rows * shape.columns}u; tap++) {{",
        f"            const uint32_t at = tap / {shape.columns}u * p->size + tap % {shape.columns}u * p->outputs",
        "                + position * step + channel;",
        f"            a += {value} * (uint32_t)w[tap];",
        "        }",
        f"        y[position * p->outputs + channel] = {finisher}(a, c + 1);",
        "    }",
        f"    w += {shape.rows * shape.columns};",
        f"    c += {shape.levels.words};",
        "}",
    ]


def code_size(shape: Depthwise) -> int:
    """About the bytes of the function."""
    return 150 + shape.rows * shape.columns * (6 + 6 * shape.positions) + 44 * shape.positions
