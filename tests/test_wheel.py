"""The built wheel is complete: installed alone in a clean environment, it finds its boards from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

# One worker builds and installs once for all of these.
pytestmark = pytest.mark.xdist_group("wheel")

COPIED = ("pyproject.toml", "README.md", "LICENSE", "edgeflow", "boards", "templates")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program that must succeed, without what points Python at this checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what belongs to it."""
    source = tmp_path_factory.mktemp("source")
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=source)
    (built,) = (source / "dist").glob("edgeflow-*.whl")
    return built


def test_the_wheel_holds_boards_and_templates(wheel: Path, root: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("boards", "templates"):
        files = [path.relative_to(root).as_posix() for path in (root / folder).rglob("*") if path.is_file()]
        assert files
        assert {f"edgeflow/_data/{name}" for name in files} <= names
    assert "edgeflow/py.typed" in names


def test_the_wheel_holds_edgeflow_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"edgeflow"}


@pytest.fixture(scope="module")
def environment(wheel: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean virtual environment with the wheel and its core dependencies, nothing else."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd=root)
    python = folder / "bin" / "python"
    install = ("install", "-q", "--disable-pip-version-check", "-c", root / "constraints.txt", wheel)
    run(python, "-m", "pip", *install, cwd=folder)
    return folder


def test_boards_come_from_the_installed_wheel(environment: Path, root: Path, tmp_path: Path) -> None:
    code = "import edgeflow.board as b; print(b.__file__, *b.board_files().values(), sep='\\n')"
    module, *boards = run(environment / "bin" / "python", "-c", code, cwd=tmp_path).stdout.splitlines()
    assert Path(module).is_relative_to(environment)
    assert [Path(path).name for path in boards] == sorted(path.name for path in (root / "boards").glob("*.toml"))
    assert all(Path(path).is_relative_to(environment) for path in boards)


def test_the_command_lists_the_boards(environment: Path, root: Path, tmp_path: Path) -> None:
    listed = run(environment / "bin" / "edgeflow", "boards", cwd=tmp_path).stdout
    for path in (root / "boards").glob("*.toml"):
        assert path.stem in listed
