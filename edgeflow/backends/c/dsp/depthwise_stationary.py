"""The depthwise kernel for every other image and window: one output column at a time, in a loop, with short code.

Four channels at a time, a first pass spreads the bytes of all columns into operands on the scratch,
[column][channel][pair of rows], between pad columns that were written once. A second pass goes over the output
columns of each channel; the weights stay in registers where they have room, else they are read again and again.
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

_REGISTERS = [f"r{i}" for i in range(13)]
_Y = "lr"
_MORE, _WEIGHTS, _SCRATCH = 0, 2, 4
"""Floating-point registers, by number: constants 1 and 2, weight pointer and end, first operand and end of columns."""
_BASE, _SAVED_Y, _LIMIT = 6, 7, 8
"""The last column inside the image, y while operands are made, the first operand behind those of four channels."""
_POST = 255
"""The largest step of a load or store that moves its pointer."""
_FAR_PAIR = 1020
"""The largest offset of LDRD and STRD."""
_MANY, _FEW_TAPS = 8, 9
"""From so many output columns on, and up to so many taps, two columns are written out: a loop's end less for each."""


@dataclass(frozen=True)
class _Registers:
    """Who lives where in the loop over output columns; r0 holds the addend.

    `weights` are those of all columns of taps where they are `resident`, else those of one. `constant` is also the
    first operand where it is `shared`: then it is moved in behind the products of each output column.
    """

    constant: str
    weights: tuple[str, ...]
    resident: bool
    operands: tuple[str, ...]
    sums: tuple[str, ...]
    operand_pointer: str
    weight_pointer: str
    shared: bool

    @property
    def free(self) -> tuple[str, ...]:
        """Registers behind those of the weights that nothing needs before the columns."""
        return (*self.operands[self.shared :], *self.sums)


def _allocate(shape: Depthwise, epilogue: Epilogue, resident: bool, shared: bool) -> _Registers | None:
    """Registers r1 to r12; r0 holds the addend. None where they do not suffice."""
    constant = 1 if epilogue.constants or epilogue.temporaries else 0
    weights = len(shape.words) * (shape.kernel[1] if resident else 1)
    pointers, operands = 1 if resident else 2, shape.pairs - shared
    if constant + weights + operands + shape.rows + pointers > len(_REGISTERS) - 1:
        return None
    names = iter(_REGISTERS[1:])

    def take(count: int) -> tuple[str, ...]:
        return tuple(next(names) for _ in range(count))

    first = take(constant)
    held, others, sums = take(weights), take(operands), take(shape.rows)
    own = (*first, *others) if shared else others
    return _Registers("".join(first), held, resident, own, sums, next(names), "" if resident else next(names), shared)


def _registers(shape: Depthwise, epilogue: Epilogue) -> _Registers | None:
    """Weights stay in registers where they can, even if the only constant cannot."""
    found = _allocate(shape, epilogue, True, False)
    if found is None and epilogue.constants <= 1 and epilogue.constants + epilogue.temporaries == 1:
        found = _allocate(shape, epilogue, True, True)
    return found or _allocate(shape, epilogue, False, False)


def _step(shape: Depthwise) -> int:
    """Bytes of a column on the scratch."""
    return 4 * QUAD * shape.pairs


def fits(shape: Depthwise, epilogue: Epilogue) -> bool:
    """Whether this kernel can make these rows."""
    lower = (shape.rows - 1) * shape.outputs * shape.channels * epilogue.size
    return (
        shape.channels >= QUAD
        and shape.inputs <= 6
        and max(lower, shape.channels * epilogue.size) <= REACH
        and (shape.kernel[1] - 1) * _step(shape) + 4 * shape.pairs <= _FAR_PAIR
        and epilogue.constants <= (3 if shape.pairs > 1 else 2)
        and (registers := _registers(shape, epilogue)) is not None
        and (shape.taps is None or (registers.resident and shape.stored <= len(registers.free)))
    )


def scratch_words(shape: Depthwise) -> int:
    """Scratch of a call."""
    return shape.span * QUAD * shape.pairs


