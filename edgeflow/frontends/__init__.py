"""Doors in: model files become integer graphs."""

from __future__ import annotations

from pathlib import Path

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.qkeras import load_qkeras
from edgeflow.ir.graph import Graph

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_FIX = "give a model saved with model.save('model.keras')"


def load_model(path: Path) -> Graph:
    """The integer graph of a model file; its content decides how it is read (`.keras` and `.h5` today).

    Raises EdgeflowError for a file that is not a readable model, Unsupported for a model that no integer
    graph equals exactly; both name the file or the layer, and the fix.
    """
    head = _head(path)
    if head.startswith((_ZIP, _HDF5)):
        return load_qkeras(path)
    raise EdgeflowError(_what_it_is(path, head), where=str(path), fix=_FIX)


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise EdgeflowError("is a folder, not a model file", where=str(path), fix=_FIX)
        with path.open("rb") as stream:
            return stream.read(16)
    except FileNotFoundError:
        raise EdgeflowError("does not exist", where=str(path), fix="check the path") from None
    except OSError as error:
        raise EdgeflowError(f"cannot be read: {error.strerror}", where=str(path), fix="check its permissions") from None


def _what_it_is(path: Path, head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head[4:8] == b"TFL3":
        return "a TFLite model; edgeflow reads .keras and .h5 files so far"
    if path.suffix in (".keras", ".h5", ".hdf5"):
        return f"damaged or not a Keras model: it does not begin like a {path.suffix} file"
    return "not a model file; edgeflow reads .keras and .h5"


__all__ = ["load_model"]
