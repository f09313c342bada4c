"""The wheel takes and gives what a file's tensors hold: other element types than int8, any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeflow.toolchain import tflm
from tests.frontends.tflite.conftest import wheel
from tests.frontends.tflite.make import Making

__all__ = ["wheel"]


def relu(folder: Path, kind: str, shape: Sequence[int]) -> Path:
    """A model that makes negative values 0."""
    made = Making("relu")
    made.add("RELU", (made.input(shape, kind, 0.5),), shape)
    path = folder / "relu.tflite"
    path.write_bytes(made.write())
    return path


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 2, 3)])
@pytest.mark.parametrize(("kind", "dtype"), [("INT8", np.int8), ("INT16", np.int16)])
def test_outputs_are_samples_of_the_file_s_shape_and_type(
    tmp_path: Path, kind: str, dtype: type[np.int8 | np.int16], shape: tuple[int, ...]
) -> None:
    x = np.arange(-9, 9, dtype=dtype).reshape(3, 6)
    (y,) = tflm.invoke(relu(tmp_path, kind, shape), [x], 1).outputs
    assert (y.dtype, y.shape) == (np.dtype(dtype), (3, *shape))
    assert y.reshape(-1).tolist() == [0] * 9 + list(range(9))
