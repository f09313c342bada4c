"""Spreads the bytes of a vector to 16-bit lanes, eight at a time."""

from __future__ import annotations

from edgeflow.backends.c.dsp.depthwise_listing import Listing
from edgeflow.backends.c.kernel import Shared

QUICK = 8
"""Bytes that a pass of the loop takes."""


def spread_source(signed: bool) -> tuple[Shared, ...]:
    """static void NAME(uint32_t *to, const void *from, uint32_t passes), with 1 or more passes of QUICK bytes.

    The bytes 0 1 2 3 of a word give the words (0, 2) and (1, 3), as `tile_weights.order` says.
    """
    sign, xtb16 = ("signed", "sxtb16") if signed else ("unsigned", "uxtb16")
    name = f"spread_{sign}_quick"
    listing = Listing()
    listing.op("push {r4, r5}", "1:", "ldr r4, [r1], #4", "ldr r12, [r1], #4")
    listing.op(f"{xtb16} r3, r4", f"{xtb16} r4, r4, ror #8", f"{xtb16} r5, r12", f"{xtb16} r12, r12, ror #8")
    listing.op("stmia r0!, {r3, r4, r5, r12}", "subs r2, r2, #1", "bne 1b", "pop {r4, r5}", "bx lr")
    parameters = ("uint32_t *to", "const void *from", "uint32_t passes")
    mark = "__attribute__((unused)) "
    text = [
        "#if defined(__ARM_FEATURE_DSP)",
        f"__attribute__((naked, noipa)) static void {name}(",
        f"    {', '.join(mark + one for one in parameters)})",
        "{",
        listing.body(),
        "}",
        "#else",
        f"static void {name}({', '.join(parameters)})",
        "{",
        f"    spread_{sign}(to, from, (int32_t)passes * 2, 1);",
        "}",
        "#endif",
        "",
    ]
    return (Shared(name, "\n".join(text), 44),)
