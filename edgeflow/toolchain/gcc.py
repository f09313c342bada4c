"""The GNU C compilers: this machine's and those for bare-metal Arm and RISC-V."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgeflow.errors import DoesNotFit, MissingTool, ToolFailed
from edgeflow.toolchain.process import Finished, Limits, Tool, check, run

HOST = Tool("gcc", "EDGEFLOW_CC", "apt install gcc (or your system's C compiler)")
ARM = Tool("arm-none-eabi-gcc", "EDGEFLOW_ARM_GCC", "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi")
RISCV = Tool(
    "riscv64-unknown-elf-gcc", "EDGEFLOW_RISCV_GCC", "apt install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf"
)
CROSS = {"arm-none-eabi": ARM, "riscv64-unknown-elf": RISCV}
"""The compilers for bare metal by the prefix of their names."""
_LIMITS = Limits(seconds=300, memory=8 << 30)
_NO_HEADER = re.compile(r"fatal error: ([\w.]+): No such file")
_CXX_LIBRARY = "apt install libstdc++-arm-none-eabi-newlib"
_OVERFLOW = re.compile(r"region `(\w+)' overflowed by (\d+) bytes")


def version(tool: Tool) -> str:
    """The compiler's version line. Raises MissingTool."""
    done = check(run([tool.path(), "--version"], Limits(seconds=30)), "the compiler does not answer")
    return done.stdout.decode(errors="replace").splitlines()[0].strip()


def compile_host(sources: Sequence[Path], include: Path, output: Path, flags: Sequence[str]) -> Path:
    """Compiles and links C sources for this machine. Raises MissingTool or ToolFailed."""
    argv = [HOST.path(), *flags, f"-I{include}", *map(str, sources), "-o", str(output)]
    _check(run(argv, _LIMITS), output)
    return output


def compile_image(
    sources: Sequence[Path], include: Path, script: Path, output: Path, flags: Sequence[str], tool: Tool = ARM
) -> Path:
    """Compiles and links a bare-metal image with a linker script, with the compiler for Arm or another one.

    Raises MissingTool, ToolFailed, or DoesNotFit when the image exceeds the script's memory.
    """
    argv = [tool.path(), *flags, f"-I{include}", f"-T{script}", *map(str, sources), "-o", str(output)]
    _check(run(argv, _LIMITS), output)
    return output


def compile_object(source: Path, include: Path, output: Path, flags: Sequence[str]) -> Path:
    """Compiles one C or C++ source for bare-metal Arm. Raises MissingTool (of C++ headers too) or ToolFailed."""
    done = run([ARM.path(), *flags, f"-I{include}", "-c", str(source), "-o", str(output)], _LIMITS)
    missing = _NO_HEADER.search(done.stderr.decode(errors="replace"))
    if missing and source.suffix == ".cc" and "." not in missing[1]:
        raise MissingTool(f"{ARM.name} has no C++ library: <{missing[1]}> is missing", fix=_CXX_LIBRARY)
    _check(done, output)
    return output


def _check(finished: Finished, output: Path) -> None:
    if finished.code == 0:
        return
    errors = finished.stderr.decode(errors="replace")
    over: dict[str, int] = {}
    for region, amount in _OVERFLOW.findall(errors):
        over[region] = max(over.get(region, 0), int(amount))
    if over:
        told = " and ".join(f"{region} by {amount:,} bytes" for region, amount in over.items())
        raise DoesNotFit(f"the linked image exceeds {told}", fix="edgeflow check shows what takes the memory")
    lines = [line for line in errors.splitlines() if not line.startswith("collect2")]
    first = next((line for line in lines if "error" in line.lower()), None)
    if first:
        name = Path(finished.argv[0]).name
        raise ToolFailed(f"{name} refused the generated code: {first.strip()}", where=output.name)
    check(finished, "compilation failed", where=output.name)
