"""What all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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
