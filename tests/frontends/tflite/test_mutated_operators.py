"""Files of single operators with bytes changed at random: imported or refused, never a traceback."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflow.errors import EdgeflowError
from edgeflow.frontends.tflite import import_tflite
from tests.frontends.tflite import test_functions, test_scaling, test_shaping, test_transposed
from tests.frontends.tflite.make import write
from tests.frontends.tflite.mutate import mutated, structure


def wholes() -> list[bytes]:
    """A file of each operator in several forms."""
    files = [
        *test_shaping.models(3, 5),
        *test_functions.models(1, 5),
        *(test_transposed.random_model((5, at)) for at in range(4)),
        *test_scaling.files(1, 4),
        test_scaling.float_ends(),
    ]
    return [write(file) for file in files]


def refused(count: int, seed: int) -> int:
    """How many of `count` mutated files are refused."""
    rng, given = np.random.default_rng(seed), wholes()
    places = [structure(one) for one in given]
    found = 0
    for _ in range(count):
        chosen = int(rng.integers(len(given)))
        try:
            import_tflite(mutated(given[chosen], places[chosen], rng), "mutated.tflite")
        except EdgeflowError as error:
            assert str(error).count("\n") <= 2
            found += 1
    return found


def test_mutated_files_are_imported_or_refused() -> None:
    assert 600 < refused(1000, 1) < 1000


@pytest.mark.slow
def test_many_mutated_files_are_imported_or_refused() -> None:
    assert 15_000 < refused(20_000, 2) < 20_000
