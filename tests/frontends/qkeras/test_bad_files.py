"""Files that are no model, or were one: a clear error in bounded time and memory, never a traceback."""

from __future__ import annotations

import copy
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.frontends import load_model
from edgeflow.frontends.qkeras import content as content_module
from edgeflow.frontends.qkeras import import_content
from edgeflow.frontends.qkeras.content import READER, parse_content
from edgeflow.toolchain.process import Limits, run

SAVE = "\n  fix: save the model again with model.save('model.keras')"
LOAD = "\n  fix: load it in Python and save it with model.save('model.keras')"
GIVE = "\n  fix: give a model saved with model.save('model.keras')"


def failure(path: Path) -> str:
    with pytest.raises(EdgeflowError) as caught:
        load_model(path)
    return str(caught.value).replace(str(path), "FILE")


def short(error: EdgeflowError) -> None:
    """One to three lines, and no control characters for a terminal to act on."""
    lines = str(error).splitlines()
    assert 1 <= len(lines) <= 3
    assert all(line.isprintable() for line in lines)


def write(folder: Path, content: bytes, name: str = "model.keras") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.keras", b"", "FILE: the file is empty" + GIVE),
        ("a.h5", b"hello", "FILE: damaged or not a Keras model: it does not begin like a .h5 file" + GIVE),
        ("a.txt", b"hello", "FILE: not a model file; edgeflow reads .keras, .h5 and .tflite" + GIVE),
        (
            "a.tflite",
            b"\x1c\0\0\0TFL3",
            "FILE: damaged TFLite file: the model lies outside the file\n"
            "  fix: convert the model again, or copy the file again",
        ),
        (
            "a.bin",
            b"\x80\x04\x95 a pickle",
            "FILE: pickled Python objects, which can run code when they are opened: edgeflow never opens them" + LOAD,
        ),
        (
            "a.joblib",
            b"x\x9c",
            "FILE: pickled Python objects, which can run code when they are opened: edgeflow never opens them" + LOAD,
        ),
        ("a.npy", b"\x93NUMPY\x01\0", "FILE: a NumPy array, not a model" + GIVE),
        ("saved_model.pb", b"\x08", "FILE: a part of a TensorFlow SavedModel folder" + LOAD),
        ("variables.index", b"\0", "FILE: a TensorFlow checkpoint, which holds only weights" + LOAD),
        ("v.data-00000-of-00001", b"\0", "FILE: a TensorFlow checkpoint, which holds only weights" + LOAD),
        ("a.onnx", b"\x08", "FILE: an ONNX model; edgeflow reads .keras, .h5 and .tflite files" + GIVE),
        (
            "a.yaml",
            b"class_name: x",
            "FILE: YAML; edgeflow reads architectures as JSON\n  fix: save the text of model.to_json()",
        ),
        (
            "a.json",
            b"[1]",
            "FILE: damaged or not a Keras model: it does not begin like a .json file" + GIVE,
        ),
        (
            "a.keras",
            b"PK\x03\x04 and then nothing",
            "FILE: damaged or not a Keras model: broken zip archive (File is not a zip file)" + SAVE,
        ),
    ],
)
def test_not_a_model(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    assert failure(write(tmp_path, content, name)) == text


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    assert failure(tmp_path / "none.keras") == "FILE: does not exist\n  fix: check the path"
    assert failure(tmp_path) == "FILE: is a folder, not a model file" + GIVE
    (tmp_path / "saved_model.pb").touch()
    assert failure(tmp_path) == "FILE: a TensorFlow SavedModel folder, not a model file" + LOAD


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_truncated(tmp_path: Path, keras_file: Path, suffix: str) -> None:
    whole = keras_file.with_suffix(f".{suffix}").read_bytes()
    text = failure(write(tmp_path, whole[: len(whole) // 2], f"a.{suffix}"))
    assert text.startswith("FILE: damaged or not a Keras model: ")
    assert text.endswith(SAVE)
    assert len(text.splitlines()) == 2


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def test_zip_bombs(tmp_path: Path) -> None:
    bomb = archive({"config.json": b" " * (17 << 20), "model.weights.h5": b""})
    assert failure(write(tmp_path, bomb)) == (
        "FILE: damaged or not a Keras model: its config.json is larger than 16 MiB" + SAVE
    )
    bomb = archive({"config.json": b"{}", "model.weights.h5": bytes(257 << 20)})
    assert failure(write(tmp_path, bomb)) == (
        "FILE: damaged or not a Keras model: its model.weights.h5 is larger than 256 MiB" + SAVE
    )
    bomb = archive({"config.json": b"{}", "model.weights.h5": b"", "assets/a": bytes(513 << 20)})
    assert failure(write(tmp_path, bomb)) == (
        "FILE: damaged or not a Keras model: it unpacks to more than 512 MiB or 10,000 files" + SAVE
    )
    bomb = archive({"config.json": b" " * (2 << 20), "model.weights.h5": b""})
    assert failure(write(tmp_path, bomb)) == (
        "FILE: damaged or not a Keras model: its config.json unpacks to more than 200 times its size" + SAVE
    )


def test_zip_archives_that_are_no_models(tmp_path: Path) -> None:
    assert failure(write(tmp_path, archive({"a.npy": b""}))) == (
        "FILE: damaged or not a Keras model: a zip archive without config.json" + SAVE
    )
    assert failure(write(tmp_path, archive({"config.json": b"{}"}))) == (
        "FILE: damaged or not a Keras model: a zip archive without model.weights.h5" + SAVE
    )
    assert failure(write(tmp_path, archive({"archive/data.pkl": b""}), "model.pt")) == (
        "FILE: damaged or not a Keras model: it holds pickled Python objects, which edgeflow never opens" + SAVE
    )


def hdf5(fill: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def test_weights_without_a_model(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.attrs["layer_names"] = ["a"]

    assert failure(write(tmp_path, hdf5(fill), "a.h5")) == (
        "FILE: holds only weights, no model\n"
        "  fix: give the text of model.to_json() too: edgeflow import model.json --weights THIS_FILE"
    )


def test_hdf5_without_a_model(tmp_path: Path) -> None:
    assert failure(write(tmp_path, hdf5(lambda file: None), "a.h5")) == (
        "FILE: damaged or not a Keras model: it holds no Keras model" + SAVE
    )


def test_a_configuration_of_too_many_values(tmp_path: Path) -> None:
    many = archive(
        {"config.json": json.dumps(list(range(1_000_001))).encode(), "model.weights.h5": hdf5(lambda file: None)}
    )
    assert failure(write(tmp_path, many)) == (
        "FILE: damaged or not a Keras model: its configuration holds more than 1,000,000 values" + SAVE
    )


def weights_file(**dataset: Any) -> bytes:
    def fill(file: Any) -> None:
        file.create_dataset("layers/a/vars/0", **dataset)

    return archive({"config.json": b"{}", "model.weights.h5": hdf5(fill)})


def test_a_dataset_that_claims_to_be_huge(tmp_path: Path) -> None:
    bomb = weights_file(shape=(1 << 40,), dtype="f4", chunks=(1 << 10,))
    assert failure(write(tmp_path, bomb)) == (
        "FILE: damaged or not a Keras model: it holds more than 64 MiB of weights or 20,000 objects" + SAVE
    )


def test_weights_in_another_file(tmp_path: Path) -> None:
    outside = weights_file(shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)])
    assert failure(write(tmp_path, outside)) == (
        "FILE: damaged or not a Keras model: a weight is stored in another file" + SAVE
    )

    def link(file: Any) -> None:
        file["layers/a"] = h5py.ExternalLink("/etc/passwd", "/")

    linked = archive({"config.json": b"{}", "model.weights.h5": hdf5(link)})
    assert failure(write(tmp_path, linked)) == "FILE: damaged or not a Keras model: 'a' is a link" + SAVE


def test_groups_in_a_circle(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        group = file.create_group("layers/a")
        group["again"], group["and_again"] = file["layers"], file["layers"]

    text = failure(write(tmp_path, archive({"config.json": b"{}", "model.weights.h5": hdf5(fill)})))
    assert text.startswith("FILE: damaged or not a Keras model: ")


def test_text_as_weights(tmp_path: Path) -> None:
    text = failure(write(tmp_path, weights_file(data=[b"x"])))
    assert text == "FILE: damaged or not a Keras model: a weight is not an array of numbers" + SAVE


@pytest.mark.parametrize(
    "config", [b"[", b"[" * 100_000, b"3", b'{"config": []}', b'{"class_name": "Sequential"}', b"\xff"]
)
def test_broken_json(tmp_path: Path, config: bytes) -> None:
    broken = archive({"config.json": config, "model.weights.h5": hdf5(lambda file: None)})
    assert failure(write(tmp_path, broken)).startswith("FILE: damaged or not a Keras model: ")


def test_a_reader_that_hangs_crashes_or_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keras_file: Path
) -> None:
    monkeypatch.setattr(content_module, "LIMITS", Limits(seconds=1, memory=1 << 30))
    for code, text in (
        ("import time; time.sleep(60)", "reading it did not end"),
        ("import os; os.abort()", "reading it crashed or ran out of memory"),
        ("x = bytes(4 << 30)", "reading it crashed or ran out of memory"),
        ("print('not an archive')", "BadZipFile: File is not a zip file"),
    ):
        script = tmp_path / "reader.py"
        script.write_text(code)
        monkeypatch.setattr(content_module, "READER", script)
        with pytest.raises(EdgeflowError) as caught:
            load_model(keras_file)
        assert str(caught.value) == f"{keras_file}: damaged or not a Keras model: {text}" + SAVE


def mutations(whole: bytes, count: int, seed: int) -> list[bytes]:
    """Copies of a file with bytes changed, cut, repeated or zeroed."""
    rng = np.random.default_rng(seed)
    made: list[bytes] = []
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(len(data)))
            match int(rng.integers(5)):
                case 0:
                    data[at] = int(rng.integers(256))
                case 1:
                    data[at] ^= 1 << int(rng.integers(8))
                case 2:
                    data[at : at + int(rng.integers(1, 64))] = b""
                case 3:
                    data[at:at] = data[at : at + int(rng.integers(1, 64))]
                case _:
                    data[at : at + 8] = bytes([int(rng.choice((0, 255)))]) * 8
        made.append(bytes(data))
    return made


def mutated_inside(whole: bytes, count: int, seed: int) -> list[bytes]:
    """`.keras` files whose JSON or HDF5 was mutated before it was packed: no checksum stands in the way."""
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        members = {name: file.read(name) for name in ("config.json", "model.weights.h5")}
    made: list[bytes] = []
    for name, content in members.items():
        for one in mutations(content, count // 2, seed):
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as file:
                for other, kept in members.items():
                    file.writestr(other, one if other == name else kept)
            made.append(stream.getvalue())
    return made


Pair = tuple[bytes, bytes | None]
"""A model file, or an architecture and its weights."""


def check_mutations(files: list[Pair], folder: Path) -> dict[str, int]:
    """Reads and imports each; counts what became of them."""
    for number, (data, weights) in enumerate(files):
        (folder / f"{number:06}.bin").write_bytes(data)
        if weights is not None:
            (folder / f"{number:06}.weights").write_bytes(weights)
    script = Path(__file__).with_name("many.py")
    finished = run([sys.executable, "-I", str(script), str(READER), str(folder)], Limits(seconds=5 + 5 * len(files)))
    assert finished.code == 0, finished.last_words()
    ends = {"died": 0, "unreadable": 0, "refused": 0, "imported": 0}
    for number in range(len(files)):
        out = folder / f"{number:06}.out"
        if not out.exists():
            ends["unreadable" if out.with_suffix(".bad").exists() else "died"] += 1
            continue
        try:
            import_content(parse_content(out.read_bytes(), "x"), "x")
            ends["imported"] += 1
        except EdgeflowError as error:
            short(error)
            ends["refused"] += 1
    return ends


KINDS = ["v3 keras", "v3 h5", "v3 inside", "v09 keras", "v09 h5", "v09 json"]


def mutated(kind: str, saved: Callable[[str], Path], count: int, seed: int) -> list[Pair]:
    """Mutations of a nested model's file of one kind; of a pair, in turn the architecture and the weights."""
    age, form = kind.split()
    stem = str(saved(age) / "nested")
    if form == "json":
        architecture, weights = Path(f"{stem}.json").read_bytes(), Path(f"{stem}_weights.h5").read_bytes()
        texts = mutations(architecture, count // 2, seed)
        return [
            *((text, weights) for text in texts),
            *((architecture, one) for one in mutations(weights, count // 2, seed)),
        ]
    if form == "inside":
        return [(one, None) for one in mutated_inside(Path(f"{stem}.keras").read_bytes(), count, seed)]
    return [(one, None) for one in mutations(Path(f"{stem}.{form}").read_bytes(), count, seed)]


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind: str, tmp_path: Path, saved: Callable[[str], Path]) -> None:
    ends = check_mutations(mutated(kind, saved, 100, 11), tmp_path)
    assert sum(ends.values()) == 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutated_files(kind: str, seed: int, tmp_path: Path, saved: Callable[[str], Path]) -> None:
    ends = check_mutations(mutated(kind, saved, 1000, 100 + seed), tmp_path)
    assert sum(ends.values()) == 1000


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_mutated_files_through_the_front_door(suffix: str, tmp_path: Path, keras_file: Path) -> None:
    whole = keras_file.with_suffix(f".{suffix}").read_bytes()
    for data in mutations(whole, 6, 5):
        try:
            load_model(write(tmp_path, data, f"a.{suffix}"))
        except EdgeflowError as error:
            short(error)


def mutated_json(config: Any, rng: np.random.Generator) -> Any:
    """A configuration with one to three of its values replaced, removed or swapped."""
    config = json.loads(json.dumps(config))
    odd: list[Any] = [None, -1, 0, 1, 1.5, 1e308, 10**30, "", "x", "linear", [], {}, [None], True, float("nan")]
    for _ in range(int(rng.integers(1, 4))):
        places: list[tuple[Any, Any]] = []
        stack = [config]
        while stack:
            value = stack.pop()
            keys = list(value) if isinstance(value, dict) else range(len(value))
            for key in keys:
                places.append((value, key))
                if isinstance(value[key], (dict, list)):
                    stack.append(value[key])
        if not places:
            return config
        holder, key = places[int(rng.integers(len(places)))]
        if rng.random() < 0.15:
            del holder[key]
        elif rng.random() < 0.3:
            other, name = places[int(rng.integers(len(places)))]
            holder[key] = json.loads(json.dumps(other[name])) if name in other or isinstance(other, list) else None
        else:
            holder[key] = copy.deepcopy(odd[int(rng.integers(len(odd)))])
    return config


def check_json_mutations(small: content_module.Content, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        try:
            config = mutated_json(small.config, rng)
        except (IndexError, KeyError, TypeError):
            continue
        try:
            import_content(content_module.Content(small.format, config, small.arrays), "x")
        except EdgeflowError as error:
            short(error)


CONFIGURATIONS = [("v3", "nested.keras"), ("v09", "nested.h5"), ("v09", "ends.h5"), ("v3", "frozen.h5")]


def test_mutated_configurations(small: content_module.Content, saved: Callable[[str], Path]) -> None:
    check_json_mutations(small, 200, 1)
    for seed, (age, name) in enumerate(CONFIGURATIONS):
        check_json_mutations(content_module.read_content(saved(age) / name), 40, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("age", "name"), CONFIGURATIONS)
def test_many_mutated_configurations(age: str, name: str, seed: int, saved: Callable[[str], Path]) -> None:
    check_json_mutations(content_module.read_content(saved(age) / name), 2000, 50 + seed)
