"""A fully connected layer that reads its input's bytes where they lie: one vector times pairs of outputs.

The weights of two outputs a, b are nested in one 16-bit lane, 256 * a + b, and the words of weights lie as
`tile_weights.pack` writes them. Each word of 4 input bytes is spread to two words of 16-bit lanes in registers, which
serve all outputs of a group.

    static void NAME(const uint8_t *x, const uint32_t *w, uint8_t *y, uint32_t groups[, uint32_t size]);

x may lie anywhere. A pass of the loop over `groups` (1 or more) makes 2 * pairs outputs.

`parted`: 256 * A of a whole sum may leave 32 bits. After each PART bytes, of which 256 * A always fits, A is added to
an accumulator of its own, so that the sums of any layer are exact; both outputs of a pair then have scale 1, and the
first of a group's words are the A's addends instead of both addends' sums.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.dsp.depthwise_listing import Listing
from edgeflow.backends.c.dsp.tile_epilogue import SCALES, Epilogue, Lines

UNIT = 8
"""Input bytes that the shortest loop takes at a time: with them the words of weights come out even."""
PART = 256
"""Bytes of a part: 256 * 255 * 128 < 2**23."""
MOST_PAIRS = 3
"""Pairs of outputs for which there are registers."""
_X = ("r2", "r3")
_W = ("r4", "r5", "r6", "r7")
_SUMS = ("r8", "r9", "r10", "r11", "r12", "lr")
_KEPT = 16
"""Bytes of a parted function's frame below the arguments: an A of each pair, and the end of the part."""
_Y = 4
"""Where the frame keeps y and groups, behind x; w stays in its register."""


