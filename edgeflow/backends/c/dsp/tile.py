"""The tile product: a few positions times all outputs, the inner loop of convolutions and fully connected layers.

x holds 16-bit pairs: word k of position p is x[positions * k + p]. The weights of two outputs a, b are nested in one
16-bit lane, 256 * a + b. One multiplication sums t = 256 * A + B, modulo 2**32; another, with the low bytes alone, B;
and t - B = 256 * A is exact wherever 256 * A fits 32 bits (`tile_weights.fits`), however often t wrapped.

    static void NAME(const uint32_t *x, const uint32_t *w, uint8_t *y, uint32_t groups[, uint32_t words]);

A pass of the loop reads one of `tile_weights.groups` out of w, as `tile_weights.pack` wrote it, and writes
y[distance * p + j] for its outputs j = 0, 1, ... and all positions p; then y moves on by as many outputs as the pass
has. `groups` is 1 or more. A last group that reaches back needs a call of its own, with its own y.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial

from edgeflow.backends.c.assembly import function
from edgeflow.backends.c.dsp import packed_tile
from edgeflow.backends.c.dsp.byte_words import LoadWords, load_bytes, load_words, twin_word
from edgeflow.backends.c.dsp.packed_tile import Loaded
from edgeflow.backends.c.dsp.packing import Packing
from edgeflow.backends.c.dsp.tile_epilogue import SCALES, Epilogue, Lines

MOST_WORDS = 32
"""Words of weights that are written out in a row: as many as there are single-precision registers."""
STORE_REACH = 4095
"""The farthest byte from its base register that a store can write."""
_X, _W, _Y, _GROUPS, _END = 0, 4, 8, 12, 48
"""Where the frame keeps what the loops need: the four arguments, and the end of x in the place of r12."""


@dataclass(frozen=True)
class _Form:
    """How registers are used: r0 walks over x, `x` and `w` hold loaded words, `sums` the t, then the B.

    `bank`: weights come through floating-point registers, and the pointer to them, r1, lives in the frame meanwhile.
    """

    x: tuple[str, ...]
    w: tuple[str, ...]
    sums: tuple[str, ...]
    bank: bool = False


def _registers(first: int, last: int) -> tuple[str, ...]:
    return tuple("lr" if number == 14 else f"r{number}" for number in range(first, last + 1) if number != 13)


_FORMS = {
    (4, 1): _Form(_registers(1, 4), _registers(5, 5), _registers(6, 14), bank=True),
    (2, 1): _Form(_registers(2, 5), _registers(6, 9), _registers(10, 14)),
    (1, 1): _Form(_registers(2, 6), _registers(7, 11), _registers(12, 14)),
    (2, 2): _Form(_registers(2, 3), _registers(4, 5), _registers(6, 14)),
    (1, 2): _Form(_registers(2, 5), _registers(6, 9), _registers(10, 14)),
}
"""(positions, pairs of outputs at a time) -> registers. Instructions for one multiplication, without what surrounds
the loop: 0.69, 0.72, 0.85, 0.75, 0.84."""


@dataclass(frozen=True)
class Tile:
    """One function. Raises ValueError for a form that does not exist or a distance beyond a store's reach.

    `distance` is in elements of y (bytes, or 32-bit sums). A position has chunk * chunks words, of which `chunk` are
    written out; `chunks` None makes their number the caller's: the fifth argument `words`, a multiple of `chunk`.
    `together` is the number of output pairs in a group. `single`: the layer has one output alone, so that a group
    writes only its first. `packing`: the weights come as codes, a chunk as whole periods; not with `chunks` None.
    `signed`: x are bytes of one position, signed or not, which a function of packed weights spreads itself, chunks of
    an even number of words; None: x are words.
    """

    name: str
    positions: int
    distance: int
    epilogue: Epilogue
    chunk: int
    chunks: int | None = 1
    together: int = 1
    single: bool = False
    packing: Packing | None = None
    signed: bool | None = None

    def __post_init__(self) -> None:
        if (self.positions, self.together) not in _FORMS or not 1 <= self.chunk <= MOST_WORDS:
            raise ValueError(f"no tile has {self.positions} positions, {self.together} pairs, {self.chunk} words")
        if self.signed is not None and (self.positions != 1 or self.packing is None or self.chunk % 2):
            raise ValueError(f"no tile spreads {self.positions} positions of {self.chunk} words")
        if self.single and self.together != 1:
            raise ValueError("a single output has no second pair")
        if (self.positions - 1) * self.distance * self.epilogue.size > STORE_REACH:
            raise ValueError(f"{self.positions} positions lie {self.distance} elements apart, too far for a store")

    @property
    def needs_bank(self) -> bool:
        """Whether the assembly wants a floating-point unit, switched on, besides the DSP instructions."""
        return self.form.bank

    @property
    def load(self) -> LoadWords:
        """How its packed weights' words of x come."""
        return load_words if self.signed is None else load_bytes(self.signed)

    @property
    def word(self) -> str:
        """The C expression of word k of position p."""
        return "x[POSITIONS * k + p]" if self.signed is None else twin_word(self.signed)

    @property
    def form(self) -> _Form:
        """Its registers."""
        return _FORMS[self.positions, self.together]

    @property
    def places(self) -> tuple[int, ...]:
        """The places in a pair that are written: the first and the second."""
        return (0,) if self.single else (0, 1)

    @property
    def counts(self) -> tuple[int, ...]:
        """Constants of each output of a pair."""
        return tuple(self.epilogue.count(SCALES[place]) for place in self.places)

    @property
    def weights(self) -> int:
        """Words of weights that a chunk has for each pair."""
        return self.packing.packed(self.chunk) if self.packing else self.chunk

    @property
    def step(self) -> int:
        """Elements of y that a pass writes for a position."""
        return self.together * len(self.places)


