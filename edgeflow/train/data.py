"""The data that a recipe names, as arrays: built in, from an .npz file, or from the user's function."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow.errors import EdgeflowError, MissingTool, did_you_mean
from edgeflow.train.recipe import Config
from edgeflow.train.usercode import call, load_function

KEYS = ("x_train", "y_train", "x_test", "y_test")
_HELD_OUT = 360
_MOST_CLASSES = 1 << 16


@dataclass(frozen=True)
class Dataset:
    """Samples first: x is float32 (n, *shape), y is int64 (n,) with classes from 0. The test part is held out."""

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """One sample's shape, without the batch axis."""
        return self.x_train.shape[1:]

    @property
    def classes(self) -> int:
        """Number of classes: the highest label in either part, plus one."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    @property
    def digest(self) -> str:
        """Hex SHA-256 over shapes and values."""
        total = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            total.update(repr((array.shape, array.dtype.str)).encode())
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()


def load_data(config: Config) -> Dataset:
    """The data set of `[data]`.

    Raises EdgeflowError for a file or a function that is missing, and for arrays that are missing, of
    the wrong shape or kind, empty, or not finite.
    """
    source = config.data.source
    if source == "digits":
        return _digits()
    if source.endswith(".npz"):
        path = config.resolve(source)
        return _dataset(_read_npz(path), str(path))
    result: object = call(load_function(config, ("data", "source"), source))
    if isinstance(result, tuple) and len(result) == len(KEYS):  # pyright: ignore[reportUnknownArgumentType]
        result = dict(zip(KEYS, result, strict=True))  # pyright: ignore[reportUnknownArgumentType]
    if not isinstance(result, Mapping):
        raise EdgeflowError(
            f"returned {type(result).__name__}, not the data",
            where=source,
            fix=f"return a dict with {', '.join(KEYS)}, or a tuple of the four",
        )
    return _dataset(result, source)  # pyright: ignore[reportUnknownArgumentType]


def _digits() -> Dataset:
    """scikit-learn's handwritten digits: 1,797 images of 8x8 with grey levels 0 to 16, as exact sixteenths."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingTool(
            'the data source "digits" needs scikit-learn, which is not installed', fix='pip install "edgeflow[train]"'
        ) from None
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8, 1) / 16.0).astype(np.float32)
    train, test = train_test_split(np.arange(len(labels)), test_size=_HELD_OUT, random_state=0, stratify=labels)
    classes = labels.astype(np.int64)
    return Dataset(pixels[train], classes[train], pixels[test], classes[test])


def _read_npz(path: Path) -> Mapping[str, object]:
    fix = f"make it with numpy.savez(file, {', '.join(f'{key}=...' for key in KEYS)})"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise EdgeflowError("no such data file", where=str(path), fix="check source in [data]") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EdgeflowError(f"cannot be read as .npz data: {error}", where=str(path), fix=fix) from None


def _dataset(arrays: Mapping[str, object], where: str) -> Dataset:
    for key in KEYS:
        if key not in arrays:
            hint = did_you_mean(key, [str(name) for name in arrays if name not in KEYS])
            raise EdgeflowError(f'the data has no "{key}"{hint}', where=where, fix=f"give {', '.join(KEYS)}")
    x_train, x_test = (_samples(arrays[key], key, where) for key in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise EdgeflowError(
            f"a sample of x_train has shape {x_train.shape[1:]}, one of x_test {x_test.shape[1:]}",
            where=where,
            fix="give both the same shape",
        )
    return Dataset(
        x_train,
        _labels(arrays["y_train"], "y_train", len(x_train), where),
        x_test,
        _labels(arrays["y_test"], "y_test", len(x_test), where),
    )


def _samples(values: object, key: str, where: str) -> npt.NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or array.ndim < 2 or not array.size:
        raise EdgeflowError(
            f"{key} is {array.dtype} of shape {array.shape}; samples are numbers of shape (n, ...), n at least 1",
            where=where,
            fix="put the samples along the first axis",
        )
    result = array.astype(np.float32)
    if not np.isfinite(result).all():
        raise EdgeflowError(f"{key} holds NaN or infinite values", where=where, fix="remove or replace them")
    return result


def _labels(values: object, key: str, samples: int, where: str) -> npt.NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.shape != (samples,) or array.min() < 0:
        raise EdgeflowError(
            f"{key} is {array.dtype} of shape {array.shape}; labels are integers from 0 of shape ({samples},)",
            where=where,
            fix="give one class number a sample, not one-hot rows",
        )
    if array.max() >= _MOST_CLASSES:
        raise EdgeflowError(
            f"{key} holds class {array.max()}; edgeflow trains for up to {_MOST_CLASSES:,} classes",
            where=where,
            fix="number the classes from 0 without gaps",
        )
    return array.astype(np.int64)
