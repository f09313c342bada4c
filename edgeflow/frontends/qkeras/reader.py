"""The child that opens a Keras file: run as a script, `python -I reader.py FILE [WEIGHTS]`, never imported by edgeflow.

HDF5 parsing can crash or hang on a hostile file, so it happens here, under the caller's limits. Needs only
NumPy and h5py. Nothing in the file is executed. FILE is a whole model, or with WEIGHTS a JSON architecture.
On success an uncompressed npz goes to standard output: `content` (UTF-8 JSON: `format`, `config`, `arrays`) and
one float32 array `a<n>` an entry of `arrays`. On failure the exit code is 3, or 4 for a file that holds weights
alone, and the last line of standard error is the reason.
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

FAILED, ONLY_WEIGHTS = 3, 4
LARGEST_CONFIG = 16 << 20
LARGEST_WEIGHTS_FILE = 256 << 20
LARGEST_ARCHIVE = 512 << 20
LARGEST_ARRAYS = 64 << 20
LARGEST_RATIO = 200
MOST_MEMBERS = 10_000
MOST_OBJECTS = 20_000
MOST_VALUES = 1_000_000
DEEPEST = 40
_LISTS = ("layers", "_layer_checkpoint_dependencies")


class Refused(Exception):
    """The file cannot be read; the text says why."""


class OnlyWeights(Refused):
    """The file holds weights and no model."""


def read(model: bytes, weights: bytes | None = None) -> bytes:
    """The npz for a file's bytes, or for those of a JSON architecture and its weights.

    Raises Refused, or whatever h5py raises.
    """
    if weights is not None:
        config, (kind, arrays) = _json_text(model), _read_weights(weights)
    elif model.startswith(b"PK\x03\x04"):
        config, (kind, arrays) = _read_keras(model)
    elif model.startswith(b"\x89HDF"):
        config, (kind, arrays) = _read_h5(model)
    else:
        if model.lstrip().startswith((b"{", b'"')):
            raise Refused("a JSON architecture without weights")
        raise Refused("it begins like neither a .keras nor an .h5 file")
    index = [{name: text for name, text in entry.items() if name != "values"} for entry in arrays]
    summary = json.dumps({"format": kind, "config": _checked(config), "arrays": index}).encode()
    stream = io.BytesIO()
    members = {f"a{number}": entry["values"] for number, entry in enumerate(arrays)}
    np.savez(stream, content=np.frombuffer(summary, dtype=np.uint8), **members)
    return stream.getvalue()


Stored = tuple[str, list[dict[str, Any]]]
"""How the weights lie in their file ("keras": groups in groups; "h5": one group a layer), and the arrays."""


def _read_keras(content: bytes) -> tuple[str, Stored]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        config = _member(archive, "config.json", LARGEST_CONFIG).decode()
        weights = _member(archive, "model.weights.h5", LARGEST_WEIGHTS_FILE)
    with _open(weights) as file:
        return config, _arrays(file)


def _read_h5(content: bytes) -> tuple[str, Stored]:
    with _open(content) as file:
        if "model_config" not in file.attrs:
            if "layer_names" in file.attrs or any(name in file for name in _LISTS):
                raise OnlyWeights("it holds only weights, no model")
            raise Refused("it holds no Keras model")
        return _text(file.attrs["model_config"]), _arrays(file)


def _read_weights(content: bytes) -> Stored:
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = _member(archive, "model.weights.h5", LARGEST_WEIGHTS_FILE)
    with _open(content) as file:
        return _arrays(file)


def _json_text(content: bytes) -> str:
    if len(content) > LARGEST_CONFIG:
        raise Refused("its JSON is larger than 16 MiB")
    text = content.decode("utf-8-sig")
    if text.lstrip().startswith('"'):  # json.dump(model.to_json(), file): text within text
        text = cast(str, json.loads(text))
    return text


def _checked(config: str) -> str:
    """The configuration's text, once it is known to be JSON of bounded size. Raises Refused."""
    if len(config) > LARGEST_CONFIG:
        raise Refused("its configuration is larger than 16 MiB")
    stack: list[Any] = [json.loads(config)]
    count = 0
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            value = list(cast(dict[str, Any], value).values())
        if isinstance(value, list):
            count += len(cast(list[Any], value))
            if count > MOST_VALUES:
                raise Refused("its configuration holds more than 1,000,000 values")
            stack.extend(cast(list[Any], value))
    return config


def _arrays(file: Any) -> Stored:
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        return "h5", list(_by_layer(file, Budget()))
    if "model_weights" in file:
        return "h5", list(_by_layer(_child(file, "model_weights"), Budget()))
    return "keras", list(_by_path(file, Budget()))


def _by_path(file: Any, budget: Budget) -> Iterator[dict[str, Any]]:
    for path, group in _groups(file, "", budget, 0):
        if path.rpartition("/")[2] != "vars":
            continue
        name = group.attrs.get("name")
        for slot in group:
            yield {
                "key": path.removesuffix("vars").strip("/"),
                "layer": _text(name) if name is not None else None,
                "slot": slot,
                "values": _array(_child(group, slot), budget),
            }


def _by_layer(root: Any, budget: Budget) -> Iterator[dict[str, Any]]:
    for layer in _names(root, "layer_names"):
        group = _child(root, layer)
        for path in _names(group, "weight_names"):
            yield {
                "key": layer,
                "layer": layer,
                "slot": path.removesuffix(":0"),
                "values": _array(_child(group, path), budget),
            }


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
    members = archive.infolist()
    names = [member.filename for member in members]
    if name not in names:
        if any(one.endswith((".pkl", ".pickle")) for one in names):
            raise Refused("it holds pickled Python objects, which edgeflow never opens")
        raise Refused(f"a zip archive without {name}")
    if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > LARGEST_ARCHIVE:
        raise Refused("it unpacks to more than 512 MiB or 10,000 files")
    member = archive.getinfo(name)
    if member.file_size > most:
        raise Refused(f"its {name} is larger than {most >> 20} MiB")
    if member.file_size > max(1 << 20, LARGEST_RATIO * member.compress_size):
        raise Refused(f"its {name} unpacks to more than {LARGEST_RATIO} times its size")
    return archive.read(member)  # never more than file_size bytes


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


def _names(group: Any, key: str) -> list[str]:
    """A list of names in a group's attributes; Keras cuts a long one into `key`0, `key`1 ..."""
    names: list[str] = []
    for part in (key, *(f"{key}{number}" for number in range(MOST_OBJECTS))):
        if part not in group.attrs:
            if part == key:
                continue
            break
        array = np.asarray(group.attrs[part])
        if array.ndim != 1 or len(names) + array.size > MOST_OBJECTS:
            raise Refused("a list of names is malformed")
        names += [_text(value) for value in array.tolist()]
    return names


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    raise Refused("a name is not text")


def main(model: str, weights: str | None = None) -> int:
    """Reads one file, or an architecture and its weights; returns the exit code."""
    code = FAILED
    try:
        result = read(Path(model).read_bytes(), None if weights is None else Path(weights).read_bytes())
    except Refused as error:
        reason = str(error)
        code = ONLY_WEIGHTS if isinstance(error, OnlyWeights) else FAILED
    except zipfile.BadZipFile as error:
        reason = f"broken zip archive ({error})"
    except Exception as error:  # noqa: BLE001 - whatever a broken file makes h5py raise
        reason = f"{type(error).__name__}: {error}"
    else:
        sys.stdout.buffer.write(result)
        return 0
    sys.stderr.write(" ".join(reason.split())[:200] + "\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
