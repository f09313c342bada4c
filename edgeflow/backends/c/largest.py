"""MaxPool of bytes on cores with SIMD: a word of channels at a time, or a vector (MVE).

    static void NAME(const X *const *x, X *y, uint32_t windows);

x[k] is where row k of the first window begins; `windows` (1 or more) lie side by side. A window beside the input is one
of fewer columns; a row above or below it counts as one of the others, which changes no maximum.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.dsp.depthwise_listing import REACH, Listing
from edgeflow.backends.c.kernel import Context, Kernel, RowForm, Shared
from edgeflow.backends.c.lower import Buffer, Step
from edgeflow.backends.c.mve.columns import Run, runs
from edgeflow.backends.c.windows import Geometry, geometry_of
from edgeflow.ir.graph import Node
from edgeflow.ops.maxpool import MaxPool

_MOST_ROWS = 6
"""Rows of a window for which there are registers."""
_ROWS = ("r3", "r4", "r5", "r6", "r7", "r8")
_WORD, _VECTOR = 4, 16
_WRITTEN_OUT = 4
"""Words of channels without a loop."""
_PART = 12
"""Instructions of a call, its pointers not counted."""


@dataclass(frozen=True)
class Window:
    """One function: windows of so many rows and columns, `step` bytes apart, `signed` bytes."""

    rows: int
    columns: int
    channels: int
    step: int
    signed: bool

    @property
    def ctype(self) -> str:
        """The type of a byte."""
        return "int8_t" if self.signed else "uint8_t"


@dataclass(frozen=True, kw_only=True)
class LargestKernel(Kernel):
    """The largest of each window. `parts`: the columns of a result row, and what makes them; `work` of a row."""

    geometry: Geometry
    parts: tuple[tuple[Run, str], ...]
    work: int


@dataclass(frozen=True)
class _Form:
    """How a kind of core does it: the least channels, the guard, the instructions, and how many a call executes."""

    least: int
    guard: str
    write: Callable[[Window, Listing], None]
    work: Callable[[Window, int], int]


def make_largest(
    step: Step, node: Node, name: str, context: Context, inputs: tuple[Buffer, ...], y: Buffer
) -> LargestKernel | None:
    """The kernel of a MaxPool of bytes where the core has SIMD instructions and registers enough; else None."""
    form = _VECTORS if context.core.has_mve else _WORDS if context.core.has_dsp else None
    geometry = geometry_of(cast(MaxPool, node.op), context.shapes[node.inputs[0]], node.type.shape)
    reach = (geometry.k_w - 1) * geometry.in_c
    if form is None or step.fused or inputs[0].ctype != y.ctype or y.ctype.size != 1:
        return None
    if geometry.k_h > _MOST_ROWS or geometry.in_c < form.least or reach > REACH:
        return None
    parts: list[tuple[Run, str]] = []
    shared: dict[str, Shared] = {}
    work = 0
    for run in runs(geometry):
        columns = sum(one is not None for one in run.taps)
        stride = geometry.stride_w * geometry.in_c
        window = Window(geometry.k_h, columns, geometry.in_c, stride, y.ctype.name == "int8_t")
        called = context.named("largest", (form.guard, window))
        shared[called] = _shared(called, window, form)
        parts.append((run, called))
        work += form.work(window, run.count) + _PART + 4 * geometry.k_h
    return LargestKernel(
        name=name,
        layer=node.layer,
        what=f"max pool {geometry.words}",
        template="Largest",
        inputs=inputs,
        y=y,
        by_rows=RowForm((geometry.rows,)),
        shared=tuple(shared.values()),
        geometry=geometry,
        parts=tuple(parts),
        work=work,
    )


def code_bytes(kernel: LargestKernel) -> int:
    """About the code of the layer's own function: the pointers of each part."""
    return 30 + len(kernel.parts) * (10 + 8 * kernel.geometry.k_h)


def _shared(name: str, window: Window, form: _Form) -> Shared:
    listing = Listing()
    form.write(window, listing)
    parameters = (f"const {window.ctype} *const *x", f"{window.ctype} *y", "uint32_t windows")
    text = function(form.guard, name, parameters, [listing.body()], _twin(window))
    return Shared(name, text, listing.code_bytes)


