"""Which instructions one call of a function executes under QEMU, and how often: exact, from QEMU's execution log."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeflow.errors import ToolFailed
from edgeflow.toolchain.elf import read_sizes
from edgeflow.toolchain.objdump import Instruction, disassemble
from edgeflow.toolchain.process import Limits, stream
from edgeflow.toolchain.qemu import command

Block = tuple[int, ...]
"""The addresses of instructions that run one after the other."""


@dataclass(frozen=True)
class Trace:
    """One call: how often each instruction was executed, and how often each came right after which other."""

    executed: Mapping[int, int]
    steps: Mapping[tuple[int, int], int]

    @property
    def instructions(self) -> int:
        """All instructions, skipped ones of IT blocks included."""
        return sum(self.executed.values())


def trace_call(image: Path, machine: str, work: Path, function: str, *, seconds: float) -> Trace:
    """Runs a verification image in `work` until its function of that name has returned for the first time.

    Whatever the function calls is part of it. The function must be called by an instruction that returns behind itself,
    so not by a tail call. Raises MissingTool, or ToolFailed when there is no such function, or it is not called or
    does not return within `seconds`.
    """
    entry = next((one.address for one in read_sizes(image).symbols if one.name == function), None)
    if entry is None:
        raise ToolFailed(f"the image has no function {function}", where=image.name)
    code = disassemble(image)
    blocks = _Blocks(sorted(code))
    log = ("-d", "in_asm,exec,nochain", "-D", "/dev/stdout")
    with stream((*command(image, machine), *log), Limits(seconds=seconds), cwd=work) as lines:
        runs = _first_call(lines, entry, blocks, code)
    if runs is None:
        raise ToolFailed(f"the function {function} was not called, or did not return", where=image.name)
    return _unfold(runs)


class _Blocks:
    """The blocks of QEMU's log. It prints a block's code when it translates it, right before it runs it first.

    Of that code only the extent is taken: QEMU's own disassembler does not know every instruction that QEMU runs.
    """

    def __init__(self, addresses: Sequence[int]) -> None:
        self._addresses = addresses
        self._known: dict[bytes, Block] = {}
        self._extent: tuple[int, int] | None = None

    def read(self, line: bytes) -> Block | None:
        """The block that this line says is run, empty outside of the image; None for another line."""
        if line.startswith(b"0x"):
            start = int(line[: line.index(b":")], 16)
            first = self._extent[0] if self._extent else start
            self._extent = first, start + (4 if line[_SECOND_HALF].strip() else 2)
        elif line.startswith(b"IN:"):
            self._extent = None
        elif line.startswith(b"Trace "):
            return self._run(line.split(b" ", 4)[2], line)
        return None

    def _run(self, place: bytes, line: bytes) -> Block:
        if self._extent:
            first, end = (bisect_left(self._addresses, one) for one in self._extent)
            self._known[place] = tuple(self._addresses[first:end])
            self._extent = None
        block = self._known.get(place)
        if block is None or (block and block[0] != int(line.split(b"/", 2)[1], 16)):
            raise ToolFailed(f"QEMU's log is not as expected: {line[:80].decode(errors='replace')!r}")
        return block


_SECOND_HALF = slice(18, 22)
"""Columns of the second half of an instruction of 4 bytes: `0x00000042:  f44f 737a  mov.w ...`."""


def _first_call(
    lines: Iterable[bytes], entry: int, blocks: _Blocks, code: Mapping[int, Instruction]
) -> Counter[tuple[Block, Block]] | None:
    """How often each block of the call was followed by which; the last is followed by the block behind the call."""
    runs = Counter[tuple[Block, Block]]()
    before: Block = ()
    behind: int | None = None
    for line in lines:
        if line.startswith(b"Stopped"):
            raise ToolFailed("QEMU was interrupted: its log is not exact", fix="run it again")
        block = blocks.read(line)
        if block is None:
            continue
        if not block and behind is not None:
            raise ToolFailed("the call leaves the image's code")
        if behind is not None:
            runs[before, block] += 1
            if block[0] == behind:
                return runs
        elif before and block[:1] == (entry,):
            behind = before[-1] + code[before[-1]].size
        before = block
    return None


def _unfold(runs: Mapping[tuple[Block, Block], int]) -> Trace:
    executed, steps = Counter[int](), Counter[tuple[int, int]]()
    for (block, after), times in runs.items():
        for address, follower in zip(block, (*block[1:], after[0]), strict=True):
            executed[address] += times
            steps[address, follower] += times
    return Trace(executed, steps)
