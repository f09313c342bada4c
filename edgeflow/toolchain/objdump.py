"""The instructions of a bare-metal Arm or RISC-V image, as GNU objdump names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeflow.errors import ToolFailed
from edgeflow.toolchain.elf import processor
from edgeflow.toolchain.process import Limits, Tool, check, run

OBJDUMP = Tool("arm-none-eabi-objdump", "EDGEFLOW_ARM_OBJDUMP", "apt install binutils-arm-none-eabi")
RISCV_OBJDUMP = Tool(
    "riscv64-unknown-elf-objdump", "EDGEFLOW_RISCV_OBJDUMP", "apt install binutils-riscv64-unknown-elf"
)
_TOOLS = {"EM_ARM": OBJDUMP, "EM_RISCV": RISCV_OBJDUMP}
_LINE = re.compile(r"^ *([0-9a-f]+):\t([0-9a-f]{4})( ?[0-9a-f]{4})? *\t(?!\.)(\S+)?(?:\t([^@;\n]*))?", re.MULTILINE)


@dataclass(frozen=True)
class Instruction:
    """An instruction of 2 or 4 bytes: its mnemonic in lower case and its operands, without comments.

    Both are empty for one that objdump does not know, such as CSINC of Armv8.1-M in binutils 2.40.
    """

    address: int
    size: int
    mnemonic: str
    operands: str


def disassemble(image: Path) -> Mapping[int, Instruction]:
    """The instructions of all code sections by address; literals between them are none.

    Raises MissingTool, or ToolFailed for a file that is no image.
    """
    tool = _TOOLS.get(whose := processor(image))
    if tool is None:
        raise ToolFailed(f"edgeflow knows no disassembler for {whose}", where=image.name)
    done = check(run([tool.path(), "-d", str(image)], Limits(seconds=120)), "cannot disassemble", where=image.name)
    found: dict[int, Instruction] = {}
    for place, _, second, mnemonic, operands in _LINE.findall(done.stdout.decode(errors="replace")):
        address = int(place, 16)
        found[address] = Instruction(address, 4 if second else 2, mnemonic.lower(), operands.strip())
    return found
