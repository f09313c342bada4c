"""QKeras' `predict` against the interpreter on random models: equal where the graph says exact, else explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow.errors import Unsupported
from edgeflow.frontends import load_keras
from edgeflow.ir.graph import Meaning
from edgeflow.semantics.serialize import from_files, to_files
from edgeflow.train.judge import judged
from tests.frontends.qkeras.against import differences, inputs_for
from tests.frontends.qkeras.zoo import Zoo

HONEST = (
    "QKeras' float32 cannot hold this quantizer's result exactly",
    "TensorFlow may then reorder the float32 sum",
    "QKeras' float32 is exact only up to 2^24",
    "the last bit of float32 decides",
    "float32 decides",
    "reads it unquantized",
    "that nothing has quantized",
    "nothing quantizes its result",
    "no integer multiplier equals this average",
)
"""What a random model may run into: each a true limit of float32 or of integers."""


def check_random(seed: int, folder: Path, *, real: bool) -> str:
    """'refused', or the graph's meaning; asserts that `predict` and the graph agree as that meaning says."""
    path = folder / f"model.{'keras' if seed % 2 else 'h5'}"
    model = Zoo(seed, real=real).model()
    model.save(path)
    try:
        known = load_keras(path)
    except Unsupported as error:
        assert any(text in error.what for text in HONEST), error
        return "refused"
    graph = known.graph
    assert to_files(from_files(to_files(graph), "here")) == to_files(graph)
    x = inputs_for(graph, np.random.default_rng(seed))
    if graph.meaning is Meaning.EXACT:
        assert differences(model, graph, x) == {}
        return graph.meaning.value
    judgement = judged(model, known, x).judgement
    assert judgement is not None
    assert {name: one for name, one in judgement.layers.items() if one.unexplained} == {}
    return graph.meaning.value


def check_many(seeds: range, folder: Path, *, real: bool) -> None:
    """One process, many models; some of them may be refused."""
    outcomes = [check_random(seed, folder, real=real) for seed in seeds]
    assert outcomes.count("refused") <= len(outcomes) // 2
    if not real:
        assert set(outcomes) <= {"exact", "refused"}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_random_models_equal_predict(tmp_path: Path) -> None:
    check_many(range(7), tmp_path, real=False)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_random_models_with_real_factors_equal_predict(tmp_path: Path) -> None:
    check_many(range(4), tmp_path, real=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("first", range(1000, 1400, 10))
def test_more_random_models_equal_predict(first: int, tmp_path: Path) -> None:
    check_many(range(first, first + 10), tmp_path, real=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("first", range(2000, 2100, 10))
def test_more_random_models_with_real_factors_equal_predict(first: int, tmp_path: Path) -> None:
    check_many(range(first, first + 10), tmp_path, real=True)