def _twin(window: Window) -> list[str]:
    place = f"window * {window.step} + column * {window.channels} + m"
    return [
        "    for (uint32_t window = 0; window < windows; window++) {",
        f"        for (uint32_t m = 0; m < {window.channels}; m++) {{",
        f"            {window.ctype} largest = x[0][window * {window.step} + m];",
        f"            for (uint32_t row = 0; row < {window.rows}; row++) {{",
        f"                for (uint32_t column = 0; column < {window.columns}; column++) {{",
        f"                    const {window.ctype} one = x[row][{place}];",
        "                    largest = one > largest ? one : largest;",
        "                }",
        "            }",
        "            *y++ = largest;",
        "        }",
        "    }",
    ]


def _taps(window: Window) -> list[tuple[str, int, bool]]:
    """Row pointer, distance and whether the pointer moves on, for each tap; a row's first column comes last."""
    pairs = itertools.product(_ROWS[: window.rows], reversed(range(window.columns)))
    return [(row, column * window.channels, column == 0) for row, column in pairs]


def _words(window: Window, listing: Listing) -> None:
    """Byte by byte USUB8 says which is larger, and SEL takes it; the last channels again where no word is left."""
    whole, rest = divmod(window.channels, _WORD)
    rows = _ROWS[: window.rows]
    listing.op("push {r4-r10, lr}", *(f"ldr {row}, [r0, #{_WORD * k}]" for k, row in enumerate(rows)), "1:")
    if whole > _WRITTEN_OUT:
        listing.constant("r0", whole)
        listing.op("2:", *_word(window), "subs r0, r0, #1", "bne 2b")
    else:
        listing.op(*_word(window) * whole)
    if rest:
        listing.op(*(f"sub {one}, {one}, #{_WORD - rest}" for one in (*rows, "r1")), *_word(window))
    for row in rows if window.step != window.channels else ():
        listing.add(row, window.step - window.channels, "r0")
    listing.op("subs r2, r2, #1", "bne 1b", "pop {r4-r10, pc}")


def _word(window: Window) -> list[str]:
    subtract = "ssub8" if window.signed else "usub8"
    lines: list[str] = []
    for number, (row, distance, moves) in enumerate(_taps(window)):
        to = "r10" if number else "r9"
        lines.append(f"ldr {to}, [{row}], #{_WORD}" if moves else f"ldr {to}, [{row}, #{distance}]")
        lines += [f"{subtract} r12, r9, r10", "sel r9, r9, r10"] if number else []
    return [*lines, f"str r9, [r1], #{_WORD}"]


def _words_work(window: Window, windows: int) -> int:
    whole, rest = divmod(window.channels, _WORD)
    word = 3 * window.rows * window.columns - 1
    loop = 1 + 2 * whole if whole > _WRITTEN_OUT else 0
    each = (whole + bool(rest)) * word + loop + bool(rest) * (window.rows + 1) + window.rows + 2
    return 8 + window.rows + windows * each


def _vectors(window: Window, listing: Listing) -> None:
    """The loop's predicate covers the last channels, loads and stores too."""
    kind = "s8" if window.signed else "u8"
    rows = _ROWS[: window.rows]
    moved = -(-window.channels // _VECTOR) * _VECTOR
    listing.op("push {r4-r8, lr}", *(f"ldr {row}, [r0, #{_WORD * k}]" for k, row in enumerate(rows)), "1:")
    listing.constant("r12", window.channels)
    listing.op("dlstp.8 lr, r12", "2:")
    for number, (row, distance, moves) in enumerate(_taps(window)):
        to = "q1" if number else "q0"
        far = [] if moves else [f"addw r12, {row}, #{distance}"]
        load = f"vldrb.u8 {to}, [{row}], #{_VECTOR}" if moves else f"vldrb.u8 {to}, [r12]"
        listing.op(*far, load, *([f"vmax.{kind} q0, q0, q1"] if number else []))
    listing.op(f"vstrb.8 q0, [r1], #{_VECTOR}", "letp lr, 2b")
    for row in rows if window.step != moved else ():
        listing.add(row, window.step - moved, "r12")
    if window.channels != moved:
        listing.add("r1", window.channels - moved, "r12")
    listing.op("subs r2, r2, #1", "bne 1b", "pop {r4-r8, pc}")


def _vectors_work(window: Window, windows: int) -> int:
    vectors = -(-window.channels // _VECTOR)
    each = vectors * (3 * window.rows * window.columns - window.rows + 1) + window.rows + 5
    return 8 + window.rows + windows * each


_WORDS = _Form(_WORD, "defined(__ARM_FEATURE_DSP)", _words, _words_work)
_VECTORS = _Form(1, "defined(__ARM_FEATURE_MVE)", _vectors, _vectors_work)
