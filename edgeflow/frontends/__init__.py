"""Doors in: model files become integer graphs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.qkeras import Import, declared_input, load_qkeras, load_with_doubts
from edgeflow.frontends.tflite import load_tflite
from edgeflow.frontends.tflite.schema import IDENTIFIER
from edgeflow.ir.graph import Graph
from edgeflow.semantics.labels import FloatArray

_ZIP, _HDF5, _UTF8_MARK = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\xef\xbb\xbf"
_HEAD = 64
_FIX = "give a model saved with model.save('model.keras')"
_SAVE = "load it in Python and save it with model.save('model.keras')"
_CONVERT = "convert the model again, or copy the file again"
_PICKLE = "pickled Python objects, which can run code when they are opened: edgeflow never opens them"
_SAVED_MODEL = "saved_model.pb"
_TFLITE_SUFFIXES = (".tflite", ".lite")


def load_model(path: Path, weights: Path | None = None, declared: str | None = None) -> Graph:
    """The integer graph of a model file; its content decides how it is read.

    `.keras` and `.h5` files hold all of a model; beside a JSON architecture (`model.to_json()`) stands its file of
    `weights`, by default STEM.weights.h5, STEM_weights.h5 or STEM.h5. `declared` is a quantizer as text, for the data
    of inputs that no layer quantizes. A `.tflite` file holds all of a model of int8 or 16x8 integers.
    Raises EdgeflowError for a file that is not a readable model, Unsupported for a model that no integer
    graph equals exactly; both name the file or the layer, and the fix.
    """
    if is_tflite(path):
        refuse_model_options(path, weights, declared)
        return load_tflite(path)
    steps = None if declared is None else declared_input(declared)
    if is_keras(path):
        if weights is not None:
            raise EdgeflowError("holds its own weights", where=str(path), fix="leave out --weights")
        return load_qkeras(path, declared=steps)
    head = _head(path)
    if _is_json(head):
        return load_qkeras(path, weights_of(path, weights), steps)
    what, fix = _what_it_is(path, head)
    raise EdgeflowError(what, where=str(path), fix=fix)


def load_keras(path: Path, declared: str | None = None) -> Import:
    """A `.keras` or `.h5` file as `load_model` reads it, with the places where its float32 may decide otherwise."""
    return load_with_doubts(path, None if declared is None else declared_input(declared))


def round_inputs(declared: str, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Real data as the multiples of a step that a declared input quantizer makes of it, clipped to its range."""
    steps = declared_input(declared)
    return {name: np.ldexp(steps.float32(values.astype(np.float32)), -steps.unit) for name, values in arrays.items()}


def is_keras(path: Path) -> bool:
    """Whether a file begins as a `.keras` or `.h5` file does. Raises EdgeflowError when it cannot be read."""
    return _head(path).startswith((_ZIP, _HDF5))


def is_tflite(path: Path) -> bool:
    """Whether a file begins as a `.tflite` file does. Raises EdgeflowError when it cannot be read."""
    return _is_tflite(_head(path))


def is_architecture(path: Path) -> bool:
    """Whether a file begins as the text of `model.to_json()` does. Raises EdgeflowError when it cannot be read."""
    return _is_json(_head(path))


def refuse_model_options(path: Path, weights: Path | None, declared: str | None) -> None:
    """Raises EdgeflowError for what goes with a Keras model alone: weights in a file, and a quantizer of the inputs."""
    if weights is not None:
        raise EdgeflowError("holds its own weights", where=str(path), fix="leave out --weights")
    if declared is not None:
        raise EdgeflowError("says itself what its inputs are", where=str(path), fix="leave out --input")


def is_saved_model(path: Path) -> bool:
    """Whether a folder is a TensorFlow SavedModel, which `load_model` refuses with the way out."""
    try:
        return (path / _SAVED_MODEL).is_file()
    except OSError:
        return False


