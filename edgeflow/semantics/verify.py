"""The verifier: a graph that passes computes what its types say, for every input, without overflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import cast

import numpy as np

from edgeflow.errors import InvalidGraph
from edgeflow.ir.graph import Bounds, Graph, Node
from edgeflow.ir.types import Affine, Dyadic, Label, TensorType

LARGEST_BITS = 63
LARGEST_TENSOR = 1 << 24


def verify(graph: Graph) -> Mapping[str, Bounds]:
    """Checks every rule of the graph and returns each tensor's proven bounds (often tighter than its type).

    Raises InvalidGraph that names the node and its source layer.
    """
    _reject_duplicate_names(graph)
    _reject_broken_text(graph)
    known: dict[str, Bounds] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for source in (*graph.inputs, *graph.states):
        _check_type(source.type, f"tensor '{source.name}'")
        _check_label(source.label, source.type, f"tensor '{source.name}'")
        known[source.name] = type_bounds(source.type)
        shapes[source.name] = source.type.shape
    for node in graph.nodes:
        known[node.name] = _check_node(node, known, shapes)
        shapes[node.name] = node.type.shape
    for state in graph.states:
        if state.next not in known:
            raise InvalidGraph(f"its next value '{state.next}' does not exist", where=f"state '{state.name}'")
        after = graph.tensor(state.next).type
        if after.shape != state.type.shape or after.lo < state.type.lo or after.hi > state.type.hi:
            raise InvalidGraph(f"its next value has type {after}, not {state.type}", where=f"state '{state.name}'")
    if not graph.outputs:
        raise InvalidGraph("the graph has no output")
    for output in graph.outputs:
        if output.tensor not in known:
            raise InvalidGraph(f"reads '{output.tensor}', which does not exist", where=f"output '{output.name}'")
    return known


def type_bounds(kind: TensorType) -> Bounds:
    """The bounds that a tensor's type alone gives."""
    one = (1,) * len(kind.shape)
    return Bounds(np.full(one, kind.lo, dtype=np.int64), np.full(one, kind.hi, dtype=np.int64))


def at(node: Node) -> str:
    """How an error names a node."""
    return f"layer '{node.layer}' ({type(node.op).__name__} '{node.name}')"


def _check_node(node: Node, known: Mapping[str, Bounds], shapes: Mapping[str, tuple[int, ...]]) -> Bounds:
    for name in node.inputs:
        if name not in known:
            raise InvalidGraph(f"reads '{name}', which does not stand before it", where=at(node))
    for name, value in op_fields(node.op):
        if isinstance(value, np.ndarray) and (value.dtype != np.int64 or value.flags.writeable):
            raise InvalidGraph(f"parameter '{name}' is not a read-only int64 array", where=at(node))
    _check_type(node.type, at(node))
    _check_label(node.label, node.type, at(node))
    sources = tuple(shapes[name] for name in node.inputs)
    try:
        shape = node.op.shape(sources)
        if shape != node.type.shape:
            raise InvalidGraph(f"has shape {shape}, its type says {node.type.shape}")
        bounds = node.op.bounds(tuple(known[name] for name in node.inputs), sources)
    except InvalidGraph as error:
        raise InvalidGraph(error.what, where=at(node), fix=error.fix) from None
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise InvalidGraph(f"malformed parameters: {error}", where=at(node)) from None
    lo, hi = int(bounds.lo.min()), int(bounds.hi.max())
    if lo < node.type.lo or hi > node.type.hi:
        raise InvalidGraph(f"can reach [{lo}, {hi}], its type says {node.type}", where=at(node))
    return bounds


def op_fields(op: object) -> Iterator[tuple[str, object]]:
    """An op's parameters by name, those of nested dataclasses (stages) included as `stages.0.shift`."""
    if not is_dataclass(op):
        return
    for field in fields(op):
        value: object = getattr(op, field.name)
        parts = cast(tuple[object, ...], value) if isinstance(value, tuple) else ()
        if parts and is_dataclass(parts[0]):
            for index, part in enumerate(parts):
                for name, inner in op_fields(part):
                    yield f"{field.name}.{index}.{name}", inner
        else:
            yield field.name, value


def _reject_duplicate_names(graph: Graph) -> None:
    seen: set[str] = set()
    for tensor in graph.tensors():
        if tensor.name in seen:
            raise InvalidGraph(f"two tensors are named '{tensor.name}'")
        seen.add(tensor.name)
    names = [output.name for output in graph.outputs]
    if len(set(names)) != len(names):
        raise InvalidGraph("two outputs have the same name")


def _reject_broken_text(graph: Graph) -> None:
    """Names go into files of many formats: half a UTF-16 pair would break the first that is written."""
    names = [graph.name, *(tensor.name for tensor in graph.tensors()), *(output.name for output in graph.outputs)]
    for name in (*names, *(node.layer for node in graph.nodes)):
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise InvalidGraph(f"the name {name!a} is not valid Unicode")


def _check_type(kind: TensorType, where: str) -> None:
    if min(kind.shape, default=1) < 1:
        raise InvalidGraph(f"an empty shape {kind.shape}", where=where)
    if kind.size > LARGEST_TENSOR:
        raise InvalidGraph(f"shape {kind.shape} has more than 2^24 elements", where=where)
    if kind.lo > kind.hi or kind.bits > LARGEST_BITS:
        raise InvalidGraph(f"[{kind.lo}, {kind.hi}] is not an interval of up to {LARGEST_BITS} bits", where=where)


def _check_label(label: Label, kind: TensorType, where: str) -> None:
    match label:
        case Dyadic(tuple() as frac):
            channels = kind.shape[-1] if kind.shape else 1
            if len(frac) != channels:
                raise InvalidGraph(f"{len(frac)} label entries for {channels} channels", where=where)
        case Affine(scale, _) if not (np.isfinite(scale) and scale > 0):
            raise InvalidGraph(f"a scale of {scale}", where=where)
        case _:
            pass
