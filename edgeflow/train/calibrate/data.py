"""The samples that a calibration and its measurement use, from a user's data file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeflow.errors import EdgeflowError
from edgeflow.ir.types import IntArray, Shape
from edgeflow.train.calibrate.floats import FloatArray
from edgeflow.train.predict import fit_inputs
from edgeflow.vectors import InputData, read_inputs

MOST_MEASURED = 2000
_MOST_CLASSES = 1 << 16


@dataclass(frozen=True)
class Samples:
    """Samples by input name. `calibration` is what ranges come from, `test` what is measured, `labels` its classes.

    `held_out`: the file separates the two; else the same samples serve both.
    """

    calibration: Mapping[str, FloatArray]
    test: Mapping[str, FloatArray]
    labels: IntArray | None
    held_out: bool

    @property
    def count(self) -> int:
        """Samples to calibrate on."""
        return len(next(iter(self.calibration.values())))

    @property
    def tested(self) -> int:
        """Samples to measure on."""
        return len(next(iter(self.test.values())))


def read_samples(path: Path, shapes: Mapping[str, Shape], most: int) -> Samples:
    """Up to `most` samples to calibrate on, up to 2,000 to measure on, evenly spaced over the file.

    A file with `x_train` and `x_test` gives the first for calibration and the second, with `y_test`, for measuring.
    Raises EdgeflowError for a file that is missing or damaged, or data that do not fit the model.
    """
    test = read_inputs(path)
    train = read_inputs(path, "train")
    expected = {name: (None, *shape) for name, shape in shapes.items()}
    measured = fit_inputs(expected, test)
    held_out = train.only is not None and (test.only is None or not _same(train, test))
    calibration = fit_inputs(expected, train) if held_out else measured
    total = len(next(iter(measured.values())))
    picked = spaced(total, MOST_MEASURED)
    labels = None if test.labels is None else test.labels[picked]
    if labels is not None and not 0 <= int(labels.min()) <= int(labels.max()) < _MOST_CLASSES:
        raise EdgeflowError("the labels are no class numbers from 0", where=str(path), fix="number the classes from 0")
    chosen = spaced(len(next(iter(calibration.values()))), most)
    return Samples(
        {name: values[chosen] for name, values in calibration.items()},
        {name: values[picked] for name, values in measured.items()},
        labels,
        held_out,
    )


def spaced(total: int, most: int) -> npt.NDArray[np.int64]:
    """Up to `most` places, evenly spaced over `total`."""
    count = min(total, most)
    return np.arange(count, dtype=np.int64) * total // count


def _same(one: InputData, other: InputData) -> bool:
    assert one.only is not None
    assert other.only is not None
    return one.only.shape == other.only.shape and np.array_equal(one.only, other.only)