def _head(path: Path) -> bytes:
    try:
        if is_saved_model(path):
            raise EdgeflowError("a TensorFlow SavedModel folder, not a model file", where=str(path), fix=_SAVE)
        if path.is_dir():
            raise EdgeflowError("is a folder, not a model file", where=str(path), fix=_fix(path))
        with path.open("rb") as stream:
            return stream.read(_HEAD)
    except FileNotFoundError:
        raise EdgeflowError("does not exist", where=str(path), fix="check the path") from None
    except OSError as error:
        raise EdgeflowError(f"cannot be read: {error.strerror}", where=str(path), fix="check its permissions") from None


def _is_tflite(head: bytes) -> bool:
    return head[4:8] == IDENTIFIER


def _is_json(head: bytes) -> bool:
    return head.removeprefix(_UTF8_MARK).lstrip().startswith((b"{", b'"{'))


def weights_of(path: Path, weights: Path | None) -> Path:
    """The file of an architecture's weights, which begins as it should. Raises EdgeflowError."""
    if weights is None:
        beside = [path.with_name(path.stem + end) for end in (".weights.h5", "_weights.h5", ".h5")]
        weights = next((one for one in beside if one.is_file()), None)
        if weights is None:
            tried = ", ".join(one.name for one in beside[:-1])
            raise EdgeflowError(
                f"holds an architecture without weights, and beside it stands no {tried} or {beside[-1].name}",
                where=str(path),
                fix="add --weights FILE, saved with model.save_weights('model.weights.h5')",
            )
    head = _head(weights)
    if not head.startswith((_ZIP, _HDF5)):
        what, _ = _what_it_is(weights, head)
        raise EdgeflowError(what, where=str(weights), fix="save them with model.save_weights('model.weights.h5')")
    return weights


def _what_it_is(path: Path, head: bytes) -> tuple[str, str]:
    """What a file is that is no model, and what to do."""
    for known, what, fix in _KNOWN:
        if known(path, head):
            return what, _fix(path) if fix == _FIX else fix
    if path.suffix in (".keras", ".h5", ".hdf5"):
        return f"damaged or not a Keras model: it does not begin like a {path.suffix} file", _FIX
    if path.suffix in _TFLITE_SUFFIXES:
        return f"damaged or not a TFLite model: it does not begin like a {path.suffix} file", _CONVERT
    return "not a model file; edgeflow reads .keras, .h5 and .tflite", _FIX


def _fix(path: Path) -> str:
    """What to give instead of a file that is no model, of the kind that its name promises."""
    return _CONVERT if path.suffix in _TFLITE_SUFFIXES else _FIX


def _named(*suffixes: str) -> Callable[[Path, bytes], bool]:
    return lambda path, head: path.suffix in suffixes


_KNOWN: tuple[tuple[Callable[[Path, bytes], bool], str, str], ...] = (
    (lambda path, head: not head, "the file is empty", _FIX),
    (lambda path, head: _is_tflite(head), "a TFLite model, which holds no weights for this architecture", _FIX),
    (lambda path, head: re.match(rb"\x80[\x02-\x05]", head) is not None, _PICKLE, _SAVE),
    (_named(".pkl", ".pickle", ".joblib"), _PICKLE, _SAVE),
    (lambda path, head: head.startswith(b"\x93NUMPY"), "a NumPy array, not a model", _FIX),
    (lambda path, head: path.name == _SAVED_MODEL, "a part of a TensorFlow SavedModel folder", _SAVE),
    (_named(".index"), "a TensorFlow checkpoint, which holds only weights", _SAVE),
    (lambda path, head: ".data-" in path.name, "a TensorFlow checkpoint, which holds only weights", _SAVE),
    (_named(".onnx"), "an ONNX model; edgeflow reads .keras, .h5 and .tflite files", _FIX),
    (_named(".yaml", ".yml"), "YAML; edgeflow reads architectures as JSON", "save the text of model.to_json()"),
    (_named(".json"), "damaged or not a Keras model: it does not begin like a .json file", _FIX),
)
"""Files that people take for models: how to know one, what it is, what to do."""

__all__ = [
    "is_architecture",
    "is_keras",
    "is_saved_model",
    "is_tflite",
    "load_keras",
    "load_model",
    "refuse_model_options",
    "round_inputs",
]
