"""Runs one program in its own process group with limits on time, memory and output."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgeflow.errors import MissingTool, ToolFailed


@dataclass(frozen=True)
class Limits:
    """What a child may use: wall-clock seconds, bytes of address space, bytes of standard output."""

    seconds: float
    memory: int | None = None
    output: int = 64 << 20


@dataclass(frozen=True)
class Finished:
    """How a program ended. `code` is negative when a signal ended it."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    def last_words(self, lines: int = 3) -> str:
        """The last non-empty lines of its error output, for a message."""
        said = [line for line in self.stderr.decode(errors="replace").splitlines() if line.strip()]
        return "\n".join(said[-lines:])


@dataclass(frozen=True)
class Tool:
    """A program edgeflow may call: its name, the variable that overrides it, and how to install it."""

    name: str
    variable: str
    install: str

    def path(self) -> str:
        """Where the program is. Raises MissingTool with the fix."""
        named = os.environ.get(self.variable)
        found = shutil.which(named or self.name)
        if found:
            return found
        if named:
            raise MissingTool(f"{self.variable}={named} is not a program", fix=f"correct or unset {self.variable}")
        raise MissingTool(
            f"{self.name} is not installed",
            fix=f"{self.install}, or set {self.variable} to its path",
        )


def run(
    argv: Sequence[str],
    limits: Limits,
    *,
    cwd: Path | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Runs a program to its end and returns how it went, whatever its exit code.

    Raises ToolFailed when it exceeds its time or output limit, MissingTool when it cannot start.
    The whole process group is killed on a limit and on Ctrl-C.
    """
    name = Path(argv[0]).name
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(stdin)
        source.seek(0)
        try:
            child = subprocess.Popen(
                list(argv),
                cwd=cwd,
                stdin=source,
                stdout=out,
                stderr=err,
                env=None if env is None else dict(env),
                start_new_session=True,
            )
        except OSError as error:
            raise MissingTool(f"{name} cannot be started: {error.strerror}", fix=f"check {argv[0]}") from None
        try:
            _limit(child.pid, limits)
            code = child.wait(timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            raise ToolFailed(f"{name} did not finish within {limits.seconds:g} s and was stopped") from None
        finally:
            _kill_group(child)
        stdout = _read(out, limits.output)
        if stdout is None:
            raise ToolFailed(f"{name} printed more than {limits.output} bytes and was not read further")
        return Finished(tuple(argv), code, stdout, _read(err, 1 << 20, tail=True) or b"")


@contextmanager
def stream(argv: Sequence[str], limits: Limits, *, cwd: Path | None = None) -> Generator[IO[bytes]]:
    """The standard output of a program while it runs, for output too long to keep; its error output is dropped.

    The process group is killed where the block ends, and after `limits.seconds`: the output then ends early, and
    leaving the block raises ToolFailed. Raises MissingTool when the program cannot start.
    """
    name = Path(argv[0]).name
    try:
        child = subprocess.Popen(
            list(argv),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise MissingTool(f"{name} cannot be started: {error.strerror}", fix=f"check {argv[0]}") from None
    late = threading.Event()

    def stop() -> None:
        late.set()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    timer = threading.Timer(limits.seconds, stop)
    timer.start()
    assert child.stdout is not None
    try:
        _limit(child.pid, limits)
        yield child.stdout
    finally:
        timer.cancel()
        timer.join()
        _kill_group(child)
        child.stdout.close()
    if late.is_set():
        raise ToolFailed(f"{name} did not finish within {limits.seconds:g} s and was stopped")


def check(finished: Finished, what: str, *, where: str | None = None, fix: str | None = None) -> Finished:
    """Passes a success through; raises ToolFailed with the tool's last words for a failure."""
    if finished.code == 0:
        return finished
    name = Path(finished.argv[0]).name
    how = f"ended with exit code {finished.code}" if finished.code > 0 else f"was ended by signal {-finished.code}"
    words = finished.last_words()
    raise ToolFailed(f"{what}: {name} {how}" + (f"\n  {words}" if words else ""), where=where, fix=fix)


def _limit(pid: int, limits: Limits) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
        if limits.memory is not None:
            resource.prlimit(pid, resource.RLIMIT_AS, (limits.memory, limits.memory))
        # The soft limit alone: the sanitizers put the hard limit they read at their start back, and may not raise it.
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, resource.prlimit(pid, resource.RLIMIT_CORE)[1]))


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _read(stream: IO[bytes], most: int, *, tail: bool = False) -> bytes | None:
    size = stream.seek(0, os.SEEK_END)
    if size > most and not tail:
        return None
    stream.seek(max(0, size - most))
    return stream.read()
