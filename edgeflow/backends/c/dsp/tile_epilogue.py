"""What a tile product does with its sums: requantize them to bytes, or hand them out.

An epilogue turns scale * sum + addend (a 32-bit word, scale 256 for the first output of a pair and 1 for the
second) into what is stored. It is written twice: as Armv7E-M instructions and as C that computes the same integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

SCALES = (256, 1)
"""The factor of a sum in its accumulator, by the place of the output in its pair."""

Lines: TypeAlias = list[str]


class Epilogue(Protocol):
    """The code behind the sums of one function; every output goes through the same instructions.

    `temporaries` counts the registers that the instructions spoil, `store` and `size` are the store instruction and
    its bytes, `ctype` is the C type of one result. `held` is what the temporary must hold, and keeps; 0 for anything.
    """

    store: ClassVar[str]
    size: ClassVar[int]
    ctype: ClassVar[str]
    temporaries: ClassVar[int]
    held: ClassVar[int]

    @property
    def constants(self) -> int:
        """Words that an output has of its own where its accumulator is the sum itself: count(1)."""
        ...

    def count(self, scale: int) -> int:
        """Words that an output has of its own when its sum comes with that scale."""
        ...

    def assembly(self, register: str, scale: int, constants: Sequence[str], temporary: str) -> Lines:
        """Instructions that turn the word in `register` into the result, given the registers of the constants."""
        ...

    def c(self, scale: int) -> Lines:
        """Statements that do the same to `int32_t v`, with the output's constants at `const uint32_t *c`."""
        ...


def _saturate(register: str, signed: bool, bits: int, shift: int) -> str:
    shifted = f", asr #{shift}" if shift else ""
    return f"{'ssat' if signed else 'usat'} {register}, #{bits}, {register}{shifted}"


def _saturate_c(signed: bool, bits: int) -> str:
    lo, hi = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return f"v = v < {lo} ? {lo} : v > {hi} ? {hi} : v;"


class _Byte:
    """What all epilogues that clamp to 8 bits or fewer, signed or not, have in common."""

    store: ClassVar[str] = "strb"
    size: ClassVar[int] = 1
    ctype: ClassVar[str] = "uint8_t"
    temporaries: ClassVar[int] = 0
    held: ClassVar[int] = 0

    @property
    def constants(self) -> int:
        """Words of an output whose sum comes alone."""
        return self.count(1)

    def count(self, scale: int) -> int:
        """None; an addend may be all that differs between outputs."""
        return 0


@dataclass(frozen=True)
class HighProduct(_Byte):
    """y = clamp(((word * factor) >> 32) >> shift, bits); factor is the output's only constant, 0 <= shift <= 31."""

    shift: int
    signed: bool = False
    bits: int = 8

    def count(self, scale: int) -> int:
        """factor."""
        return 1

    def assembly(self, register: str, scale: int, constants: Sequence[str], temporary: str) -> Lines:
        """SMMUL and a saturation."""
        return [
            f"smmul {register}, {register}, {constants[0]}",
            _saturate(register, self.signed, self.bits, self.shift),
        ]

    def c(self, scale: int) -> Lines:
        """A 64-bit product."""
        return [
            f"v = (int32_t)(((int64_t)v * (int32_t)c[0]) >> 32) >> {self.shift};",
            _saturate_c(self.signed, self.bits),
        ]


@dataclass(frozen=True)
class LiftedProduct(_Byte):
    """A HighProduct of 256 * sum + addend for both outputs of a pair: what comes with scale 1 is multiplied first.

    The 8 bits below the sum place the rounding finely enough that one factor serves nearly every channel; without them
    few have one. The constants are factor, and before it, at scale 1, an addend, whose accumulator then starts at 0.
    """

    shift: int
    signed: bool = False
    bits: int = 8

    def count(self, scale: int) -> int:
        """factor, or addend and factor."""
        return 1 if scale > 1 else 2

    def assembly(self, register: str, scale: int, constants: Sequence[str], temporary: str) -> Lines:
        """SMMUL and a saturation; at scale 1 an addition that shifts goes before."""
        r = register
        lift = [] if scale > 1 else [f"add {r}, {constants[0]}, {r}, lsl #8"]
        return [
            *lift,
            f"smmul {r}, {r}, {constants[-1]}",
            _saturate(r, self.signed, self.bits, self.shift),
        ]

    def c(self, scale: int) -> Lines:
        """A 64-bit product."""
        lift = [] if scale > 1 else ["v = (int32_t)(((uint32_t)v << 8) + c[0]);"]
        return [
            *lift,
            f"v = (int32_t)(((int64_t)v * (int32_t)c[{0 if scale > 1 else 1}]) >> 32) >> {self.shift};",
            _saturate_c(self.signed, self.bits),
        ]


@dataclass(frozen=True)
class AccumulatedProduct(_Byte):
    """A HighProduct of 256 * sum + addend; at scale 1 a product of the sum, with an addend before and one behind.

    The two addends place the rounding as finely as the 8 bits below the sum do, without an instruction. The constants
    are factor, and at scale 1 the addend behind the product. `shift`, 8 or more, is that at scale 256.
    """

    shift: int
    signed: bool = False
    bits: int = 8

    def count(self, scale: int) -> int:
        """factor, or factor and addend."""
        return 1 if scale > 1 else 2

    def _down(self, scale: int) -> int:
        return self.shift if scale > 1 else self.shift - 8

    def assembly(self, register: str, scale: int, constants: Sequence[str], temporary: str) -> Lines:
        """SMMUL or SMMLA, and a saturation."""
        name = "smmul" if scale > 1 else "smmla"
        product = f"{name} {register}, {register}, {', '.join(constants[: self.count(scale)])}"
        return [product, _saturate(register, self.signed, self.bits, self._down(scale))]

    def c(self, scale: int) -> Lines:
        """A 64-bit product."""
        high = "(int32_t)(((int64_t)v * (int32_t)c[0]) >> 32)"
        whole = high if scale > 1 else f"(int32_t)((uint32_t){high} + c[1])"
        return [f"v = {whole} >> {self._down(scale)};", _saturate_c(self.signed, self.bits)]


