"""A Keras file as data: its configuration and float arrays, fetched by the guarded child."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from edgeflow.errors import EdgeflowError, ToolFailed
from edgeflow.frontends.qkeras.fields import shown
from edgeflow.toolchain.process import Limits, run

Float32Array = npt.NDArray[np.float32]

LARGEST_FILE = 256 << 20
LIMITS = Limits(seconds=20, memory=2 << 30, output=128 << 20)
READER = Path(__file__).with_name("reader.py")
_FAILED, _ONLY_WEIGHTS = 3, 4
_FIX = "save the model again with model.save('model.keras')"
_ARCHITECTURE = "give the text of model.to_json() too: edgeflow import model.json --weights THIS_FILE"


@dataclass(frozen=True)
class StoredArray:
    """One weight. `key` is where it stood in the file, `layer` its layer's name if the file gives one.

    `slot` is the weight's name there: "0", "1" in a `.keras` file, a path such as "conv/kernel" in `.h5`.
    """

    key: str
    layer: str | None
    slot: str
    values: Float32Array


@dataclass(frozen=True)
class Content:
    """A whole model: how its weights lie in their file, the parsed JSON configuration, the weights.

    `format` is "keras" for groups within groups by class (`.keras`, `.weights.h5`), "h5" for one group a layer.
    """

    format: str
    config: object
    arrays: tuple[StoredArray, ...]


def read_content(path: Path, weights: Path | None = None) -> Content:
    """Reads a model in a child process with time and memory limits.

    `path` is a `.keras` or `.h5` file, or with `weights` a JSON architecture. Raises EdgeflowError, naming the
    file, for anything that is not a readable Keras model.
    """
    files = (path,) if weights is None else (path, weights)
    for file in files:
        if file.stat().st_size > LARGEST_FILE:
            raise EdgeflowError("larger than 256 MiB", where=str(file), fix="save it without its optimizer state")
    where = " and ".join(map(str, files))
    environment = {**os.environ, "HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}
    argv = [sys.executable, "-I", str(READER), *(str(file.absolute()) for file in files)]
    try:
        finished = run(argv, LIMITS, env=environment)
    except ToolFailed:
        raise damaged(where, "reading it did not end") from None
    if finished.code == _ONLY_WEIGHTS:
        raise EdgeflowError("holds only weights, no model", where=where, fix=_ARCHITECTURE)
    if finished.code == _FAILED:
        raise damaged(where, finished.last_words(1) or "no reason given")
    if finished.code != 0:
        raise damaged(where, "reading it crashed or ran out of memory")
    return parse_content(finished.stdout, where)


def parse_content(stdout: bytes, where: str) -> Content:
    """What the child printed, as Content. Raises EdgeflowError."""
    try:
        with zipfile.ZipFile(io.BytesIO(stdout)) as archive:
            if sum(member.file_size for member in archive.infolist()) > LIMITS.output:
                raise ValueError("too large")
            arrays = {
                member.filename.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(member)), allow_pickle=False
                )
                for member in archive.infolist()
            }
        summary = json.loads(arrays["content"].tobytes())
        config: object = json.loads(summary["config"])
        stored = tuple(
            StoredArray(
                str(entry["key"]),
                None if entry["layer"] is None else str(entry["layer"]),
                str(entry["slot"]),
                cast(Float32Array, arrays[f"a{number}"]),
            )
            for number, entry in enumerate(summary["arrays"])
        )
        return Content(str(summary["format"]), config, stored)
    except (ValueError, LookupError, TypeError, RuntimeError, MemoryError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(where, f"{type(error).__name__}: {error}") from None


def damaged(where: Path | str, reason: str) -> EdgeflowError:
    """The error for a file that is not what it should be; not raised here."""
    return EdgeflowError(f"damaged or not a Keras model: {shown(reason, 160)}", where=str(where), fix=_FIX)
