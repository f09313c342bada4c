"""Everything that edgeflow writes: a bundle of files first, then a temporary folder, then one rename."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from edgeflow.errors import EdgeflowError

MANIFEST = "edgeflow.json"


@dataclass(frozen=True)
class Bundle:
    """Generated files as data: relative POSIX path -> content. Nothing is on disk yet."""

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        for name in self.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
                raise ValueError(f"a bundle holds relative paths only, not {name!r}")
        object.__setattr__(self, "files", MappingProxyType(dict(sorted(self.files.items()))))

    @property
    def digest(self) -> str:
        """SHA-256 over all names and contents, in name order."""
        total = hashlib.sha256()
        for name, content in self.files.items():
            total.update(f"{name}\0{len(content)}\0".encode())
            total.update(content)
        return total.hexdigest()


def sha256(content: bytes) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turns an operating system error on `path` (full disk, no permission) into an EdgeflowError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise EdgeflowError(
            f"cannot write: {reason}",
            where=str(path),
            fix="free some space or choose another output path; what was there before is unchanged",
        ) from None


def write_file(path: Path, content: bytes) -> None:
    """Writes one file whole or not at all (temporary file, fsync, rename)."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def remove_file(path: Path) -> None:
    """Removes a file of edgeflow's own, if it is there."""
    with disk_errors(path):
        path.unlink(missing_ok=True)


def write_json(path: Path, data: object) -> None:
    """Writes JSON with a trailing newline, whole or not at all."""
    write_file(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode(errors="replace"))


@contextlib.contextmanager
def new_folder(target: Path, *, force: bool = False) -> Generator[Path]:
    """Gives a temporary folder that becomes `target` in one rename when the block ends without an error.

    An existing target is an error unless it is an empty folder, or `force` is set and edgeflow made it
    (it holds `edgeflow.json`): then it is replaced. If the block fails the old target stays as it was.
    """
    check_output(target, force=force)
    with disk_errors(target):
        target = target.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        temporary.chmod(0o755)
        yield temporary
        with disk_errors(target):
            _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_output(target: Path, *, force: bool = False) -> None:
    """Raises what `new_folder` would, so that long work need not end with it."""
    with disk_errors(target):
        _refuse_foreign(target.resolve(), force=force)


def write_bundle(target: Path, bundle: Bundle, *, force: bool = False) -> None:
    """Writes a bundle as the folder `target`; see `new_folder`."""
    with new_folder(target, force=force) as folder, disk_errors(target):
        fill(folder, bundle)


def mark(folder: Path, kind: str) -> None:
    """Marks a folder that is being made as edgeflow's own, so that `--force` may replace it."""
    write_json(folder / MANIFEST, {"schema": 1, "kind": kind})


def fill(folder: Path, bundle: Bundle) -> None:
    """Writes a bundle's files into a folder that is temporary or edgeflow's own."""
    for name, content in bundle.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """A temporary folder for tools to work in, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="edgeflow-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _refuse_foreign(target: Path, *, force: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise EdgeflowError("exists and is not a folder", where=str(target), fix="choose another output path")
    if not any(target.iterdir()):
        return
    if not (target / MANIFEST).is_file():
        raise EdgeflowError(
            "the folder exists and edgeflow did not make it", where=str(target), fix="choose a new output folder"
        )
    if not force:
        raise EdgeflowError(
            "the output folder exists", where=str(target), fix="add --force to replace it, or choose another folder"
        )
    if target == Path.cwd():
        raise EdgeflowError(
            "the output folder is the one that this command runs in",
            where=str(target),
            fix="run it from another folder",
        )


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    if not any(target.iterdir()):
        for child in new.iterdir():
            child.rename(target / child.name)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
    target.rename(old / "was")
    try:
        new.rename(target)
    except BaseException:
        (old / "was").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