@dataclass(frozen=True)
class TwoStage(_Byte):
    """TFLite-Micro's two roundings, exactly, for its multipliers m, which lie in [2**30, 2**31).

    With the sum a: h = floor((a * m + 2**30) / 2**31), y = clamp((h + (h >> 31) + offset) >> e, bits). The constants
    are m' = 2 * m mod 2**32 (then SMMLAR adds what the sign took away), offset = 2**(e - 1) + zero point * 2**e and,
    where `shift` is None, e itself; 1 <= e <= 31.
    """

    shift: int | None
    signed: bool = True
    bits: int = 8

    def count(self, scale: int) -> int:
        """m', offset and perhaps e."""
        return 3 if self.shift is None else 2

    def assembly(self, register: str, scale: int, constants: Sequence[str], temporary: str) -> Lines:
        """Four instructions; five where the outputs' shifts differ; one more to undo a scale."""
        r = register
        lines = [] if scale == 1 else [f"asr {r}, {r}, #8"]
        lines += [
            f"smmlar {r}, {r}, {constants[0]}, {r}",
            f"add {r}, {r}, {r}, asr #31",
            f"add {r}, {r}, {constants[1]}",
        ]
        if self.shift is None:
            lines.append(f"asr {r}, {r}, {constants[2]}")
        return [*lines, _saturate(r, self.signed, self.bits, self.shift or 0)]

    def c(self, scale: int) -> Lines:
        """The same steps."""
        lines = [] if scale == 1 else ["v >>= 8;"]
        shift = "(int32_t)c[2]" if self.shift is None else str(self.shift)
        return [
            *lines,
            "v += (int32_t)(((int64_t)v * (int32_t)c[0] + INT64_C(2147483648)) >> 32);",
            "v += (v >> 31) + (int32_t)c[1];",
            f"v >>= {shift};",
            _saturate_c(self.signed, self.bits),
        ]


@dataclass(frozen=True)
class ShiftDown(_Byte):
    """y = clamp(round(sum / 2**shift), bits), 0 <= shift <= 23; the addend carries half a unit, for floor nothing.

    `half_even` sends what lies half way to the even side: half a unit is added, and a unit of the lowest bit is
    taken away again where the quotient came out odd. That changes it only if all bits below are 0, on a tie.
    """

    shift: int
    signed: bool = False
    half_even: bool = False
    bits: int = 8
    temporaries: ClassVar[int] = 1

    def assembly(self, register: str, scale: int, constants: Sequence[str], temporary: str) -> Lines:
        """A saturation, after two instructions for ties."""
        shift = self.shift + (scale.bit_length() - 1)
        lines = []
        if self.half_even and self.shift:
            lines = [f"ubfx {temporary}, {register}, #{shift}, #1", f"sub {register}, {register}, {temporary}"]
        return [*lines, _saturate(register, self.signed, self.bits, shift)]

    def c(self, scale: int) -> Lines:
        """The same shifts."""
        shift = self.shift + (scale.bit_length() - 1)
        lines = [f"v -= (v >> {shift}) & 1;"] if self.half_even and self.shift else []
        return [*lines, f"v >>= {shift};", _saturate_c(self.signed, self.bits)]


@dataclass(frozen=True)
class ShiftHalfword(_Byte):
    """What ShiftDown(15) does with ties to the even side, for a depthwise function alone, an instruction shorter.

    The quotient's lowest bit is then the sign of the word's low half, and twice that half, shifted down by 16, is -1
    where it is set, else 0: SMLAWB adds that to the word.
    """

    signed: bool = False
    bits: int = 8
    shift: ClassVar[int] = 15
    temporaries: ClassVar[int] = 1
    held: ClassVar[int] = 2

    def assembly(self, register: str, scale: int, constants: Sequence[str], temporary: str) -> Lines:
        """SMLAWB with the temporary, which holds 2, and a saturation."""
        tie = f"smlawb {register}, {temporary}, {register}, {register}"
        return [tie, _saturate(register, self.signed, self.bits, self.shift)]

    def c(self, scale: int) -> Lines:
        """The bit itself."""
        return [f"v -= (v >> {self.shift}) & 1;", f"v >>= {self.shift};", _saturate_c(self.signed, self.bits)]


@dataclass(frozen=True)
class Sums:
    """The sums themselves, 32 bits each."""

    store: ClassVar[str] = "str"
    size: ClassVar[int] = 4
    ctype: ClassVar[str] = "int32_t"
    temporaries: ClassVar[int] = 0
    held: ClassVar[int] = 0

    @property
    def constants(self) -> int:
        """None."""
        return 0

    def count(self, scale: int) -> int:
        """None."""
        return 0

    def assembly(self, register: str, scale: int, constants: Sequence[str], temporary: str) -> Lines:
        """At most a shift."""
        return [] if scale == 1 else [f"asr {register}, {register}, #8"]

    def c(self, scale: int) -> Lines:
        """At most a shift."""
        return [] if scale == 1 else ["v >>= 8;"]


@dataclass(frozen=True)
class HalfSums(Sums):
    """Sums that 16 bits hold, signed or not."""

    store: ClassVar[str] = "strh"
    size: ClassVar[int] = 2
    ctype: ClassVar[str] = "uint16_t"
