"""A small saved model and its parsed content, shared by the tests that need no TensorFlow."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeflow.frontends.qkeras.content import Content, read_content

DATA = Path(__file__).parent / "data"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="session")
def keras_file() -> Path:
    return DATA / "small.keras"


@pytest.fixture(scope="session")
def h5_file() -> Path:
    return DATA / "small.h5"


@pytest.fixture(scope="session")
def small(keras_file: Path) -> Content:
    return read_content(keras_file)


@pytest.fixture(scope="session")
def edited(small: Content) -> Callable[[Edit], Content]:
    """The small model's content after `edit` changed its configuration, a dict of layers by name."""

    def change(edit: Edit) -> Content:
        config: Any = json.loads(json.dumps(small.config))
        edit({layer["config"]["name"]: layer for layer in config["config"]["layers"]} | {"": config})
        return replace(small, config=config)

    return change


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Callable[[str], Path]:
    """The folder of all model files of one age ("v3": qkeras-v3, "v09": QKeras 0.9), unpacked once."""
    folders: dict[str, Path] = {}

    def unpacked(age: str) -> Path:
        if age not in folders:
            folders[age] = tmp_path_factory.mktemp(age)
            with tarfile.open(data / "qkeras" / f"{age}.tar.xz") as archive:
                archive.extractall(folders[age], filter="data")
        return folders[age]

    return unpacked
