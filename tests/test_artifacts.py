"""Nothing is half-written, nothing foreign is replaced."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgeflow import artifacts
from edgeflow.artifacts import MANIFEST, Bundle, mark, new_folder, write_bundle, write_file
from edgeflow.errors import EdgeflowError

BUNDLE = Bundle({"a/b.txt": b"1", MANIFEST: b"{}"})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "a\\b"])
def test_a_bundle_refuses_paths_that_lead_out(path: str) -> None:
    with pytest.raises(ValueError, match="a bundle holds relative paths only"):
        Bundle({path: b""})


def test_a_bundle_has_one_digest_whatever_the_order() -> None:
    assert Bundle({"x": b"1", "y": b"2"}).digest == Bundle({"y": b"2", "x": b"1"}).digest
    assert Bundle({"x": b"12", "y": b""}).digest != Bundle({"x": b"1", "y": b"2"}).digest


def test_a_bundle_becomes_a_folder(tmp_path: Path) -> None:
    write_bundle(tmp_path / "out", BUNDLE)
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"1"
    assert names(tmp_path) == ["out"]


def test_an_existing_output_folder_is_left_alone(tmp_path: Path) -> None:
    write_bundle(tmp_path / "out", BUNDLE)
    with pytest.raises(EdgeflowError) as caught:
        write_bundle(tmp_path / "out", Bundle({"c": b""}))
    assert str(caught.value) == (
        f"{tmp_path / 'out'}: the output folder exists\n  fix: add --force to replace it, or choose another folder"
    )
    assert names(tmp_path / "out") == ["a", MANIFEST]


def test_force_replaces_only_what_edgeflow_made(tmp_path: Path) -> None:
    write_bundle(tmp_path / "out", BUNDLE)
    write_bundle(tmp_path / "out", Bundle({"c": b"", MANIFEST: b"{}"}), force=True)
    assert names(tmp_path / "out") == ["c", MANIFEST]
    foreign = tmp_path / "home"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(EdgeflowError) as caught:
        write_bundle(foreign, BUNDLE, force=True)
    assert str(caught.value) == (
        f"{foreign}: the folder exists and edgeflow did not make it\n  fix: choose a new output folder"
    )
    assert names(foreign) == ["thesis.tex"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EdgeflowError, match="exists and is not a folder"):
        write_bundle(tmp_path / "out", BUNDLE, force=True)


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_bundle(tmp_path / "out", BUNDLE)
    assert names(tmp_path / "out") == ["a", MANIFEST]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_a_run_that_dies_leaves_the_old_output_whole(
    failure: BaseException | type[BaseException], tmp_path: Path
) -> None:
    write_bundle(tmp_path / "out", BUNDLE)

    def dies() -> None:
        with new_folder(tmp_path / "out", force=True) as folder:
            (folder / "half").write_bytes(b"x")
            raise failure

    with pytest.raises((KeyboardInterrupt, OSError)):
        dies()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"1"


def test_a_failed_rename_puts_the_old_output_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "out", BUNDLE)
    real, calls = os.rename, 0

    def second_fails(source: str | Path, target: str | Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(artifacts.os, "rename", second_fails)
    with pytest.raises(EdgeflowError, match="cannot write: No space left on device"):
        write_bundle(tmp_path / "out", Bundle({"new": b"", MANIFEST: b"{}"}), force=True)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["a", MANIFEST]


def test_a_full_disk_is_told_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "run.json", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifacts.os, "fsync", full)
    with pytest.raises(EdgeflowError) as caught:
        write_file(tmp_path / "run.json", b"new")
    assert str(caught.value) == (
        f"{tmp_path / 'run.json'}: cannot write: No space left on device\n"
        "  fix: free some space or choose another output path; what was there before is unchanged"
    )
    assert names(tmp_path) == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == b"old"


def test_an_output_path_below_a_file_is_an_error_of_one_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeflowError, match=r"cannot write: (Not a directory|File exists)"):
        write_bundle(tmp_path / "file" / "out", BUNDLE)


def test_mark_makes_a_folder_edgeflows_own(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        mark(folder, "run")
    write_bundle(tmp_path / "out", BUNDLE, force=True)
    assert names(tmp_path / "out") == ["a", MANIFEST]
