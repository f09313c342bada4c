"""Loads TensorFlow, Keras and QKeras quietly, seeds them, and reads and writes their files."""

# pyright: basic
from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from edgeflow.artifacts import scratch, write_file
from edgeflow.errors import EdgeflowError, MissingTool

if TYPE_CHECKING:
    import keras

Tensor: TypeAlias = Any
"""A TensorFlow or Keras tensor: the libraries give no types for them."""

_SHARED = re.compile(rb'("shared_object_id": )(\d+)')
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Runtime(NamedTuple):
    """The three libraries, loaded."""

    keras: ModuleType
    qkeras: ModuleType
    tf: ModuleType


def load_runtime() -> Runtime:
    """Imports Keras, QKeras and TensorFlow. Raises MissingTool when one of them is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    first = "tensorflow" not in sys.modules
    try:
        with quiet(silence_stderr=first):
            import keras
            import qkeras
            import tensorflow as tf
    except ImportError as error:
        missing = (error.name or "one of them").split(".")[0]
        raise MissingTool(
            f"this needs TensorFlow, Keras and QKeras, and {missing} is not installed",
            fix='pip install "edgeflow[train]"',
        ) from None
    if keras.backend.backend() != "tensorflow":
        raise EdgeflowError(
            f"Keras is already running on {keras.backend.backend()}; QKeras needs TensorFlow",
            fix="set KERAS_BACKEND=tensorflow",
        )
    tf.get_logger().setLevel("ERROR")
    tf.autograph.set_verbosity(0)
    return Runtime(keras, qkeras, tf)


@contextlib.contextmanager
def quiet(*, silence_stderr: bool = False) -> Generator[None]:
    """No Python warnings from the libraries; with `silence_stderr` nothing from their C++ side either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not silence_stderr:
            yield
            return
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        saved = os.dup(2)
        try:
            with tempfile.TemporaryFile() as sink:
                os.dup2(sink.fileno(), 2)
                yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def start(seed: int) -> Runtime:
    """A fresh, seeded, deterministic runtime: the same seed gives the same weights and layer names.

    Resets the global state of Keras: models built before stay usable, but new layers count from one again.
    """
    runtime = load_runtime()
    with quiet():
        runtime.keras.utils.clear_session(free_memory=False)
        runtime.keras.utils.set_random_seed(seed)
        runtime.tf.config.experimental.enable_op_determinism()
    return runtime


def save_model(model: keras.Model, path: Path) -> None:
    """Writes a `.keras` file whole or not at all; the same model gives the same bytes on any day."""
    with scratch() as folder, quiet():
        temporary = folder / "model.keras"
        model.save(temporary)
        content = temporary.read_bytes()
    write_file(path, _reproducible(content))


def _reproducible(content: bytes) -> bytes:
    """A `.keras` archive without what differs from one writing to the next.

    That is the time, in the zip entries and in metadata.json, and the memory addresses that config.json
    has for `shared_object_id`: they become 1, 2, 3 ... in order of appearance.
    """
    seen: dict[bytes, int] = {}

    def numbered(match: re.Match[bytes]) -> bytes:
        return b"%b%d" % (match[1], seen.setdefault(match[2], len(seen) + 1))

    result = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as target,
    ):
        for name in sorted(source.namelist()):
            data = source.read(name)
            if name == "metadata.json":
                metadata = json.loads(data)
                metadata["date_saved"] = "1980-01-01@00:00:00"
                data = json.dumps(metadata).encode()
            if name == "config.json":
                data = _SHARED.sub(numbered, data)
            target.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return result.getvalue()
