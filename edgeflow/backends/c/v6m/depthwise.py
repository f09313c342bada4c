"""Depthwise convolutions on Armv6-M: up to five neighbouring results of a channel at a time, each weight loaded once.

    static void NAME(const uint8_t *x, const v6m_product_t *p, uint8_t *y, uint32_t step);

x holds the rows of a window over all positions, `p->size` bytes each, one behind the other, padding included; the
windows of neighbouring results lie `step` bytes apart. `p->outputs` is the number of channels.

Where the results are a whole row, it gets pointers to the rows of the window instead, null outside of the image, and
leaves out the products with padding, which is 0: nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.backends.c.v6m import listing
from edgeflow.backends.c.v6m.listing import Lines
from edgeflow.backends.c.v6m.refine import Levels

MOST_POSITIONS = 5
MOST_TAPS = 32
"""As far as LDRB reaches."""
_BRANCH, _OFFSET = 240, 124
_X, _W, _C, _Y, _STEP, _CHANNELS, _LEFT, _ROW, _DELTA, _LAST, _COMMON = range(0, 44, 4)
_FRAME = 44
_OFFSETS = ("r3", "r4", "r5", "r6")
_SUMS = ("r8", "r9", "r10", "r11", "r12")


@dataclass(frozen=True)
class Row:
    """A row of the input, of `width` positions, that windows `stride` apart read, the first from `before` positions
    ahead of it; the rows of a window are `dilation` pointers apart."""

    width: int
    stride: int
    before: int
    dilation: int

    def reads(self, place: int, column: int) -> bool:
        """Whether a column of the window of a result lies in the row."""
        return 0 <= place * self.stride + column - self.before < self.width


@dataclass(frozen=True)
class Depthwise:
    """One function: a window of `rows` by `columns` taps for so many positions; bytes of x with or without a sign.

    With a `row`, x are pointers to rows.
    """

    rows: int
    columns: int
    positions: int
    signed: bool
    levels: Levels
    row: Row | None = None

    def __post_init__(self) -> None:
        if self.rows * self.columns > MOST_TAPS or not 1 <= self.positions <= MOST_POSITIONS:
            raise ValueError(f"no function has {self.rows}x{self.columns} taps, {self.positions} positions")


def positions_of(width: int) -> int:
    """How many results of a row to make at a time: as many as compute least twice, then as many as possible."""
    return min(range(min(width, MOST_POSITIONS), 0, -1), key=lambda count: -(-width // count) * (3 * count + 3))


def takes_rows(shape: Depthwise) -> bool:
    """Whether branches around a row's products, and loads of its pointer, reach as far as they must."""
    if shape.row is None:
        return False
    most_bytes = shape.columns * (8 + 6 * shape.positions)
    return most_bytes <= _BRANCH and 4 * shape.row.dilation * (shape.rows - 1) <= _OFFSET


def source(name: str, finisher: str, shape: Depthwise) -> str:
    """The C text of the function."""
    kind = "const uint8_t *x"
    if shape.row is not None:
        kind = f"const {'int8_t' if shape.signed else 'uint8_t'} *const *x"
    parameters = [kind, "const v6m_product_t *p", "uint8_t *y", "uint32_t step"]
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
    """From the last column of a row's window to the first of the next one it is a row less the columns between.

    Where rows lie apart, `_ROW` is how far into each the window of a channel starts.
    """
    row = shape.row
    far = ["subs r7, r7, r6"] * (shape.columns - 1 if row is None else row.before)
    return [
        *listing.SAVE,
        f"sub sp, #{_FRAME}",
        "ldmia r1!, {r4-r7}",
        f"str r0, [sp, #{_X}]",
        f"str r4, [sp, #{_W}]",
        *listing.start_constants(shape.levels, "r5", _C, _COMMON),
        f"str r2, [sp, #{_Y}]",
        f"str r3, [sp, #{_STEP}]",
        f"str r6, [sp, #{_CHANNELS}]",
        f"str r6, [sp, #{_LEFT}]",
        *([] if row is None else ["movs r7, #0"]),
        *far,
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
        *([f"ldr r2, [sp, #{_X}]"] if shape.row is None else []),
        f"ldr r7, [sp, #{_W}]",
        f"ldr r3, [sp, #{_STEP}]",
        *offsets,
    ]


