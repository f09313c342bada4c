"""The GNU C++ compiler of this machine: it compiles HLS projects for C simulation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeflow.errors import ToolFailed
from edgeflow.toolchain.process import Limits, Tool, check, run

GXX = Tool("g++", "EDGEFLOW_CXX", "apt install g++ (or your system's C++ compiler)")
_LIMITS = Limits(seconds=600, memory=12 << 30)


def version() -> str:
    """The compiler's version line. Raises MissingTool."""
    done = check(run([GXX.path(), "--version"], Limits(seconds=30)), "the compiler does not answer")
    return done.stdout.decode(errors="replace").splitlines()[0].strip()


def compile_program(sources: Sequence[Path], includes: Sequence[Path], output: Path, flags: Sequence[str]) -> Path:
    """Compiles and links C++ sources for this machine. Raises MissingTool or ToolFailed with the first error."""
    argv = [GXX.path(), *flags, *(f"-I{one}" for one in includes), *map(str, sources), "-o", str(output)]
    done = run(argv, _LIMITS)
    if done.code == 0:
        return output
    errors = done.stderr.decode(errors="replace").splitlines()
    first = next((line.strip() for line in errors if "error" in line.lower()), None)
    if first:
        raise ToolFailed(f"{Path(argv[0]).name} refused the generated code: {first}", where=output.name)
    check(done, "compilation failed", where=output.name)
    return output
