"""A fully connected layer of few weights: functions that read nothing but those, each with the place of its inputs.

    static void NAME(X *x, const uint32_t *w, uint8_t *y, uint32_t groups);

For each group, w holds where its sums start, stretches of weights, and the constants of its outputs. A stretch is a
header and passes of weights, whose inputs' places are bytes that count from the stretch's own base: a stretch spans
SPAN places at most. `sparse_stream` writes all this.

Two kinds of weights, with their own x: BLOCKS are words of two inputs for a pair of outputs, nested as for a tile
product; x are the words of 16-bit pairs. SCATTERED are single bytes for one output, whose sum comes as it is; x are the
input's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.dsp.depthwise_listing import Listing
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue, Lines

PASS = 4
"""Places of a pass: blocks, or single weights."""
SPAN = 256
"""Places that a byte tells apart."""
LAST, HALF, LOOPS_BIT, BASE_BIT = 1, 2, 8, 16
"""A header: whether the stretch is the group's last; whether the loop, which has two passes, is entered at its second;
from bit 8 on how often it runs, less one; from bit 16 on the bytes from x to the base."""


class Kind(Enum):
    """What the weights are."""

    BLOCKS = "blocks"
    SCATTERED = "scattered"


@dataclass(frozen=True)
class SparseTile:
    """One function. `signed` says how SCATTERED reads its bytes."""

    name: str
    kind: Kind
    epilogue: Epilogue
    signed: bool = False

    @property
    def scales(self) -> tuple[int, ...]:
        """The factors of the sums of a group's outputs."""
        return (256, 1) if self.kind is Kind.BLOCKS else (1,)

    @property
    def counts(self) -> tuple[int, ...]:
        """Constants of each output of a group."""
        return tuple(self.epilogue.count(scale) for scale in self.scales)

    @property
    def outputs(self) -> int:
        """Outputs of a group."""
        return len(self.scales)

    @property
    def place_bytes(self) -> int:
        """Bytes of x that a place has."""
        return 4 if self.kind is Kind.BLOCKS else 1

    @property
    def pass_words(self) -> int:
        """Words of a pass."""
        return PASS + 1 if self.kind is Kind.BLOCKS else PASS // 2

    @property
    def pass_instructions(self) -> int:
        """Instructions of a pass, with its half of the loop's end."""
        return 2 + (5 * PASS if self.kind is Kind.BLOCKS else 7 * PASS // 2)

    def instructions(self, passes: int, stretches: int, groups: int) -> int:
        """About the instructions of a call."""
        return self.pass_instructions * passes + 7 * stretches + (4 + 9 * self.outputs) * groups

    @property
    def code_bytes(self) -> int:
        """About what the function takes in flash."""
        return 8 * self.pass_instructions + 40 + 20 * self.outputs

    @property
    def x_type(self) -> str:
        """What x points to."""
        return "uint32_t" if self.kind is Kind.BLOCKS else "uint8_t"


def source(tile: SparseTile) -> str:
    """The C text of the function: assembly where the core has the instructions, else its twin."""
    listing = Listing()
    _assembly(tile, listing)
    parameters = (
        f"const {tile.x_type} *x",
        "const uint32_t *w",
        f"{tile.epilogue.ctype} *y",
        "uint32_t groups",
    )
    return function("defined(__ARM_FEATURE_DSP)", tile.name, parameters, [listing.body()], _twin(tile))


def _assembly(tile: SparseTile, listing: Listing) -> None:
    """r0 = x, r1 = w, r2 = y, r3 = groups, r4 and r5 the sums, r6 the base, r7 the rest of the header."""
    blocks = tile.kind is Kind.BLOCKS
    one_pass = _blocks() if blocks else _scattered(tile.signed)
    listing.op("push {r4-r11, lr}")
    listing.note("a group, and each of its stretches")
    listing.op("1:", "ldmia r1!, {r4, r5}" if blocks else "ldr r4, [r1], #4")
    listing.op("2:", "ldr r8, [r1], #4", f"add r6, r0, r8, lsr #{BASE_BIT}", "uxth r7, r8")
    listing.op("lsls r8, r8, #30", "bmi 4f", "3:", *one_pass, "4:", *one_pass)
    listing.op(f"subs r7, r7, #{1 << LOOPS_BIT}", "bcs 3b", "lsls r7, r7, #31", "beq 2b")
    listing.note("results")
    listing.op(*(["sub r4, r4, r5"] if blocks else []), *_results(tile))
    listing.op("subs r3, r3, #1", "bne 1b", "pop {r4-r11, pc}")


def _blocks() -> Lines:
    """r8 = the places of four blocks, r9 to r12 their weights: t += x * (256 a + b), b += x * b."""
    lines = ["ldmia r1!, {r8, r9, r10, r11, r12}"]
    for number in range(PASS):
        w = f"r{9 + number}"
        place = ("uxtb lr, r8", "uxtb lr, r8, ror #8", "uxtb lr, r8, ror #16", "lsr lr, r8, #24")[number]
        lines += [place, "ldr lr, [r6, lr, lsl #2]"]
        lines += [f"smlad r4, lr, {w}, r4", f"sxtb16 {w}, {w}", f"smlad r5, lr, {w}, r5"]
    return lines


def _scattered(signed: bool) -> Lines:
    """Each word holds weight, place, weight, place."""
    load = "ldrsb" if signed else "ldrb"
    lines = ["ldmia r1!, {r8, r9}"]
    for word in ("r8", "r9"):
        lines += [f"sxtb16 r10, {word}", f"ubfx r11, {word}, #8, #8", f"lsr r12, {word}, #24"]
        lines += [f"{load} r11, [r6, r11]", f"{load} r12, [r6, r12]"]
        lines += ["smlabb r4, r10, r11, r4", "smlatb r4, r10, r12, r4"]
    return lines


def _results(tile: SparseTile) -> Lines:
    lines: Lines = []
    for register, scale, count in zip(("r4", "r5"), tile.scales, tile.counts, strict=False):
        held = ("r8", "r9", "r10")[:count]
        if count:
            lines.append(f"ldmia r1!, {{{', '.join(held)}}}" if count > 1 else f"ldr {held[0]}, [r1], #4")
        lines += tile.epilogue.assembly(register, scale, held, "r12")
        lines.append(f"{tile.epilogue.store} {register}, [r2], #{tile.epilogue.size}")
    return lines


def _twin(tile: SparseTile) -> Lines:
    blocks = tile.kind is Kind.BLOCKS
    one_pass = _twin_blocks() if blocks else _twin_scattered(tile.signed)
    results: Lines = ["const uint32_t *c = w;"] if any(tile.counts) else []
    for place, (scale, count) in enumerate(zip(tile.scales, tile.counts, strict=True)):
        value = "(int32_t)(t - b)" if blocks and place == 0 else "(int32_t)b" if blocks else "(int32_t)t"
        results += [f"{'v' if place else 'int32_t v'} = {value};", *tile.epilogue.c(scale)]
        results += [f"*y++ = ({tile.epilogue.ctype})v;"]
        results += [f"c += {count};"] if count and place + 1 < tile.outputs else []
    start = ["uint32_t t = w[0], b = w[1], header;"] if blocks else ["uint32_t t = w[0], header;"]
    body = [
        *start,
        f"w += {tile.outputs};",
        "do {",
        "    header = *w++;",
        f"    const {tile.x_type} *const base = x + (header >> {BASE_BIT}) / {tile.place_bytes};",
        f"    const uint32_t loops = (header >> {LOOPS_BIT} & 0xffu) + 1u;",
        f"    for (uint32_t left = 2 * loops - ((header & {HALF}u) != 0u); left != 0; left--) {{",
        *(f"        {line}" for line in one_pass),
        f"        w += {tile.pass_words};",
        "    }",
        f"}} while ((header & {LAST}u) == 0u);",
        *results,
        *([f"w += {sum(tile.counts)};"] if any(tile.counts) else []),
    ]
    return ["    for (; groups != 0; groups--) {", *(f"        {line}" for line in body), "    }"]


def _twin_blocks() -> Lines:
    return [
        f"for (uint32_t k = 0; k < {PASS}; k++) {{",
        "    const uint32_t u = base[w[0] >> 8 * k & 0xffu], v = w[1 + k];",
        "    t += (uint32_t)((int16_t)u * (int16_t)v) + (uint32_t)((int16_t)(u >> 16) * (int16_t)(v >> 16));",
        "    b += (uint32_t)((int16_t)u * (int8_t)v) + (uint32_t)((int16_t)(u >> 16) * (int8_t)(v >> 16));",
        "}",
    ]


def _twin_scattered(signed: bool) -> Lines:
    return [
        f"for (uint32_t k = 0; k < {PASS}; k++) {{",
        "    const uint32_t v = w[k / 2] >> 16 * (k % 2);",
        f"    t += (uint32_t)((int8_t)v * ({'int8_t' if signed else 'uint8_t'})base[v >> 8 & 0xffu]);",
        "}",
    ]
