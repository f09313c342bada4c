"""What all tests share."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeflow import cli

NeedTool = Callable[[str], str]


@pytest.fixture(scope="session")
def need_tool() -> NeedTool:
    """`need_tool("qemu-system-arm")` gives the program's path. Missing: skip the test, or fail it where CI=true."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{name} is not installed, and in CI every tool must be", pytrace=False)
            pytest.skip(f"{name} is not installed")
        return found

    return find


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's top folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder `tests/data`."""
    return Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Answer:
    """What a command line answered: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def edgeflow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line in this process."""

    def command(*words: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["edgeflow", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        code = left.value.code
        return Answer(code if isinstance(code, int) else 0, captured.out, captured.err)

    return command


@pytest.fixture
def student(data: Path) -> Path:
    """The trained QKeras student of the digits."""
    return data / "digits" / "student.keras"
