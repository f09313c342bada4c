"""Files that were `.tflite` files: a clear error in bounded time and memory, never a traceback."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgeflow.frontends.tflite import import_tflite
from edgeflow.toolchain.process import Limits, run
from tests.frontends.tflite import mutate
from tests.frontends.tflite.make import Making

MODELS = ("ad01_int8", "kws_ref_model", "many")


def of_many_operators() -> bytes:
    """A file with the operators that the two models lack, one behind the other."""
    made = Making("many")
    rng = np.random.default_rng(1)
    x = made.input((1, 6, 6, 4), "INT8", 0.05, 2)
    ints = partial(made.constant, kind="INT32")
    x = made.add("PAD", (x, ints([[0, 0], [1, 2], [0, 1], [0, 0]])), (1, 9, 7, 4))
    begin, end, step = ints([0, 0, 0, 0]), ints([1, 8, 7, 4]), ints([1, 2, 1, 1])
    x = made.add("STRIDED_SLICE", (x, begin, end, step), (1, 4, 7, 4), begin_mask=1)
    x = made.add("TRANSPOSE", (x, ints([0, 2, 1, 3])), (1, 7, 4, 4))
    left, right = (made.tensor(name, (1, 7, 4, 2), "INT8", 0.05, 2) for name in ("left", "right"))
    made.operator("SPLIT", (ints(3), x), (left, right), num_splits=2)
    curve = made.add("LOGISTIC", (left,), (1, 7, 4, 2), 1 / 256, -128)
    curve = made.add("QUANTIZE", (curve,), (1, 7, 4, 2), 0.05, 2)
    x = made.add("CONCATENATION", (curve, right), (1, 7, 4, 4), axis=3)
    x = made.add("RESIZE_NEAREST_NEIGHBOR", (x, ints([14, 8])), (1, 14, 8, 4))
    weights = made.constant(rng.integers(-127, 128, (3, 3, 3, 4)), "INT8", (0.01, 0.02, 0.03))
    shape = ints([1, 28, 16, 3])
    x = made.add(
        "TRANSPOSE_CONV",
        (shape, weights, x),
        (1, 28, 16, 3),
        0.1,
        0,
        kind="INT8",
        stride_w=2,
        stride_h=2,
        padding="SAME",
    )
    x = made.add("LEAKY_RELU", (x,), (1, 28, 16, 3), 0.05, 1, alpha=0.1)
    x = made.add("HARD_SWISH", (x,), (1, 28, 16, 3), 0.05, 1)
    x = made.add("TANH", (x,), (1, 28, 16, 3), 1 / 128, 0)
    made.add("SOFTMAX", (x,), (1, 28, 16, 3), 1 / 256, -128, beta=1.0)
    return made.write()


def model_of(name: str, data: Path, folder: Path) -> Path:
    """One of MODELS as a file."""
    if name != "many":
        return data / "models" / f"{name}.tflite"
    made = folder / "many.tflite"
    made.write_bytes(of_many_operators())
    return made


def test_the_made_file_is_good() -> None:
    assert import_tflite(of_many_operators(), "many.tflite").outputs[0].name == "softmax12"


def check_mutations(model: Path, count: int, seed: int, folder: Path) -> None:
    """Reads and imports `count` mutations in a child of 3 GiB, in which none may take longer than 5 s."""
    argv = [sys.executable, str(mutate.__file__), str(model), str(count), str(seed)]
    done = run(argv, Limits(seconds=30 + 5 * count, memory=3 << 30), cwd=folder, env={"OPENBLAS_NUM_THREADS": "1"})
    assert done.code == 0, done.stderr.decode(errors="replace")[-2000:]
    ends = json.loads(done.stdout)
    assert ends["imported"] + ends["refused"] == count
    assert ends["refused"] > count // 10


@pytest.mark.parametrize("name", MODELS)
def test_mutated_files(name: str, data: Path, tmp_path: Path) -> None:
    check_mutations(model_of(name, data, tmp_path), 100, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", MODELS)
def test_many_mutated_files(name: str, seed: int, data: Path, tmp_path: Path) -> None:
    check_mutations(model_of(name, data, tmp_path), 334, 100 + seed, tmp_path)
