"""The interpreter: what a graph means, in NumPy, exactly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray
from edgeflow.semantics.verify import verify

_CHUNK_ELEMENTS = 1 << 22


def interpret(
    graph: Graph, inputs: Mapping[str, IntArray], states: Mapping[str, IntArray] | None = None
) -> tuple[dict[str, IntArray], dict[str, IntArray]]:
    """Runs samples through a graph: `(outputs, states)` by name.

    Every array has one leading batch axis, then the tensor's shape, in integers within its type.
    States default to zeros; every sample has its own. Raises EdgeflowError for inputs that do not fit.
    """
    trace = interpret_all(graph, inputs, states)
    return (
        {output.name: trace[output.tensor] for output in graph.outputs},
        {state.name: trace[state.next] for state in graph.states},
    )


def interpret_all(
    graph: Graph, inputs: Mapping[str, IntArray], states: Mapping[str, IntArray] | None = None
) -> dict[str, IntArray]:
    """As `interpret`, but gives every tensor of the graph by its name."""
    bounds = verify(graph)
    values = check_inputs(graph, inputs)
    batch = len(next(iter(values.values())))
    given = states or {}
    for state in graph.states:
        values[state.name] = given.get(state.name, np.zeros((batch, *state.type.shape), dtype=np.int64))
    largest = max((tensor.type.size for tensor in graph.tensors()), default=1)
    step = max(1, _CHUNK_ELEMENTS // largest)
    for node in graph.nodes:
        known = tuple(bounds[name] for name in node.inputs)
        parts = [
            node.op.evaluate(tuple(values[name][start : start + step] for name in node.inputs), known)
            for start in range(0, batch, step)
        ]
        values[node.name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return values


def check_inputs(graph: Graph, inputs: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """The inputs as int64 arrays, or an EdgeflowError that names the input and what is wrong with it."""
    values: dict[str, IntArray] = {}
    batches: set[int] = set()
    for source in graph.inputs:
        if source.name not in inputs:
            raise EdgeflowError(
                f"no data for input '{source.name}' (given: {', '.join(inputs) or 'nothing'})",
                fix=f"name the array '{source.name}'",
            )
        given = np.asarray(inputs[source.name])
        if given.dtype.kind not in "iub":
            raise EdgeflowError(f"input '{source.name}' holds {given.dtype}, not integers")
        if given.shape[1:] != source.type.shape:
            raise EdgeflowError(
                f"input '{source.name}' has samples of shape {given.shape[1:]}, the model reads {source.type.shape}"
            )
        array = given.astype(np.int64)
        if array.size and (array.min() < source.type.lo or array.max() > source.type.hi):
            raise EdgeflowError(f"input '{source.name}' leaves its interval [{source.type.lo}, {source.type.hi}]")
        batches.add(len(array))
        values[source.name] = array
    if len(batches) != 1 or 0 in batches:
        raise EdgeflowError("the inputs hold different numbers of samples, or none")
    return values
