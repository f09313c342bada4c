"""What the depthwise kernels' assembly has in common: a listing, and how operands are made of bytes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from edgeflow.backends.c.dsp.depthwise_taps import Depthwise
from edgeflow.backends.c.dsp.tile_epilogue import Epilogue

QUAD = 4
"""Channels that a word of bytes holds: both kernels work through them four at a time."""
SAVED = 9
"""Words that a kernel pushes first: r4 to r11 and the return address."""
REACH = 4095
"""The largest offset of a load or store of a word or byte, and of ADDW."""


class Listing:
    """Instructions and comments in their order, to become the body of a naked function."""

    def __init__(self) -> None:
        self._lines: list[tuple[bool, str]] = []
        self._times = 1.0
        self.work = 0.0
        """Instructions that run, loops counted as often as `repeated` says."""

    @property
    def code_bytes(self) -> int:
        """Bytes of code, nearly: few instructions are short."""
        return 4 * sum(not note for note, _ in self._lines)

    def note(self, text: str) -> None:
        """A comment on what follows."""
        self._lines.append((True, text))

    def op(self, *instructions: str) -> None:
        """Instructions."""
        self._lines += [(False, one) for one in instructions]
        self.work += self._times * sum(not one.endswith(":") for one in instructions)

    @contextmanager
    def repeated(self, times: float) -> Generator[None]:
        """What is listed meanwhile is the body of a loop that runs so often."""
        before = self._times
        self._times = before * times
        yield
        self._times = before

    def constant(self, register: str, value: int) -> None:
        """register = value, 0 <= value < 2**32."""
        self.op(f"movw {register}, #{value & 0xFFFF}")
        if value >> 16:
            self.op(f"movt {register}, #{value >> 16}")

    def add(self, register: str, value: int, spare: str) -> None:
        """register += value; `spare` is spoiled where the value is too large for an instruction."""
        if abs(value) <= REACH:
            self.op(f"{'addw' if value >= 0 else 'subw'} {register}, {register}, #{abs(value)}")
            return
        self.constant(spare, abs(value))
        self.op(f"{'add' if value >= 0 else 'sub'} {register}, {register}, {spare}")

    def body(self) -> str:
        """The C text of the __asm__ statement."""
        rows = [f"        /* {text} */" if note else f'        "{text}\\n\\t"' for note, text in self._lines]
        return "\n".join(["    __asm__ volatile(", *rows, "    );"])


def words_a_channel(shape: Depthwise, epilogue: Epilogue) -> int:
    """Packed words of a channel: addend, the epilogue's constants, the weight words."""
    return 1 + epilogue.constants + shape.stored


def weight_registers(shape: Depthwise, weights: Sequence[str], free: Sequence[str]) -> tuple[list[str], list[str]]:
    """(registers to load a channel's weight words into, what then fills those of the `weights`); r0 is the addend.

    `free` registers, in ascending order, take the words that are to be unpacked.
    """
    if shape.taps is None:
        return list(weights), []
    stored = list(free[: shape.stored])
    return stored, shape.taps.unpack(stored, "r0", weights)


def hold(listing: Listing, epilogue: Epilogue, register: str) -> None:
    """What the epilogue's temporary must hold."""
    if epilogue.held:
        listing.op(f"mov {register}, #{epilogue.held}")


def floats_from(first: int, count: int) -> str:
    """A list of floating-point registers in a row."""
    return f"s{first}-s{first + count - 1}" if count > 1 else f"s{first}"


def push(listing: Listing, floats: int, frame: int) -> int:
    """Saves what the caller owns and reserves `frame` words; returns the offset of the fifth argument.

    `floats`: how many of s0 to s31 the kernel uses, in order.
    """
    listing.op("push {r4-r11, lr}")
    saved = max(0, -(-floats // 2) - 8)
    if saved:
        listing.op(f"vpush {{{floats_from(16, 2 * saved)}}}")
    listing.op(f"sub sp, #{4 * frame}")
    return 4 * (SAVED + 2 * saved + frame)


def pop(listing: Listing, floats: int, frame: int) -> None:
    """Undoes `push` and returns to the caller."""
    listing.op(f"add sp, #{4 * frame}")
    saved = max(0, -(-floats // 2) - 8)
    if saved:
        listing.op(f"vpop {{{floats_from(16, 2 * saved)}}}")
    listing.op("pop {r4-r11, pc}")
