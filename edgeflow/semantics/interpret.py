"""The interpreter: what a graph means, in NumPy, exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeflow.errors import EdgeflowError
from edgeflow.ir.graph import Graph
from edgeflow.ir.types import IntArray, TensorType
from edgeflow.semantics.verify import verify

_CHUNK_ELEMENTS = 1 << 22

Instead = Callable[[str, Mapping[str, IntArray]], IntArray]
"""What goes on instead of a node's result: its name, and all values so far, its own among them."""


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
    graph: Graph,
    inputs: Mapping[str, IntArray],
    states: Mapping[str, IntArray] | None = None,
    instead: Instead | None = None,
) -> dict[str, IntArray]:
    """As `interpret`, but gives every tensor of the graph by its name.

    `instead` is asked behind every node what its readers get; its answer stays within the node's type.
    """
    bounds = verify(graph)
    values = check_inputs(graph, inputs)
    batch = len(next(iter(values.values())))
    values.update(_check_states(graph, states or {}, batch))
    largest = max((tensor.type.size for tensor in graph.tensors()), default=1)
    step = max(1, _CHUNK_ELEMENTS // largest)
    for node in graph.nodes:
        known = tuple(bounds[name] for name in node.inputs)
        parts = [
            node.op.evaluate(tuple(values[name][start : start + step] for name in node.inputs), known)
            for start in range(0, batch, step)
        ]
        values[node.name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if instead is not None:
            values[node.name] = instead(node.name, values)
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
        array = _check_values(f"input '{source.name}'", inputs[source.name], source.type)
        batches.add(len(array))
        values[source.name] = array
    if len(batches) != 1 or 0 in batches:
        raise EdgeflowError("the inputs hold different numbers of samples, or none")
    return values


def _check_states(graph: Graph, states: Mapping[str, IntArray], batch: int) -> dict[str, IntArray]:
    """The states as int64 arrays, zeros where none are given."""
    unknown = set(states) - {state.name for state in graph.states}
    if unknown:
        raise EdgeflowError(f"the model has no state '{min(unknown)}'")
    values: dict[str, IntArray] = {}
    for state in graph.states:
        given = states.get(state.name, np.zeros((batch, *state.type.shape), dtype=np.int64))
        values[state.name] = _check_values(f"state '{state.name}'", given, state.type)
        if len(values[state.name]) != batch:
            raise EdgeflowError(f"state '{state.name}' holds {len(values[state.name])} samples, the inputs {batch}")
    return values


def _check_values(what: str, values: IntArray, kind: TensorType) -> IntArray:
    given = np.asarray(values)
    if given.dtype.kind not in "iub":
        raise EdgeflowError(f"{what} holds {given.dtype}, not integers")
    if given.ndim != 1 + len(kind.shape) or given.shape[1:] != kind.shape:
        raise EdgeflowError(f"{what} has samples of shape {given.shape[1:]}, the model reads {kind.shape}")
    if given.size and (int(given.min()) < kind.lo or int(given.max()) > kind.hi):
        raise EdgeflowError(f"{what} leaves its interval [{kind.lo}, {kind.hi}]")
    return given.astype(np.int64)
