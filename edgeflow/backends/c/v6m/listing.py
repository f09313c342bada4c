"""What the Armv6-M functions share: how a function is written, and the end of a result in assembly and in C."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.v6m.refine import Levels

Lines = list[str]

SAVE = ["push {r4-r7, lr}", "mov r4, r8", "mov r5, r9", "mov r6, r10", "mov r7, r11", "push {r4-r7}"]
RESTORE = ["pop {r4-r7}", "mov r8, r4", "mov r9, r5", "mov r10, r6", "mov r11, r7", "pop {r4-r7, pc}"]


def thumb(name: str, parameters: Sequence[str], assembly: Sequence[tuple[str, Lines]], twin: Lines) -> str:
    """The C text: (comment, instructions) where the core runs Thumb code, else the twin."""
    statement = ["    __asm__(", '        ".syntax unified\\n"']
    for comment, block in assembly:
        statement += [f"        /* {comment} */", *(f'        "{line}\\n"' for line in block)]
    return function("defined(__thumb__)", name, parameters, [*statement, "    );"], [f"    {one}" for one in twin])


def start_constants(levels: Levels, register: str, constants: int, common: int) -> Lines:
    """Stores where the outputs' words begin, and the words that they share, at two places of the frame."""
    if not levels.alike:
        return [f"str {register}, [sp, #{constants}]"]
    begin = [f"str {register}, [sp, #{common}]", f"adds {register}, #{4 * levels.common}"]
    return [*begin, f"str {register}, [sp, #{constants}]"]


def load_behind(levels: Levels, constants: int, common: int) -> tuple[Lines, Lines]:
    """r7 = where the words behind an addend are; and, when they are loaded, where the next output's are."""
    if levels.alike:
        return [f"ldr r7, [sp, #{common}]"], []
    return [f"ldr r7, [sp, #{constants}]"], [f"str r7, [sp, #{constants}]"]


def finish(levels: Levels, place: int, delta: str) -> Lines:
    """r1 = the result of a = r0. Guess, then the rest's sign; a guess outside of the levels goes to `outside`.

    r3, r4, r5: factor; shift and fine in the lowest bytes; r12, lr: step, base. `delta` addresses the split's word.
    """
    more: Lines = []
    if levels.split is not None:
        more = [*levels.split.otherwise(f"4{place}f"), f"ldr r0, {delta}", "adds r2, r2, r0", f"4{place}:"]
    return [
        "movs r1, r0",
        "muls r1, r3, r1",
        "asrs r1, r1, r4",
        f"cmp r1, #{levels.top}",
        f"bhs 5{place}f",
        "mov r2, r12",
        "muls r2, r1, r2",
        "add r2, lr",
        "lsls r0, r0, r5",
        "subs r2, r2, r0",
        *more,
        "lsrs r2, r2, #31",
        "adds r1, r1, r2",
        f"6{place}:",
        *([f"adds r1, r1, #{levels.offset}"] if levels.offset else []),
    ]


def outside(levels: Levels, place: int) -> Lines:
    """The lowest or the highest level, and back."""
    highest = ["mvns r1, r1"] if levels.top == 255 else [f"movs r2, #{levels.top}", "bics r2, r2, r1", "movs r1, r2"]
    return [f"5{place}:", "asrs r1, r1, #31", *highest, f"b 6{place}b"]


def twin_constants(levels: Levels) -> tuple[Lines, str]:
    """C that makes c walk over the outputs' words, and what a finisher gets."""
    if not levels.alike:
        return ["const uint32_t *c = p->c;"], "c + 1"
    return [f"const uint32_t *c = p->c + {levels.common};"], "p->c"


def finisher(name: str, levels: Levels) -> str:
    """The same as a C function of a and the constants behind the addend, which portable loops call too."""
    more = "" if levels.split is None else f" + ({levels.split.c} ? c[3] : 0u)"
    stored = f"guess + (rest >> 31) + {levels.offset}u" if levels.offset else "guess + (rest >> 31)"
    low, high = levels.offset, (levels.top + levels.offset) % 256
    return "\n".join(
        [
            f"/* A sum with its addend becomes one of {levels.top + 1} levels.",
            " * c holds the width of a level, where they begin, and the guess's factor and shifts. */",
            f"static inline uint8_t {name}(uint32_t a, const uint32_t *c)",
            "{",
            "    const int32_t first = (int32_t)(a * (c[2] >> 16)) >> (c[2] & 31u);",
            f"    if (first < 0 || first >= {levels.top}) {{",
            f"        return first < 0 ? {low} : {high};",
            "    }",
            "    const uint32_t guess = (uint32_t)first;",
            f"    const uint32_t rest = guess * c[0] + c[1]{more} - (a << ((c[2] >> 8) & 31u));",
            f"    return (uint8_t)({stored});",
            "}",
            "",
        ]
    )
