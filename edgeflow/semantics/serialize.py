"""The file form: `model.json` (structure) and `weights.npz` (integer arrays), versioned, no pickle."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import io
import json
import struct
import types
import typing
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgeflow.errors import EdgeflowError, InvalidGraph
from edgeflow.ir.graph import Graph, Input, Meaning, Node, Op, Output, State
from edgeflow.ir.types import Affine, Dyadic, IntArray, Label, TensorType, frozen_array
from edgeflow.ops import OPS
from edgeflow.semantics.verify import verify

SCHEMA = 2
MODEL, WEIGHTS = "model.json", "weights.npz"
_LARGEST_FILE = 256 << 20
_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    EOFError,
    SyntaxError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What json, zipfile and NumPy raise for broken files (NotImplementedError and RecursionError are RuntimeErrors)."""
_NARROW = (np.int8, np.int16, np.int32, np.int64)


def to_files(graph: Graph) -> dict[str, bytes]:
    """`{"model.json": ..., "weights.npz": ...}`; equal graphs give equal bytes."""
    arrays: dict[str, IntArray] = {}
    data = {
        "edgeflow_graph": SCHEMA,
        "name": graph.name,
        "meaning": graph.meaning.value,
        "inputs": [_source(one) for one in graph.inputs],
        "states": [{**_source(one), "next": one.next} for one in graph.states],
        "nodes": [_node(one, arrays) for one in graph.nodes],
        "outputs": [{"name": one.name, "tensor": one.tensor, "logits": one.logits} for one in graph.outputs],
    }
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    return {MODEL: text.encode(), WEIGHTS: _npz(arrays)}


def graph_digest(graph: Graph) -> str:
    """SHA-256 of the graph's file form."""
    total = hashlib.sha256()
    for content in to_files(graph).values():
        total.update(content)
    return total.hexdigest()


def load_graph(folder: Path) -> Graph:
    """Reads and verifies the graph in a folder. Raises EdgeflowError for anything that is not one."""
    try:
        contents = {name: _bounded_read(folder / name) for name in (MODEL, WEIGHTS)}
    except FileNotFoundError as error:
        raise EdgeflowError(
            f"no {Path(str(error.filename)).name} here, so not an imported model",
            where=str(folder),
            fix=f"edgeflow import student.keras -o {folder}",
        ) from None
    except OSError as error:
        raise EdgeflowError(f"cannot be read: {error.strerror}", where=str(folder)) from None
    return from_files(contents, str(folder))


def from_files(files: Mapping[str, bytes], where: str) -> Graph:
    """The graph in the two files' contents, verified."""
    try:
        data = json.loads(files[MODEL])
        arrays = _read_npz(files[WEIGHTS])
        if data["edgeflow_graph"] != SCHEMA:
            raise EdgeflowError(
                f"graph file version {data['edgeflow_graph']}, this edgeflow reads {SCHEMA}",
                where=where,
                fix="import the model again with this edgeflow",
            )
        graph = Graph(
            name=str(data["name"]),
            inputs=tuple(Input(*_read_source(one)) for one in data["inputs"]),
            nodes=tuple(_read_node(one, arrays) for one in data["nodes"]),
            outputs=tuple(
                Output(str(one["name"]), str(one["tensor"]), one["logits"] is True) for one in data["outputs"]
            ),
            states=tuple(State(*_read_source(one), str(one["next"])) for one in data["states"]),
            meaning=Meaning(data["meaning"]),
        )
    except _DAMAGE as error:
        raise EdgeflowError(
            f"damaged graph file ({type(error).__name__}: {_brief(error)})", where=where, fix="import the model again"
        ) from None
    try:
        verify(graph)
    except InvalidGraph as error:
        raise EdgeflowError(f"damaged graph file: {_brief(error)}", where=where, fix="import the model again") from None
    return graph