def listing(shape: Depthwise, epilogue: Epilogue) -> Listing:
    """The kernel for (rows, w, scratch, y, quads of channels); `fits` must hold."""
    registers = _registers(shape, epilogue)
    assert registers is not None
    out = Listing()
    out.note("r0-r3: rows, w, scratch, y; then lr and s7: y, s2 and s3: w and its end, s4 and s5: a channel's operands")
    frame = shape.inputs + shape.inputs % 2
    _enter(out, shape, epilogue, push(out, 0, frame))
    _pads(out, shape)
    pointers = ", ".join(_REGISTERS[: shape.inputs])
    out.op(f"ldm r0, {{{pointers}}}", f"stm sp, {{{pointers}}}")
    with out.repeated(-(-shape.channels // QUAD)):
        out.op("1:")
        _spread(out, shape)
        with out.repeated(QUAD):
            out.op("2:")
            _channel(out, shape, epilogue, registers)
        # y is kept here while the next operands are made
        out.op(f"vmov s{_SAVED_Y}, {_Y}")
        out.note("back to the first operand for the next four channels")
        step = _step(shape)
        out.op(f"vmov r0, r1, s{_SCRATCH}, s{_SCRATCH + 1}", f"subw r0, r0, #{step}", f"subw r1, r1, #{step}")
        out.op(f"vmov s{_SCRATCH}, s{_SCRATCH + 1}, r0, r1")
        out.op(f"vmov r0, r1, s{_WEIGHTS}, s{_WEIGHTS + 1}", "cmp r0, r1", "bne 1b")
    pop(out, 0, frame)
    return out


def _enter(out: Listing, shape: Depthwise, epilogue: Epilogue, argument: int) -> None:
    """Pointers where the loops look for them."""
    quad, step = QUAD * words_a_channel(shape, epilogue) * 4, _step(shape)
    out.op(f"vmov s{_SAVED_Y}, r3", f"ldr r4, [sp, #{argument}]", f"movw r5, #{quad}", "mla r4, r4, r5, r1")
    out.op(f"vmov s{_WEIGHTS}, s{_WEIGHTS + 1}, r1, r4", "mov r4, r2")
    out.add("r4", shape.outputs * shape.stride[1] * step - 4 * shape.pairs, "r5")
    out.op(f"vmov s{_SCRATCH}, s{_SCRATCH + 1}, r2, r4", f"addw r4, r2, #{step}", f"vmov s{_LIMIT}, r4")
    out.op("mov r4, r2")
    out.add("r4", (shape.before + shape.inside - 1) * step, "r5")
    out.op(f"vmov s{_BASE}, r4")


def _pads(out: Listing, shape: Depthwise) -> None:
    """Writes the pad columns, which stay; r2 is the scratch and r4 the last column inside the image."""
    step = _step(shape)
    if shape.before or shape.after:
        out.note("pad columns")
        out.op(f"mov r5, #{shape.pad * 0x10001}")
    if shape.after:
        out.op(f"add r4, #{step}")
    for base, columns in (("r2", shape.before), ("r4", shape.after)):
        out.op(*(f"strd r5, r5, [{base}, #{offset}]" for offset in range(0, columns * step, 8)))


def _spread(out: Listing, shape: Depthwise) -> None:
    """Makes the operands of four channels from the bytes of all columns, from right to left."""
    rows = shape.inputs
    pointers, scratch, index = _REGISTERS[:rows], _REGISTERS[rows], _REGISTERS[rows + 1]
    temporaries = [*_REGISTERS, _Y][rows + 2 :][:6]
    out.note("four channels: bytes a0 a1 a2 a3 above b0 b1 b2 b3 become four operands, from right to left")
    out.op(f"ldm sp, {{{', '.join(pointers)}}}", f"vmov {scratch}, s{_BASE}")
    out.constant(index, (shape.inside - 1) * shape.channels)
    with out.repeated(shape.inside):
        out.op("3:")
        firsts = list(range(0, shape.pairs, 2))
        for first in reversed(firsts):
            group = range(first, min(first + 2, shape.pairs))
            _operand_group(out, shape, group, (scratch, index), temporaries, ends=first == 0)
        if _is_immediate(shape.channels):
            out.op(f"subs {index}, {index}, #{shape.channels}", "bpl 3b")
        else:
            out.op(f"subw {index}, {index}, #{shape.channels}", f"cmp {index}, #0", "bge 3b")
    out.op(*(f"add {one}, #4" for one in pointers), f"stm sp, {{{', '.join(pointers)}}}")
    out.op(f"vmov {_Y}, s{_SAVED_Y}")


def _operand_group(
    out: Listing, shape: Depthwise, group: range, at: tuple[str, str], temporaries: list[str], *, ends: bool
) -> None:
    """One or two operands of each of four channels; with `ends` the last store moves to the column on the left."""
    scratch, index = at
    count = len(group)
    upper, high, low = temporaries[:count], temporaries[2 : 2 + count], temporaries[4 : 4 + count]
    for i, pair in enumerate(group):
        if 2 * pair + 1 < shape.inputs:
            out.op(f"ldr {upper[i]}, [r{2 * pair}, {index}]", f"ldr {high[i]}, [r{2 * pair + 1}, {index}]")
            out.op(f"pkhbt {low[i]}, {upper[i]}, {high[i]}, lsl #16")
            out.op(f"pkhtb {high[i]}, {high[i]}, {upper[i]}, asr #16")
        else:
            out.op(f"ldr {low[i]}, [r{2 * pair}, {index}]", f"lsr {high[i]}, {low[i]}, #16")
    turned = (", ror #8", "")
    for channel, (words, turn) in zip((3, 2, 1, 0), ((w, t) for w in (high, low) for t in turned), strict=True):
        results = upper if turn else words
        out.op(*(f"uxtb16 {result}, {word}{turn}" for result, word in zip(results, words, strict=True)))
        offset = 4 * (channel * shape.pairs + group.start)
        where = f"[{scratch}], #-{_step(shape)}" if ends and channel == 0 else f"[{scratch}, #{offset}]"
        out.op(f"{'strd' if count > 1 else 'str'} {', '.join(results)}, {where}")


def _is_immediate(value: int) -> bool:
    """Whether a data instruction can hold the value: 8 bits, shifted."""
    return value >> ((value & -value).bit_length() - 1) < 256


def _channel(out: Listing, shape: Depthwise, epilogue: Epilogue, registers: _Registers) -> None:
    """All outputs of a channel, and whether it was the last of the four."""
    spare = registers.operands[0]
    pointer = registers.weight_pointer or registers.operand_pointer
    out.note("one channel: its constants and weights")
    head = ["r0", *([registers.constant] if epilogue.constants else [])]
    weights, unpacked = list[str](), list[str]()
    if registers.resident:
        weights, unpacked = weight_registers(shape, registers.weights, registers.free)
    out.op(f"vmov {pointer}, s{_WEIGHTS}")
    if epilogue.constants > 1:
        out.op(f"ldm {pointer}!, {{{', '.join(head)}}}")
        out.op(f"vldm {pointer}!, {{{floats_from(_MORE, epilogue.constants - 1)}}}")
        head = []
    if head or weights:
        out.op(f"ldm {pointer}!, {{{', '.join([*head, *weights])}}}")
    if registers.resident:
        out.op(f"vmov s{_WEIGHTS}, {pointer}", *unpacked)
    if registers.shared and epilogue.constants:
        out.op(f"vmov s{_MORE}, {registers.constant}")
    elif not registers.shared:
        hold(out, epilogue, registers.constant)
    own = 4 * shape.pairs
    x, later = registers.operand_pointer, registers.sums[0]
    out.op(f"vmov {x}, {spare}, s{_SCRATCH}, s{_SCRATCH + 1}", f"add {spare}, #{own}", f"add {later}, {x}, #{own}")
    out.op(f"vmov s{_SCRATCH}, s{_SCRATCH + 1}, {later}, {spare}")
    _columns(out, shape, epilogue, registers)
    if not registers.resident:
        out.add(pointer, 4 * shape.kernel[1] * len(shape.words), spare)
        out.op(f"vmov s{_WEIGHTS}, {pointer}")
    out.add(_Y, (1 - shape.outputs * shape.channels) * epilogue.size, spare)
    out.op(f"vmov r0, s{_SCRATCH}", f"vmov r1, s{_LIMIT}", "cmp r0, r1", "bne 2b")


def _columns(out: Listing, shape: Depthwise, epilogue: Epilogue, registers: _Registers) -> None:
    """The loop over output columns, two of them a pass where that is not long."""
    twice = registers.resident and shape.outputs >= _MANY and shape.kernel[0] * shape.kernel[1] <= _FEW_TAPS
    if twice and shape.outputs % 2:
        out.op("b 4f")
    with out.repeated(shape.outputs / (2 if twice else 1)):
        out.op("3:")
        _column(out, shape, epilogue, registers)
        if twice:
            out.op("4:")
            _column(out, shape, epilogue, registers)
        x, spare = registers.operand_pointer, registers.operands[0]
        out.op(f"vmov {spare}, s{_SCRATCH + 1}", f"cmp {x}, {spare}", "bne 3b")


def _column(out: Listing, shape: Depthwise, epilogue: Epilogue, registers: _Registers) -> None:
    """An output column; then the pointer to operands is at the next one's first."""
    step, operands, addends = _step(shape), registers.operands, ["r0"] * shape.rows
    ahead = shape.stride[1] * step
    moves = ahead <= (_FAR_PAIR if shape.pairs > 1 else _POST) and step - ahead >= -_POST
    for tap in range(shape.kernel[1]):
        at = tap * step - (ahead if moves and tap else 0)
        _load(out, registers.operand_pointer, operands, at, ahead if moves and not tap else 0)
        if not registers.resident:
            out.op(f"ldm {registers.weight_pointer}!, {{{', '.join(registers.weights)}}}")
        first = tap * len(shape.words) if registers.resident else 0
        for row, target in enumerate(registers.sums):
            for product in shape.products(row):
                weight = registers.weights[first + product.word]
                out.op(product.instruction(target, operands[product.pair], weight, addends[row]))
                addends[row] = target
    if not registers.resident:
        out.add(registers.weight_pointer, -4 * shape.kernel[1] * len(shape.words), operands[0])
    _finish(out, shape, epilogue, registers)
    if not moves:
        out.op(f"addw {registers.operand_pointer}, {registers.operand_pointer}, #{ahead}")


def _load(out: Listing, pointer: str, operands: tuple[str, ...], at: int, ahead: int) -> None:
    """The operands of a column, `at` bytes from the pointer; `ahead` moves it with the last load, which is at 0."""
    if len(operands) % 2 and len(operands) > 1:
        out.op(f"ldr {operands[-1]}, [{pointer}, #{at + 4 * (len(operands) - 1)}]")
    for i in reversed(range(0, len(operands) - 1, 2)):
        where = f"[{pointer}], #{ahead}" if ahead and i == 0 else f"[{pointer}, #{at + 4 * i}]"
        out.op(f"ldrd {operands[i]}, {operands[i + 1]}, {where}")
    if len(operands) == 1:
        out.op(f"ldr {operands[0]}, [{pointer}], #{ahead}" if ahead else f"ldr {operands[0]}, [{pointer}, #{at}]")


def _finish(out: Listing, shape: Depthwise, epilogue: Epilogue, registers: _Registers) -> None:
    """Results of an output column, the lower row first; then y is at the next column."""
    constants = [registers.constant][: epilogue.constants]
    if registers.shared:
        out.op(*(f"vmov {one}, s{_MORE}" for one in constants))
        hold(out, epilogue, registers.constant)
    for i in range(epilogue.constants - 1):
        constants.append(registers.operands[i])
        out.op(f"vmov {registers.operands[i]}, s{_MORE + i}")
    column = shape.channels * epilogue.size
    for row in reversed(range(shape.rows)):
        register = registers.sums[row]
        out.op(*epilogue.assembly(register, 1, constants, registers.constant))
        if row:
            out.op(f"{epilogue.store} {register}, [{_Y}, #{shape.outputs * column}]")
        elif column <= _POST:
            out.op(f"{epilogue.store} {register}, [{_Y}], #{column}")
        else:
            out.op(f"{epilogue.store} {register}, [{_Y}]", f"addw {_Y}, {_Y}, #{column}")
