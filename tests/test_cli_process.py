"""The command line as a process: what a full disk, a closed pipe and Ctrl-C leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_internal_error(student: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgeflow.cli", "inspect", student], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write: no space left on the device\n  fix: free some space\n")


def test_a_closed_pipe_is_no_answer_of_no(student: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "edgeflow.cli", "inspect", student], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.close()
        assert child.wait(60) == 0


def test_ctrl_c_leaves_the_old_output_whole(student: Path, tmp_path: Path) -> None:
    """SIGINT while the new folder is being written: the old one stays, no temporary folder is left."""
    graph = tmp_path / "graph"
    command = [sys.executable, "-m", "edgeflow.cli", "import", str(student), "-o", str(graph), "--force"]
    subprocess.run(command, check=True, capture_output=True)
    before = {path.name: path.read_bytes() for path in graph.iterdir()}
    slow = (
        "import sys, time, edgeflow.artifacts as a\n"
        "real = a.fill\n"
        "def fill(folder, bundle):\n"
        "    real(folder, bundle)\n"
        "    open(sys.argv.pop(), 'w').close()\n"
        "    time.sleep(30)\n"
        "a.fill = fill\n"
        "from edgeflow.cli import main\n"
        "main()\n"
    )
    flag = tmp_path / "writing"
    words = ["import", str(student), "-o", str(graph), "--force"]
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; flag = {str(flag)!r}; sys.argv[1:] = {words!r}\n" + slow.replace("sys.argv.pop()", "flag"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(400):
        if flag.exists():
            break
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert err == "\nstopped: nothing is half-written; the same command goes on from here\n"
    assert {path.name: path.read_bytes() for path in graph.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "writing"]