def _taps(shape: Depthwise) -> Lines:
    lines: Lines = []
    for tap in range(shape.rows * shape.columns):
        ky, kx = divmod(tap, shape.columns)
        lines += ["add r2, lr"] if kx else _row(shape, ky)
        lines += [f"ldrb r1, [r7, #{tap}]", "sxtb r1, r1"]
        for place in range(shape.positions):
            if shape.row is not None and not shape.row.reads(place, kx):
                continue
            at = f"[r2, {_OFFSETS[place - 1]}]" if place else "[r2]"
            if shape.signed and not place:
                value = ["ldrb r0, [r2]", "sxtb r0, r0"]
            else:
                value = [f"{'ldrsb' if shape.signed else 'ldrb'} r0, {at}"]
            lines += [*value, "muls r0, r1, r0", f"add {_SUMS[place]}, r0"]
        lines += [f"7{ky}:"] if shape.row is not None and kx == shape.columns - 1 else []
    return lines


def _row(shape: Depthwise, ky: int) -> Lines:
    """r2 = where the window's row starts; a row outside of the image has no products."""
    if shape.row is None:
        return [f"ldr r1, [sp, #{_ROW}]", "adds r2, r2, r1"] if ky else []
    pointer = [f"ldr r2, [sp, #{_X}]", f"ldr r2, [r2, #{4 * ky * shape.row.dilation}]"]
    return [*pointer, "cmp r2, #0", f"beq 7{ky}f", f"ldr r0, [sp, #{_ROW}]", "adds r2, r2, r0"]


def _finish(shape: Depthwise) -> Lines:
    split, positions = shape.levels.split is not None, shape.positions
    last = ["mov r0, r12", f"str r0, [sp, #{_LAST}]"] if positions == MOST_POSITIONS else []
    behind, passed = listing.load_behind(shape.levels, _C, _COMMON)
    lines = [
        *last,
        *behind,
        "ldmia r7!, {r0, r1, r4}",
        "mov r12, r0",
        "mov r0, lr",
        "mov lr, r1",
        *(["ldmia r7!, {r1}", f"str r1, [sp, #{_DELTA}]"] if split else []),
        *passed,
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
            for place, step in ((_X if shape.row is None else _ROW, 1), (_W, shape.rows * shape.columns), (_Y, 1))
            for line in (f"ldr r0, [sp, #{place}]", f"adds r0, #{step}", f"str r0, [sp, #{place}]")
        ),
        "b 1b",
    ]


def _twin(shape: Depthwise, finisher: str) -> Lines:
    columns = shape.columns
    if shape.row is None:
        value = "(uint32_t)(int8_t)x[at]" if shape.signed else "x[at]"
        products = [
            f"const uint32_t at = tap / {columns}u * p->size + tap % {columns}u * p->outputs",
            "    + position * step + channel;",
            f"a += {value} * (uint32_t)w[tap];",
        ]
    else:
        row = shape.row
        kind = "int8_t" if shape.signed else "uint8_t"
        products = [
            f"const {kind} *const row = x[tap / {columns}u * {row.dilation}u];",
            f"const uint32_t column = position * {row.stride}u + tap % {columns}u - {row.before}u;",
            f"if (row && column < {row.width}u) {{",
            f"    const uint32_t ahead = (tap % {columns}u - {row.before}u) * p->outputs;",
            "    a += (uint32_t)row[position * step + ahead + channel] * (uint32_t)w[tap];",
            "}",
        ]
    start, behind = listing.twin_constants(shape.levels)
    return [
        "const int8_t *w = (const int8_t *)p->w;",
        *start,
        "for (uint32_t channel = 0; channel < p->outputs; channel++) {",
        f"    for (uint32_t position = 0; position < {shape.positions}u; position++) {{",
        "        uint32_t a = c[0];",
        f"        for (uint32_t tap = 0; tap < {shape.rows * shape.columns}u; tap++) {{",
        *(f"            {line}" for line in products),
        "        }",
        f"        y[position * p->outputs + channel] = {finisher}(a, {behind});",
        "    }",
        f"    w += {shape.rows * shape.columns};",
        f"    c += {shape.levels.words};",
        "}",
    ]


def code_size(shape: Depthwise) -> int:
    """About the bytes of the function."""
    return 150 + shape.rows * shape.columns * (6 + 6 * shape.positions) + 44 * shape.positions
