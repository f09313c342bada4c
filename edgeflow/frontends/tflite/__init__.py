"""The door for `.tflite` files: int8 and int16 models become integer graphs with TFLite-Micro's meaning."""

from __future__ import annotations

from pathlib import Path

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.tflite.importer import Importer
from edgeflow.frontends.tflite.needed import needed
from edgeflow.frontends.tflite.operators import HANDLERS
from edgeflow.frontends.tflite.reader import LARGEST_FILE, read_tflite
from edgeflow.ir.graph import Graph


def load_tflite(path: Path) -> Graph:
    """The integer graph of a `.tflite` file, equal to TFLite-Micro's interpreter byte for byte.

    Raises EdgeflowError for a file that cannot be read or is damaged, Unsupported for an operator, a type or a form
    that the graph cannot say; both name the place and the fix.
    """
    return import_tflite(read_bytes(path), str(path))


def import_tflite(data: bytes, where: str) -> Graph:
    """The integer graph of a `.tflite` file's bytes; as `load_tflite`."""
    return Importer(needed(read_tflite(data, where))).run(HANDLERS)


def read_bytes(path: Path) -> bytes:
    """A `.tflite` file's bytes, of one that is larger than can be read only the beginning. Raises EdgeflowError."""
    try:
        with path.open("rb") as stream:
            return stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise EdgeflowError(f"cannot be read: {error.strerror}", where=str(path), fix="check its permissions") from None


__all__ = ["import_tflite", "load_tflite", "read_bytes"]
