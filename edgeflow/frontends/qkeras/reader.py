"""The child that opens a Keras file: run as a script, `python -I reader.py FILE`, never imported by edgeflow.

HDF5 parsing can crash or hang on a hostile file, so it happens here, under the caller's limits. Needs only
NumPy and h5py. Nothing in the file is executed. On success an uncompressed npz goes to standard output:
`content` (UTF-8 JSON: `format`, `config`, `arrays`) and one float32 array `a<n>` an entry of `arrays`.
On failure the exit code is 3 and the last line of standard error is the reason.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np

FAILED = 3
LARGEST_CONFIG = 16 << 20
LARGEST_WEIGHTS_FILE = 256 << 20
LARGEST_ARRAYS = 64 << 20
MOST_OBJECTS = 20_000
DEEPEST = 12


class Refused(Exception):
    """The file cannot be read; the text says why."""


def read(content: bytes) -> bytes:
    """The npz for a `.keras` or `.h5` file's bytes. Raises Refused, or whatever h5py raises."""
    if content.startswith(b"PK\x03\x04"):
        kind, config, arrays = "keras", *_read_keras(content)
    else:
        kind, config, arrays = "h5", *_read_h5(content)
    index = [{name: text for name, text in entry.items() if name != "values"} for entry in arrays]
    summary = json.dumps({"format": kind, "config": config, "arrays": index}).encode()
    stream = io.BytesIO()
    members = {f"a{number}": entry["values"] for number, entry in enumerate(arrays)}
    np.savez(stream, content=np.frombuffer(summary, dtype=np.uint8), **members)
    return stream.getvalue()


def _read_keras(content: bytes) -> tuple[str, list[dict[str, Any]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = set(archive.namelist())
        if "config.json" not in names:
            raise Refused("a zip archive without config.json")
        config = _member(archive, "config.json", LARGEST_CONFIG).decode()
        if "model.weights.h5" not in names:
            raise Refused("it holds no model.weights.h5")
        weights = _member(archive, "model.weights.h5", LARGEST_WEIGHTS_FILE)
    arrays: list[dict[str, Any]] = []
    budget = Budget()
    with _open(weights) as file:
        for path, group in _groups(file, "", budget, 0):
            if path.rpartition("/")[2] != "vars" or path.startswith("optimizer"):
                continue
            name = group.attrs.get("name")
            for slot in group:
                arrays.append(
                    {
                        "key": path.removesuffix("vars").strip("/"),
                        "layer": _text(name) if name is not None else None,
                        "slot": slot,
                        "values": _array(_child(group, slot), budget),
                    }
                )
    return config, arrays


def _read_h5(content: bytes) -> tuple[str, list[dict[str, Any]]]:
    arrays: list[dict[str, Any]] = []
    budget = Budget()
    with _open(content) as file:
        if "model_config" not in file.attrs:
            what = "only weights, no model" if "layer_names" in file.attrs else "no Keras model"
            raise Refused(f"it holds {what}")
        config = _text(file.attrs["model_config"])
        if len(config) > LARGEST_CONFIG:
            raise Refused("its model_config is larger than 16 MiB")
        root = _child(file, "model_weights")
        for layer in _names(root.attrs.get("layer_names", ())):
            group = _child(root, layer)
            for path in _names(group.attrs.get("weight_names", ())):
                arrays.append(
                    {
                        "key": layer,
                        "layer": layer,
                        "slot": path.rpartition("/")[2].removesuffix(":0"),
                        "values": _array(_child(group, path), budget),
                    }
                )
    return config, arrays


class Budget:
    """Counts down what a file may still make this process hold."""

    def __init__(self) -> None:
        self.bytes = LARGEST_ARRAYS
        self.objects = MOST_OBJECTS

    def take(self, size: int) -> None:
        """Counts one object of `size` bytes. Raises Refused when the budget is spent."""
        self.objects -= 1
        self.bytes -= size
        if self.objects < 0 or self.bytes < 0:
            raise Refused("it holds more than 64 MiB of weights or 20,000 objects")


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    with archive.open(name) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise Refused(f"its {name} is larger than {most >> 20} MiB")
    return content


def _open(content: bytes) -> h5py.File:
    return h5py.File(cast(Any, h5py).h5f.open_file_image(content))


def _groups(group: Any, path: str, budget: Budget, depth: int) -> Iterator[tuple[str, Any]]:
    budget.take(0)
    yield path, group
    if depth == DEEPEST:
        raise Refused("its groups are nested too deep")
    for name in group:
        if depth == 0 and name.startswith("optimizer"):
            continue
        child = _child(group, name)
        if isinstance(child, h5py.Group):
            yield from _groups(child, f"{path}/{name}" if path else name, budget, depth + 1)


def _child(group: Any, path: str) -> Any:
    """What a path inside a group names; links that leave the file or the tree are refused."""
    inner: Any = group
    for part in [part for part in path.split("/") if part]:
        if not isinstance(inner, h5py.Group) or part not in inner:
            raise Refused(f"it names {path[:80]!r}, which it does not hold")
        if not isinstance(inner.get(part, getlink=True), h5py.HardLink):
            raise Refused(f"{path[:80]!r} is a link")
        inner = inner[part]
    return inner


def _array(dataset: Any, budget: Budget) -> Any:
    if not isinstance(dataset, h5py.Dataset) or cast(Any, dataset).dtype.kind not in "fiub":
        raise Refused("a weight is not an array of numbers")
    dataset = cast(Any, dataset)
    if dataset.external or dataset.is_virtual:
        raise Refused("a weight is stored in another file")
    if dataset.shape is None or dataset.ndim > 8:
        raise Refused("a weight has no usable shape")
    budget.take(math.prod(dataset.shape) * max(dataset.dtype.itemsize, 4))
    return np.asarray(dataset[()], dtype=np.float32)


def _names(values: Any) -> list[str]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size > MOST_OBJECTS:
        raise Refused("a list of names is malformed")
    return [_text(value) for value in array.tolist()]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    raise Refused("a name is not text")


def main(path: str) -> int:
    """Reads one file; returns the exit code."""
    try:
        result = read(Path(path).read_bytes())
    except Refused as error:
        reason = str(error)
    except zipfile.BadZipFile as error:
        reason = f"broken zip archive ({error})"
    except Exception as error:  # noqa: BLE001 - whatever a broken file makes h5py raise
        reason = f"{type(error).__name__}: {error}"
    else:
        sys.stdout.buffer.write(result)
        return 0
    sys.stderr.write(" ".join(reason.split())[:200] + "\n")
    return FAILED


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