@dataclass(frozen=True)
class DenseTile:
    """One function. `signed` says how bytes are spread; `unroll` UNITs are written out in a row.

    `size` is the number of input bytes, a multiple of UNIT * `unroll`; None makes it the caller's. `single`: the layer
    has one output alone, whose pair's second is not stored.
    """

    name: str
    pairs: int
    signed: bool
    epilogue: Epilogue
    unroll: int = 1
    size: int | None = None
    parted: bool = False
    single: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.pairs <= MOST_PAIRS or self.unroll < 1 or PART % (UNIT * self.unroll):
            raise ValueError(f"no dense tile has {self.pairs} pairs, {self.unroll} units in a row")
        if (self.size or 0) % (UNIT * self.unroll):
            raise ValueError(f"{self.size} bytes are no multiple of {UNIT * self.unroll}")
        if self.single and self.pairs != 1:
            raise ValueError("a single output has no second pair")

    @property
    def scales(self) -> tuple[int, int]:
        """The factors of a pair's sums in the words that the epilogue gets."""
        return (1, 1) if self.parted else SCALES

    @property
    def places(self) -> tuple[int, ...]:
        """The places in a pair that are written."""
        return (0,) if self.single else (0, 1)

    @property
    def counts(self) -> tuple[int, ...]:
        """Constants of each output of a pair."""
        return tuple(self.epilogue.count(self.scales[place]) for place in self.places)

    @property
    def outputs(self) -> int:
        """Outputs of a group."""
        return self.pairs * len(self.places)

    @property
    def saved(self) -> str:
        """The registers that the frame keeps behind x, y and groups; the last but lr holds the end of x."""
        return "r4-r12, lr" if self.pairs > 1 else "r4-r9, r12, lr"

    @property
    def end(self) -> int:
        """Where the frame keeps the end of x, before what a parted function keeps."""
        return 44 if self.pairs > 1 else 36

    def words(self, size: int) -> int:
        """Words of weights and constants that a group reads for `size` input bytes."""
        return self.pairs * (2 + size // 2 + sum(self.counts))

    @property
    def code_bytes(self) -> int:
        """About what the function takes in flash."""
        loop = self.unroll * (3 * 4 * self.pairs + self.pairs + 8)
        return 4 * (loop + 24 + 5 * self.outputs + self.parted * (8 + 5 * self.pairs))


def source(tile: DenseTile) -> str:
    """The C text of the function: assembly where the core has the instructions, else its twin."""
    listing = Listing()
    _assembly(tile, listing)
    parameters = ["const uint8_t *x", "const uint32_t *w", f"{tile.epilogue.ctype} *y", "uint32_t groups"]
    parameters += [] if tile.size else ["uint32_t size"]
    return function("defined(__ARM_FEATURE_DSP)", tile.name, parameters, [listing.body()], _twin(tile))


def call(tile: DenseTile, x: str, w: str, y: str, groups: int, size: int) -> str:
    """The C statement that computes so many groups, given expressions of x, w and y."""
    return f"{tile.name}({x}, {w}, {y}, {groups}{'' if tile.size else f', {size}'});"


def _assembly(tile: DenseTile, listing: Listing) -> None:
    base = _KEPT if tile.parted else 0
    listing.note("frame: x, y, groups, saved registers, the end of x")
    if tile.size is None:
        listing.op("ldr r12, [sp]")
    else:
        listing.constant("r12", tile.size)
    listing.op("add r12, r0, r12", f"push {{r0, r2, r3, {tile.saved}}}")
    listing.op(*(["sub sp, #16"] if tile.parted else []))
    listing.note("a group: t starts at both addends, b at its own")
    listing.op("1:", *_start(tile))
    listing.note("per word: t += x * (256 a + b), b += x * b")
    listing.op("2:", f".rept {tile.unroll}", *_unit(tile), ".endr")
    listing.op(*(_fold(tile) if tile.parted else [f"ldr r4, [sp, #{tile.end}]", "cmp r0, r4", "bne 2b"]))
    listing.note("results")
    listing.op(*([] if tile.parted else _differences(tile)))
    listing.op(f"ldr r0, [sp, #{base}]", f"ldrd r2, r3, [sp, #{base + _Y}]", *_results(tile))
    listing.op("subs r3, r3, #1", f"strd r2, r3, [sp, #{base + _Y}]", "bne 1b")
    listing.note("leave")
    listing.op(f"add sp, sp, #{base + 12}", f"pop {{{tile.saved.replace('lr', 'pc')}}}")


def _first(tile: DenseTile) -> tuple[str, ...]:
    return _SUMS[: tile.pairs]


def _second(tile: DenseTile) -> tuple[str, ...]:
    return _SUMS[tile.pairs : 2 * tile.pairs]


def _load(registers: tuple[str, ...]) -> str:
    if len(registers) == 1:
        return f"ldr {registers[0]}, [r1], #4"
    return f"ldmia r1!, {{{', '.join(registers)}}}"


def _start(tile: DenseTile) -> Lines:
    lines = [_load((*_first(tile), *_second(tile)))]
    if tile.parted:
        lines += [f"str {a}, [sp, #{4 * pair}]" for pair, a in enumerate(_first(tile))]
        lines += [f"mov {t}, {b}" for t, b in zip(_first(tile), _second(tile), strict=True)]
        lines += [*_part_end(tile), f"str r4, [sp, #{_KEPT - 4}]"]
    return lines


def _part_end(tile: DenseTile) -> Lines:
    """r4 = the end of the part that starts at r0; r5 = the end of x."""
    return [
        f"ldr r5, [sp, #{_KEPT + tile.end}]",
        f"add r4, r0, #{PART}",
        "cmp r4, r5",
        "it hi",
        "movhi r4, r5",
    ]


def _unit(tile: DenseTile) -> Lines:
    """UNIT bytes of x times all pairs; the weights come four words at a time."""
    spread = f"{'s' if tile.signed else 'u'}xtb16"
    lines: Lines = []
    words = UNIT // 2 * tile.pairs
    for word in range(words):
        at, pair = divmod(word, tile.pairs)
        if pair == 0 and at % 2 == 0:
            low, high = _X
            lines += [f"ldr {high}, [r0], #4", f"{spread} {low}, {high}", f"{spread} {high}, {high}, ror #8"]
        if word % len(_W) == 0:
            lines.append(_load(_W[: min(len(_W), words - word)]))
        x, w = _X[at % 2], _W[word % len(_W)]
        t, b = _first(tile)[pair], _second(tile)[pair]
        lines += [f"smlad {t}, {x}, {w}, {t}", f"sxtb16 {w}, {w}", f"smlad {b}, {x}, {w}, {b}"]
    return lines


def _differences(tile: DenseTile) -> Lines:
    return [f"sub {t}, {t}, {b}" for t, b in zip(_first(tile), _second(tile), strict=True)]


def _fold(tile: DenseTile) -> Lines:
    """The loop's end: behind each part, t - b = 256 A goes to its own accumulator; at the last, that becomes t."""
    lines = [f"ldr r4, [sp, #{_KEPT - 4}]", "cmp r0, r4", "bne 2b", *_differences(tile)]
    for pair, t in enumerate(_first(tile)):
        place = f"[sp, #{4 * pair}]"
        lines += [f"ldr r4, {place}", f"add {t}, r4, {t}, asr #8", f"str {t}, {place}"]
    lines += [f"ldr r5, [sp, #{_KEPT + tile.end}]", "cmp r0, r5", "beq 3f"]
    lines += [f"mov {t}, {b}" for t, b in zip(_first(tile), _second(tile), strict=True)]
    return [*lines, *_part_end(tile), f"str r4, [sp, #{_KEPT - 4}]", "b 2b", "3:"]


def _results(tile: DenseTile) -> Lines:
    """r2 = y, moved on by the first store; the constants come as many at a time as there are registers."""
    room = len(_W) - tile.epilogue.temporaries
    counts = tile.counts * tile.pairs
    held: tuple[str, ...] = ()
    lines: Lines = []
    for number, count in enumerate(counts):
        pair, place = divmod(number, len(tile.places))
        if count > len(held):
            totals = itertools.accumulate(counts[number:])
            held = _W[: max(total for total in totals if total <= room)]
            lines.append(_load(held))
        register = _SUMS[place * tile.pairs + pair]
        lines += tile.epilogue.assembly(register, tile.scales[place], held[:count], _W[-1])
        step = tile.outputs * tile.epilogue.size
        where = f"[r2], #{step}" if number == 0 else f"[r2, #{number * tile.epilogue.size - step}]"
        lines.append(f"{tile.epilogue.store} {register}, {where}")
        held = held[count:]
    return lines


def _twin(tile: DenseTile) -> Lines:
    counts = tile.counts
    tail = f"w + {2 * tile.pairs} + PAIRS * (size / 2)"
    finish = [] if tile.parted else ["t = t - b;"]
    finish += ["int32_t v = (int32_t)t;"]
    finish += [f"const uint32_t *c = {tail} + {sum(counts)} * pair;"] if any(counts) else []
    finish += [*tile.epilogue.c(tile.scales[0]), _put(tile, 0)]
    if not tile.single:
        finish += ["v = (int32_t)b;", *([f"c += {counts[0]};"] if counts[0] else [])]
        finish += [*tile.epilogue.c(tile.scales[1]), _put(tile, 1)]
    return [
        f"    enum {{ PAIRS = {tile.pairs} }};",
        *([f"    const uint32_t size = {tile.size};"] if tile.size else []),
        "    for (; groups != 0; groups--) {",
        "        for (uint32_t pair = 0; pair < PAIRS; pair++) {",
        "            uint32_t t = w[pair], b = w[PAIRS + pair];",
        "            for (uint32_t k = 0; k < size / 2; k++) {",
        *(f"                {line}" for line in _twin_word(tile)),
        "            }",
        *(f"            {line}" for line in finish),
        "        }",
        f"        w = {tail} + PAIRS * {sum(counts)};",
        f"        y += {tile.outputs};",
        "    }",
    ]


def _twin_word(tile: DenseTile) -> Lines:
    """Word k of the weights: its lanes belong to the bytes 0 and 2, or 1 and 3, of a word of x."""
    kind = "int8_t" if tile.signed else "uint8_t"
    lanes = ("(int16_t)v", "(int16_t)(v >> 16)")
    seconds = ("(int8_t)v", "(int8_t)(v >> 16)")
    # A parted function sums the first outputs alone.
    firsts = [f"(({both} - {second}) >> 8)" for both, second in zip(lanes, seconds, strict=True)]
    low, high = firsts if tile.parted else lanes
    return [
        f"const uint32_t v = w[{2 * tile.pairs} + PAIRS * k + pair];",
        "const uint8_t *const at = x + 4 * (k / 2) + k % 2;",
        f"const int32_t low = ({kind})at[0], high = ({kind})at[2];",
        f"t += (uint32_t)(low * {low}) + (uint32_t)(high * {high});",
        f"b += (uint32_t)(low * {seconds[0]}) + (uint32_t)(high * {seconds[1]});",
    ]


def _put(tile: DenseTile, place: int) -> str:
    at = f"{len(tile.places)} * pair" + (f" + {place}" if place else "")
    return f"y[{at}] = ({tile.epilogue.ctype})v;"
