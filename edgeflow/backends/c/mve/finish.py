"""The code behind the sums of a layer: from 32-bit lanes to bytes, in MVE instructions and in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.mve.forms import LIFT, Clamp, Doubled, Lifted, Shifted, VectorForm
from edgeflow.ir.types import IntArray

Lines: TypeAlias = list[str]

_MOST_IMMEDIATE = 4095


@dataclass(frozen=True)
class Finish:
    """What all outputs of a layer share. `kind` is the form; `special` the flag of its rounding.

    `masked`: some shift is 0 where a half rounds away from zero. `signed`: the result is int8_t, else uint8_t.
    """

    kind: type[VectorForm]
    special: bool
    masked: bool
    clamp: Clamp
    signed: bool

    @property
    def constants(self) -> int:
        """Words of an output: addend, factor (where there is one), minus the shift."""
        return 2 if self.kind is Shifted else 3

    @property
    def bounded(self) -> bool:
        """Whether the clamp is narrower than what a byte of the result saturates to."""
        return (self.clamp.lo, self.clamp.hi) != ((-128, 127) if self.signed else (0, 255))

    def start(self, sums: IntArray) -> IntArray:
        """What of an addend stands for these sums."""
        return sums << LIFT if self.kind is Lifted else sums

    def words(self, form: VectorForm) -> tuple[int, ...]:
        """The constants of an output."""
        factor = () if isinstance(form, Shifted) else (form.factor,)
        return (form.addend, *factor, -form.shift)

    def wide(self, vectors: Sequence[str], stream: str) -> Lines:
        """Four outputs in the lanes of each vector, requantized with the constants that come next at `stream`.

        Spoils q2 and q3.
        """
        lines = [f"vshl.i32 {q}, {q}, #{LIFT}" for q in vectors if self.kind is Lifted]
        lines += [f"vldrw.u32 q2, [{stream}], #16", *(f"vadd.i32 {q}, {q}, q2" for q in vectors)]
        if self.kind is not Shifted:
            multiply = "vmulh.s32" if self.kind is Lifted else "vqrdmulh.s32"
            lines += [f"vldrw.u32 q2, [{stream}], #16", *(f"{multiply} {q}, {q}, q2" for q in vectors)]
        lines.append(f"vldrw.u32 q3, [{stream}], #16")
        for q in vectors if self.special else ():
            lines += self._special(q)
        shift = "vrshl" if self.kind is Doubled else "vshl"
        return [*lines, *(f"{shift}.s32 {q}, {q}, q3" for q in vectors)]

    def _special(self, q: str) -> Lines:
        """Takes 1 from what rounds another way than up; the shifts are in q3."""
        if self.kind is Shifted:
            return [f"vshl.s32 q2, {q}, q3", "vshl.i32 q2, q2, #31", "vshr.s32 q2, q2, #31", f"vadd.i32 {q}, {q}, q2"]
        sign = [f"vand q2, {q}, q3", "vshr.s32 q2, q2, #31"] if self.masked else [f"vshr.s32 q2, {q}, #31"]
        return [*sign, f"vadd.i32 {q}, {q}, q2"]

    def offset(self, q: str, register: str) -> Lines:
        """Adds the offset to 16-bit lanes."""
        return [f"vqadd.s16 {q}, {q}, {register}"] if self.clamp.offset else []

    def narrow(self, q: str, source: str, place: str = "b") -> Lines:
        """The bytes of 16-bit lanes, into the even (b) or the odd (t) bytes of q."""
        return [f"{'vqmovn' if self.signed else 'vqmovun'}{place}.s16 {q}, {source}"]

    def bound(self, q: str) -> Lines:
        """The clamp that saturation is too wide for, with its ends in q4 and q5."""
        kind = "s8" if self.signed else "u8"
        return [f"vmax.{kind} {q}, {q}, q4", f"vmin.{kind} {q}, {q}, q5"] if self.bounded else []

    def ends(self, register: str) -> Lines:
        """Fills q4 and q5 by way of a register."""
        if not self.bounded:
            return []
        pairs = (("q4", self.clamp.lo), ("q5", self.clamp.hi))
        return [one for q, end in pairs for one in (f"movw {register}, #{end & 255}", f"vdup.8 {q}, {register}")]

    def twin(self, name: str) -> str:
        """The C function of one output, for where there is no assembly: from a sum and the constants at c, 4 apart."""
        shift = f"(int32_t)-c[{4 * (self.constants - 1)}]"
        special = "v -= (v >> shift) & 1;" if self.kind is Shifted else "v -= v < 0 && shift != 0;"
        half = "v = (int32_t)(((int64_t)v + (((int64_t)1 << shift) >> 1)) >> shift);"
        lines = [
            f"const int32_t shift = {shift};",
            *_START[self.kind],
            *([special] if self.special else []),
            half if self.kind is Doubled else "v >>= shift;",
            *([f"v += {self.clamp.offset};"] if self.clamp.offset else []),
            f"return v < {self.clamp.lo} ? {self.clamp.lo} : v > {self.clamp.hi} ? {self.clamp.hi} : v;",
        ]
        body = "\n".join(f"    {line}" for line in lines)
        text = f"static inline int32_t {name}(int32_t sum, const uint32_t *c)\n{{\n{body}\n}}\n"
        return f"#if !defined(__ARM_FEATURE_MVE)\n{text}#endif\n"


_ADD = "int32_t v = (int32_t)((uint32_t)sum + c[0]);"
_START: dict[type[VectorForm], Lines] = {
    Shifted: [_ADD],
    Doubled: [_ADD, "v = (int32_t)(((int64_t)v * (int32_t)c[4] + (1 << 30)) >> 31);"],
    Lifted: [
        f"int32_t v = (int32_t)(((uint32_t)sum << {LIFT}) + c[0]);",
        "v = (int32_t)(((int64_t)v * (int32_t)c[4]) >> 32);",
    ],
}


def add(to: str, base: str, distance: int, spoilt: str) -> Lines:
    """The instructions of to = base + distance; a large one goes by way of the register `spoilt`."""
    verb, size = ("add", distance) if distance >= 0 else ("sub", -distance)
    if size <= _MOST_IMMEDIATE:
        return [f"{verb}w {to}, {base}, #{size}"] if size or to != base else []
    high = [f"movt {spoilt}, #{size >> 16}"] if size >> 16 else []
    return [f"movw {spoilt}, #{size & 0xFFFF}", *high, f"{verb} {to}, {base}, {spoilt}"]


def assembly_block(comment: str, lines: Lines) -> Lines:
    """Instructions as the strings of a C __asm__ statement."""
    return [f"        /* {comment} */", *(f'        "{line}\\n"' for line in lines)]


def vector(name: str, parameters: Sequence[str], assembly: Lines, twin: Lines) -> str:
    """The C text of a function: assembly where the core has MVE, else its twin."""
    return function("defined(__ARM_FEATURE_MVE)", name, parameters, ["    __asm__(", *assembly, "    );"], twin)


def code_bytes(text: str) -> int:
    """About the bytes of a function's assembly: nearly all instructions have four."""
    return 4 * text.count('\\n"\n')


def finish_of(forms: Sequence[VectorForm], signed: bool) -> Finish:
    """The code of a layer's forms, which are of one kind.

    A clamp may reach beyond the bytes of the result, where no value does: what it compares with is a byte too.
    """
    first = forms[0]
    lo, hi = (-128, 127) if signed else (0, 255)
    clamp = replace(first.clamp, lo=max(first.clamp.lo, lo), hi=min(first.clamp.hi, hi))
    match first:
        case Shifted():
            special = first.half_even
        case Doubled():
            special = first.away
        case Lifted():
            special = False
    masked = special and any(one.shift == 0 for one in forms)
    return Finish(type(first), special, masked, clamp, signed)
