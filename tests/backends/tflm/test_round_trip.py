"""Models that others wrote, in through the door and out again: the same graph, and TFLite-Micro's bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgeflow.backends.tflm.adapt import Adapted, adapted
from edgeflow.backends.tflm.flatbuffer import write_flatbuffer
from edgeflow.frontends.tflite.importer import Importer
from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.frontends.tflite.operators import HANDLERS
from edgeflow.frontends.tflite.reader import read_tflite
from edgeflow.ir.graph import Graph
from edgeflow.passes import simplify
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.serialize import graph_digest
from tests.frontends.tflite.generate import models
from tests.frontends.tflite.make import write
from tests.frontends.tflite.wheel import Values, ask_wheel
from tests.graphs import extreme_inputs

WHOLE = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE")
"""Operators that are written as they were read. ADD, SUB and MUL with constants or broadcast inputs may be refused."""
PARTLY = ("ADD", "SUB", "MUL")
QUICK, MANY = 6, 40


def imported(files: Sequence[TfliteFile]) -> list[Graph]:
    return [Importer(read_tflite(write(one), "generated.tflite")).run(HANDLERS) for one in files]


def differences(found: Sequence[Adapted]) -> int:
    """Values in which the wheel, run on what is written, and the interpreter differ."""
    given = [extreme_inputs(one.graph, 1, 12) for one in found]
    stored: list[list[Values]] = []
    for one, values in zip(found, given, strict=True):
        tensors, storages = one.lowered.model.tensors, one.lowered.stored
        ports = zip(one.graph.inputs, one.lowered.model.inputs, strict=True)
        kinds = [(port.name, tensors[place]) for port, place in ports]
        stored.append(
            [
                (values[name] + storages[name].shift).astype(f"<i{tensor.kind.size}").reshape(-1, *tensor.shape)
                for name, tensor in kinds
            ]
        )
    files = [write_flatbuffer(one.lowered.model, "0") for one in found]
    answers = ask_wheel(files, stored, [len(one.graph.outputs) for one in found])
    count = 0
    for one, values, answer in zip(found, given, answers, strict=True):
        expected, _ = interpret(one.graph, values)
        assert answer.outputs is not None, answer.words
        for output, got in zip(one.graph.outputs, answer.outputs, strict=True):
            wanted = expected[output.name] + one.lowered.stored[output.tensor].shift
            count += int((np.asarray(got).reshape(wanted.shape) != wanted).sum())
    return count


def assert_written(code: str, count: int, first: int = 0) -> None:
    graphs = imported(models(code, count, first=first))
    same = [one for one in map(adapted, graphs) if not one.lowered.refusals]
    assert same
    if code in WHOLE:
        assert [graph_digest(one.graph) for one in same] == [graph_digest(one) for one in graphs]
    after_passes = [one for one in map(adapted, map(simplify, graphs)) if not one.lowered.refusals]
    assert len(after_passes) >= len(same)
    assert differences([*same, *after_passes]) == 0


@pytest.mark.parametrize("code", [*WHOLE, *PARTLY])
def test_what_is_written_gives_the_bytes_that_were_read(code: str) -> None:
    assert_written(code, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("code", [*WHOLE, *PARTLY])
def test_many_models_give_the_bytes_that_were_read(code: str) -> None:
    assert_written(code, MANY, first=7000)
