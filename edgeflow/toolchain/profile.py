"""Where a traced call spends its instructions, function by function, and the cycles that a Cortex-M4 would take."""

from __future__ import annotations

import enum
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeflow.toolchain.elf import Symbol, SymbolKind, read_sizes
from edgeflow.toolchain.objdump import Instruction, disassemble
from edgeflow.toolchain.trace import Trace


class Kind(enum.Enum):
    """What takes its time in its own way on a Cortex-M4, and what is alike on other cores."""

    LOAD = "load"
    STORE = "store"
    MANY = "load or store of several"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    MOVE = "move between core and floating-point registers"
    BRANCH = "branch"
    OTHER = "other"


@dataclass(frozen=True)
class Spent:
    """What one function did in a traced call, what it calls not included.

    `size` is its bytes. `cycles` is a model of a Cortex-M4, not a measurement.
    """

    name: str
    size: int
    calls: int
    instructions: int
    cycles: int
    kinds: Mapping[Kind, int]


def profile(image: Path, trace: Trace) -> tuple[Spent, ...]:
    """What each function of the image did in the call, the longest first. Raises MissingTool."""
    code = disassemble(image)
    functions = [one for one in read_sizes(image).symbols if one.kind is SymbolKind.FUNCTION]
    starts = [one.address for one in functions]
    cycles = modelled_cycles(code, trace)
    inside: dict[Symbol, list[int]] = {}
    for address in trace.executed:
        inside.setdefault(functions[bisect_right(starts, address) - 1], []).append(address)
    found = [_spent(one, addresses, code, trace, cycles) for one, addresses in inside.items()]
    return tuple(sorted(found, key=lambda one: (-one.instructions, one.name)))


def _spent(
    function: Symbol,
    addresses: list[int],
    code: Mapping[int, Instruction],
    trace: Trace,
    cycles: Mapping[int, int],
) -> Spent:
    kinds = Counter[Kind]()
    for address in addresses:
        kinds[kind_of(code[address])] += trace.executed[address]
    return Spent(
        function.name,
        function.size,
        trace.executed.get(function.address, 0),
        sum(kinds.values()),
        sum(cycles[address] for address in addresses),
        kinds,
    )


def modelled_cycles(code: Mapping[int, Instruction], trace: Trace) -> Mapping[int, int]:
    """Cycles of all executions of each instruction on a Cortex-M4 without wait states.

    Arm DDI 0439, table 3-1, with a pipeline refill of two cycles and a division at its longest. A load takes one cycle
    less right behind another load whose result is not its address. What an IT block skips is counted as executed.
    """
    cycles = Counter[int]()
    for (address, after), times in trace.steps.items():
        one = code[address]
        refill = _REFILL if after != address + one.size else 0
        cycles[address] += times * (_CYCLES[kind_of(one)](one) + refill)
        if after in code and _pipelined(one, code[after]):
            cycles[after] -= times
    return {address: cycles[address] for address in trace.executed}


_REFILL = 2
_PATTERNS = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"(v?ldm|v?stm|v?push|v?pop|ldrd|strd|vldr|vstr)", Kind.MANY),
        (r"ldr", Kind.LOAD),
        (r"str", Kind.STORE),
        (r"l[bhw]u?$", Kind.LOAD),
        (r"s[bhw]$", Kind.STORE),
        (r"([us]?div|rem)", Kind.DIVIDE),
        (r"(mul|ml[as]|[us]mul|[us]ml|smm|smu|sml|smu|umaal)", Kind.MULTIPLY),
        (r"(vmov|vmrs|vmsr)", Kind.MOVE),
        (r"(b(eq|ne|l[te]|g[te])[uz]?|j|jr|jal|jalr|ret|call|tail)$", Kind.BRANCH),
        (r"(b|bl|bx|blx|cbn?z|tb[bh])(eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al|hs|lo)?(\.[nw])?$", Kind.BRANCH),
    )
)


def kind_of(instruction: Instruction) -> Kind:
    """The kind of an instruction of Armv7E-M or RV32IMAC by its mnemonic."""
    return next((kind for pattern, kind in _PATTERNS if pattern.match(instruction.mnemonic)), Kind.OTHER)


def _words(instruction: Instruction) -> int:
    """How many words a load or store of several moves: the registers of its list, a `d` register two."""
    mnemonic, operands = instruction.mnemonic, instruction.operands
    if mnemonic.startswith(("ldrd", "strd")):
        return 2
    if mnemonic.startswith(("vldr", "vstr")):
        return 2 if operands.startswith("d") else 1
    listed = operands[operands.index("{") + 1 : operands.index("}")].split(",")
    count = 0
    for one in listed:
        first, _, last = one.strip().partition("-")
        count += int(last[1:]) - int(first[1:]) + 1 if last else 1
    return 2 * count if listed[0].strip().startswith("d") else count


def _moved(instruction: Instruction) -> int:
    return 2 if instruction.operands.count(",") > 1 or re.search(r"\bd\d", instruction.operands) else 1


_CYCLES: Mapping[Kind, Callable[[Instruction], int]] = {
    Kind.LOAD: lambda _: 2,
    Kind.STORE: lambda _: 1,
    Kind.MANY: lambda one: 1 + _words(one),
    Kind.MULTIPLY: lambda _: 1,
    Kind.DIVIDE: lambda _: 12,
    Kind.MOVE: _moved,
    Kind.BRANCH: lambda one: 2 if one.mnemonic.startswith("tb") else 1,
    Kind.OTHER: lambda _: 1,
}
"""Without the refill of the pipeline behind a branch that is taken, or another write to the program counter."""


def _pipelined(first: Instruction, second: Instruction) -> bool:
    if kind_of(first) is not Kind.LOAD or kind_of(second) is not Kind.LOAD:
        return False
    loaded = first.operands.partition(",")[0].strip()
    return loaded not in re.findall(r"\w+", second.operands.partition("[")[2])
