"""Children are bounded in time, memory and output, and none outlives its call."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeflow.errors import MissingTool, ToolFailed
from edgeflow.toolchain.process import Limits, Tool, check, run, stream

QUICK = Limits(seconds=20)


def python(code: str, limits: Limits = QUICK, stdin: bytes = b""):
    return run([sys.executable, "-c", code], limits, stdin=stdin)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_input_output_and_exit_code_come_through() -> None:
    done = python("import sys; sys.stdout.write(sys.stdin.read()[::-1]); sys.exit(3)", stdin=b"abc")
    assert (done.stdout, done.code) == (b"cba", 3)


def test_a_failure_is_told_with_the_last_words() -> None:
    done = python("import sys; sys.exit('no such thing')")
    with pytest.raises(ToolFailed) as caught:
        check(done, "it did not work", where="model.c")
    name = Path(sys.executable).name
    assert str(caught.value) == f"model.c: it did not work: {name} ended with exit code 1\n  no such thing"


def test_a_signal_is_told() -> None:
    done = python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(ToolFailed, match="was ended by signal 11"):
        check(done, "it did not work")


def test_a_hanging_program_and_its_children_are_stopped(tmp_path: Path) -> None:
    code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
time.sleep(60)
"""
    with pytest.raises(ToolFailed, match=r"did not finish within 2 s and was stopped"):
        python(code, Limits(seconds=2))
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not alive(pid):
            break
        time.sleep(0.05)
    assert not alive(pid)


def test_memory_is_limited() -> None:
    done = python("x = bytearray(1 << 30)", Limits(seconds=20, memory=512 << 20))
    assert done.code != 0
    assert b"MemoryError" in done.stderr


def test_core_dumps_are_off_and_the_hard_limit_stands() -> None:
    """A sanitized program sets the hard limit that it read at its start again: lowered meanwhile, it could not."""
    told = "import time, resource; time.sleep(0.5); print(*resource.getrlimit(resource.RLIMIT_CORE))"
    finished = python(told)
    assert finished.stdout.split() == [b"0", str(resource.getrlimit(resource.RLIMIT_CORE)[1]).encode()]


def test_output_is_limited() -> None:
    with pytest.raises(ToolFailed, match="printed more than 1000 bytes"):
        python("print('x' * 2000)", Limits(seconds=20, output=1000))


def test_a_missing_program_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = Tool("no-such-gcc", "EDGEFLOW_NO_GCC", "apt install no-such-gcc")
    with pytest.raises(MissingTool) as caught:
        tool.path()
    assert str(caught.value) == (
        "no-such-gcc is not installed\n  fix: apt install no-such-gcc, or set EDGEFLOW_NO_GCC to its path"
    )
    monkeypatch.setenv("EDGEFLOW_NO_GCC", "/nowhere/gcc")
    with pytest.raises(MissingTool) as caught:
        tool.path()
    assert str(caught.value) == (
        "EDGEFLOW_NO_GCC=/nowhere/gcc is not a program\n  fix: correct or unset EDGEFLOW_NO_GCC"
    )
    monkeypatch.setenv("EDGEFLOW_NO_GCC", sys.executable)
    assert tool.path() == sys.executable


def test_ctrl_c_stops_the_child_as_well(tmp_path: Path) -> None:
    code = f"""
import sys
from edgeflow.toolchain.process import Limits, run
child = "import os, time; open({str(tmp_path / "pid")!r}, 'w').write(str(os.getpid())); time.sleep(60)"
run([sys.executable, "-c", child], Limits(seconds=60))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    for _ in range(200):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGINT)
    parent.wait(timeout=20)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not alive(pid):
            break
        time.sleep(0.05)
    assert not alive(pid)


def test_a_stream_ends_its_program_where_it_is_left() -> None:
    code = "import os; print(os.getpid(), flush=True)\nwhile True: print('more')"
    with stream([sys.executable, "-c", code], QUICK) as lines:
        pid = int(next(lines))
        assert next(lines) == b"more\n"
        assert alive(pid)
    assert not alive(pid)


def test_a_stream_that_takes_too_long_is_told() -> None:
    code = "import time; print('first', flush=True); time.sleep(60)"
    read: list[bytes] = []
    with pytest.raises(ToolFailed) as caught, stream([sys.executable, "-c", code], Limits(seconds=1)) as lines:
        read.extend(lines)
    assert read == [b"first\n"]
    assert str(caught.value).endswith("did not finish within 1 s and was stopped")


def test_a_stream_of_no_program_says_which() -> None:
    with pytest.raises(MissingTool) as caught, stream(["/nowhere/tool"], QUICK):
        pass
    assert str(caught.value) == "tool cannot be started: No such file or directory\n  fix: check /nowhere/tool"
