"""The depthwise kernel for narrow images: columns stream through registers, every operand is read once.

Four channels at a time, a first pass packs the bytes of two rows into words, (a0 a1 b0 b1) and (a2 a3 b2 b3), on the
scratch. A second pass loads the words of two channels into floating-point registers and walks over the columns, all
of them unrolled: one move, an UXTB16 an operand, then the products with the weights that stay in registers. Sums of
the outputs under the window rotate through the accumulators; an output is finished in the column that ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeflow.backends.c.dsp.depthwise_listing import (
    QUAD,
    REACH,
    Listing,
    floats_from,
    hold,
    pop,
    push,
    weight_registers,
    words_a_channel,
)
from edgeflow.backends.c.dsp.depthwise_taps import Depthwise
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue

COLUMNS = 6
"""The widest image that is unrolled; code grows by about 210 bytes a column."""
_REGISTERS = [f"r{i}" for i in range(13)]
_Y = "lr"
_ADDENDS, _MORE, _WEIGHTS, _OPERANDS = 0, 2, 4, 8
"""Floating-point registers, by number: the addend (twice), constants 1 and 2, weight pointer and end; operands."""
_SCRATCH = 6
"""The scratch pointer and its end."""
_FLOATS = 32


@dataclass(frozen=True)
class _Event:
    """Column `column` meets taps `tap` of output column `output`; whether that is its first or last meeting."""

    column: int
    output: int
    tap: int
    first: bool
    last: bool


def _events(shape: Depthwise) -> list[_Event]:
    """All meetings in order of columns; those with pads of 0 change nothing and are left out."""
    width, stride = shape.kernel[1], shape.stride[1]
    inside = range(0 if shape.pad == 0 else -shape.before, shape.inside + (0 if shape.pad == 0 else shape.after))
    events: list[_Event] = []
    for column in inside:
        for tap in reversed(range(width)):
            output, rest = divmod(column + shape.before - tap, stride)
            if rest == 0 and 0 <= output < shape.outputs:
                start = output * stride - shape.before
                first, last = max(start, inside.start), min(start + width, inside.stop) - 1
                events.append(_Event(column, output, tap, column == first, column == last))
    return events


def _slots(events: list[_Event]) -> int:
    """The most output columns that are begun and not finished at one time."""
    live = most = 0
    for event in events:
        live += event.first
        most = max(most, live)
        live -= event.last
    return most


@dataclass(frozen=True)
class _Registers:
    """Who lives where while the columns stream.

    `addend` is None where no register was left: then it is moved in from a floating-point register, and the first
    accumulator is where it arrives.
    """

    addend: str | None
    constant: str
    weights: tuple[str, ...]
    operands: tuple[str, ...]
    sums: tuple[tuple[str, ...], ...]

    @property
    def free(self) -> tuple[str, ...]:
        """Registers behind those of the weights that nothing needs before the columns, but for the first operand."""
        return tuple(one for one in (*self.operands[1:], *(one for own in self.sums for one in own)) if one != "r0")


def _allocate(shape: Depthwise, epilogue: Epilogue) -> _Registers | None:
    """Registers r0 to r12 for all, None where they do not suffice."""
    constant = 1 if epilogue.constants or epilogue.temporaries else 0
    weights = shape.kernel[1] * len(shape.words)
    slots = _slots(_events(shape))
    fixed = 1 + constant + weights + shape.pairs
    resident = fixed + slots * shape.rows <= len(_REGISTERS)
    if fixed - 1 + slots * shape.rows > len(_REGISTERS):
        return None
    rest = _REGISTERS[1 + constant + weights :]
    operands, rest = tuple(rest[: shape.pairs]), rest[shape.pairs :]
    accumulators = rest if resident else ["r0", *rest]
    sums = tuple(tuple(accumulators[i * shape.rows : (i + 1) * shape.rows]) for i in range(slots))
    names = tuple(_REGISTERS[1 + constant :][:weights])
    return _Registers("r0" if resident else None, "r1" if constant else "", names, operands, sums)


def fits(shape: Depthwise, epilogue: Epilogue) -> bool:
    """Whether this kernel can make these rows: registers, offsets and a bearable length of code."""
    farthest = (shape.rows * shape.outputs - 1) * shape.channels * epilogue.size
    return (
        shape.channels >= QUAD
        and shape.inputs <= 5
        and shape.inside <= COLUMNS
        and _OPERANDS + shape.inside * shape.pairs <= _FLOATS
        and max(farthest, (shape.inside - 1) * shape.channels) <= REACH
        and epilogue.constants <= (3 if shape.pairs > 1 else 1)
        and (registers := _allocate(shape, epilogue)) is not None
        and (shape.taps is None or shape.stored <= len(registers.free))
    )


def scratch_words(shape: Depthwise) -> int:
    """Scratch of a call."""
    return 2 * shape.inside * shape.pairs


def listing(shape: Depthwise, epilogue: Epilogue) -> Listing:
    """The kernel for (rows, w, scratch, y, quads of channels); `fits` must hold."""
    registers = _allocate(shape, epilogue)
    assert registers is not None
    out = Listing()
    out.note("r0-r3: rows, w, scratch, y; then lr: y, s4 and s5: w and its end, s6 and s7: scratch and its end")
    floats = _OPERANDS + shape.inside * shape.pairs
    frame = shape.inputs + shape.inputs % 2
    _enter(out, shape, epilogue, push(out, floats, frame))
    first, second = _REGISTERS[:2]
    with out.repeated(-(-shape.channels // QUAD)):
        out.op("1:")
        _pack(out, shape)
        out.note("two channels at a time: their words")
        with out.repeated(QUAD // 2):
            out.op("2:")
            out.op(
                f"vmov {first}, {second}, s{_SCRATCH}, s{_SCRATCH + 1}",
                f"vldm {first}!, {{{floats_from(_OPERANDS, floats - _OPERANDS)}}}",
            )
            out.op(f"vmov s{_SCRATCH}, {first}", f"cmp {first}, {second}")
            _channel(out, shape, epilogue, registers, "")
            _channel(out, shape, epilogue, registers, ", ror #8")
            out.note("the flags are still those of the scratch pointer")
            out.op("bne 2b")
        out.op(
            f"vmov {first}, s{_SCRATCH + 1}", f"sub {first}, #{4 * scratch_words(shape)}", f"vmov s{_SCRATCH}, {first}"
        )
        out.op(f"vmov {first}, {second}, s{_WEIGHTS}, s{_WEIGHTS + 1}", f"cmp {first}, {second}", "bne 1b")
    pop(out, floats, frame)
    return out


def _enter(out: Listing, shape: Depthwise, epilogue: Epilogue, argument: int) -> None:
    """Pointers into the registers and the frame where the loops look for them."""
    quad = QUAD * words_a_channel(shape, epilogue) * 4
    out.op(f"ldr r4, [sp, #{argument}]", f"movw r5, #{quad}", "mla r4, r4, r5, r1")
    out.op(f"vmov s{_WEIGHTS}, s{_WEIGHTS + 1}, r1, r4", f"add r4, r2, #{4 * scratch_words(shape)}")
    out.op(f"vmov s{_SCRATCH}, s{_SCRATCH + 1}, r2, r4", f"mov {_Y}, r3")
    pointers = ", ".join(_REGISTERS[: shape.inputs])
    out.op(f"ldm r0, {{{pointers}}}", f"stm sp, {{{pointers}}}")


def _pack(out: Listing, shape: Depthwise) -> None:
    """Packs the bytes of four channels on the scratch: two lists, [column][pair of rows], of two channels each."""
    rows, pairs = shape.inputs, shape.pairs
    pointers, scratch, upper = _REGISTERS[:rows], _REGISTERS[rows], _REGISTERS[rows + 1]
    low = _REGISTERS[rows + 2 :][:pairs]
    high = _REGISTERS[rows + 2 + pairs :][:pairs]
    out.note("four channels: bytes a0 a1 a2 a3 above b0 b1 b2 b3 become a0 a1 b0 b1 and a2 a3 b2 b3")
    out.op(f"ldm sp, {{{', '.join(pointers)}}}", f"vmov {scratch}, s{_SCRATCH}")
    for column in range(shape.inside):
        # The first load leaves its pointer at the next four channels.
        at = [f"[{one}], #4" if column == 0 else f"[{one}, #{column * shape.channels - 4}]" for one in pointers]
        for pair in range(pairs):
            upward, downward = 2 * pair, 2 * pair + 1
            if downward < rows:
                out.op(f"ldr {upper}, {at[upward]}", f"ldr {high[pair]}, {at[downward]}")
                out.op(f"pkhbt {low[pair]}, {upper}, {high[pair]}, lsl #16")
                out.op(f"pkhtb {high[pair]}, {high[pair]}, {upper}, asr #16")
            else:
                out.op(f"ldr {low[pair]}, {at[upward]}", f"lsr {high[pair]}, {low[pair]}, #16")
        if column == 0:
            out.op(f"stm sp, {{{', '.join(pointers)}}}")
        for half, words in enumerate((low, high)):
            _store(out, words, scratch, 4 * (half * shape.inside + column) * pairs)


def _store(out: Listing, words: list[str], base: str, offset: int) -> None:
    """Stores words in a row, two at a time."""
    for i in range(0, len(words) - 1, 2):
        out.op(f"strd {words[i]}, {words[i + 1]}, [{base}, #{offset + 4 * i}]")
    if len(words) % 2:
        out.op(f"str {words[-1]}, [{base}, #{offset + 4 * (len(words) - 1)}]")


def _channel(out: Listing, shape: Depthwise, epilogue: Epilogue, registers: _Registers, turn: str) -> None:
    """All outputs of a channel: the even bytes of the words, or with a turn the odd ones."""
    pointer = registers.operands[0]
    head = ["r0", *([registers.constant] if epilogue.constants else [])]
    stored, unpacked = weight_registers(shape, registers.weights, registers.free)
    out.note(f"{'odd' if turn else 'even'} channel: its constants and weights")
    out.op(f"vmov {pointer}, s{_WEIGHTS}")
    if epilogue.constants > 1:
        more = floats_from(_MORE, epilogue.constants - 1)
        out.op(f"ldm {pointer}!, {{{', '.join(head)}}}", f"vldm {pointer}!, {{{more}}}")
        out.op(f"ldm {pointer}!, {{{', '.join(stored)}}}")
    else:
        out.op(f"ldm {pointer}!, {{{', '.join([*head, *stored])}}}")
    out.op(f"vmov s{_WEIGHTS}, {pointer}", *unpacked)
    hold(out, epilogue, registers.constant)
    if registers.addend is None:
        out.op(f"vmov s{_ADDENDS}, s{_ADDENDS + 1}, r0, r0")
    _columns(out, shape, epilogue, registers, turn)


def _columns(out: Listing, shape: Depthwise, epilogue: Epilogue, registers: _Registers, turn: str) -> None:
    events = _events(shape)
    free, held = list(registers.sums), dict[int, tuple[str, ...]]()
    fresh = False
    for i, event in enumerate(events):
        if i == 0 or events[i - 1].column != event.column:
            out.note(f"column {event.column}")
            fresh = False
        if not fresh:
            _operands(out, shape, registers, event.column, turn)
            fresh = True
        if event.first:
            held[event.output] = free.pop(0)
        sums = held[event.output]
        _multiply(out, shape, registers, event, sums)
        if event.last:
            _finish(out, shape, epilogue, registers, event.output, sums)
            free.append(held.pop(event.output))
            fresh = epilogue.constants < 2


def _operands(out: Listing, shape: Depthwise, registers: _Registers, column: int, turn: str) -> None:
    """The operands of a column: two 16-bit values each."""
    if not 0 <= column < shape.inside:
        out.op(*(f"mov {one}, #{shape.pad * 0x10001}" for one in registers.operands))
        return
    at, operands = _OPERANDS + column * shape.pairs, registers.operands
    for i in range(0, shape.pairs - 1, 2):
        out.op(f"vmov {operands[i]}, {operands[i + 1]}, s{at + i}, s{at + i + 1}")
    if shape.pairs % 2:
        out.op(f"vmov {operands[-1]}, s{at + shape.pairs - 1}")
    out.op(*(f"uxtb16 {one}, {one}{turn}" for one in operands))


def _multiply(out: Listing, shape: Depthwise, registers: _Registers, event: _Event, sums: tuple[str, ...]) -> None:
    """Adds a column of taps to the sums of an output column; the first time it begins them."""
    if event.first and registers.addend is None:
        addends = [f"s{_ADDENDS + row}" for row in range(shape.rows)]
        out.op(f"vmov {', '.join([*sums, *addends])}")
    for row, target in enumerate(sums):
        addend = registers.addend if event.first and registers.addend else target
        for product in shape.products(row):
            weight = registers.weights[event.tap * len(shape.words) + product.word]
            out.op(product.instruction(target, registers.operands[product.pair], weight, addend))
            addend = target


def _finish(
    out: Listing, shape: Depthwise, epilogue: Epilogue, registers: _Registers, output: int, sums: tuple[str, ...]
) -> None:
    """Turns sums into results and stores them; the very first store moves y on to the next channel."""
    constants = [registers.constant][: epilogue.constants]
    for i in range(epilogue.constants - 1):
        constants.append(registers.operands[i])
        out.op(f"vmov {registers.operands[i]}, s{_MORE + i}")
    for row, register in enumerate(sums):
        offset = (row * shape.outputs + output) * shape.channels * epilogue.size
        out.op(*epilogue.assembly(register, 1, constants, registers.constant))
        target = f"[{_Y}], #{epilogue.size}" if offset == 0 else f"[{_Y}, #{offset - epilogue.size}]"
        out.op(f"{epilogue.store} {register}, {target}")
