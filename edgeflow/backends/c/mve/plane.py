"""A plane over two tensors of bytes on MVE, four values in the lanes of a vector.

    static void NAME(const X *a, const X1 *b, Y *y, const int32_t *plane, int32_t values);

y = clamp((plane[0] + plane[1] * a + plane[2] * b) >> shift), rounded as `planes.Plane` says. y may lie over a or b.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.backends.c.ctypes import CType
from edgeflow.backends.c.mve.finish import Lines, assembly_block, vector

_LANES = 4


@dataclass(frozen=True)
class Lanes:
    """One function: the types of a, b and y, and what of a plane is the same for all layers that share it."""

    a: CType
    b: CType
    y: CType
    shift: int
    lo: int
    hi: int
    half_even: bool
    drop: int
    rest: int

    def __post_init__(self) -> None:
        if not 1 <= self.shift <= 31:
            raise ValueError(f"no vector is shifted by {self.shift}")

    def work(self, values: int) -> int:
        """Instructions of a call."""
        return 30 + -(-values // _LANES) * len(_loop(self))


def source(name: str, lanes: Lanes) -> str:
    """The C text of the function: assembly where the core has MVE, else its twin."""
    types = f"const {lanes.a.name} *a", f"const {lanes.b.name} *b", f"{lanes.y.name} *y"
    return vector(name, (*types, "const int32_t *plane", "int32_t values"), _assembly(lanes), _twin(lanes))


def _assembly(lanes: Lanes) -> Lines:
    ends = [one for q, end in (("q4", lanes.lo), ("q5", lanes.hi)) for one in (*_word("r12", end), f"vdup.32 {q}, r12")]
    parts = [*_word("r7", lanes.drop), *_word("r8", lanes.rest)] if lanes.drop else []
    lines = [
        "push {r4-r8, lr}",
        "vpush {d8-d11}",
        *ends,
        *parts,
        "ldm r3, {r4, r5, r6}",
        "vdup.32 q3, r4",
        "ldr r12, [sp, #56]",
        "dlstp.32 lr, r12",
        "1:",
        *_loop(lanes),
        "vpop {d8-d11}",
        "pop {r4-r8, pc}",
    ]
    return assembly_block("the loop's predicate covers the last values, loads and stores too", lines)


def _loop(lanes: Lanes) -> Lines:
    lines = [
        f"{_load(lanes.a)} q0, [r0], #{_LANES}",
        f"{_load(lanes.b)} q1, [r1], #{_LANES}",
        "vmov q2, q3",
        "vmla.s32 q2, q0, r5",
        "vmla.s32 q2, q1, r6",
    ]
    if lanes.drop:
        lines += ["vshr.s32 q0, q2, #31", "vmla.s32 q2, q0, r7", "vadd.i32 q2, q2, r8"]
    if lanes.half_even:
        lines += [f"vshr.s32 q0, q2, #{lanes.shift}", "vshl.i32 q0, q0, #31", "vshr.s32 q0, q0, #31"]
        lines += ["vadd.i32 q2, q2, q0"]
    clamp = [f"vshr.s32 q2, q2, #{lanes.shift}", "vmax.s32 q2, q2, q4", "vmin.s32 q2, q2, q5"]
    return [*lines, *clamp, f"vstrb.32 q2, [r2], #{_LANES}", "letp lr, 1b"]


def _load(kind: CType) -> str:
    return f"vldrb.{'u' if kind.name.startswith('u') else 's'}32"


def _word(register: str, value: int) -> Lines:
    """register = value, a signed word."""
    high = (value >> 16) & 0xFFFF
    return [f"movw {register}, #{value & 0xFFFF}", *([f"movt {register}, #{high}"] if high else [])]


def _twin(lanes: Lanes) -> Lines:
    dropped = f"v += (v >> 31) * {lanes.drop} + {lanes.rest};"
    return [
        "    for (int32_t i = 0; i < values; i++) {",
        "        int32_t v = plane[0] + plane[1] * a[i] + plane[2] * b[i];",
        *([f"        {dropped}"] if lanes.drop else []),
        *([f"        v -= (v >> {lanes.shift}) & 1;"] if lanes.half_even else []),
        f"        v >>= {lanes.shift};",
        f"        y[i] = ({lanes.y.name})(v < {lanes.lo} ? {lanes.lo} : v > {lanes.hi} ? {lanes.hi} : v);",
        "    }",
    ]