def _brief(error: Exception) -> str:
    """An error's text on one printable line of at most 160 characters."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(error)[:161])
    return text if len(text) <= 160 else text[:157] + "..."


def _source(one: Input | State | Node) -> dict[str, object]:
    return {
        "name": one.name,
        "shape": list(one.type.shape),
        "lo": one.type.lo,
        "hi": one.type.hi,
        "label": _label(one.label),
    }


def _label(label: Label) -> dict[str, object]:
    match label:
        case Dyadic(frac):
            return {"frac": frac if isinstance(frac, int) else list(frac)}
        case Affine(scale, zero_point):
            return {"scale": scale, "zero_point": zero_point}


def _read_source(data: Mapping[str, Any]) -> tuple[str, TensorType, Label]:
    kind = TensorType(tuple(int(axis) for axis in data["shape"]), int(data["lo"]), int(data["hi"]))
    return str(data["name"]), kind, _read_label(data["label"])


def _read_label(data: Mapping[str, Any]) -> Label:
    if "frac" in data:
        frac = data["frac"]
        return Dyadic(int(frac) if isinstance(frac, int) else tuple(int(one) for one in frac))
    return Affine(float(data["scale"]), int(data["zero_point"]))


def _node(node: Node, arrays: dict[str, IntArray]) -> dict[str, object]:
    return {
        **_source(node),
        "op": type(node.op).__name__,
        "inputs": list(node.inputs),
        "layer": node.layer,
        "parameters": _parameters(node.op, node.name, arrays),
    }


def _parameters(value: object, path: str, arrays: dict[str, IntArray]) -> Any:
    """Dataclass fields as JSON; arrays go to `arrays` and leave their key behind."""
    match value:
        case np.ndarray():
            key = f"a{len(arrays)}"
            arrays[key] = cast(IntArray, value)
            return {"array": key}
        case enum.Enum():
            return value.value
        case tuple():
            return [_parameters(one, path, arrays) for one in cast(tuple[object, ...], value)]
        case int() | str():
            return value
        case _:
            assert dataclasses.is_dataclass(value)
            return {
                field.name: _parameters(getattr(value, field.name), path, arrays) for field in dataclasses.fields(value)
            }


def _read_node(data: Mapping[str, Any], arrays: Mapping[str, IntArray]) -> Node:
    name, kind, label = _read_source(data)
    if data["op"] not in OPS:
        raise ValueError(f"unknown op {data['op']!r}")
    op = cast(Op, _read_parameters(data["parameters"], OPS[data["op"]], arrays))
    return Node(name, op, tuple(str(one) for one in data["inputs"]), kind, label, str(data["layer"]))


def _read_parameters(data: Any, kind: Any, arrays: Mapping[str, IntArray]) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        if set(data) != set(names):
            raise ValueError(f"parameters {sorted(data)}, not {sorted(names)}")
        return cast(Any, kind)(**{name: _read_parameters(data[name], hints[name], arrays) for name in names})
    origin = typing.get_origin(kind)
    if origin is tuple:
        arguments = typing.get_args(kind)
        inner = [arguments[0]] * len(data) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(_read_parameters(one, part, arrays) for one, part in zip(data, inner, strict=True))
    if origin is np.ndarray:
        return arrays[data["array"]]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(data)
    if kind in (int, bool) and type(data) is kind:
        return data
    if kind is str and isinstance(data, str):
        return data
    raise TypeError(f"{data!r} is not a {kind if not isinstance(kind, types.GenericAlias) else str(kind)}")


def _npz(arrays: Mapping[str, IntArray]) -> bytes:
    """An uncompressed npz without time stamps; each array in the narrowest signed type that holds it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for key, array in arrays.items():
            content = io.BytesIO()
            lo, hi = int(array.min(initial=0)), int(array.max(initial=0))
            narrow = next(kind for kind in _NARROW if np.iinfo(kind).min <= lo and hi <= np.iinfo(kind).max)
            np.lib.format.write_array(content, array.astype(narrow), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{key}.npy"), content.getvalue())
    return stream.getvalue()


def _read_npz(content: bytes) -> dict[str, IntArray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _LARGEST_FILE:
            raise ValueError("the arrays are larger than 256 MiB")
        return {
            member.filename.removesuffix(".npy"): frozen_array(
                np.lib.format.read_array(io.BytesIO(archive.read(member)), allow_pickle=False)
            )
            for member in members
        }


def _bounded_read(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST_FILE:
        raise EdgeflowError("larger than 256 MiB", where=str(path))
    return path.read_bytes()
