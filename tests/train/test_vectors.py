"""Test vectors and samples as files."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.vectors import NO_INTEGER, Judgement, Rounded, read_inputs, read_vectors, write_vectors

Arrays = dict[str, npt.NDArray[np.float32]]
X, Y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([[0.5], [-1.0]], np.float32)
MAKE = "\n  fix: make it with: edgeflow predict STUDENT --data F -o D"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "vectors.npz"
    write_vectors(path, {"a/b": X}, {"out": Y, "other": X}, np.array([1, 0]))
    vectors = read_vectors(path)
    assert (list(vectors.inputs), list(vectors.outputs), vectors.samples) == (["a/b"], ["out", "other"], 2)
    assert np.array_equal(vectors.inputs["a/b"], X)
    assert np.array_equal(vectors.outputs["out"], Y)
    assert vectors.labels is not None
    assert vectors.labels.tolist() == [1, 0]
    with np.load(path) as archive:
        assert sorted(archive.files) == ["input/a/b", "labels", "output/other", "output/out"]
    first = path.read_bytes()
    write_vectors(path, {"a/b": X}, {"out": Y, "other": X}, np.array([1, 0]))
    assert path.read_bytes() == first
    write_vectors(path, {"i": X}, {"o": Y})
    assert read_vectors(path).labels is None


def test_a_judgement_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npz"
    layers = {"outer/conv": Rounded(12, 3, 1, 1, 2, -5, NO_INTEGER), "o": Rounded(4)}
    write_vectors(path, {"i": X}, {"o": Y}, judgement=Judgement({"o": Y + 1}, layers))
    found = read_vectors(path)
    assert found.judgement is not None
    assert found.judgement.layers == layers
    assert np.array_equal(found.judgement.reals["o"], Y + 1)
    assert np.array_equal(found.outputs["o"], Y)


def test_batches_of_a_layer_add_up_and_keep_the_first_fault() -> None:
    none, one, two = Rounded(10, 2), Rounded(10, 4, 1, 3, 4, 5, 6), Rounded(10, 5, 2, 7, 8, 9, 10)
    assert none + one + two == Rounded(30, 11, 3, 3, 4, 5, 6)
    assert none + none == Rounded(20, 4)


BAD: dict[str, tuple[Arrays, str]] = {
    "a judgement": (
        {"input/i": X, "output/o": Y, "real/o": Y, "rounded/conv": X},
        '"rounded/conv" is no judgement of a layer' + MAKE,
    ),
    "no inputs": ({"output/o": Y}, "holds no inputs, so these are no test vectors" + MAKE),
    "no outputs": ({"input/i": X}, "holds no outputs, so these are no test vectors" + MAKE),
    "something else": ({"x": X}, 'holds "x", which is no part of test vectors' + MAKE),
    "unequal": (
        {"input/i": X, "output/o": Y[:1]},
        '"input/i" has 2 samples, "output/o" 1\n  fix: give each the same number',
    ),
    "labels": (
        {"input/i": X, "output/o": Y, "labels": X},
        "labels is float32 of shape (2, 3), not integers of shape (2,)\n"
        "  fix: give one class number a sample, not one-hot rows",
    ),
    "text": (
        {"input/i": np.array(["a", "b"]), "output/o": Y},  # type: ignore[dict-item]
        '"input/i" is <U1 of shape (2,), not numbers with samples along the first axis\n'
        "  fix: give floats or integers of shape (samples, ...)",
    ),
}


@pytest.mark.parametrize(("arrays", "expected"), BAD.values(), ids=BAD)
def test_files_of_another_kind(arrays: Arrays, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(EdgeflowError) as caught:
        read_vectors(path)
    assert str(caught.value) == f"{path}: {expected}"


def npy(array: npt.NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_damaged_and_hostile_files(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    with pytest.raises(EdgeflowError) as caught:
        read_vectors(path)
    assert str(caught.value) == f"{path}: no such file{MAKE}"
    write_vectors(path, {"i": X}, {"o": Y})
    good = path.read_bytes()
    huge = npy(X).replace(b"(2, 3)", b"(2000000000, 300000)")
    contents = [good[:60], good[:-30], b"", b"text", npy(X)]
    for member in (npy(np.array([{}])), huge, npy(X)[:90], npy(X)[:20], b"\x93NUMPY\x09\x00"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("input/i.npy", member)
        contents.append(stream.getvalue())
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(EdgeflowError) as caught:
            read_vectors(path)
        assert str(caught.value).startswith(f"{path}: cannot be read as .npz: ")
        assert str(caught.value).count("\n") == 1


def test_no_flipped_byte_escapes_as_another_exception(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    write_vectors(path, {"i": X}, {"o": Y}, np.array([1, 0]))
    good = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(good)
        content[random.integers(len(content))] ^= int(random.integers(1, 256))
        path.write_bytes(bytes(content))
        for read in (read_vectors, read_inputs):
            with contextlib.suppress(EdgeflowError):
                read(path)


def test_samples_come_from_npy_vectors_data_sets_and_named_arrays(tmp_path: Path) -> None:
    single = tmp_path / "x.npy"
    np.save(single, X.astype(np.float64))
    found = read_inputs(single)
    assert found.only is not None
    assert (found.only.dtype, found.only.tolist(), found.labels) == (np.float32, X.tolist(), None)

    path = tmp_path / "d.npz"
    np.savez(path, x_train=Y, y_train=[1, 2], x_test=X, y_test=[4, 5])
    found = read_inputs(path)
    assert found.only is not None
    assert found.labels is not None
    assert (found.only.tolist(), found.labels.tolist()) == (X.tolist(), [4, 5])

    found = read_inputs(path, "train")
    assert found.only is not None
    assert found.labels is not None
    assert (found.only.tolist(), found.labels.tolist()) == (Y.tolist(), [1, 2])

    np.savez(path, x_train=Y, y_train=[[1], [2]])
    for part in ("train", "test"):
        found = read_inputs(path, part)
        assert found.labels is not None
        assert found.labels.tolist() == [1, 2]

    np.savez(path, x=X, y=[4, 5])
    found = read_inputs(path)
    assert found.only is not None
    assert found.labels is not None
    assert (found.only.tolist(), found.labels.tolist()) == (X.tolist(), [4, 5])

    np.savez(path, left=X, right=Y, labels=[0, 1])
    found = read_inputs(path)
    assert (list(found.named), found.only) == (["left", "right"], None)

    np.savez(path, x=X)
    assert read_inputs(path).only is not None

    np.savez(path, left=X.astype(np.int8), right=Y)
    assert read_inputs(path).stored == {"left": "int8", "right": "float32"}
    for names in ({"x": X.astype(np.int16)}, {"x_test": X.astype(np.int16), "y_test": np.array([4, 5])}):
        np.savez(path, allow_pickle=False, **names)
        assert read_inputs(path).stored == {"": "int16"}

    write_vectors(path, {"image": X}, {"out": Y})
    assert list(read_inputs(path).named) == ["image"]

    np.savez(path, labels=[0, 1])
    with pytest.raises(EdgeflowError) as caught:
        read_inputs(path)
    assert str(caught.value) == (
        f"{path}: holds no samples\n  fix: give a .npy file with one array, or an .npz file with x_test "
        "or one array an input"
    )
    single.write_bytes(b"text")
    with pytest.raises(EdgeflowError, match=r"x\.npy: cannot be read as \.npy: "):
        read_inputs(single)
