"""Test vectors: a model's inputs and what QKeras made of them, in one .npz file. No TensorFlow."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow.artifacts import write_file
from edgeflow.errors import EdgeflowError

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.int64]

NO_INTEGER = -(1 << 63)
"""Stands for a model's value that is no integer of its layer's unit."""

_LARGEST = 4 << 30
_DAMAGED = (OSError, ValueError, EOFError, MemoryError, zlib.error, struct.error, SyntaxError, UnicodeError)
_MAKE = "make it with: edgeflow predict STUDENT --data F -o D"


@dataclass(frozen=True)
class Rounded:
    """A layer's integers in the trained model and in real arithmetic on what the model itself gave to the layer.

    Of `values`, `differ` are not the same, and of these `unexplained` are none that float32's error bound allows;
    then follow the first of those: its sample and element, real arithmetic's integer, and the model's
    (NO_INTEGER where its value is none).
    """

    values: int = 0
    differ: int = 0
    unexplained: int = 0
    sample: int = 0
    element: int = 0
    expected: int = 0
    got: int = 0

    def __add__(self, other: Rounded) -> Rounded:
        """Both together, with the first of these."""
        first = self if self.unexplained else other
        return replace(
            first,
            values=self.values + other.values,
            differ=self.differ + other.differ,
            unexplained=self.unexplained + other.unexplained,
        )


@dataclass(frozen=True)
class Judgement:
    """How a model's float32 answers compare with real arithmetic on its stored parameters.

    `reals` are the outputs in real arithmetic, `layers` every layer where float32 may decide otherwise, in order,
    and the outputs under their own names.
    """

    reals: Mapping[str, FloatArray]
    layers: Mapping[str, Rounded]


@dataclass(frozen=True)
class Vectors:
    """Float32 inputs and outputs by layer name, samples first and equally many; labels are class numbers (n,).

    `judgement` stands where the graph's meaning is real arithmetic.
    """

    inputs: Mapping[str, FloatArray]
    outputs: Mapping[str, FloatArray]
    labels: LabelArray | None = None
    judgement: Judgement | None = None

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class InputData:
    """Samples alone: by input name, or `only` when the file names no input. `where` is the file.

    `stored` is NumPy's name of each array's type in the file ("int8"), `only` under the empty name.
    """

    where: str
    named: Mapping[str, FloatArray]
    only: FloatArray | None
    labels: LabelArray | None
    stored: Mapping[str, str] = field(default_factory=dict[str, str])


def write_vectors(
    path: Path,
    inputs: Mapping[str, FloatArray],
    outputs: Mapping[str, FloatArray],
    labels: LabelArray | None = None,
    judgement: Judgement | None = None,
) -> None:
    """Writes an .npz with `input/<name>`, `output/<name>` and, if given, `labels`. The same data give the same bytes.

    A judgement adds `real/<output>`, and `rounded/<layer>` with the seven numbers of a Rounded.

    Raises EdgeflowError when the arrays do not have equally many samples, or the file cannot be written.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {f"input/{name}": array for name, array in inputs.items()}
    arrays |= {f"output/{name}": array for name, array in outputs.items()}
    if labels is not None:
        arrays["labels"] = labels
    if judgement is not None:
        arrays |= {f"real/{name}": array for name, array in judgement.reals.items()}
        arrays |= {f"rounded/{name}": np.array(astuple(one)) for name, one in judgement.layers.items()}
    _vectors(arrays, str(path))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, one.getvalue())
    write_file(path, stream.getvalue())


def read_vectors(path: Path) -> Vectors:
    """Reads what `write_vectors` wrote.

    Raises EdgeflowError for a file that is missing, damaged, larger than 4 GiB, or holds something else.
    """
    arrays = _read_npz(path, _MAKE)
    return _vectors(arrays, str(path))


def read_inputs(path: Path, part: str = "test") -> InputData:
    """Samples from a .npy file (one array), or an .npz file.

    An .npz is read as a data set (`x_test` and `y_test`, with `part` "train" rather `x_train` and `y_train`; or `x`
    and `y`), else as vectors (`input/<name>`), else as one array an input, by name, with `labels` if it has them.
    Raises EdgeflowError for a file that is missing, damaged, larger than 4 GiB, or holds no numbers.
    """
    fix = "give a .npy file with one array, or an .npz file with x_test or one array an input"
    where = str(path)
    if path.suffix == ".npy":
        array = _read_npy(path, fix)
        return InputData(where, {}, _floats("the array", array, where), None, {"": array.dtype.name})
    arrays = _read_npz(path, fix)
    names = [(f"x_{one}", f"y_{one}") for one in (part, "test", "train")]
    for x, y in (*names, *((("x", "y"),) if set(arrays) == {"x", "y"} else ())):
        if x in arrays:
            only = _floats(x, arrays[x], where)
            labels = _labels(y, arrays.get(y), len(only), where)
            return InputData(where, {}, only, labels, {"": arrays[x].dtype.name})
    inputs = {name.removeprefix("input/"): array for name, array in arrays.items() if name.startswith("input/")}
    if not inputs:
        inputs = {name: array for name, array in arrays.items() if name != "labels"}
    if not inputs:
        raise EdgeflowError("holds no samples", where=where, fix=fix)
    named = {name: _floats(f'"{name}"', array, where) for name, array in inputs.items()}
    samples = _equally_many(named, where)
    labels = _labels("labels", arrays.get("labels"), samples, where)
    if list(named) == ["x"]:
        return InputData(where, {}, named["x"], labels, {"": inputs["x"].dtype.name})
    return InputData(where, named, None, labels, {name: array.dtype.name for name, array in inputs.items()})


