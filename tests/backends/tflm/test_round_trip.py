"""Models that others wrote, in through the door and out again: the same graph, and TFLite-Micro's bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgeflow.backends.tflm.adapt import Adapted, adapted
from edgeflow.backends.tflm.flatbuffer import write_flatbuffer
from edgeflow.backends.tflm.lower import lower_in
from edgeflow.backends.tflm.widths import INT16
from edgeflow.frontends.tflite.importer import Importer
from edgeflow.frontends.tflite.model import TfliteFile
from edgeflow.frontends.tflite.operators import HANDLERS
from edgeflow.frontends.tflite.reader import read_tflite
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import frozen_array
from edgeflow.ops.lut import Lut
from edgeflow.passes import simplify
from edgeflow.semantics.interpret import interpret
from edgeflow.semantics.serialize import graph_digest
from tests.frontends.tflite.generate import models
from tests.frontends.tflite.make import Making, write
from tests.frontends.tflite.wheel import Values, ask_wheel
from tests.graphs import extreme_inputs

SUMS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE")
ELEMENTWISE = ("ADD", "SUB", "MUL")
"""Also with constants, and with inputs that broadcast."""
WHOLE = (*SUMS, *ELEMENTWISE)
"""Operators that are written as they were read."""
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
    """No model is refused; what is written of the graph as it is, and after the passes, gives the graph's integers."""
    graphs = imported(models(code, count, first=first))
    plain, simplified = [list(map(adapted, ones)) for ones in (graphs, map(simplify, graphs))]
    assert [one.lowered.refusals for one in (*plain, *simplified)] == [()] * 2 * count
    assert [graph_digest(one.graph) for one in plain] == [graph_digest(one) for one in graphs]
    assert [moved(*pair) for pair in zip(graphs, simplified, strict=True)] == [0] * count
    assert differences([*plain, *simplified]) == 0


def moved(graph: Graph, found: Adapted) -> int:
    """Values of a graph's outputs that are others in what is written."""
    given = extreme_inputs(graph, 2, 12)
    before, after = (interpret(one, given)[0] for one in (graph, found.graph))
    return sum(int((before[name] != after[name]).sum()) for name in before)


def operators(found: Adapted) -> list[str]:
    return [one.kernel.value for one in found.lowered.model.operators]


@pytest.mark.parametrize("code", ELEMENTWISE)
def test_a_sum_or_product_with_a_constant_is_one_operator(code: str) -> None:
    graphs = imported(models(code, MANY, first=7000))
    for one in map(adapted, [*graphs, *map(simplify, graphs)]):
        (kernel,) = [kernel for kernel in operators(one) if kernel not in ("RESHAPE", "MAXIMUM", "MINIMUM")]
        assert kernel in ({"MUL"} if code == "MUL" else {"ADD", "SUB"})


@pytest.mark.parametrize("code", WHOLE)
def test_what_is_written_gives_the_bytes_that_were_read(code: str) -> None:
    assert_written(code, QUICK)


def softmax(source: str, target: str, scale: float, beta: float) -> TfliteFile:
    ends = {
        ("INT8", "INT8"): (1 / 256, -128),
        ("INT8", "INT16"): (1 / 65536, -32768),
        ("INT16", "INT16"): (1 / 32768, 0),
    }
    making = Making("softmax")
    x = making.input((1, 3, 10), source, scale, 0)
    making.add("SOFTMAX", (x,), (1, 3, 10), *ends[source, target], kind=target, beta=beta)
    return making.file()


@pytest.mark.parametrize(("source", "target"), [("INT8", "INT8"), ("INT8", "INT16"), ("INT16", "INT16")])
def test_a_softmax_is_written_as_it_was_read(source: str, target: str) -> None:
    given = (0.1, 1.0), (0.0039, 0.3), (0.77, 1.7), (2.0**-10, 1.0)
    graphs = imported([softmax(source, target, *one) for one in given])
    found = [adapted(one) for one in graphs]
    assert not any(one.lowered.refusals for one in found)
    assert [graph_digest(one.graph) for one in found] == [graph_digest(one) for one in graphs]
    assert differences(found) == 0


def curved(code: str, kind: str, scale: float) -> TfliteFile:
    making = Making(code.lower())
    x = making.input((1, 3, 10), kind, scale, 5 if kind == "INT8" else 0)
    ends = (1 / 32768, 0) if kind == "INT16" else (1 / 256, -128) if code == "LOGISTIC" else (1 / 128, 0)
    making.add(code, (x,), (1, 3, 10), *ends)
    return making.file()


@pytest.mark.parametrize("kind", ["INT8", "INT16"])
@pytest.mark.parametrize("code", ["LOGISTIC", "TANH"])
def test_a_curve_is_written_as_it_was_read(code: str, kind: str) -> None:
    scales = (0.03, 2.0**-12, 2.0**-11, 0.00037) if kind == "INT16" else (0.03, 0.0625, 0.00037)
    graphs = imported([curved(code, kind, scale) for scale in scales])
    found = [adapted(one) for one in (*graphs, *map(simplify, graphs))]
    assert [operators(one) for one in found] == [[code]] * len(found)
    assert [moved(*pair) for pair in zip(graphs * 2, found, strict=True)] == [0] * len(found)
    assert differences(found) == 0


def test_another_table_of_int16_is_refused() -> None:
    (graph,) = imported([curved("TANH", "INT16", 0.001)])
    (node,) = graph.nodes
    assert isinstance(node.op, Lut)
    changed = replace(node.op, table=frozen_array(node.op.table + (np.arange(1 << 16) == 77)))
    found = lower_in(replace(graph, nodes=(replace(node, op=changed),)), INT16).refusals
    assert [one.what for one in found] == ["backend tflm cannot look values of more than 8 bits up in a table"]


@pytest.mark.slow
@pytest.mark.parametrize("code", WHOLE)
def test_many_models_give_the_bytes_that_were_read(code: str) -> None:
    assert_written(code, MANY, first=7000)
