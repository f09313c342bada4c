"""The MISRA C:2012 rules that generated C does not keep, each with the reason (docs/generated-c.md lists them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Deviation:
    """A rule's category, and why generated code departs from it. Nothing here is a mandatory rule."""

    category: str
    why: str


REQUIRED, ADVISORY = "required", "advisory"

DEVIATIONS: Mapping[str, Deviation] = {
    "2.2": Deviation(
        REQUIRED, "`ix * 1 + c`: a constant of the shape is written where it is 1 too, so that loops read alike"
    ),
    "2.3": Deviation(ADVISORY, "types of negative size if a size is not as planned: C99 has no static assertion"),
    "2.4": Deviation(ADVISORY, "an enumeration without a name holds the constants of a tile's C twin"),
    "2.5": Deviation(ADVISORY, "sizes, scales and the version are macros for the caller"),
    "2.7": Deviation(ADVISORY, "the parameters of a function in assembly are used in registers that C does not see"),
    "8.9": Deviation(ADVISORY, "tables stand over the one function that reads them, which stays readable"),
    "10.1": Deviation(
        REQUIRED, "shifts of signed integers: arithmetic on every core served, checked by the compiler at the top"
    ),
    "10.3": Deviation(REQUIRED, "constants and comparisons are int, which is int32_t or converts without loss"),
    "10.4": Deviation(REQUIRED, "a narrow table's value or a constant meets an int32_t: C's promotion is meant"),
    "10.6": Deviation(REQUIRED, "a product of narrow values fits int, by the bounds of the graph"),
    "10.8": Deviation(REQUIRED, "sums modulo 2^32 that the C twin of assembly reads as signed, as the core does"),
    "11.5": Deviation(ADVISORY, "the arena's bytes become the tensor's type through void *, at a place aligned for it"),
    "12.1": Deviation(ADVISORY, "products before sums before comparisons, as everywhere"),
    "12.3": Deviation(ADVISORY, "the C twin of assembly declares two sums in one line, which go together"),
    "13.3": Deviation(ADVISORY, "pointers to values are walked as these are read or written"),
    "14.4": Deviation(REQUIRED, "a row pointer that is null, or a bit that is set, is the condition itself"),
    "16.6": Deviation(REQUIRED, "a model whose rows are made by one layer has one case"),
    "17.7": Deviation(REQUIRED, "memcpy and memset give back what they were given"),
    "17.8": Deviation(ADVISORY, "pointers to rows are walked"),
    "18.4": Deviation(ADVISORY, "pointers to rows are walked"),
    "19.2": Deviation(ADVISORY, "the arena is a union: inputs, outputs and all between share its bytes by plan"),
}
"""By rule. `cppcheck`'s addon reports them; rules that it cannot check are not listed."""

SHIFTS = ("shiftNegativeLHS", "shiftTooManyBitsSigned")
"""What cppcheck says of the same shifts of signed integers."""

IN_ASSEMBLY = ("unusedStructMember",)
"""What cppcheck says of fields that assembly alone reads."""