def _vectors(arrays: Mapping[str, npt.NDArray[np.generic]], where: str) -> Vectors:
    parts: dict[str, dict[str, FloatArray]] = {"input": {}, "output": {}, "real": {}}
    layers: dict[str, Rounded] = {}
    for key, array in arrays.items():
        part, slash, name = key.partition("/")
        if slash and name and part == "rounded":
            layers[name] = _rounded(key, array, where)
        elif slash and name and part in parts:
            read = _floats if part == "input" else _exact_floats
            parts[part][name] = read(f'"{key}"', array, where)
        elif key != "labels":
            raise EdgeflowError(f'holds "{key}", which is no part of test vectors', where=where, fix=_MAKE)
    for part, found in parts.items():
        if not found and part != "real":
            raise EdgeflowError(f"holds no {part}s, so these are no test vectors", where=where, fix=_MAKE)
    everything = {f"{part}/{name}": array for part, found in parts.items() for name, array in found.items()}
    samples = _equally_many(everything, where)
    labels = _labels("labels", arrays.get("labels"), samples, where)
    judgement = Judgement(parts["real"], layers) if parts["real"] else None
    return Vectors(parts["input"], parts["output"], labels, judgement)


def _rounded(name: str, array: npt.NDArray[np.generic], where: str) -> Rounded:
    if array.dtype.kind not in "iu" or array.shape != (len(fields(Rounded)),):
        raise EdgeflowError(f'"{name}" is no judgement of a layer', where=where, fix=_MAKE)
    return Rounded(*map(int, array))


def _equally_many(arrays: Mapping[str, FloatArray], where: str) -> int:
    first, *rest = arrays
    for other in rest:
        if len(arrays[other]) != len(arrays[first]):
            raise EdgeflowError(
                f'"{first}" has {len(arrays[first])} samples, "{other}" {len(arrays[other])}',
                where=where,
                fix="give each the same number",
            )
    return len(arrays[first])


def _floats(name: str, array: npt.NDArray[np.generic], where: str) -> FloatArray:
    if array.dtype.kind not in "fiub" or array.ndim < 1 or not array.size:
        raise EdgeflowError(
            f"{name} is {array.dtype} of shape {array.shape}, not numbers with samples along the first axis",
            where=where,
            fix="give floats or integers of shape (samples, ...)",
        )
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _exact_floats(name: str, array: npt.NDArray[np.generic], where: str) -> FloatArray:
    """A model's answers as float32: what is compared bit for bit must not be rounded first."""
    single = _floats(name, array, where)
    if not np.array_equal(single.astype(array.dtype), array, equal_nan=array.dtype.kind == "f"):
        raise EdgeflowError(
            f"{name} is {array.dtype} and holds values that float32, which QKeras computes in, cannot",
            where=where,
            fix="give the outputs as float32",
        )
    return single


def _labels(name: str, array: npt.NDArray[np.generic] | None, samples: int, where: str) -> LabelArray | None:
    if array is None:
        return None
    if array.shape == (samples, 1):
        array = array[:, 0]
    if array.dtype.kind not in "iu" or array.shape != (samples,):
        raise EdgeflowError(
            f"{name} is {array.dtype} of shape {array.shape}, not integers of shape ({samples},)",
            where=where,
            fix="give one class number a sample, not one-hot rows",
        )
    return array.astype(np.int64)


def _read_npy(path: Path, fix: str) -> npt.NDArray[np.generic]:
    _bounded(path, fix)
    try:
        with path.open("rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except _DAMAGED as error:
        raise EdgeflowError(f"cannot be read as .npy: {_first_line(error)}", where=str(path), fix=fix) from None


def _read_npz(path: Path, fix: str) -> dict[str, npt.NDArray[np.generic]]:
    _bounded(path, fix)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > _LARGEST:
                raise ValueError("more than 4 GiB when unpacked")
            return {
                entry.filename.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(entry)), allow_pickle=False
                )
                for entry in entries
            }
    except (*_DAMAGED, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise EdgeflowError(f"cannot be read as .npz: {_first_line(error)}", where=str(path), fix=fix) from None


def _bounded(path: Path, fix: str) -> None:
    if not path.is_file():
        what = "a folder, not a data file" if path.is_dir() else "no such file"
        raise EdgeflowError(what, where=str(path), fix=fix)
    if path.stat().st_size > _LARGEST:
        raise EdgeflowError("larger than 4 GiB", where=str(path), fix="split the samples into several files")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
