"""Spreads the bytes of a vector to 16-bit lanes, eight at a time."""

from __future__ import annotations

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.dsp.depthwise_listing import Listing
from edgeflow.backends.c.dsp.tile_epilogue import Lines
from edgeflow.backends.c.kernel import Shared

_SPARE = "r6"
QUICK = 8
"""Bytes that a pass of the loop takes."""


def spread_name(signed: bool, pairs: bool = False) -> str:
    """The name of the function."""
    return f"spread_{'signed' if signed else 'unsigned'}_{'pairs' if pairs else 'quick'}"


def spread_source(signed: bool, pairs: bool = False) -> tuple[Shared, ...]:
    """static void NAME(uint32_t *to, const void *from, uint32_t passes), with 1 or more passes of QUICK bytes.

    The bytes 0 1 2 3 of a word give the words (0, 2) and (1, 3), as `tile_weights.order` says, or with `pairs`
    (0, 1) and (2, 3).
    """
    xtb16 = "sxtb16" if signed else "uxtb16"
    name = spread_name(signed, pairs)
    saved = f"r4, r5, {_SPARE}" if pairs else "r4, r5"
    listing = Listing()
    listing.op(f"push {{{saved}}}", "1:", "ldr r4, [r1], #4", "ldr r12, [r1], #4")
    listing.op(f"{xtb16} r3, r4", f"{xtb16} r4, r4, ror #8", f"{xtb16} r5, r12", f"{xtb16} r12, r12, ror #8")
    if pairs:
        for low, high in (("r3", "r4"), ("r5", "r12")):
            listing.op(f"pkhtb {_SPARE}, {high}, {low}, asr #16", f"pkhbt {low}, {low}, {high}, lsl #16")
            listing.op(f"mov {high}, {_SPARE}")
    listing.op("stmia r0!, {r3, r4, r5, r12}", "subs r2, r2, #1", "bne 1b", f"pop {{{saved}}}", "bx lr")
    parameters = ("uint32_t *to", "const void *from", "uint32_t passes")
    twin = _twin_pairs(signed) if pairs else _twin(signed, f"{QUICK // 4} * passes")
    text = function("defined(__ARM_FEATURE_DSP)", name, parameters, [listing.body()], twin)
    return (Shared(name, text, 72 if pairs else 44),)


def four_name(signed: bool) -> str:
    """The name of the function for four bytes."""
    return f"spread_{'signed' if signed else 'unsigned'}_four"


def four_source(signed: bool) -> tuple[Shared, ...]:
    """static void NAME(uint32_t *to, const void *from): the words of four bytes that no pass takes."""
    name = four_name(signed)
    text = [f"static void {name}(uint32_t *to, const void *from)", "{", *_twin(signed, "1u"), "}", ""]
    return (Shared(name, "\n".join(text), 32),)


def _twin(signed: bool, words: str) -> Lines:
    kind = "int8_t" if signed else "uint8_t"
    return [
        f"    const {kind} *const bytes = (const {kind} *)from;",
        f"    for (uint32_t k = 0; k < {words}; k++) {{",
        "        to[2 * k] = ((uint32_t)bytes[4 * k] & 0xffffu) | (uint32_t)bytes[4 * k + 2] << 16;",
        "        to[2 * k + 1] = ((uint32_t)bytes[4 * k + 1] & 0xffffu) | (uint32_t)bytes[4 * k + 3] << 16;",
        "    }",
    ]


def _twin_pairs(signed: bool) -> Lines:
    kind = "int8_t" if signed else "uint8_t"
    return [
        f"    const {kind} *const bytes = (const {kind} *)from;",
        f"    for (uint32_t k = 0; k < {QUICK // 2} * passes; k++) {{",
        "        to[k] = ((uint32_t)bytes[2 * k] & 0xffffu) | (uint32_t)bytes[2 * k + 1] << 16;",
        "    }",
    ]