def split(values: int, most: int = MOST_WORDS) -> tuple[int, int]:
    """(chunk, chunks) for that many lanes: the fewest chunks of at most `most` words, padded as little as possible."""
    words = -(-values // 2)
    chunks = -(-words // most)
    return -(-words // chunks), chunks


def source(tile: Tile) -> str:
    """The C text of the function: assembly where the core has the instructions, else its twin."""
    unit = " && defined(__ARM_FP)" if tile.needs_bank else ""
    guard = f"defined(__ARM_FEATURE_DSP){unit}"
    statement = ["    __asm__(", *_assembly(tile), "    );"]
    return function(guard, tile.name, _parameters(tile), statement, _twin(tile))


def calls(tile: Tile, outputs: int, arguments: tuple[str, str, str], words: int | None = None) -> Lines:
    """The C statements that compute all outputs, given the expressions of x, w and y; a second one for a last group
    that reaches back. `words` of a position are needed where the tile leaves their number open.
    """
    x, w, y = arguments
    row = words if tile.chunks is None else tile.chunk * tile.chunks
    if row is None or row % tile.chunk:
        raise ValueError(f"{tile.name} takes a multiple of {tile.chunk} words")
    size = tile.together * (2 + row // tile.chunk * tile.weights + sum(tile.counts))
    last = f", {row}" if tile.chunks is None else ""
    whole, rest = divmod(outputs, tile.step)
    lines = [f"{tile.name}({x}, {w}, {y}, {whole}{last});"]
    if rest:
        lines.append(f"{tile.name}({x}, {w} + {whole * size}, {y} + {outputs - tile.step}, 1{last});")
    return lines


def _parameters(tile: Tile) -> list[str]:
    words = ["uint32_t words"] if tile.chunks is None else []
    return [
        "const uint32_t *x" if tile.signed is None else "const uint8_t *x",
        "const uint32_t *w",
        f"{tile.epilogue.ctype} *y",
        "uint32_t groups",
        *words,
    ]


def _block(comment: str, lines: Lines) -> Lines:
    return [f"        /* {comment} */", *(f'        "{line}\\n"' for line in lines)]


def _assembly(tile: Tile) -> Lines:
    last = (tile.weights - 1) // 2 if tile.needs_bank else 0
    saved = "" if last < 8 else "d8" if last == 8 else f"d8-d{last}"
    room = packed_tile.room(tile.packing, tile.positions)
    pushed = [*([f"vpush {{{saved}}}"] if saved else []), *([f"sub sp, sp, #{room}"] if room else [])]
    entry = [*_end(tile), *pushed, "push {r0-r12, lr}", *_corrections(tile)]
    freed = [*([f"add sp, sp, #{room}"] if room else []), *([f"vpop {{{saved}}}"] if saved else [])]
    leave = ["add sp, sp, #16", "pop {r4-r12, lr}", *freed, "bx lr"]
    if not freed:
        leave = ["add sp, sp, #16", "pop {r4-r12, pc}"]
    return [
        *_block("frame: x, w, y, groups, saved registers, the end of x", entry),
        *_block("a group: t starts at both addends, B at its own", _start(tile)),
        *_block("per word: t += x * (256 a + b), B += x * b", _stream(tile)),
        *_block("256 A = t - B; results", _finish(tile)),
        *_block("leave", leave),
    ]


def _end(tile: Tile) -> Lines:
    """r12 = behind the last word of x, where a loop has to find it."""
    if tile.chunks is None:
        return ["ldr r12, [sp]", f"add r12, r0, r12, lsl #{tile.positions.bit_length() + 1}"]
    size = (4 if tile.signed is None else 2) * tile.positions * tile.chunk * tile.chunks
    if tile.chunks == 1:
        return []
    high = [f"movt r12, #{size >> 16}"] if size >> 16 else []
    return [f"movw r12, #{size & 0xFFFF}", *high, "add r12, r0, r12"]


def _corrections(tile: Tile) -> Lines:
    if not tile.packing or tile.chunks is None:
        return []
    words, order = tile.chunk * tile.chunks, packed_tile.order(_rows(tile), _spare(tile))
    return packed_tile.corrections(tile.packing, tile.positions, words, [which for _, which in order], tile.load)


def _spare(tile: Tile) -> tuple[str, str]:
    """Two registers besides r1 that are free until words are loaded."""
    first, second = [one for one in (*tile.form.x, *tile.form.w) if one != "r1"][:2]
    return first, second


def _load(base: str, registers: tuple[str, ...]) -> str:
    if len(registers) == 1:
        return f"ldr {registers[0]}, [{base}], #4"
    return f"ldmia {base}!, {{{', '.join(registers)}}}"


def _sums(tile: Tile, place: int, pair: int) -> tuple[str, ...]:
    """The accumulators of all positions: t of a pair (place 0) or its B (place 1)."""
    first = (place * tile.together + pair) * tile.positions
    return tile.form.sums[first : first + tile.positions]


def _rows(tile: Tile) -> list[tuple[str, ...]]:
    return [_sums(tile, place, pair) for place in (0, 1) for pair in range(tile.together)]


def _start(tile: Tile) -> Lines:
    """The sums of the first positions; the other positions' too, where no first word is written out before a loop."""
    rows = _rows(tile)
    if packed_tile.room(tile.packing, tile.positions):
        return ["1:", _load("r1", tuple(row[0] for row in rows)), *packed_tile.begin(rows, _spare(tile))]
    alone = tile.chunks == 1 and not tile.packing
    copies = [] if alone else [f"mov {other}, {row[0]}" for row in rows for other in row[1:]]
    return ["1:", _load("r1", tuple(row[0] for row in rows)), *copies]


def _stream(tile: Tile) -> Lines:
    body = _banked(tile) if tile.needs_bank else _loaded(tile)
    if tile.chunks == 1:
        return body
    pointer = [f"ldr r1, [sp, #{_W}]"] if tile.needs_bank else []
    return ["2:", *body, f"ldr r2, [sp, #{_END}]", *pointer, "cmp r0, r2", "bne 2b"]


def _banked(tile: Tile) -> Lines:
    bank = [f"s{number}" for number in range(tile.weights)]
    lines = [f"vldmia r1!, {{{', '.join(bank)}}}", f"str r1, [sp, #{_W}]"]
    if tile.packing:
        multiply = partial(_multiply, tile)
        return [*lines, *packed_tile.banked(tile.packing, tile.chunk, tile.form.x, tile.form.w[0], multiply)]
    first = 1 if tile.chunks == 1 else 0
    for weights in bank[:first]:
        lines += _banked_word(tile, weights, first=True)
    if bank[first:]:
        lines += [f".irp weights, {', '.join(bank[first:])}", *_banked_word(tile, "\\\\weights"), ".endr"]
    return lines


def _banked_word(tile: Tile, weights: str, *, first: bool = False) -> Lines:
    multiplied = _multiply(tile, tile.form.x, tile.form.w, first=first)
    return [_load("r0", tile.form.x), f"vmov {tile.form.w[0]}, {weights}", *multiplied]


def _loaded(tile: Tile) -> Lines:
    """All words of a chunk; equal stretches are written once."""
    if tile.packing:
        form, together = tile.form, tile.together
        loop = Loaded(tile.packing, tile.positions, form.x, form.w[:together], form.w[together:], tile.load)
        return loop.chunk(tile.chunk, partial(_multiply, tile))
    x, w = len(tile.form.x) // tile.positions, len(tile.form.w) // tile.together
    period = max(x, w)
    first = min(period, tile.chunk) if tile.chunks == 1 else 0
    whole, rest = divmod(tile.chunk - first, period)
    repeated = [f".rept {whole}", *_stretch(tile, period), ".endr"] if whole else []
    return [*_stretch(tile, first, first=True), *repeated, *_stretch(tile, rest)]


def _stretch(tile: Tile, words: int, *, first: bool = False) -> Lines:
    """`words` words of x and of each pair's weights, both loaded as many at a time as there are registers."""
    lines: Lines = []
    positions, together, form = tile.positions, tile.together, tile.form
    x_words, w_words = len(form.x) // positions, len(form.w) // together
    for word in range(words):
        x_at, w_at = word % x_words, word % w_words
        if x_at == 0:
            lines.append(_load("r0", form.x[: positions * min(x_words, words - word)]))
        if w_at == 0:
            lines.append(_load("r1", form.w[: together * min(w_words, words - word)]))
        x = form.x[positions * x_at : positions * (x_at + 1)]
        weights = form.w[together * w_at : together * (w_at + 1)]
        lines += _multiply(tile, x, weights, first=first and word == 0)
    return lines


def _multiply(tile: Tile, x: tuple[str, ...], w: tuple[str, ...], *, first: bool = False) -> Lines:
    """One word of x of every position times one word of every pair; the weights' words are spoilt.

    The `first` word begins the sums of all positions where the first position's sum lies, which comes last.
    """
    lines: Lines = []
    for pair, weights in enumerate(w):
        for place in (0, 1):
            sums = _sums(tile, place, pair)
            lines += [f"sxtb16 {weights}, {weights}"] if place else []
            for one, sum_ in reversed(list(zip(x, sums, strict=True))):
                lines.append(f"smlad {sum_}, {one}, {weights}, {sums[0] if first else sum_}")
    return lines


def _finish(tile: Tile) -> Lines:
    """r2 = y, r3 = groups, unless the constants need r3 too; the words of x and w are free."""
    epilogue = tile.epilogue
    free = tuple(one for one in (*tile.form.x, *tile.form.w) if one not in ("r1", "r2", "r3"))
    late = max(tile.counts) + epilogue.temporaries > len(free)
    restore = ["ldm sp, {r0-r3}"] if tile.needs_bank else [f"ldr r0, [sp, #{_X}]", f"ldrd r2, r3, [sp, #{_Y}]"]
    return [
        *restore,
        *(
            f"sub {t}, {t}, {b}"
            for pair in range(tile.together)
            for t, b in zip(_sums(tile, 0, pair), _sums(tile, 1, pair), strict=True)
        ),
        *_results(tile, ("r3", *free) if late else free),
        *([f"ldr r3, [sp, #{_GROUPS}]"] if late else []),
        "subs r3, r3, #1",
        f"strd r2, r3, [sp, #{_Y}]",
        "bne 1b",
    ]


def _results(tile: Tile, free: tuple[str, ...]) -> Lines:
    """Epilogues and stores, output by output; the constants come as many at a time as there are registers."""
    epilogue = tile.epilogue
    room = len(free) - epilogue.temporaries
    counts = tile.counts * tile.together
    lines: Lines = []
    held: tuple[str, ...] = ()
    for number, count in enumerate(counts):
        place, pair = number % len(tile.places), number // len(tile.places)
        if count > len(held):
            held = free[: _batch(counts[number:], room)]
            lines.append(_load("r1", held))
        for position, register in enumerate(_sums(tile, place, pair)):
            lines += epilogue.assembly(register, SCALES[place], held[:count], free[-1])
            lines.append(_store(tile, register, number, position))
        held = held[count:]
    return lines


def _batch(counts: tuple[int, ...], room: int) -> int:
    """How many constants of the next outputs go into so many registers, none of them torn apart."""
    return max(total for total in itertools.accumulate(counts) if total <= room)


def _store(tile: Tile, register: str, output: int, position: int) -> str:
    """The first store moves y on to the next group, so the others count from there."""
    size = tile.epilogue.size
    if output == position == 0:
        return f"{tile.epilogue.store} {register}, [r2], #{tile.step * size}"
    return f"{tile.epilogue.store} {register}, [r2, #{(position * tile.distance + output - tile.step) * size}]"


def _twin(tile: Tile) -> Lines:
    counts, together = tile.counts, tile.together
    words = "" if tile.chunks is None else f", WORDS = {tile.chunk * tile.chunks}"
    bound = "words" if tile.chunks is None else "WORDS"
    taken = f"{tile.weights * (tile.chunks or 1)}" if tile.packing else bound
    tail = f"w + {2 * together} + PAIRS * {taken}"
    pointer = [f"const uint32_t *c = {tail} + {sum(counts)} * pair;"] if any(counts) else []
    advance = [f"c += {counts[0]};"] if counts[0] else []
    second = ["v = (int32_t)b;", *advance, *tile.epilogue.c(SCALES[1]), _put(tile, 1)]
    inner = [
        f"uint32_t t = w[pair], b = w[{together} + pair];",
        *_weights(tile, bound),
        "    t += (uint32_t)((int16_t)u * (int16_t)v) + (uint32_t)((int16_t)(u >> 16) * (int16_t)(v >> 16));",
        "    b += (uint32_t)((int16_t)u * (int8_t)v) + (uint32_t)((int16_t)(u >> 16) * (int8_t)(v >> 16));",
        "}",
        "int32_t v = (int32_t)(t - b);",
        *pointer,
        *tile.epilogue.c(SCALES[0]),
        _put(tile, 0),
        *([] if tile.single else second),
    ]
    return [
        f"    enum {{ POSITIONS = {tile.positions}, PAIRS = {together}{words} }};",
        "    for (; groups != 0; groups--) {",
        "        for (uint32_t pair = 0; pair < PAIRS; pair++) {",
        "            for (uint32_t p = 0; p < POSITIONS; p++) {",
        *(f"                {line}" for line in inner),
        "            }",
        "        }",
        f"        w = {tail} + {sum(counts) * together};",
        f"        y += {tile.step};",
        "    }",
    ]


def _weights(tile: Tile, bound: str) -> Lines:
    """The head of the twin's loop over words: u of x, v of weights; codes begin with their corrections."""
    first = 2 * tile.together
    if tile.packing is None:
        return [
            f"for (uint32_t k = 0; k < {bound}; k++) {{",
            f"    const uint32_t u = x[POSITIONS * k + p], v = w[{first} + PAIRS * k + pair];",
        ]
    at = packed_tile.twin_place(tile.packing, tile.chunk)
    return [
        *packed_tile.twin_corrections(tile.packing, bound, tile.word),
        f"for (uint32_t k = 0; k < {bound}; k++) {{",
        f"    const uint32_t u = {tile.word}, *const packed = w + {first} + PAIRS * ({at}) + pair;",
        *(f"    {line}" for line in packed_tile.twin_codes(tile.packing, tile.chunk)),
    ]


def _put(tile: Tile, place: int) -> str:
    at = f"{tile.distance} * p + {len(tile.places)} * pair" + (f" + {place}" if place else "")
    return f"y[{at}] = ({tile.epilogue.ctype})v;"
